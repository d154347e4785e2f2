"""The FHIR server as the relay needs it: read many resources as text, put many back, find one, make one.

Facts of servers: a version conflict is 412 or 409; a conditional create that finds the resource there may answer 200
with nothing in it (Azure).
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeVar

import httpx

from relay.errors import Failed, RelayError, Terminal, Transient
from relay.fhir import json_text
from relay.fhir.answers import (
    FHIR_ID,
    Created,
    Read,
    Written,
    check_is,
    created_of,
    etag_of,
    issue_codes,
    json_of,
    read_of,
    retry_after,
    text_of,
    version_of,
    written_of,
)
from relay.fhir.history import Listing, listing_of
from relay.fhir.json_text import Span
from relay.fhir.pages import Page, first_page, page_of
from relay.fhir.profiles import GENERIC, LEAST_ENTRIES, ServerProfile, by_host, by_statement
from relay.fhir.searches import Found, Hit, Token, condition, found_in, search_form
from relay.telemetry import current_meter

__all__ = ["BUSY", "FHIR_JSON", "Created", "FhirClient", "Found", "Hit", "Put", "Read", "Token", "Written"]

FHIR_JSON = "application/fhir+json"
BUSY = frozenset({401, 408, 425, 429, 500, 502, 503, 504})
PAGE = 200  # changed resources asked for at once

_ASK_AGAIN = 300.0  # seconds after which a server that did not tell its kind is asked once more
_ASK_WITHIN = 10.0  # seconds: work is waiting for the answer, and goes on without it

TOO_MUCH = frozenset({400, 413, 422})
"""Statuses of a batch that may be too large for the server: half of it is tried."""

BundleKind = Literal["batch", "transaction"]

T = TypeVar("T")
A = TypeVar("A")

_TYPE = re.compile(r"[A-Za-z]{1,64}")


@dataclass(frozen=True, slots=True)
class Put:
    """One resource to put: its type, id, text, and the ETag it was read with."""

    type: str
    id: str
    text: str
    etag: str


class BundleRefused(Terminal):
    """The server takes no such bundle: too many entries for it (400, 413), or none at all (404, 405, 501).

    `outcome` is what it answered, to be read for codes only: it may hold patient data.
    """

    def __init__(self, status: int, outcome: Any) -> None:
        codes = ", ".join(issue_codes(outcome))
        super().__init__(f"the FHIR server refused a batch ({status} {codes})", code="fhir-batch-refused")
        self.status = status
        self.outcome = outcome


class FhirClient:
    """An async client of one FHIR server: no cookies, no redirects, nothing logged but counts.

    Every method raises Transient when the server is away or busy and Terminal when it refuses the whole call.
    """

    def __init__(
        self,
        url: str,
        *,
        auth: httpx.Auth | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        timeout: float = 100,
        batch_entries: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`batch_entries` are the most of one batch, 0 as many as the server's kind takes; `timeout` is seconds for one whole answer."""
        self._base = url.rstrip("/") + "/"
        self._timeout = timeout
        self._batch_entries = batch_entries
        self._clock = clock
        self._profile = by_host(url)
        self._ask_again = 0.0
        self._http = httpx.AsyncClient(auth=auth, transport=transport, timeout=timeout, follow_redirects=False)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def profile(self) -> ServerProfile:
        """Return what is known of this kind of server: told by its host, else by its CapabilityStatement, asked once.

        Never raises: while the server does not say, it is generic, and asked again five minutes later. Not metered.
        """
        if self._profile is None and self._clock() >= self._ask_again:
            self._ask_again = self._clock() + _ASK_AGAIN
            try:
                async with asyncio.timeout(_ASK_WITHIN):
                    answer = await self._call("GET", "metadata", metered=False)
            except (RelayError, TimeoutError):  # who wants more of the server meets it again, and may tell it
                return GENERIC
            if answer.status_code not in BUSY:
                self._profile = by_statement(json_of(answer) if answer.is_success else None)
        return self._profile or GENERIC

    async def read(self, ids: Sequence[tuple[str, str]]) -> list[Read]:
        """Read resources by (type, id): one alone by GET, many by batches of GETs; answers in the same order."""

        def entry(each: tuple[str, str]) -> str:
            return f'{{"request":{{"method":"GET","url":"{_address(*each)}"}}}}'

        def answer(text: str, span: Span, each: tuple[str, str]) -> Read:
            return read_of(text, span, *each)

        return await self._each(ids, entry, answer, self._read_one)

    async def write(self, puts: Sequence[Put]) -> list[Written]:
        """Put resources under If-Match: one alone by PUT, many by batches; answers in the same order.

        Raises Failed `no-version`, and puts nothing, when one of them has no ETag.
        """

        def answer(text: str, span: Span, _: Put) -> Written:
            return written_of(json_text.value_at(text, span))

        return await self._each(puts, _entry, answer, self._write_one)

    async def search(self, kind: str, tokens: Sequence[Token]) -> Found:
        """Find the resources of a type that carry any of these identifiers; no tokens find nothing.

        Always a POST of a form, which every server that searches must take (hl7.org/fhir/R4/http.html#search): in a URL
        the identifiers of patients would end up in the logs of all that stands between. No link is followed.
        Raises Failed: `invalid-identifier`, `search-ignored`, or `fhir-<status>` when the server refuses the search.
        """
        address = _type(kind)
        if not tokens:
            return Found()
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "Cache-Control": "no-cache",  # HAPI answers from a cache for a minute: what was just made would be missing
            "Prefer": "handling=strict",
        }
        answer = await self._call("POST", f"{address}/_search", content=search_form(tokens).encode(), headers=headers)
        if answer.status_code in BUSY:
            raise _busy(answer, "a search")
        if answer.status_code != httpx.codes.OK:
            codes = "".join(f" {code}" for code in issue_codes(json_of(answer)))
            message = f"the FHIR server refused a search ({answer.status_code}{codes})"
            raise Failed(message, code=f"fhir-{answer.status_code}")
        return found_in(text_of(answer), kind, tokens)

    async def updated(self, kind: str, since: datetime) -> AsyncIterator[Page]:
        """Find the resources of a type that were changed at or after a time, page by page; deletions are not found.

        Raises Failed `fhir-<status>` when the server refuses the search.
        """
        address = first_page(_type(kind), since, PAGE)
        asked: set[str] = set()
        while address and address not in asked:
            asked.add(address)
            answer = await self._call(
                "GET", address, headers={"Cache-Control": "no-cache", "Prefer": "handling=strict"}
            )
            if answer.status_code in BUSY:
                raise _busy(answer, "a search")
            if answer.status_code != httpx.codes.OK:
                raise Failed(
                    f"the FHIR server refused a search ({answer.status_code})", code=f"fhir-{answer.status_code}"
                )
            page = page_of(text_of(answer), kind)
            yield page
            address = page.next

    async def events(self, subscription: str, first: int, last: int) -> bytes | None:
        """Ask a Subscription for its events by number, ids only; None where the server does not answer that.

        The operation is $events of hl7.org/fhir/uv/subscriptions-backport.
        """
        query = f"eventsSinceNumber={first}&eventsUntilNumber={last}&content=id-only"
        answer = await self._call("GET", f"{_address('Subscription', subscription)}/$events?{query}")
        if answer.status_code in BUSY - {500, 501}:
            raise _busy(answer, "$events")
        return answer.content if answer.status_code == httpx.codes.OK else None

    async def create(self, kind: str, text: str, if_none_exist: Token) -> Created:
        """Make a resource unless one carries this identifier: then that one is answered (200), or 412 for several.

        To be repeated safely it must itself carry the identifier. Raises Failed `invalid-identifier`, and what `search`
        raises when the server does not say which resource it made or found.
        """
        headers = {"Content-Type": FHIR_JSON, "If-None-Exist": condition(if_none_exist), "Prefer": "return=minimal"}
        answer = await self._call("POST", _type(kind), content=text.encode(), headers=headers)
        created = created_of(answer, kind)
        if created.id or not answer.is_success:
            return created
        found = await self.search(kind, [if_none_exist])
        if found.several:
            return Created(httpx.codes.PRECONDITION_FAILED)
        if not found.hits:
            raise Transient("the FHIR server does not say what a create made, nor finds it yet", code="bad-answer")
        hit = found.hits[0]
        return Created(created.status, hit.id, hit.etag, version_of(hit.etag))

    async def listing(self, address: str) -> Listing:
        """Read a page of a history or a search for which versions it lists; `address` is below the base.

        Raises Failed `fhir-<status>` when the server refuses it.
        """
        answer = await self._call("GET", address)
        if answer.status_code in BUSY:
            raise _busy(answer, "a page")
        if answer.status_code != httpx.codes.OK:
            message = f"the FHIR server refused a page ({answer.status_code})"
            raise Failed(message, code=f"fhir-{answer.status_code}")
        return listing_of(json_of(answer), address.partition("?")[0])

    async def _each(
        self,
        items: Sequence[T],
        entry: Callable[[T], str],
        answer: Callable[[str, Span, T], A],
        one: Callable[[T], Awaitable[A]],
    ) -> list[A]:
        """Do something to each item, in batches the server takes: a refused one is halved, or done one by one."""
        if not items:
            return []
        most = await self._most(len(items))
        if len(items) > most:
            runs = (items[start : start + most] for start in range(0, len(items), most))
            return [each for run in runs for each in await self._each(run, entry, answer, one)]
        if len(items) == 1:
            return [await one(items[0])]
        try:
            text, spans = await self._batch([entry(each) for each in items])
        except BundleRefused as refused:
            if refused.status not in TOO_MUCH:
                return [await one(each) for each in items]
            middle = len(items) // 2
            first = await self._each(items[:middle], entry, answer, one)
            return first + await self._each(items[middle:], entry, answer, one)
        return [answer(text, span, each) for span, each in zip(spans, items, strict=True)]

    async def _most(self, wanted: int) -> int:
        """Return the most entries for one batch of so many; the server's kind is asked for only where it matters."""
        if self._batch_entries:
            return self._batch_entries
        return LEAST_ENTRIES if wanted <= LEAST_ENTRIES else (await self.profile()).batch_entries

    async def metadata(self) -> int:
        """Ask for the CapabilityStatement and return the status; not metered."""
        return (await self._call("GET", "metadata", metered=False)).status_code

    async def _read_one(self, named: tuple[str, str]) -> Read:
        answer = await self._call("GET", _address(*named))
        if answer.status_code != httpx.codes.OK:
            return Read(answer.status_code, retry_after=retry_after(answer.headers))
        text = text_of(answer)
        try:
            resource = json_text.value_at(text, json_text.document(text))
        except Failed as failure:
            raise Transient("the FHIR server's answer to a read cannot be read", code="bad-answer") from failure
        check_is(resource, named)
        return Read(200, text, etag_of(answer.headers.get("etag", ""), resource))

    async def _write_one(self, put: Put) -> Written:
        headers = {"Content-Type": FHIR_JSON, "If-Match": _guard(put), "Prefer": "return=minimal"}
        answer = await self._call("PUT", _address(put.type, put.id), content=put.text.encode(), headers=headers)
        etag = etag_of(answer.headers.get("etag", ""), None)
        body = json_of(answer)
        if answer.is_success and answer.content.strip() and not (isinstance(body, dict) and "resourceType" in body):
            # A proxy's page says nothing about the resource; the PUT, if it was done, is found done at the next try.
            raise Transient("the FHIR server answered a PUT with something else than FHIR", code="bad-answer")
        codes = () if answer.is_success else issue_codes(body)
        return Written(answer.status_code, etag, codes, retry_after(answer.headers))

    async def exchange(self, kind: BundleKind, entries: Sequence[str]) -> tuple[str, list[Span]]:
        """Send a batch or transaction of these entries in one call; returns the answer's text and its entries there.

        Raises BundleRefused: of a transaction that is the refusal of any of its entries.
        """
        return await self._batch(entries, kind, minimal=True)

    async def most_entries(self, wanted: int, kind: BundleKind) -> int:
        """Return the most entries for one bundle of so many. A transaction cannot be halved, so only a limit that is known counts."""
        if kind == "batch" or self._batch_entries:
            return await self._most(wanted)
        return wanted if wanted <= LEAST_ENTRIES else (await self.profile()).entries or wanted

    async def _batch(
        self, entries: Sequence[str], kind: BundleKind = "batch", *, minimal: bool = False
    ) -> tuple[str, list[Span]]:
        body = f'{{"resourceType":"Bundle","type":"{kind}","entry":[{",".join(entries)}]}}'
        headers = {"Content-Type": FHIR_JSON} | ({"Prefer": "return=minimal"} if minimal else {})
        answer = await self._call("POST", "", content=body.encode(), headers=headers)
        if answer.status_code in BUSY:
            raise _busy(answer, "a batch")
        if answer.status_code != httpx.codes.OK:
            raise BundleRefused(answer.status_code, json_of(answer))
        text = text_of(answer)
        try:
            listed = json_text.member(text, json_text.document(text), "entry")
            spans = json_text.elements(text, listed.start) if listed else []
        except Failed as failure:
            raise Transient("the FHIR server's answer to a batch cannot be read", code="bad-answer") from failure
        if len(spans) != len(entries):
            raise Transient("the FHIR server answered a batch with another number of entries", code="bad-answer")
        return text, spans

    async def _call(
        self,
        method: str,
        address: str,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        metered: bool = True,
    ) -> httpx.Response:
        url = self._base + address if address else self._base.rstrip("/")
        if metered:
            current_meter().fhir += 1
        try:
            async with asyncio.timeout(self._timeout):  # the client's own counts from one byte to the next
                answer = await self._http.request(
                    method, url, content=content, headers={"Accept": FHIR_JSON, **(headers or {})}
                )
        except (httpx.RequestError, httpx.InvalidURL, TimeoutError) as error:
            raise Transient(
                f"the FHIR server does not answer ({type(error).__name__})", code="fhir-unavailable"
            ) from error
        finally:
            self._http.cookies.clear()
        return answer


