"""The Web API client: single calls, batches and pages, with typed errors, one governor and no cookies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Any, Final, Self

import httpx

from relay.dataverse import batch as codec
from relay.dataverse.batch import ChangeSet, Request, Response
from relay.dataverse.bulk import BulkTables
from relay.dataverse.errors import read_error, read_retry_after
from relay.dataverse.json_text import dumps
from relay.dataverse.multipart import is_multipart
from relay.dataverse.throttle import Governor
from relay.errors import SettingsError, Transient
from relay.telemetry import current_meter

API_PATH: Final = "/api/data/v9.2/"

_HEADERS: Final = {
    "Accept": "application/json",
    "OData-Version": "4.0",
    "OData-MaxVersion": "4.0",
    "If-None-Match": "null",
    "User-Agent": "relay",
}
_CONNECT_SECONDS: Final = 10.0
_MAX_PAGES: Final = 100_000
_DEFAULT_PAUSE: Final = 5.0


class DataverseClient:
    """One org's Web API; `url` is the org's root and `timeout` is seconds for one answer.

    Every request counts in the running meter. Raises DataverseError for an answer that is an error, and Transient
    (its DataverseBusy among them) when Dataverse stays away or busy. Never logs a URL, a header or a body.
    """

    def __init__(
        self,
        url: str,
        *,
        auth: httpx.Auth | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        governor: Governor | None = None,
        write_headers: Mapping[str, str] | None = None,
        timeout: float = 100,
    ) -> None:
        """`write_headers` go with every request that writes; with a batch once, for all of it."""
        self._root = _api_root(url)
        self.governor = governor or Governor()
        self.bulk_tables = BulkTables()
        self._write_headers = dict(write_headers or {})
        codec.check_headers(self._write_headers)
        self._http = httpx.AsyncClient(
            auth=auth,
            transport=transport,
            headers=_HEADERS,
            timeout=httpx.Timeout(timeout, connect=min(timeout, _CONNECT_SECONDS)),
            follow_redirects=False,
            # the affinity cookie would tie every call to one web server and its limits
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            event_hooks={"request": [_count]},
        )

    @property
    def root(self) -> str:
        """Return the API root, such as `https://org.crm.dynamics.com/api/data/v9.2/`."""
        return self._root

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Give back the connections."""
        await self._http.aclose()

    async def batch(
        self, items: Sequence[Request | ChangeSet], *, continue_on_error: bool = True
    ) -> list[list[Response]]:
        """Send one `$batch` and return the responses of each item, errors inside them not raised.

        Raises ValueError for more than 1000 operations: the caller splits. A repeat after a lost answer shows what
        was done already as race errors (DuplicateRecord, ConcurrencyVersionMismatch).
        """
        if (operations := codec.count(items)) > codec.MAX_OPERATIONS:
            raise ValueError(f"{operations} operations in one batch (at most {codec.MAX_OPERATIONS})")
        content_type, body = codec.encode(items, self._root)
        headers = {"Content-Type": content_type}
        if continue_on_error:
            headers["Prefer"] = "odata.continue-on-error"
        if any(isinstance(item, ChangeSet) or item.method != "GET" for item in items):
            headers |= self._write_headers
        answer = await self._exchange("POST", self._root + "$batch", headers, body)
        kind = answer.headers.get("content-type", "")
        if not is_multipart(kind):
            raise _unexpected(answer, "a batch")
        results = codec.decode(kind, answer.content, items)
        self._heed(results)
        return results

    async def send(self, request: Request, *, repeat: bool = True, metered: bool = True) -> Response:
        """Send one request; raises DataverseError unless the answer is 200, 201, 204 or 304.

        `repeat` says that doing it twice is as good as once, as it is for every write by key.
        """
        codec.check_method(request.method)
        codec.check_headers(request.headers)
        headers = dict(request.headers)
        if request.method != "GET":
            headers |= self._write_headers
        body: bytes | None = None
        if request.body is not None:
            body = dumps(request.body).encode("ascii")
            headers["Content-Type"] = "application/json"
        url = codec.absolute_url(self._root, request.url, codec.MAX_URL_ALONE)
        answer = await self._exchange(request.method, url, headers, body, repeat=repeat, metered=metered)
        try:
            response = codec.read_response(answer.status_code, answer.headers, answer.content)
        except ValueError as error:
            raise Transient(f"Dataverse's answer cannot be read: {error}", code="bad-answer") from None
        if response.error is not None:
            raise response.error
        return response

    async def get(self, url: str, *, headers: Mapping[str, str] | None = None, metered: bool = True) -> Any:
        """Return the body of a GET; `url` is relative to the API root. Metadata reads are not metered."""
        return (await self.send(Request("GET", url, headers=headers or {}), metered=metered)).body

    async def pages(self, url: str, *, page_size: int | None = None, metered: bool = True) -> AsyncIterator[Any]:
        """Return the body of each page; a next link is followed below the same API root only, else Transient."""
        headers = {} if page_size is None else {"Prefer": f"odata.maxpagesize={page_size}"}
        seen: set[str] = set()
        following: str | None = url if "://" not in url else self._next_link({"@odata.nextLink": url})
        while following is not None:
            page = await self.get(following, headers=headers, metered=metered)
            yield page
            following = self._next_link(page)
            if following is not None and (following in seen or len(seen) >= _MAX_PAGES):
                raise Transient("Dataverse's next links go round in a circle", code="bad-answer")
            seen.add(following or "")

    async def who_am_i(self) -> Mapping[str, Any]:
        """Return UserId, BusinessUnitId and OrganizationId; not metered."""
        body = await self.get("WhoAmI", metered=False)
        if not isinstance(body, dict):
            raise Transient("Dataverse's answer to WhoAmI is not an object", code="bad-answer")
        return body

    def _next_link(self, page: Any) -> str | None:
        link = page.get("@odata.nextLink") if isinstance(page, dict) else None
        if link is None:
            return None
        relative = _below(self._root, link)
        if relative is None:
            raise Transient("Dataverse's next link leads out of the API root", code="bad-answer")
        return relative

    async def _exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        *,
        repeat: bool = True,
        metered: bool = True,
    ) -> httpx.Response:
        async def send() -> httpx.Response:
            return await self._http.request(method, url, headers=headers, content=body, extensions={"metered": metered})

        return await self.governor.call(send, repeat=repeat)

    def _heed(self, results: list[list[Response]]) -> None:
        """Pause everybody if a part inside a batch was throttled."""
        waits = [
            read_retry_after(response.headers) or _DEFAULT_PAUSE
            for responses in results
            for response in responses
            if response.status == httpx.codes.TOO_MANY_REQUESTS
        ]
        if waits:
            self.governor.pause(max(waits))


