"""An HTTP answer, and how a function's return value becomes one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from http import HTTPStatus
from typing import Any

from devstack.host.protos import Message, RpcHttpCookie

# The server frames the body itself; a function's own idea of its length would contradict it.
_FRAMING = {"content-length", "transfer-encoding", "connection"}
_LARGEST_STATUS = 599


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers (repeated names allowed) and body."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    @classmethod
    def text(cls, status: int, text: str) -> Answer:
        """Make a plain text answer."""
        return cls(status, (("content-type", "text/plain; charset=utf-8"),), text.encode())

    @classmethod
    def json(cls, status: int, value: Any) -> Answer:
        """Make a JSON answer."""
        return cls(status, (("content-type", "application/json; charset=utf-8"),), json.dumps(value).encode())


def from_typed_data(value: Message | None) -> Answer:
    """Turn `$return` into an answer; ValueError when it cannot be sent. None is 204, as the platform answers it."""
    if value is None:
        return Answer(HTTPStatus.NO_CONTENT)
    if value.http is None:
        return Answer.text(HTTPStatus.OK, value.string or "")
    response = value.http
    try:
        status = int(response.status_code)
    except ValueError:
        raise ValueError(f"HTTP status {response.status_code!r} is not a number") from None
    if not HTTPStatus.OK <= status <= _LARGEST_STATUS:
        raise ValueError(f"HTTP status {status} cannot be sent (valid: 200 to {_LARGEST_STATUS})")
    headers = [(name, str(text)) for name, text in response.headers.items() if name.lower() not in _FRAMING]
    headers += [("set-cookie", _cookie(each)) for each in response.cookies or ()]
    for name, text in headers:
        if not (name + text).isprintable() or not (name + text).isascii():
            raise ValueError(f"HTTP header {name!r} has characters that cannot be sent")
    body = response.body
    return Answer(status, tuple(headers), (body.bytes or b"") if body is not None else b"")


def _cookie(cookie: Message) -> str:
    return "; ".join(_cookie_parts(cookie))


def _cookie_parts(cookie: Message) -> Iterator[str]:
    yield f"{cookie.name}={cookie.value}"
    if cookie.expires is not None:
        moment = datetime.fromtimestamp(cookie.expires.value.seconds, UTC)
        yield f"expires={format_datetime(moment, usegmt=True)}"
    if cookie.max_age is not None:
        yield f"max-age={int(cookie.max_age.value)}"
    for name, text in (("domain", cookie.domain), ("path", cookie.path)):
        if text is not None and text.value:
            yield f"{name}={text.value}"
    if cookie.secure is not None and cookie.secure.value:
        yield "secure"
    if cookie.http_only is not None and cookie.http_only.value:
        yield "httponly"
    same_site = RpcHttpCookie.SameSite
    names = {same_site.Lax: "lax", same_site.Strict: "strict", same_site.ExplicitNone: "none"}
    if cookie.same_site in names:
        yield f"samesite={names[cookie.same_site]}"