def raise_if_busy(read: Read) -> None:
    """Raise Transient `fhir-<status>` for a read that was answered with one of BUSY: it is for later."""
    if read.status in BUSY:
        message = f"the FHIR server answered {read.status} to a read"
        raise Transient(message, code=f"fhir-{read.status}", retry_after=read.retry_after)


def _busy(answer: httpx.Response, what: str) -> Transient:
    status = answer.status_code
    return Transient(
        f"the FHIR server answered {status} to {what}", code=f"fhir-{status}", retry_after=retry_after(answer.headers)
    )


def _type(kind: str) -> str:
    if not _TYPE.fullmatch(kind):
        raise Failed("not a FHIR type", code="invalid-id", at="resourceType")
    return kind


def _address(kind: str, fhir_id: str) -> str:
    if not _TYPE.fullmatch(kind) or not FHIR_ID.fullmatch(fhir_id):
        raise Failed("not a FHIR type and id", code="invalid-id", at="id")
    return f"{kind}/{fhir_id}"


def _entry(put: Put) -> str:
    address = json.dumps(_address(put.type, put.id))
    return f'{{"resource":{put.text},"request":{{"method":"PUT","url":{address},"ifMatch":{json.dumps(_guard(put))}}}}}'


def _guard(put: Put) -> str:
    if not put.etag:  # an empty If-Match is none to many servers: the PUT would go over anybody's change
        raise Failed("a resource without a version cannot be put", code="no-version")
    return put.etag
