"""The admin routes of the host: list the functions, run one by name."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any, Protocol

from devstack.host.answer import Answer
from devstack.host.function import Function
from devstack.host.protos import Message
from devstack.host.runtime import Result

_LIST = "/admin/functions"


class Backend(Protocol):
    """What the HTTP side needs of the host."""

    functions: list[Function]

    async def run(self, function: Function, data: Message, **options: Any) -> Result:
        """Invoke and carry out the output bindings."""
        ...

    def start_by_name(self, function: Function, text: str) -> None:
        """Invoke in the background."""
        ...


class Admin:
    """Answers below /admin and /runtime once the key was checked; what is not served is 501 and named."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        """Answer one request."""
        functions = self._backend.functions
        if path == _LIST:
            return Answer.json(200, [_describe(each) for each in functions]) if method == "GET" else _NOT_ALLOWED
        if not path.startswith(f"{_LIST}/"):
            return Answer.text(HTTPStatus.NOT_IMPLEMENTED, f"{path} is not served by the development host")
        name = path.removeprefix(f"{_LIST}/").lower()
        function = next((each for each in functions if each.name.lower() == name), None)
        if function is None:
            return Answer(HTTPStatus.NOT_FOUND)
        if method == "GET":
            return Answer.json(200, _describe(function))
        return self._run(function, body) if method == "POST" else _NOT_ALLOWED

    def _run(self, function: Function, body: bytes) -> Answer:
        if function.unserved:
            return Answer.text(HTTPStatus.NOT_IMPLEMENTED, f"{function.name}: {function.unserved}")
        if function.kind == "httpTrigger":
            return Answer.text(HTTPStatus.BAD_REQUEST, f"{function.name} is an HTTP function: call its route")
        text = _input(body)
        if text is None:
            return Answer.text(HTTPStatus.BAD_REQUEST, 'the body must be JSON {"input": "text"}, or empty')
        self._backend.start_by_name(function, text)
        return Answer(HTTPStatus.ACCEPTED)


_NOT_ALLOWED = Answer(HTTPStatus.METHOD_NOT_ALLOWED)


def _input(body: bytes) -> str | None:
    """Read `{"input": "…"}`; None when it is something else."""
    try:
        content = json.loads(body or b"{}")
    except ValueError:
        return None
    text = content.get("input", "") if isinstance(content, dict) else None
    return text if isinstance(text, str) else None


def _describe(function: Function) -> dict[str, Any]:
    return {
        "name": function.name,
        "language": "python",
        "isDisabled": False,
        "config": {"bindings": list(function.bindings)},
        "unserved": function.unserved,
    }
