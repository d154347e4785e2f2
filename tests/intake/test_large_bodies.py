"""A large body is decoded entry by entry: what is read is what the reader of whole texts reads, refusals included."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from intake_inputs import FOLDER, limits

from relay.errors import Refused
from relay.inbound import pieces
from relay.inbound.intake import Incoming, read_bundle, read_ndjson
from relay.inbound.pieces import Piece
from support.data import files, need_fhir_data

NEVER = 1 << 40
FILES = sorted(FOLDER.glob("*.json"))


def told(body: bytes, *, large: int, lines: bool = False, **overrides: Any) -> object:
    """Return everything that a reader says of a body."""
    read = read_ndjson if lines else read_bundle
    try:
        incoming = read(body, content_type="", content_encoding="", limits=limits(**overrides), large=large)
    except Refused as refused:
        return refused.code, str(refused), refused.status
    return incoming.type, [
        (
            each.index,
            each.key,
            each.full_url,
            each.method,
            each.url,
            each.if_none_exist,
            each.problem,
            each.skip,
            each.resource_type,
            repr(each.resource),
        )
        for each in incoming.entries
    ]


def alike(body: bytes, *, lines: bool = False, **overrides: Any) -> None:
    """Assert that both readers say the same."""
    assert told(body, large=0, lines=lines, **overrides) == told(body, large=NEVER, lines=lines, **overrides)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_hazards(path: Any) -> None:
    """Every small input named after its hazard is read alike, under tight limits too."""
    alike(path.read_bytes())
    alike(path.read_bytes(), max_depth=6)
    alike(path.read_bytes(), max_string=12, max_entries=1)


def test_published_bundles() -> None:
    """Every published bundle and NDJSON file is read alike."""
    need_fhir_data()
    for name, content in files("[asm]*/*.gz"):
        if len(content) < 400_000:
            alike(content, lines=name.endswith(".ndjson"))


BUNDLE = (
    '{"resourceType": "Bundle", "id": "b", "type" : "batch", "entry": [ {"resource": {"resourceType": "Patient", "id": "p1"}}'
    ' , {"resource": {"resourceType": "Patient", "id": "p\\ud83d\\ude00", "a": [1.10, true]}, "request": {"method": "PUT"}} ] }'
)
CUTS = st.lists(
    st.tuples(
        st.integers(0, len(BUNDLE)),
        st.integers(0, 6),
        st.sampled_from(
            ["", "", '"', "{", "}", "[", "]", ",", ":", " ", "\\", "NaN", '"entry": [],', "\\ud800", "1e9999"]
        ),
    ),
    max_size=3,
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(cuts=CUTS)
def test_damaged_texts(cuts: list[tuple[int, int, str]]) -> None:
    """However a bundle's text is cut and mended, both readers say the same of it, the place of the damage included."""
    text = BUNDLE
    for at, length, instead in cuts:
        text = text[:at] + instead + text[at + length :]
    alike(text.encode())
    alike(text.encode(), lines=True)


@pytest.mark.parametrize(
    "text",
    [
        '{"entry": [], "resourceType": "Bundle", "type": "batch"}',
        '{"resourceType": "Bundle", "type": "batch", "entry": []}',
        '{"resourceType": "Bundle", "type": "batch", "entry": null}',
        '{"resourceType": "Bundle", "type": "batch"}',
        '{"resourceType": "List", "id": "l1", "entry": [{"item": {"reference": "Patient/p1"}}]}',
        "[]",
        "5",
        "",
        " { } ",
    ],
)
def test_shapes_of_the_whole(text: str) -> None:
    """Where the entries stand, whether there are any, and what is no bundle at all makes no difference."""
    alike(text.encode())


def bundle_of(count: int) -> bytes:
    resources = ({"resourceType": "Patient", "id": f"p{number}"} for number in range(count))
    return json.dumps(
        {"resourceType": "Bundle", "type": "batch", "entry": [{"resource": each} for each in resources]}
    ).encode()


def test_resources_are_not_kept_decoded() -> None:
    """Of a large bundle no resource is held as parsed JSON; each is decoded anew when it is asked for."""
    incoming: Incoming = read_bundle(bundle_of(20), content_type="", content_encoding="", limits=limits(), large=100)
    assert all(isinstance(each.sent, Piece) for each in incoming.entries)
    assert [each.resource for each in incoming.entries[:1]] == [{"resourceType": "Patient", "id": "p0"}]
    assert incoming.entries[0].resource is not incoming.entries[0].resource


def test_few_resources_are_alive_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a large bundle is read, decoded entries are dropped again: never more than a few are alive."""
    alive = most = 0

    class Counted(dict[str, Any]):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    original = pieces.decode_at

    def decode_at(text: str, start: int) -> tuple[Any, int]:
        nonlocal alive, most
        value, end = original(text, start)
        if isinstance(value, dict):
            value = Counted(value)
            alive += 1
            most = max(most, alive)
        return value, end

    monkeypatch.setattr(pieces, "decode_at", decode_at)
    incoming = read_bundle(bundle_of(300), content_type="", content_encoding="", limits=limits(), large=0)
    assert len(incoming.entries) == 300
    assert most <= 3
