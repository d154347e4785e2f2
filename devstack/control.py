"""The control side of an emulator, under `/_emulator/`: reset, snapshot, faults and a record of every call."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Literal, NoReturn, get_args

import httpx
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PREFIX: Final = "/_emulator/"

Effect = Literal["answer", "lose", "delay", "undo", "overtake", "drop", "repeat", "reverse"]
OF_EVENTS: Final[tuple[Effect, ...]] = ("drop", "repeat", "reverse")
_OF_CALLS: Final = ("answer", "lose", "delay")
_VERBS: Final = {
    "reset": ("POST",),
    "snapshot": ("GET", "PUT"),
    "faults": ("GET", "PUT", "DELETE"),
    "calls": ("GET", "DELETE"),
}
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_NUMBERS: Final = {"times": (0, 10**9), "after": (0, 10**9), "status": (200, 599), "ms": (0, 3_600_000)}


@dataclass(slots=True)
class Fault:
    """One rule that makes calls go wrong; raises ValueError naming the field and its valid choices.

    `method` None is any; `path` is a regular expression searched in the path and query as they were sent.
    `after` matching calls pass first, then `times` calls are struck (0: for ever); both count down.
    `effect`: `answer` with `status`, `headers` and `body` instead of doing it; `lose` does it and cuts the
    connection; `delay` does it after `ms` milliseconds. Two are for emulators that have them, and strike operations,
    alone or in a batch: `undo` does it, takes it back and answers; `overtake` lets somebody else save the row that a
    write with a version is about, just before it. Three strike events that go to webhooks, for which `path` is searched in
    `<table>/<message>`: `drop` tells nobody, `repeat` tells twice, `reverse` keeps `times` of them, or until nothing else
    is under way when somebody asks, and tells the last first. `name` is that of a fault the emulator knows, whose fields are
    the defaults of the others. `inside` strikes single operations of a batch instead of whole calls.
    """

    method: str | None = None
    path: str = ""
    times: int = 1
    after: int = 0
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    effect: Effect = "answer"
    ms: int = 0
    name: str = ""
    inside: bool = False

    def __post_init__(self) -> None:
        if self.method is not None:
            self.method = self.method.upper() if isinstance(self.method, str) else self.method
            if self.method not in _METHODS:
                raise ValueError(f"method: {self.method!r} is not null or one of {', '.join(_METHODS)}")
        if not isinstance(self.path, str):
            raise ValueError(f"path: {self.path!r} is not a string")  # noqa: TRY004 - one error type for bad faults
        try:
            re.compile(self.path)
        except re.error as error:
            raise ValueError(f"path: {self.path!r} is not a regular expression: {error}") from error
        for name, (low, high) in _NUMBERS.items():
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise ValueError(f"{name}: {value!r} is not a whole number from {low} to {high}")
        if self.effect not in get_args(Effect):
            raise ValueError(f"effect: {self.effect!r} is not one of {', '.join(get_args(Effect))}")
        if not isinstance(self.headers, dict) or not all(
            isinstance(part, str) for pair in self.headers.items() for part in pair
        ):
            raise ValueError(f"headers: {self.headers!r} is not an object of strings")
        if self.effect == "reverse" and self.times == 0:
            raise ValueError("times: 0 (for ever) are too many events to keep and tell the last first")
        if self.inside is not False and (self.inside is not True or self.effect in ("lose", "delay", *OF_EVENTS)):
            raise ValueError(f"inside: {self.inside!r} is not false, or true with effect answer")

    @classmethod
    def parse(cls, document: object, named: Mapping[str, Named] | None = None) -> Fault:
        """Read a fault from JSON; raises ValueError naming the field and its valid choices."""
        if not isinstance(document, dict):
            raise ValueError(f"{document!r} is not an object")  # noqa: TRY004 - one error type for bad faults
        names = [each.name for each in fields(cls)]
        if unknown := sorted(set(document) - set(names)):
            raise ValueError(f"{unknown[0]}: unknown field (valid: {', '.join(names)})")
        name = document.get("name", "")
        if name and name not in (named or {}):
            raise ValueError(
                f"name: {name!r} is not one of {', '.join(named or {}) or 'none: there are no named ones'}"
            )
        return cls(**({**named[name].fault, **document} if named and name else document))

    def matches(self, method: str, path: str) -> bool:
        """Say whether a call is one of those that this fault counts."""
        return self.method in (None, method) and re.search(self.path, path) is not None


@dataclass(frozen=True, slots=True)
class Named:
    """A fault that an emulator knows by name: what it means, and the fields of the Fault that makes it."""

    meaning: str
    fault: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Dial:
    """Something more on the control side: `read` returns JSON, `write` takes it back or raises ValueError."""

    read: Callable[[], Any]
    write: Callable[[Any], None] | None = None


class Control:
    """ASGI middleware that adds the control side to an emulator.

    `snapshot` returns what orjson can write; `restore` takes it back and raises ValueError (answered 400) for
    anything else. `calls` are dicts `method`, `path` (with the query), `status`, `ms`, oldest first by arrival;
    `status` is None while a call runs and 0 when its answer was lost. `faults` are those that can still strike,
    `named` those that may be asked for by name, `dials` what else there is to read and set, by name. `operations` says
    that the emulator has the effects that strike operations.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        reset: Callable[[], None],
        snapshot: Callable[[], Any],
        restore: Callable[[Any], None],
        named: Mapping[str, Named] | None = None,
        dials: Mapping[str, Dial] | None = None,
        operations: bool = False,
    ) -> None:
        self.app = app
        self._effects = get_args(Effect) if operations else _OF_CALLS
        self.named = named or {}
        self._dials = {"fault-names": Dial(self._fault_names), **(dials or {})}
        self.calls: list[dict[str, Any]] = []
        self.faults: list[Fault] = []
        self._reset = reset
        self._snapshot = snapshot
        self._restore = restore

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - ASGI's own signature
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif scope["path"].startswith(PREFIX):
            response = await self._control(Request(scope, receive))
            await response(scope, receive, send)
        else:
            await self._call(scope, receive, send)

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], _path_as_sent(scope)
        call: dict[str, Any] = {"method": method, "path": path, "status": None, "ms": None}
        self.calls.append(call)
        began = time.perf_counter()

        async def send_and_note(message: Message) -> None:
            if message["type"] == "http.response.start":
                call["status"] = message["status"]
            await send(message)

        try:
            fault = self.strike(method, path)
            if fault is not None and fault.effect == "answer":
                await _drain(receive)
                await _answer(fault)(scope, receive, send_and_note)
                return
            if fault is not None and fault.effect == "lose":
                await self.app(scope, receive, _nowhere)
                call["status"] = 0
                await _cut(send)
            if fault is not None:
                await asyncio.sleep(fault.ms / 1000)
            await self.app(scope, receive, send_and_note)
        except Exception:
            if call["status"] is None:
                call["status"] = 500
            raise
        finally:
            call["ms"] = round((time.perf_counter() - began) * 1000, 3)

    def arm(self, name: str, **more: Any) -> Fault:
        """Add a fault by its name, with other fields where they are given; raises ValueError as Fault does."""
        fault = self._parse({"name": name, **more})
        self.faults.append(fault)
        return fault

    def _parse(self, document: object) -> Fault:
        fault = Fault.parse(document, self.named)
        if fault.effect not in self._effects:
            raise ValueError(f"effect: {fault.effect!r} is not one of {', '.join(self._effects)}")
        return fault

    def _parse_all(self, document: object) -> list[Fault]:
        if not isinstance(document, list):
            raise ValueError("the body is not a list of faults")  # noqa: TRY004 - one error type for bad input
        faults = []
        for index, each in enumerate(document):
            try:
                faults.append(self._parse(each))
            except ValueError as error:
                raise ValueError(f"[{index}].{error}") from error
        return faults

    def strike(self, method: str, path: str, *, inside: bool = False, effect: Effect | None = None) -> Fault | None:
        """Return the first fault that strikes this call, counting it down; one used up leaves the list.

        `inside` says that it is an operation of a batch, which whole calls' faults do not strike, nor the other way;
        `effect` asks for those faults alone that have this effect on operations, wherever they are.
        """
        for fault in self.faults:
            placed = fault.inside is inside and fault.effect in _OF_CALLS if effect is None else fault.effect == effect
            if not placed or not fault.matches(method, path):
                continue
            if fault.after > 0:
                fault.after -= 1
                continue
            if fault.times == 1:
                self.faults.remove(fault)
            elif fault.times > 1:
                fault.times -= 1
            return fault
        return None

    async def _control(self, request: Request) -> Response:
        verb, noun = request.method, request.url.path.removeprefix(PREFIX)
        dial = self._dials.get(noun)
        verbs = _VERBS.get(noun, ()) if dial is None else ("GET", "PUT") if dial.write else ("GET",)
        if not verbs:
            return _refuse(404, f"{noun}: unknown (valid: {', '.join((*_VERBS, *self._dials))})")
        if verb not in verbs:
            choices = ", ".join(verbs)
            return _refuse(405, f"{verb} {noun}: not allowed (valid: {choices})", {"Allow": choices})
        if verb == "PUT":
            try:
                return self._put(noun, dial, orjson.loads(await request.body()))
            except ValueError as error:
                return _refuse(400, f"{noun}: {error}")
        if verb == "GET":
            return _json(dial.read()) if dial else self._get(noun)
        return self._clear(noun)

    def _clear(self, noun: str) -> Response:
        if noun in ("reset", "faults"):
            self.faults.clear()
        if noun in ("reset", "calls"):
            self.calls.clear()
        if noun == "reset":
            self._reset()
        return Response(status_code=204)

    def _fault_names(self) -> dict[str, str]:
        return {name: each.meaning for name, each in self.named.items()}

    def _get(self, noun: str) -> Response:
        if noun == "snapshot":
            return _json(self._snapshot())
        return _json(self.calls if noun == "calls" else [asdict(each) for each in self.faults])

    def _put(self, noun: str, dial: Dial | None, document: object) -> Response:
        if dial is not None and dial.write is not None:
            dial.write(document)
            return _json(dial.read())
        if noun == "snapshot":
            self._restore(document)
            return Response(status_code=204)
        self.faults[:] = self._parse_all(document)
        return _json([asdict(each) for each in self.faults])


def _path_as_sent(scope: Scope) -> str:
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope["query_string"]
    return (raw + b"?" + query if query else raw).decode("latin-1")


async def _drain(receive: Receive) -> None:
    """Read the request to its end, so that a kept-alive connection stays in step."""
    while True:
        message: MutableMapping[str, Any] = await receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            return


async def _nowhere(_: Message) -> None:
    """Send to nobody."""


async def _cut(send: Send) -> NoReturn:
    """End the connection in the middle of an answer.

    A server sends 500 for an exception before the head of an answer, and closes the connection for one after it;
    in process the caller gets the exception itself, so it is the one that httpx raises for a closed connection.
    """
    await send({"type": "http.response.start", "status": 502, "headers": [(b"content-length", b"1")]})
    raise httpx.RemoteProtocolError("Server disconnected without sending a response.")


def _answer(fault: Fault) -> Response:
    media_type = None
    body = b""
    if isinstance(fault.body, str):
        body, media_type = fault.body.encode(), "text/plain"
    elif fault.body is not None:
        body, media_type = orjson.dumps(fault.body), "application/json"
    return Response(body, fault.status, headers=fault.headers, media_type=media_type)


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")


def _refuse(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps({"error": message}), status, headers=headers, media_type="application/json")
