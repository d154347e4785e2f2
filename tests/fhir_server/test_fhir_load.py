import json
from collections import Counter

import httpx

from support.data import bundles, need_fhir_data


async def test_synthea_bundles_load(client: httpx.AsyncClient) -> None:
    """Real transactions load after their practitioners and organisations, and no reference into a bundle is left."""
    need_fhir_data()
    types: Counter[str] = Counter()
    for name, text in bundles("synthea-blaze/*.gz"):
        response = await client.post("/", content=text, headers={"Prefer": "return=minimal"})
        assert response.status_code == 200, (name, response.text[:500])
        answers = response.json()["entry"]
        assert {answer["response"]["status"] for answer in answers} == {"201 Created"}, name
        types.update(each["resource"]["resourceType"] for each in json.loads(text)["entry"])
    for type_, count in types.items():
        assert (await client.get(f"/{type_}?_count=0")).json()["total"] == count
    everything = (await client.get("/_emulator/snapshot")).json()["versions"]
    for version in everything:
        assert '"reference":"urn:uuid:' not in version["body"]
        assert "?identifier=" not in version["body"]


async def test_a_batch_with_conditional_creates_loads_twice(client: httpx.AsyncClient) -> None:
    """Practitioners and organisations with ifNoneExist, sent again, are there already."""
    need_fhir_data()
    for again in ("201 Created", "200 OK"):
        for _, text in bundles("synthea-blaze/0-*.gz"):
            wanted = [again if "ifNoneExist" in e["request"] else "201 Created" for e in json.loads(text)["entry"]]
            answers = (await client.post("/", content=text)).json()["entry"]
            assert [answer["response"]["status"] for answer in answers] == wanted


async def test_real_bundles_of_every_kind_are_answered(client: httpx.AsyncClient) -> None:
    """No real bundle, however odd, is answered with a server error that is not `not supported`."""
    need_fhir_data()
    for name, text in bundles("[amsu]*/*.gz"):
        if name.startswith("synthea"):
            continue
        response = await client.post("/", content=text)
        assert response.status_code in (200, 400, 404, 412, 501), (name, response.text[:500])
