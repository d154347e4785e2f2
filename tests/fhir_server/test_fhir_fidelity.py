import json
import re
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.data import need_fhir_data, resources

from devstack.fhir import create_app
from devstack.fhir.text import dump, parse

AWKWARD = (
    '{"resourceType":"Observation","unknown":{"b":[],"a":{},"n":null,"t":true},"id":"o1",'
    '"numbers":[1.10,1e3,1E+3,-0.0,-0,0.00000001234567890123456789,66.899999999999991,12345678901234567,'
    "123456789012345678901234567890,1.0,100,-1,0],"
    '"text":"Ara\\u00f1a \\ud83d\\ude00 \\"quoted\\" \\\\ \\u2028 \\u0001 ñ","":"","_id":{"extension":[]}}'
)


class Number(str):
    """The text of a number, told apart from a string."""

    __slots__ = ()


def exact(text: str | bytes) -> Any:
    """Read JSON with numbers as their text and objects as ordered pairs."""
    return json.loads(
        text.decode() if isinstance(text, bytes) else text,
        parse_float=lambda number: ("number", number),
        parse_int=lambda number: ("number", number),
        object_pairs_hook=list,
    )


def without_server_parts(document: Any) -> Any:
    """Drop what the server sets: id, meta.versionId, meta.lastUpdated, and a meta that has nothing else."""
    rest = []
    for key, value in document:
        if key == "meta":
            kept = [pair for pair in value if pair[0] not in ("versionId", "lastUpdated")]
            if kept:
                rest.append((key, kept))
        elif key != "id":
            rest.append((key, value))
    return rest


async def test_awkward_numbers_and_texts_come_back(client: httpx.AsyncClient) -> None:
    """Number text, unknown elements, empty things, key order and characters are those that were sent."""
    put = await client.put("/Observation/o1", content=AWKWARD)
    assert put.status_code == 201
    got = await client.get("/Observation/o1")
    assert got.content == put.content
    assert without_server_parts(exact(got.content)) == without_server_parts(exact(AWKWARD))
    assert b"1.10,1e3,1E+3,-0.0,-0,0.00000001234567890123456789,66.899999999999991" in got.content


@pytest.mark.parametrize("way", ["search", "history", "vread", "batch", "transaction", "snapshot"])
async def test_every_way_out_keeps_the_text(client: httpx.AsyncClient, way: str) -> None:
    """Search, history, vread, bundles and a snapshot taken and restored show the same text as a read."""
    entry = '{"request":{"method":"PUT","url":"Observation/o1"},"resource":' + AWKWARD + "}"
    kind = "transaction" if way == "transaction" else "batch"
    sent = await client.post("/", content=f'{{"resourceType":"Bundle","type":"{kind}","entry":[{entry}]}}')
    read = await client.get("/Observation/o1")
    assert read.status_code == 200
    if way == "snapshot":
        snapshot = (await client.get("/_emulator/snapshot")).json()
        await client.post("/_emulator/reset")
        await client.put("/_emulator/snapshot", json=snapshot)
        assert (await client.get("/Observation/o1")).content == read.content
        return
    urls = {
        "search": "/Observation?_id=o1",
        "history": "/Observation/o1/_history",
        "vread": "/Observation/o1/_history/1",
    }
    response = await client.get(urls[way]) if way in urls else sent
    assert read.content in response.content
    assert without_server_parts(exact(read.content)) == without_server_parts(exact(AWKWARD))


async def test_id_and_meta_go_where_a_resource_has_them(client: httpx.AsyncClient) -> None:
    """A resource without id and meta gets them after resourceType; one that has them keeps their places."""
    created = await client.post("/Patient", content=b'{"resourceType":"Patient","gender":"male"}')
    assert [key for key, _ in exact(created.content)] == ["resourceType", "id", "meta", "gender"]
    placed = await client.put("/Patient/p", content=b'{"meta":{},"resourceType":"Patient","gender":"male","id":"p"}')
    assert [key for key, _ in exact(placed.content)] == ["meta", "resourceType", "gender", "id"]


async def test_a_byte_order_mark_is_taken(client: httpx.AsyncClient) -> None:
    """A UTF-8 byte order mark before the body does not count."""
    body = b'\xef\xbb\xbf{"resourceType":"Patient","id":"p"}'
    assert (await client.put("/Patient/p", content=body)).status_code == 201


async def test_real_resources_come_back_as_sent() -> None:
    """Every real resource read back is what was put, apart from id, meta.versionId and meta.lastUpdated."""
    need_fhir_data()
    app = create_app()
    count = 0
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://fhir.test") as client:
        for pattern in (
            "*-examples/*.gz",
            "ahds-samples/*.gz",
            "bulk-10-patients/P*.gz",
            "ms-*/*.gz",
            "synthea-*/*0*.gz",
        ):
            for name, text in resources(pattern):
                document = exact(text)
                given = dict(document)
                if "resourceType" not in given or not isinstance(given.get("id", "x"), str):
                    continue  # made to be refused
                type_, id_ = given["resourceType"], given.get("id", "x")
                sent = text if "id" in given else text.replace(b"{", b'{"id":"x",', 1)
                if type_ == "Subscription" or not re.fullmatch(r"[A-Za-z0-9\-.]{1,64}", id_):
                    continue
                put = await client.put(f"/{type_}/{id_}", content=sent, headers={"Prefer": "return=minimal"})
                assert put.status_code in (200, 201), (name, put.text)
                got = (await client.get(f"/{type_}/{id_}")).content
                assert without_server_parts(exact(got)) == without_server_parts(document), name
                count += 1
                if count % 500 == 0:
                    await client.post("/_emulator/reset")
    assert count > 1000


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,4})?", fullmatch=True).map(Number),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


def written(value: Any) -> str:
    """Write JSON with the text of its numbers."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    return json.dumps(value)


@settings(max_examples=200, deadline=None)
@given(JSON)
def test_any_json_survives(value: Any) -> None:
    """Reading and writing any JSON changes no number, string, key or order."""
    try:
        text = written(value)
        text.encode()
    except UnicodeEncodeError:
        return
    assert exact(dump(parse(text.encode()))) == exact(text)
