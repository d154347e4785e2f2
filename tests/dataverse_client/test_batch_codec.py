"""A batch is written so that nothing inside can break it, and its answer is read strictly and in order."""

import json
from decimal import Decimal
from types import MappingProxyType

import pytest
from dataverse_wire import ID, ROOT, change_set, failure, http_part, multipart, read_requests
from hypothesis import given
from hypothesis import strategies as st

from relay.dataverse import batch
from relay.dataverse.batch import ChangeSet, Request, decode, encode
from relay.dataverse.errors import DataverseBusy, DataverseMissing, DataverseNotReached, DataverseRace
from relay.errors import Transient

CREATE = Request("POST", "contacts", {"contactid": ID})
READ = Request("GET", "contacts?$top=1")
json_text = st.text(max_size=30)
bodies = st.dictionaries(
    json_text,
    st.one_of(json_text, st.integers(), st.booleans(), st.none(), st.decimals(allow_nan=False, allow_infinity=False)),
    max_size=4,
)
writes = st.builds(Request, st.sampled_from(["POST", "PATCH"]), st.just("contacts?tag=a"), bodies)
items = st.lists(
    st.one_of(st.just(READ), writes, st.lists(writes, min_size=1, max_size=3).map(lambda each: ChangeSet(tuple(each)))),
    min_size=1,
    max_size=5,
)


def load(data: bytes) -> object:
    return json.loads(data, parse_float=Decimal) if data else None


def same(sent: object, got: object) -> bool:
    return sent == (Decimal(got) if isinstance(sent, Decimal) and isinstance(got, int) else got)


@given(items)
def test_what_is_written_reads_back(sent: list[Request | ChangeSet]) -> None:
    """A server finds the same operations with the same bodies in the same order, each write of a set numbered."""
    content_type, body = encode(sent, ROOT)
    got = read_requests(content_type, body)
    assert len(got) == len(sent)
    numbers = []
    for item, read in zip(sent, got, strict=True):
        requests = item.requests if isinstance(item, ChangeSet) else (item,)
        assert isinstance(read, list) is isinstance(item, ChangeSet)
        for request, (method, url, headers, data) in zip(
            requests, read if isinstance(read, list) else [read], strict=True
        ):
            assert (method, url) == (request.method, ROOT + request.url)
            if request.body is None:
                assert data == b""
            else:
                document = load(data)
                assert document.keys() == request.body.keys()
                assert all(same(value, document[name]) for name, value in request.body.items())
                assert headers["content-type"] == "application/json; type=entry"
                assert headers["content-length"] == str(len(data))
            if isinstance(item, ChangeSet):
                numbers.append(headers["content-id"])
    assert len(set(numbers)) == len(numbers)
    assert all(numbers)


def test_the_exact_text() -> None:
    """The lines, their order and their endings are those of Microsoft's samples."""
    content_type, body = encode(
        [READ, ChangeSet((Request("PATCH", "contacts(1)", {"a": "é"}, {"If-Match": "*"}),))], ROOT
    )
    outer = content_type.split('"')[1]
    inner = body.decode().split('boundary="')[1].split('"')[0]
    assert body.decode() == (
        f"--{outer}\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        f"GET {ROOT}contacts?$top=1 HTTP/1.1\r\nAccept: application/json\r\n\r\n\r\n"
        f'--{outer}\r\nContent-Type: multipart/mixed; boundary="{inner}"\r\n\r\n'
        f"--{inner}\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\nContent-ID: 1\r\n\r\n"
        f"PATCH {ROOT}contacts(1) HTTP/1.1\r\nAccept: application/json\r\nIf-Match: *\r\n"
        'Content-Type: application/json; type=entry\r\nContent-Length: 14\r\n\r\n{"a":"\\u00e9"}\r\n'
        f"--{inner}--\r\n\r\n--{outer}--\r\n"
    )


def test_any_mapping_is_an_object_and_nothing_else_is_guessed_at() -> None:
    """A mapping of any kind is written as an object; a value that JSON does not have is refused by its type."""
    _, encoded = encode([Request("POST", "contacts", MappingProxyType({"a": MappingProxyType({"b": 1})}))], ROOT)
    assert b'{"a":{"b":1}}' in encoded
    for body in ({"a": b"x"}, {"a": b"x", "b": Decimal(1)}):
        with pytest.raises(TypeError, match="bytes"):
            encode([Request("POST", "contacts", body)], ROOT)


