"""Read the resource, add the one identifier, put it back under If-Match; again when somebody else wrote first."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Sequence

from relay.errors import Failed, Terminal, Transient
from relay.fhir.client import BUSY, FhirClient, Put, Read, Written
from relay.fhir.identifiers import Added, Conflict, add_identifier, dynamics_ids, mark_old
from relay.fhir.links import Link, LinkResult

TRIES = 6
GONE = frozenset({404, 410})
CONFLICT = frozenset({409, 412})  # the standard says 412; HAPI answers 409; both mean that another version is there

MADE = 201
BROUGHT_BACK = (
    "the resource was purged from the FHIR server under the write-back, which took the guarded PUT and made it anew"
)
"""HAPI takes If-Match to mean nothing where no version ever was; nobody but a person may say whether it is to go again."""

RowGone = Callable[[str, str], Awaitable[bool]]
"""Tells whether our own org answers 404 for (table, GUID)."""


class Writer:
    """Carries out links, many at once; never raises for one of them, and never writes over anybody's change."""

    def __init__(
        self,
        fhir: FhirClient,
        row_gone: RowGone,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._fhir = fhir
        self._row_gone = row_gone
        self._sleep = sleep
        self._draw = draw

    async def write(self, links: Sequence[Link]) -> list[LinkResult]:
        """Return what became of each link; `queued` means that the other side was away and it is to be tried later."""
        results: dict[int, LinkResult] = {}
        pending = list(range(len(links)))
        for attempt in range(TRIES):
            if attempt:
                await self._sleep(0.05 * 2**attempt * (0.5 + self._draw()))
            puts = await self._prepare(links, pending, results, trust=attempt == 0)
            pending = await self._put(puts, results)
            if not pending:
                break
        for number in pending:
            results[number] = LinkResult("queued", "contended", "the resource kept changing under the write-back")
        return [results[number] for number in range(len(links))]

    async def _prepare(
        self, links: Sequence[Link], pending: Sequence[int], results: dict[int, LinkResult], *, trust: bool
    ) -> dict[int, Put]:
        """Return the PUTs to make; links that need none get their result."""
        puts: dict[int, Put] = {}
        trusted = [number for number in pending if trust and links[number].sent and links[number].etag]
        for number in trusted:
            link = links[number]
            await self._merge(number, link, Read(200, link.sent, link.etag), puts, results)
        ask = [number for number in pending if number not in trusted]
        if not ask:
            return puts
        try:
            reads = await self._fhir.read([(links[number].type, links[number].id) for number in ask])
        except (Transient, Terminal) as error:
            results |= dict.fromkeys(ask, _of_error(error))
            return puts
        for number, read in zip(ask, reads, strict=True):
            await self._merge(number, links[number], read, puts, results)
        return puts

    async def _merge(
        self, number: int, link: Link, read: Read, puts: dict[int, Put], results: dict[int, LinkResult]
    ) -> None:
        if (refusal := _refusal(link, read.status, read.retry_after)) is not None:
            results[number] = refusal
            return
        try:
            text = await self._merged(link, read.text)
        except (Transient, Terminal) as error:
            results[number] = _of_error(error)
            return
        if text is None:
            results[number] = LinkResult("present")
        elif not read.etag:
            results[number] = LinkResult("failed", "no-version", "the FHIR server names no version to guard the PUT")
        else:
            puts[number] = Put(link.type, link.id, text, read.etag)

    async def _merged(self, link: Link, text: str) -> str | None:
        """Return the resource with the identifier, None if it is there; raises Failed `identifier-conflict`."""
        merge = add_identifier(text, system=link.system, value=link.row_id)
        if merge == Conflict("other-guid"):
            current, _ = dynamics_ids(json.loads(text), link.system)
            for guid in current:
                # Two orgs with one URN would fight for ever: only a row that is gone from our own org gives way.
                if guid != link.row_id and await self._row_gone(link.table, guid):
                    text = mark_old(text, system=link.system, value=guid)
            merge = add_identifier(text, system=link.system, value=link.row_id)
        if isinstance(merge, Conflict):
            raise Failed(
                "the resource carries another Dynamics identifier of ours"
                if merge.reason == "other-guid"
                else "the resource carries this row's Dynamics identifier as `use: old`",
                code="identifier-conflict",
                at="identifier",
            )
        return merge.text if isinstance(merge, Added) else None

    async def _put(self, puts: dict[int, Put], results: dict[int, LinkResult]) -> list[int]:
        """Make the PUTs; returns the numbers that lost against another writer."""
        if not puts:
            return []
        try:
            answers = await self._fhir.write(list(puts.values()))
        except (Transient, Terminal) as error:
            results |= dict.fromkeys(puts, _of_error(error))
            return []
        again: list[int] = []
        for number, written in zip(puts, answers, strict=True):
            if written.status in CONFLICT:
                again.append(number)
            else:
                results[number] = _result(written)
        return again


def _refusal(link: Link, status: int, retry_after: float | None) -> LinkResult | None:
    if status == 200:  # noqa: PLR2004 - OK
        return None
    if status == 404 and link.posted:  # noqa: PLR2004 - not found
        return LinkResult("none", "not-on-server", "the resource is not on the FHIR server")
    if status in GONE:
        return LinkResult(
            "failed", "gone", "the resource is not on the FHIR server (any more); it is not brought there"
        )
    if status in BUSY:
        return LinkResult("queued", f"fhir-{status}", f"the FHIR server answered {status}", retry_after)
    return LinkResult("failed", f"fhir-{status}", f"the FHIR server answered {status} to the read")


def _result(written: Written) -> LinkResult:
    if written.status == MADE:
        return LinkResult("failed", "brought-back", BROUGHT_BACK)
    if 200 <= written.status < 300:  # noqa: PLR2004 - success
        return LinkResult("written")
    if written.status in GONE:
        return LinkResult("failed", "gone", "the resource is gone from the FHIR server; it is not brought back")
    codes = f" ({', '.join(written.codes)})" if written.codes else ""
    message = f"the FHIR server answered {written.status}{codes} to the PUT"
    state = "queued" if written.status in BUSY else "failed"
    return LinkResult(
        "queued" if state == "queued" else "failed", f"fhir-{written.status}", message, written.retry_after
    )


def _of_error(error: Transient | Terminal) -> LinkResult:
    if isinstance(error, Transient):
        return LinkResult("queued", error.code, str(error), error.retry_after)
    return LinkResult("failed", error.code, str(error))
