"""From the bytes of a request to parsed JSON, within limits that hold before the work is done.

Sizes are checked while inflating, depth and string length before parsing, so that no input costs more than its limit.
Every refusal is a Refused with a stable code; messages hold counts, limits and places, never content.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from itertools import accumulate
from typing import Any, NoReturn

from relay.errors import Refused
from relay.settings import Settings

JSON_TYPES = ("application/fhir+json", "application/json")
NDJSON_TYPES = ("application/fhir+ndjson", "application/ndjson", "application/x-ndjson")

_BOM = b"\xef\xbb\xbf"
_GZIP = ("gzip", "x-gzip")
_GZIP_MAGIC = b"\x1f\x8b"
_ZEROS = re.compile(rb"\0*")
_GZIP_MEMBERS = 10_000  # a member can be 20 bytes of nothing: without a bound they cost time, not space
_CHUNK = 64 * 1024

_OPEN_AND_CLOSE = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # as signed bytes, +1 and -1
_NOT_MARKS = bytes(byte for byte in range(256) if byte not in b'[]{}"')
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_NUMBER_LENGTH = 1000
_NUMBER_EXPONENT = 1000


def read_text(
    body: bytes, *, content_type: str, content_encoding: str, limits: Settings, accept: tuple[str, ...] = JSON_TYPES
) -> str:
    """Decode a request's body: gzip (by header or by its first bytes), byte order mark, UTF-8.

    No content type at all is taken as one of `accept`.

    Raises Refused: 415 `wrong-type` or `encoding` for what the headers say; 413 `too-large` or `ratio`; 400 `encoding`
    or `truncated` for what the bytes are.
    """
    check_headers(content_type, content_encoding, accept)
    if len(body) > limits.max_body_bytes:
        _too_large(limits)
    if content_encoding.strip().lower() in _GZIP or body.startswith(_GZIP_MAGIC):
        body = _inflate(body, limits)
    try:
        return body.removeprefix(_BOM).decode()
    except UnicodeDecodeError as error:
        at = error.start
    # Raised out here because Python's error holds the whole body; so below.
    raise Refused(f"the body is not UTF-8 at byte {at}", code="encoding")


def parse(text: str, limits: Settings) -> Any:
    """Parse strict JSON; numbers with a fraction or exponent are Decimals.

    Raises Refused 400: `too-deep`, `string-too-long`, `truncated`, `not-json`, `not-a-number` (NaN, Infinity),
    `number-out-of-range`, `duplicate-member`, `surrogate` (half of a pair, which no text can hold).
    """
    check_shape(text, limits)
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        cut = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
        code, message = ("truncated", "the JSON ends early") if cut else ("not-json", "not JSON")
        message = f"{message} at line {error.lineno} column {error.colno}"
    except RecursionError:
        code, message = "too-deep", "the JSON is nested too deep"
    except ValueError:  # an integer longer than Python reads
        code, message = "number-out-of-range", "a number is out of range"
    else:
        if _SURROGATE_ESCAPE.search(text) and _has_surrogate(value):
            raise Refused("a string holds half of a surrogate pair", code="surrogate")
        return value
    raise Refused(message, code=code)


def decode_at(text: str, start: int) -> tuple[Any, int]:
    """Decode the one value that starts there, as strictly as `parse`; returns it and where it ends.

    Raises Refused or ValueError, neither of them with a word of what is wrong: `parse` of the whole text has that.
    """
    value, end = _DECODER.raw_decode(text, start)
    if _SURROGATE_ESCAPE.search(text, start, end) and _has_surrogate(value):
        raise Refused("a string holds half of a surrogate pair", code="surrogate")
    return value, end


def check_headers(content_type: str, content_encoding: str, accept: tuple[str, ...] = JSON_TYPES) -> None:
    """Raise Refused 415 `wrong-type` or `encoding` for what headers say; none at all is taken as one of `accept`."""
    _check_type(content_type, accept)
    if content_encoding.strip().lower() not in {"", "identity", *_GZIP}:
        raise Refused("Content-Encoding is not supported (valid: gzip, identity)", code="encoding", status=415)


def _check_type(content_type: str, accept: tuple[str, ...]) -> None:
    kind, _, parameters = content_type.partition(";")
    if kind.strip().lower() not in {"", *accept}:
        raise Refused(f"Content-Type is not supported (valid: {', '.join(accept)})", code="wrong-type", status=415)
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip(" \t\"'").lower() not in {"utf-8", "utf8", "us-ascii"}:
            raise Refused("the charset is not supported (valid: utf-8)", code="encoding", status=415)


def _too_large(limits: Settings) -> NoReturn:
    raise Refused(f"the body is larger than {limits.max_body_bytes} bytes", code="too-large", status=413)


def size_inflated(body: bytes, most: int) -> int:
    """Return how many bytes a body holds, gzip by what it inflates to; at most `most`, which damaged gzip counts as too."""
    if not body.startswith(_GZIP_MAGIC):
        return len(body)
    try:
        return min(sum(map(len, _inflated(body, most))), most)
    except Refused:
        return most


def _inflate(body: bytes, limits: Settings) -> bytes:
    most = min(limits.max_body_bytes, limits.max_ratio * len(body))
    out = bytearray()
    for data in _inflated(body, most):
        out += data
    if len(out) > limits.max_body_bytes:
        _too_large(limits)
    if len(out) > most:
        raise Refused(f"the body inflates to more than {limits.max_ratio} times its size", code="ratio", status=413)
    return bytes(out)


def _inflated(body: bytes, most: int) -> Iterator[bytes]:
    """Inflate gzip of one or more members, zero padding between them allowed; ends with the first byte over `most`."""
    at = size = 0
    for _ in range(_GZIP_MEMBERS):
        inflater = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        while not inflater.eof and size <= most and (data := body[at : at + _CHUNK]):
            at += len(data)
            try:
                data = inflater.decompress(data, most + 1 - size)  # takes all of data, or stops at the limit
            except zlib.error:
                raise Refused("the body is not gzip, or damaged", code="encoding") from None
            size += len(data)
            yield data
        if size > most:
            return
        if not inflater.eof:
            raise Refused("the gzip body ends early", code="truncated")
        at -= len(inflater.unused_data)
        padding = _ZEROS.match(body, at)
        at = padding.end() if padding else at
        if at == len(body):
            return
    raise Refused(f"the gzip body has more than {_GZIP_MEMBERS} members", code="encoding")


def check_shape(text: str, limits: Settings) -> None:
    """Raise Refused for depth and string length, without parsing; what is not JSON may pass, the parser sees to it."""
    raw = text.encode()
    plain = raw
    if b"\\" in raw:  # of the same length, but every quote in it begins or ends a string
        plain = raw.replace(b"\\\\", b"__").replace(b'\\"', b"__")
    # A bracket is outside of strings after an even number of quotes; taking out two neighbouring quotes keeps that.
    marks = plain.translate(_OPEN_AND_CLOSE, _NOT_MARKS).replace(b'""', b"")
    outside = b"".join(marks.split(b'"')[::2])
    if outside and max(accumulate(memoryview(outside).cast("b"))) > limits.max_depth:
        raise Refused(f"the JSON is nested deeper than {limits.max_depth} levels", code="too-deep")
    # A longer string must cover a multiple of the limit, so only the strings there are measured.
    for here in range(limits.max_string, len(plain), limits.max_string):
        start, end = plain.rfind(b'"', 0, here), plain.find(b'"', here)
        if end - start - 1 > limits.max_string and _characters(raw, plain, start, end) > limits.max_string:
            raise Refused(f"a string is longer than {limits.max_string} characters", code="string-too-long")


def _characters(raw: bytes, plain: bytes, start: int, end: int) -> int:
    """Count the characters of the string between two quotes; 0 if they are the end of one and the start of another."""
    if start < 0 or plain.count(b'"', 0, start) % 2:
        return 0
    try:
        return len(json.loads(raw[start : end + 1]))
    except ValueError:
        return 0


def _refuse_constant(_name: str) -> NoReturn:
    raise Refused("NaN and Infinity are not JSON", code="not-a-number")


def _decimal(text: str) -> Decimal:
    """Read a number exactly; one whose plain digits would fill memory is refused."""
    if len(text) <= _NUMBER_LENGTH:
        try:
            value = Decimal(text)
        except InvalidOperation:  # an exponent beyond what Decimal counts
            value = Decimal("NaN")
        if value.is_finite() and abs(value.adjusted()) <= _NUMBER_EXPONENT:
            return value
    raise Refused("a number is out of range", code="number-out-of-range")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Refused("an object has two members of one name", code="duplicate-member")
    return found


_DECODER = json.JSONDecoder(parse_float=_decimal, parse_constant=_refuse_constant, object_pairs_hook=_unique)


def _has_surrogate(value: Any) -> bool:
    """Tell whether any name or text in parsed JSON holds half of a surrogate pair."""
    rest = [value]
    while rest:
        match rest.pop():
            case str() as text:
                if _SURROGATE.search(text):
                    return True
            case dict() as members:
                rest.extend(members)
                rest.extend(members.values())
            case list() as elements:
                rest.extend(elements)
            case _:
                pass
    return False