def test_a_decimal_keeps_its_digits() -> None:
    """A Decimal is written as its own digits, never as a binary fraction."""
    body = {"amount": Decimal("0.10"), "list": [Decimal("12345678901234567890.123456789"), {"x": Decimal("1E+2")}]}
    _, encoded = encode([Request("POST", "contacts", body)], ROOT)
    assert b'{"amount":0.10,"list":[12345678901234567890.123456789,{"x":1E+2}]}' in encoded


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (Request("GET", "contacts", headers={"X": "a\r\nY: b"}), "header"),
        (Request("GET", "contacts", headers={"X\r\nY": "b"}), "header"),
        (Request("GET", "contacts", headers={"Content-Length": "9"}), "relay itself"),
        (Request("GET", "contacts HTTP/1.1\r\nX: y"), "percent-encoded"),
        (Request("GET", "contacts?$filter=a eq 1"), "percent-encoded"),
        (Request("GET", "contacts?é"), "percent-encoded"),
        (Request("GET", "contacts#x"), "fragment"),
        (Request("GET", ""), "percent-encoded"),
        (Request("GET", "/contacts"), "relative"),
        (Request("GET", "//evil/contacts"), "relative"),
        (Request("GET", "https://evil/contacts"), "relative"),
        (Request("GET", "../v9.1/contacts"), "relative"),
        (Request("GET", "contacts?" + "x" * 66_000), "65536"),
        (Request("get", "contacts"), "valid: GET"),
        (Request("POST", "contacts", {"a": float("nan")}), "JSON"),
        (Request("POST", "contacts", {"a": Decimal("NaN")}), "finite"),
        (ChangeSet(()), "change set"),
        (ChangeSet((READ,)), "GET"),
    ],
)
def test_what_would_break_a_batch_is_refused(item: Request | ChangeSet, words: str) -> None:
    """Nothing that could change the batch's structure or leave the API root is written."""
    with pytest.raises(ValueError, match=words):
        encode([item], ROOT)


def test_an_empty_batch_is_refused() -> None:
    """A batch has at least one item."""
    with pytest.raises(ValueError, match="at least one"):
        encode([], ROOT)


