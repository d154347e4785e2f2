import time, json
from surface_kit import surface, BUNDLES
async def test_it(tmp_path):
    for n, p in enumerate(sorted(BUNDLES.glob("*.json"))):
        async with surface(tmp_path / str(n)) as s:
            a = await s.post(p.read_bytes())
            d = a.json()
            if "entries" in d:
                print(p.name, a.status_code, [(e["result"], [i["code"] for i in e["issues"] if i["code"] != "not-on-server"]) for e in d["entries"]], "rows", len(s.rows()))
            else:
                print(p.name, a.status_code, d["issue"][0]["details"]["text"], d["issue"][0]["diagnostics"], a.headers["content-type"], await s.kept(), s.calls(), len(s.rows()))
async def test_index(tmp_path):
    async with surface(tmp_path) as s:
        for f in s.host.functions: print(f.name, f.kind, dict(f.trigger), f.route, f.auth_level, f.unserved)
    try:
      async with surface(tmp_path, blob_source="ftp") as s: pass
    except Exception as e: print(repr(e))
    async with surface(tmp_path, blob_source="eventgrid") as s:
        for f in s.host.functions:
            if f.kind=="blobTrigger": print(f.name, f.kind, dict(f.trigger), f.route, f.auth_level, f.unserved)
