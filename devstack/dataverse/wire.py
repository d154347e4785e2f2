"""What travels: one request, one answer, JSON with exact decimals, preferences, ETags."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Any, Final, NoReturn
from urllib.parse import unquote, unquote_plus

import orjson

from devstack.dataverse.errors import BadSyntax, DataverseError, InvalidPayload, NotSupported

ROOT: Final = "/api/data/v9.2/"
JSON_TYPE: Final = "application/json; odata.metadata=minimal"
_ETAG: Final = re.compile(r'(?:W/)?"(\d+)"')
_PREFERENCE: Final = re.compile(r'\s*([^\s=,;"]+)\s*(?:=\s*(?:"([^"]*)"|([^\s,;"]*)))?\s*(?:,|;|$)')
_HARMLESS: Final = frozenset(
    {
        "mscrm.suppressduplicatedetection",
        "mscrm.suppresscallbackregistrationexpanderjob",
        "mscrm.bypasscustompluginexecution",
        "mscrm.bypassbusinesslogicexecution",
        "mscrm.bypassbusinesslogicexecutionstepids",
        "mscrmcallerid",
        "mscrm.mergelabels",
        "mscrm.solutionuniquename",
    }
)
"""Headers whose effect the emulator has, or whose object (duplicate rules, flows, plug-ins) it does not have."""
_PREFERENCES: Final = frozenset(
    {
        "return",
        "odata.continue-on-error",
        "odata.include-annotations",
        "odata.maxpagesize",
        "odata.track-changes",
        "odata.allow-entityreferences",
    }
)


@dataclass(frozen=True, slots=True)
class Work:
    """What the server does for a call: operations, one after the other, and rows of bulk actions."""

    operations: int = 0
    rows: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.operations + other.operations, self.rows + other.rows)


NO_WORK: Final = Work()
ONE_OPERATION: Final = Work(operations=1)


@dataclass(slots=True)
class Answer:
    """One answer; `headers` keep their order and spelling, `work` is what it took."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    work: Work = ONE_OPERATION


@dataclass
class Call:
    """One request below the service root, alone or as a part of a batch.

    `target` is what follows the service root, as sent; `root` ends in `/`; header names are lower case.
    `references` are the URIs that Content-IDs of the same change set stand for, `changeset` the number of its requests.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    root: str
    references: Mapping[str, str] = field(default_factory=dict)
    correlation: str = field(default_factory=lambda: str(uuid.uuid4()))
    changeset: int = 0

    @cached_property
    def path(self) -> str:
        """The percent-decoded path; raises BadSyntax for what is not UTF-8."""
        try:
            return unquote(self.target.partition("?")[0], errors="strict")
        except UnicodeDecodeError:
            raise BadSyntax("The path of the URL is not UTF-8.") from None

    @cached_property
    def options(self) -> dict[str, str]:
        """The decoded query options; raises BadSyntax for what is not UTF-8 or given twice."""
        options: dict[str, str] = {}
        for pair in self.target.partition("?")[2].split("&"):
            if not pair:
                continue
            name, _, value = pair.partition("=")
            try:
                name, value = unquote_plus(name, errors="strict"), unquote_plus(value, errors="strict")
            except UnicodeDecodeError:
                raise BadSyntax("The query of the URL is not UTF-8.") from None
            if name in options:
                raise BadSyntax(
                    f"Query option '{name}' was specified more than once, but it must be specified at most once."
                )
            options[name] = value
        return options

    @cached_property
    def preferences(self) -> dict[str, str]:
        """The `Prefer` header's members, names in lower case."""
        text = self.headers.get("prefer", "")
        found = {match[1].lower(): match[2] or match[3] or "" for match in _PREFERENCE.finditer(text)}
        if "respond-async" in found:
            raise NotSupported("the preference respond-async")
        return {name: value for name, value in found.items() if name in _PREFERENCES}

    @property
    def representation(self) -> bool:
        """Whether the caller asked for the row after a write."""
        return self.preferences.get("return", "").lower() == "representation"

    def refuse_unsupported(self) -> None:
        """Raise NotSupported for a header that would change what the request means."""
        for name in self.headers:
            unknown = name.startswith("mscrm") and name not in _HARMLESS
            if unknown:
                raise NotSupported(f"the header {name}")
        if self.headers.get("mscrm.suppressduplicatedetection", "").lower() == "false":
            raise NotSupported("duplicate detection (MSCRM.SuppressDuplicateDetection: false)")
        accept = self.headers.get("accept", "")
        if "odata.metadata=full" in accept or "odata.metadata=none" in accept:
            raise NotSupported("any odata.metadata level but minimal")

    def json(self, entity_set: str) -> dict[str, Any]:
        """Parse the body as a JSON object; raises InvalidPayload."""
        try:
            document = json.loads(self.body, parse_float=Decimal, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise InvalidPayload(entity_set, f"The body is not JSON: {error}") from None
        if not isinstance(document, dict):
            raise InvalidPayload(entity_set, "The body is not a JSON object.")
        return document


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def dumps(document: Any) -> bytes:
    """Write JSON; a Decimal keeps its digits."""
    return orjson.dumps(document, default=exact)


def exact(value: object) -> orjson.Fragment:
    """Write a Decimal with its digits; raises TypeError for anything else that is no JSON."""
    if isinstance(value, Decimal):
        return orjson.Fragment(format(value, "f").encode())
    raise TypeError(type(value).__name__)


def answer(status: int, document: Any, headers: Mapping[str, str] | None = None) -> Answer:
    """Answer with JSON."""
    return Answer(status, {"Content-Type": JSON_TYPE, "OData-Version": "4.0", **(headers or {})}, dumps(document))


def refusal(error: DataverseError, work: Work = ONE_OPERATION) -> Answer:
    """Answer with the error object."""
    answered = answer(error.status, error.document, {"REQ_ID": str(uuid.uuid4()), **error.headers})
    answered.work = work
    return answered


def etag(version: int) -> str:
    """Write a row version as a weak ETag."""
    return f'W/"{version}"'


def condition(call: Call, name: str) -> int | str | None:
    """Read `If-Match` or `If-None-Match`: "*", a row version, -1 for one that no row has, None for no condition.

    The text `null`, which defeats caches, is no condition.
    """
    text = call.headers.get(name)
    if text is None or text.strip() in ("", "null"):
        return None
    text = text.strip()
    if text == "*":
        return "*"
    if match := _ETAG.fullmatch(text):
        return int(match[1])
    if name == "if-match":
        raise BadSyntax(f"The value '{text}' of the header If-Match is not an ETag.")
    return -1
