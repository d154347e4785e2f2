from __future__ import annotations

import gzip
import tracemalloc
from hashlib import sha256

import pytest
from intake_inputs import FOLDER, take, take_file

from relay.errors import Refused

PATIENT = b'{"resourceType":"Patient","id":"p1"}'


@pytest.mark.parametrize(
    "content_type",
    [
        "application/fhir+json",
        "application/json",
        "Application/FHIR+JSON; charset=UTF-8",
        'application/json;charset="utf-8"; fhirVersion=4.0',
        "application/json; charset=utf8",
        "",
    ],
)
def test_json_in_utf_8_is_taken(content_type: str) -> None:
    """FHIR JSON, plain JSON and a missing content type are taken; parameters other than charset do not matter."""
    assert take(PATIENT, content_type=content_type).entries[0].key == ("Patient", "p1")


@pytest.mark.parametrize("content_type", ["text/json", "application/fhir+xml", "text/html; charset=utf-8", "json"])
def test_another_type_is_415_and_names_the_valid_ones(content_type: str) -> None:
    """Any other content type is refused with 415, naming those that are taken."""
    with pytest.raises(Refused, match=r"application/fhir\+json, application/json") as refused:
        take(PATIENT, content_type=content_type)
    assert (refused.value.status, refused.value.code) == (415, "wrong-type")


@pytest.mark.parametrize(
    ("content_type", "content_encoding"),
    [("application/json; charset=latin-1", ""), ("", "br"), ("", "gzip, gzip"), ("", "deflate")],
)
def test_another_charset_or_coding_is_415(content_type: str, content_encoding: str) -> None:
    """Only UTF-8, plain or gzip, is taken."""
    with pytest.raises(Refused, match="valid: ") as refused:
        take(PATIENT, content_type=content_type, content_encoding=content_encoding)
    assert (refused.value.status, refused.value.code) == (415, "encoding")


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "x-gzip", "", "identity"])
def test_gzip_is_known_by_header_or_by_its_first_bytes(coding: str) -> None:
    """A gzip body is inflated whether or not the header says so."""
    assert take(gzip.compress(PATIENT, mtime=0), content_encoding=coding).entries[0].key == ("Patient", "p1")


def test_gzip_of_several_members_is_one_body() -> None:
    """Members that follow each other, with zero padding between and after, are one body (RFC 1952)."""
    body = gzip.compress(PATIENT[:10], mtime=0) + b"\0\0" + gzip.compress(b"") + gzip.compress(PATIENT[10:]) + b"\0" * 7
    assert take(body).entries[0].key == ("Patient", "p1")


def test_gzip_larger_than_one_read_is_inflated_whole() -> None:
    """Members that end inside, at and beyond the size of one read come out whole."""
    noise = "".join(sha256(str(number).encode()).hexdigest() for number in range(3000))
    document = f'{{"resourceType":"Patient","id":"p1","text":{{"div":"{noise}"}}}}'.encode()
    body = gzip.compress(document[:70_000], 0, mtime=0) + gzip.compress(document[70_000:])
    entry = take(body).entries[0]
    assert entry.resource is not None
    assert entry.resource["text"]["div"] == noise


def test_a_byte_order_mark_is_passed_over() -> None:
    """A UTF-8 byte order mark is no part of the JSON, plain or inside gzip."""
    body = (FOLDER / "byte_order_mark.json").read_bytes()
    assert body.startswith(b"\xef\xbb\xbf")
    for each in (body, gzip.compress(body, mtime=0)):
        entry = take(each).entries[0]
        assert entry.resource is not None
        assert entry.resource["name"] == [{"family": "Cervántez"}]


@pytest.mark.parametrize("cut", [1, 9, 12, 30, -1, -8])
def test_truncated_gzip_is_400(cut: int) -> None:
    """A gzip body that ends early is refused as truncated, wherever it was cut."""
    with pytest.raises(Refused) as refused:
        take(gzip.compress(PATIENT, mtime=0)[:cut], content_encoding="gzip")
    assert (refused.value.status, refused.value.code) == (400, "truncated")


@pytest.mark.parametrize(
    "body",
    [
        PATIENT,
        gzip.compress(PATIENT, mtime=0)[:-8] + b"\1" * 8,
        gzip.compress(PATIENT, mtime=0) + b"tail",
        b"\x1f\x8b\x07rest of it all",
    ],
)
def test_what_is_not_gzip_is_400(body: bytes) -> None:
    """A body that says gzip and is not, has a wrong checksum, or goes on with something else is refused."""
    with pytest.raises(Refused) as refused:
        take(body, content_encoding="gzip")
    assert (refused.value.status, refused.value.code) == (400, "encoding")


def test_a_bomb_is_never_inflated() -> None:
    """Inflating stops at the ratio: 200 MB of zeros in 200 kB cost no more memory than the ratio allows."""
    bomb = gzip.compress(bytes(200 * 1024 * 1024), 1)
    tracemalloc.start()
    with pytest.raises(Refused) as refused:
        take(bomb, max_ratio=10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (refused.value.status, refused.value.code) == (413, "ratio")
    assert peak < 10 * len(bomb) * 3


def test_a_bomb_of_empty_members_is_refused() -> None:
    """Gzip members that hold nothing are counted, since size and ratio never end them."""
    with pytest.raises(Refused, match="members") as refused:
        take(gzip.compress(b"", mtime=0) * 20_000)
    assert refused.value.status == 400


@pytest.mark.parametrize(("body", "coding"), [(PATIENT * 3, ""), (gzip.compress(PATIENT * 9, mtime=0), "gzip")])
def test_a_body_over_the_limit_is_413(body: bytes, coding: str) -> None:
    """The size limit holds before and after inflating; a body of exactly that size is taken."""
    with pytest.raises(Refused, match="larger than 99 bytes") as refused:
        take(body, content_encoding=coding, max_body_bytes=99)
    assert (refused.value.status, refused.value.code) == (413, "too-large")
    assert take(PATIENT, max_body_bytes=len(PATIENT)).type == "resource"


def test_what_is_not_utf_8_is_400_and_names_the_byte() -> None:
    """Other encodings are refused by the place of the first wrong byte, never guessed."""
    with pytest.raises(Refused, match="byte 59") as refused:
        take_file("latin_1.json")
    assert (refused.value.status, refused.value.code) == (400, "encoding")
    assert refused.value.__context__ is None
    with pytest.raises(Refused):
        take(PATIENT.decode().encode("utf-16"))


@pytest.mark.parametrize("body", [b"", b"   ", b"\xef\xbb\xbf"])
def test_nothing_is_400(body: bytes) -> None:
    """An empty body is refused as one that ends early."""
    with pytest.raises(Refused) as refused:
        take(body)
    assert (refused.value.status, refused.value.code) == (400, "truncated")
