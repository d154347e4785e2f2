from __future__ import annotations

import gzip

import pytest
from intake_inputs import limits, verdicts

from relay.errors import Refused
from relay.inbound.intake import Incoming, read_ndjson


def take_lines(body: bytes, *, content_type: str = "", **overrides: int) -> Incoming:
    return read_ndjson(body, content_type=content_type, content_encoding="", limits=limits(**overrides))


def test_each_line_is_a_resource() -> None:
    """One resource a line; blank lines, carriage returns, gzip and a byte order mark do not matter."""
    body = (
        b'\xef\xbb\xbf{"resourceType":"Patient","id":"p1"}\r\n\n \t\n{"resourceType":"Basic","id":"b\xc2\x85"}\n'
        b'{"resourceType":"Basic","id":"b2","x":"\xe2\x80\xa8"}'
    )
    for each in (body, gzip.compress(body, mtime=0)):
        incoming = take_lines(each, content_type="application/fhir+ndjson")
        assert (incoming.type, verdicts(incoming)) == ("ndjson", ["taken", "invalid-id", "taken"])


def test_a_line_that_cannot_be_read_fails_alone() -> None:
    """What would refuse a body is here the problem of one line, which it names; its neighbours are taken."""
    incoming = take_lines(
        b'{"resourceType":"Patient","id":"p1"}\n\n{"id":NaN}\n[1]\n{"resourceType":"Patient","id":"p2"'
    )
    assert verdicts(incoming) == ["taken", "not-a-number", "not-a-resource", "truncated"]
    assert [entry.problem.at for entry in incoming.entries if entry.problem] == ["line 3", "line 4", "line 5"]


def test_the_same_resource_on_two_lines_is_ambiguous() -> None:
    """Lines are no versions of each other: copies that differ all fail."""
    assert verdicts(take_lines(b'{"resourceType":"Basic","id":"1"}\n{"resourceType":"Basic","id":"1","x":1}')) == [
        "duplicate-id",
        "duplicate-id",
    ]


def test_lines_have_limits_and_a_type_of_their_own() -> None:
    """Too many lines are 413; a content type other than NDJSON is 415 with the valid ones."""
    with pytest.raises(Refused) as refused:
        take_lines(b"1\n2\n3", max_entries=2)
    assert (refused.value.status, refused.value.code) == (413, "too-many-entries")
    with pytest.raises(Refused, match=r"application/fhir\+ndjson") as refused:
        take_lines(b"", content_type="application/json")
    assert refused.value.status == 415
