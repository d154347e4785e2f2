"""What the relay puts back is what it read, byte for byte, but for the one identifier."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from relay.fhir import json_text
from support.samples import bundle, patient
from support.world import World, world

NUMBERS = (
    '"extension":[{"url":"https://x.example/n","valueDecimal":1.10},{"url":"https://x.example/n","valueDecimal":1e3},'
    '{"url":"https://x.example/n","valueDecimal":66.899999999999991},{"url":"https://x.example/n","valueDecimal":-0.0}]'
)
ODD = [
    f'{{"resourceType":"Patient","id":"a",{NUMBERS},"birthDate":"1970-01","_birthDate":{{"extension":[{{"url":"x:y","valueCode":"q"}}]}}}}',
    '{"resourceType":"Patient","id":"b","identifier":[{"value":"no system"},{"system":"x:y"}],"name":[{"family":"Ñandú \\u00e9 \U0001f600"}],"zzUnknown":{"a":[1.0,2.50]}}',
    '{"resourceType":"Patient","id":"c","identifier":null,"meta":{"security":[{"code":"R"}]},"contact":[null]}',
]


async def _put_texts(w: World, texts: list[str]) -> list[tuple[str, str]]:
    """Send these resources' ids through the relay; returns (read, put) texts as they travelled."""
    for text in texts:
        fhir_id = json.loads(text)["id"]
        answer = await w.fhir_http.put(
            f"/Patient/{fhir_id}", content=text.encode(), headers={"Content-Type": "application/fhir+json"}
        )
        assert answer.is_success, answer.text
    served = {version.id: version.body.decode() for version in w.fhir.store.log if version.body}
    sent: list[bytes] = []

    async def note(request: httpx.Request) -> None:
        if request.method == "PUT" or b'"ifMatch"' in request.content:
            sent.append(request.content)

    w.to_fhir.before.append(note)
    reply = await w.post(bundle(*(patient(json.loads(text)["id"], identifiers=0) for text in texts)))
    assert reply.status == 200
    (body,) = [content.decode() for content in sent]
    whole = json_text.document(body)
    entries = json_text.member(body, whole, "entry") if len(texts) > 1 else None
    if entries is None:
        return [(served[json.loads(texts[0])["id"]], body)]
    spans = [json_text.member(body, span, "resource") for span in json_text.elements(body, entries.start)]
    puts = [body[span.start : span.end] for span in spans if span]
    return [(served[json.loads(put)["id"]], put) for put in puts]


@pytest.mark.parametrize("texts", [ODD, ODD[:1], ODD[1:2], ODD[2:]], ids=["batch", "numbers", "unicode", "null"])
async def test_only_the_identifier_differs_on_the_wire(tmp_path: Path, texts: list[str]) -> None:
    """One insertion is all that lies between what the server sent and what it gets back, alone or in a batch."""
    async with world(tmp_path) as w:
        pairs = await _put_texts(w, texts)
        assert len(pairs) == len(texts)
        for read, put in pairs:
            start = next((i for i, (a, b) in enumerate(zip(read, put, strict=False)) if a != b), len(read))
            tail = next((i for i, (a, b) in enumerate(zip(read[::-1], put[::-1], strict=False)) if a != b), len(read))
            assert start + tail >= len(read) - len("null")
            assert "urn:oid:org.d365.mc4h.patient.id" in put[start - 1 : len(put) - tail + 1]


@pytest.mark.parametrize("count", [1, 3])
async def test_every_put_is_guarded(tmp_path: Path, count: int) -> None:
    """No PUT leaves without If-Match of the version that was read."""
    async with world(tmp_path) as w:
        some = [patient(f"p{number}") for number in range(count)]
        await w.put(*some, *some)
        guards: list[str] = []

        async def note(request: httpx.Request) -> None:
            if request.method == "PUT":
                guards.append(request.headers["If-Match"])
            elif b'"PUT"' in request.content:
                guards.extend(entry["request"]["ifMatch"] for entry in json.loads(request.content)["entry"])

        w.to_fhir.before.append(note)
        await w.post(bundle(*some))
        assert guards == ['W/"2"'] * count
