import json
import re
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devstack.fhir.text import dump, parse
from devstack.fhir.types import R4_TYPES
from support.data import need_fhir_data, resources

VALID_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")

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


async def test_real_resources_come_back_as_sent(client: httpx.AsyncClient) -> None:
    """Every real resource read back is what was put, apart from id, meta.versionId and meta.lastUpdated."""
    need_fhir_data()
    batch: list[tuple[str, str, bytes]] = []
    count = 0
    for pattern in (
        "*-examples/*.gz",
        "ahds-samples/*.gz",
        "ms-*/*.gz",
        "bulk-10-patients/[DP]*.gz",
        "synthea-*/0*.gz",
    ):
        for name, text in resources(pattern):
            document = json.loads(text)
            type_, id_ = document.get("resourceType"), document.get("id", "x")
            if type_ in R4_TYPES - {"Subscription"} and isinstance(id_, str) and VALID_ID.fullmatch(id_):
                batch.append(
                    (name, f"{type_}/{id_}", text if "id" in document else text.replace(b"{", b'{"id":"x",', 1))
                )
            if len(batch) == 200:
                await put_and_compare(client, batch)
                count += len(batch)
                batch.clear()
    await put_and_compare(client, batch)
    assert count > 1000


async def put_and_compare(client: httpx.AsyncClient, batch: list[tuple[str, str, bytes]]) -> None:
    entries = []
    for _, url, text in batch:
        entries.append(b'{"request":{"method":"PUT","url":"%b"},"resource":%b}' % (url.encode(), text))
        entries.append(b'{"request":{"method":"GET","url":"%b"}}' % url.encode())
    body = b'{"resourceType":"Bundle","type":"batch","entry":[%b]}' % b",".join(entries)
    response = await client.post("/", content=body, headers={"Prefer": "return=minimal"})
    answers = dict(exact(response.content))["entry"]
    assert len(answers) == len(entries)
    for (name, _, text), answer in zip(batch, answers[1::2], strict=True):
        got = dict(answer)
        assert dict(got["response"])["status"] == "200 OK", name
        assert without_server_parts(got["resource"]) == without_server_parts(exact(text)), name


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