def test_a_boundary_never_occurs_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A boundary that the content happens to hold is not used."""
    tokens = iter(["taken", "free"])
    monkeypatch.setattr(batch.secrets, "token_hex", lambda _: next(tokens))
    content_type, _ = encode([Request("POST", "contacts", {"a": "--batch_taken"})], ROOT)
    assert content_type == 'multipart/mixed; boundary="batch_free"'


def test_answers_come_in_order() -> None:
    """One list per item: a request has one response, a change set that succeeded one per request."""
    kind, body = multipart(
        [
            http_part(200, body={"value": [{"a": 1.10}]}, headers={"ETag": 'W/"5"'}),
            change_set([http_part(204, content_id="1"), http_part(201, body={"id": "x"}, content_id="2")]),
            http_part(304),
        ]
    )
    read, written, unchanged = decode(kind, body, [READ, ChangeSet((CREATE, CREATE)), READ])
    assert [each.status for each in (*read, *written, *unchanged)] == [200, 204, 201, 304]
    assert read[0].body == {"value": [{"a": Decimal("1.1")}]}
    assert read[0].headers["ETag"] == 'W/"5"'
    assert "etag" in read[0].headers
    assert written[1].body == {"id": "x"}
    assert all(each.error is None for each in (*read, *written, *unchanged))


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_failed_change_set_has_one_answer(wrapped: bool) -> None:
    """The error of a change set stands alone, whether the server wraps it or not."""
    error = failure(412, "0x80060882")
    kind, body = multipart([change_set([error]) if wrapped else error, http_part(204)])
    failed, fine = decode(kind, body, [ChangeSet((CREATE, CREATE)), CREATE])
    assert len(failed) == 1
    assert isinstance(failed[0].error, DataverseRace)
    assert fine[0].status == 204


def test_a_stopped_batch_says_what_was_not_reached() -> None:
    """Items after the failure that stopped a batch are marked, never left out."""
    kind, body = multipart([http_part(204), failure(404, "0x80040217")])
    results = decode(kind, body, [CREATE, CREATE, CREATE, ChangeSet((CREATE, CREATE))])
    assert [len(each) for each in results] == [1, 1, 1, 1]
    assert isinstance(results[1][0].error, DataverseMissing)
    for missed in (results[2][0], results[3][0]):
        assert missed.status == 0
        assert isinstance(missed.error, DataverseNotReached)
        assert missed.error.kind == "not-reached"
        assert "not reached" in str(missed.error)


def test_other_bodies() -> None:
    """Text stays text, an empty body is None, and an error whose JSON is broken is still that error."""
    page = b"Content-Type: application/http\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n42"
    broken = b"Content-Type: application/http\r\n\r\nHTTP/1.1 503\r\nContent-Type: application/json\r\n\r\n<html>"
    headless = b"Content-Type: application/http\r\n\r\nHTTP/1.1 204 No Content\r\n"
    kind, body = multipart([page, broken, headless])
    text, error, empty = decode(kind, body, [READ, READ, READ])
    assert text[0].body == "42"
    assert isinstance(error[0].error, DataverseBusy)
    assert empty[0].body is None


def test_a_longer_boundary_is_not_the_boundary() -> None:
    """A line that only begins like the boundary belongs to the content; blanks after a boundary do not matter."""
    kind = 'multipart/mixed;boundary="b"'
    part = http_part(200, body={"a": 1}).replace(b'{"a": 1}', b'{"a":\r\n--bc\r\n"x"}').replace(b"json", b"text")
    body = b"preamble\r\n--b \t\r\n" + part + b"\r\n--b--  \r\nepilogue"
    assert "--bc" in decode(kind, body, [READ])[0][0].body


GOOD = http_part(204)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([GOOD, GOOD, GOOD], "3 parts for 2 items"),
        ([GOOD], "1 parts for 2 items"),
        ([], "0 parts for 2 items"),
        ([GOOD, b"Content-Type: text/plain\r\n\r\nx"], "neither"),
        ([GOOD, b"\r\nx"], "neither"),
        ([GOOD, b"Content-Type: application/http\r\n\r\nnonsense"], "status line"),
        ([GOOD, b"Content-Type: application/http\r\n\r\nHTTP/1.1 204 x\r\nbad line\r\n\r\n"], "no name"),
        ([GOOD, b"Content-Type: application/http\r\n\r\nHTTP/1.1 204 x\r\nA: b\r\n folded\r\n\r\n"], "no name"),
        ([GOOD, http_part(200, body={}).replace(b"{}", b"{")], "not JSON"),
        ([GOOD, http_part(200, body={}).replace(b"{}", b"NaN")], "not JSON"),
        ([change_set([GOOD]), GOOD], "neither"),
    ],
)
def test_a_malformed_answer_is_not_guessed_at(parts: list[bytes], words: str) -> None:
    """An answer that is not whole and well-formed raises Transient: what was done is not known."""
    kind, body = multipart(parts)
    with pytest.raises(Transient, match=words):
        decode(kind, body, [CREATE, CREATE])


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([GOOD], "1 answers"),
        ([GOOD, GOOD, GOOD], "3 answers"),
        ([GOOD, failure(400, "0x80048d19")], "more than one"),
        ([http_part(204, content_id="2"), http_part(204, content_id="1")], "out of order"),
        ([change_set([GOOD]), GOOD], "not an HTTP answer"),
    ],
)
def test_a_malformed_change_set_is_not_guessed_at(parts: list[bytes], words: str) -> None:
    """A change set has one answer per request in order, or one error."""
    kind, body = multipart([change_set(parts)])
    with pytest.raises(Transient, match=words):
        decode(kind, body, [ChangeSet((CREATE, CREATE))])
    kind, body = multipart([GOOD])
    with pytest.raises(Transient, match="one success"):
        decode(kind, body, [ChangeSet((CREATE, CREATE))])


@pytest.mark.parametrize("kind", ["application/json", "multipart/mixed", "multipart/related; boundary=x", ""])
def test_only_multipart_is_read(kind: str) -> None:
    """Another content type is no answer to a batch."""
    with pytest.raises(Transient, match="multipart/mixed"):
        decode(kind, b"", [READ])


@given(st.binary(max_size=200), st.integers(0, 3))
def test_no_bytes_crash_the_reader(noise: bytes, place: int) -> None:
    """Whatever a server sends, the answer is read or Transient is raised."""
    kind, body = multipart([http_part(200, body={"a": 1}), change_set([http_part(204, content_id="1")])])
    cut = len(body) * place // 4
    try:
        results = decode(kind, body[:cut] + noise + body[cut:], [READ, ChangeSet((CREATE,))])
    except Transient:
        return
    assert [len(each) for each in results] == [1, 1]


@given(st.integers(0, 600))
def test_a_cut_answer_is_never_taken_for_whole(length: int) -> None:
    """An answer that ends too early raises Transient, wherever it was cut."""
    kind, body = multipart([http_part(200, body={"a": 1}), change_set([http_part(204, content_id="1")])])
    whole = body.rstrip(b"\r\n")
    if length < len(whole):
        with pytest.raises(Transient):
            decode(kind, whole[:length], [READ, ChangeSet((CREATE,))])