def write_headers(caller: str, bypass: str) -> dict[str, str]:
    """Return the optional headers of writes: for whom they are made, and which custom logic does not run.

    `caller` is an Entra object id; `bypass` lists CustomSync, CustomAsync and ids of steps, with commas. Empty is off.
    """
    words = [each.strip() for each in bypass.split(",") if each.strip()]
    headers = {
        "CallerObjectId": caller,
        "MSCRM.BypassBusinessLogicExecution": ",".join(each for each in words if "-" not in each),
        "MSCRM.BypassBusinessLogicExecutionStepIds": ",".join(each for each in words if "-" in each),
    }
    return {name: value for name, value in headers.items() if value}


async def _count(request: httpx.Request) -> None:
    if request.extensions.get("metered", True):
        current_meter().dataverse += 1


def _below(root: str, link: object) -> str | None:
    """Return a link relative to the API root; None if it leads anywhere else."""
    try:
        url, base = httpx.URL(str(link)), httpx.URL(root)
        relative = url.raw_path.removeprefix(base.raw_path).decode("ascii")
        codec.absolute_url(root, relative)
    except (ValueError, httpx.InvalidURL):
        return None
    same = (url.scheme, url.host, url.port, url.userinfo) == (base.scheme, base.host, base.port, b"")
    return relative if same and url.raw_path.startswith(base.raw_path) else None


def _unexpected(answer: httpx.Response, what: str) -> Exception:
    """Return the error for an answer that is not the multipart one that was asked for."""
    if answer.status_code in codec.OK:
        return Transient(f"Dataverse's answer to {what} is not multipart", code="bad-answer")
    response = codec.read_response(answer.status_code, answer.headers, answer.content)
    return response.error or read_error(answer.status_code, answer.headers, None)


def _api_root(url: str) -> str:
    """Return the API root of an org; a URL that names the Web API already is taken as well."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        parsed = httpx.URL("")
    path = parsed.path.rstrip("/")
    if path == API_PATH.rstrip("/"):
        path = ""
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.query or parsed.fragment or parsed.userinfo:
        raise SettingsError("RELAY_DATAVERSE_URL must be an org's root such as https://org.crm.dynamics.com")
    return str(parsed.copy_with(path=path + API_PATH))
