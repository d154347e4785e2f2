"""A FHIR client that talks to a function or to the embedded server, and what hostile answers hold."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from devstack.fhir.server import FhirServer
from relay.fhir.client import FhirClient

URL = "http://fhir/base"
CANARY = "Kanarienvogel"

Answer = Callable[[httpx.Request], httpx.Response]


@asynccontextmanager
async def client(answer: Answer | FhirServer, **options: Any) -> AsyncIterator[FhirClient]:
    """Return a client that talks to a function, or to an app."""
    transport = httpx.MockTransport(answer) if not isinstance(answer, FhirServer) else httpx.ASGITransport(answer)
    made = FhirClient(URL if not isinstance(answer, FhirServer) else "http://fhir/", transport=transport, **options)
    try:
        yield made
    finally:
        await made.aclose()


def outcome(*codes: object) -> dict[str, Any]:
    """Return an OperationOutcome that tells more than it should."""
    issues = [{"severity": "error", "code": code, "diagnostics": CANARY, "details": {"text": CANARY}} for code in codes]
    return {"resourceType": "OperationOutcome", "issue": issues}


class Script:
    """Answers one request after the other, and keeps the requests."""

    def __init__(self, answers: Iterable[httpx.Response]) -> None:
        self.asked: list[httpx.Request] = []
        self._answers = iter(answers)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer with the next one; a request too many is an error of the test."""
        self.asked.append(request)
        return next(self._answers)
