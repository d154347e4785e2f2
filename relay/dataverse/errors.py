"""What Dataverse's error answers mean; codes decide, never the status alone (412 has four meanings).

DataverseError
├── DataverseRace        `race`         somebody else wrote first: read again, plan again, write again
├── DataverseMissing     `missing`      the row, or the row that a lookup names, is not there
├── DataverseBusy        `transient`    throttled, locked, timed out, away: again after `retry_after` seconds
├── DataverseNotReached  `not-reached`  a batch stopped at an earlier failure: this was never carried out
└── DataverseRefusal     `terminal`     the same request gives the same answer
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar, Final, Literal

from relay.errors import Race, RelayError, Terminal, Transient

Kind = Literal["race", "missing", "transient", "not-reached", "terminal"]
Sql = Literal["", "deadlock", "timeout"]

_RACES: Final = {
    "0x80060882": "ConcurrencyVersionMismatch",
    "0x80040237": "DuplicateRecord",
    "0x80060892": "DuplicateRecordEntityKey",
}
_MISSING: Final = {"0x80040217": "ObjectDoesNotExist", "0x80060891": "RecordNotFoundByEntityKey"}
_BUSY: Final = {
    "0x80072321": "ExecutionTimeLimit",
    "0x80072322": "RequestLimit",
    "0x80072326": "ConcurrencyLimit",
    "0x80071151": "CustomizationLock",
    "0x80044151": "SqlTimeout",
    "0x80040255": "TransactionAborted",  # a swallowed SQL deadlock rolled the transaction back
}
_OTHERS: Final = {
    "0x80040333": "DuplicateRecordsFound",
    "0x80044331": "StringTooLong",
    "0x8004432f": "IntegerOutOfRange",
    "0x80044330": "DecimalOutOfRange",
    "0x8004431a": "OptionOutOfRange",
    "0x80048d19": "PayloadError",
    "0x80060888": "UriError",
    "0x80040203": "InvalidArgument",
    "0x80040216": "Unexpected",
    "0x80040220": "PrivilegeDenied",
    "0x80048306": "PrivilegeDenied",
    "0x80040265": "ExtensionFailed",
    "0x80044150": "SqlError",
}
_NAMES: Final = {**_RACES, **_MISSING, **_BUSY, **_OTHERS}

# 401 is here because a token or secret that ran out says nothing about the row: it is kept until somebody acts.
_BUSY_STATUSES: Final = frozenset({401, 408, 429, 502, 503, 504})
_DEADLOCK: Final = re.compile(r"Sql (?:Number|ErrorCode): 1205\b|\bdeadlock", re.IGNORECASE)
_SQL_TIMEOUT: Final = re.compile(r"Sql (?:Number|ErrorCode): -?2\b", re.IGNORECASE)
_COLUMN: Final = re.compile(r"length of the '([a-z0-9_]{1,128})' attribute of the '[a-z0-9_]{1,128}' entity")
_REQUEST_ID: Final = re.compile(r"[0-9A-Za-z-]{1,64}")


class DataverseError(RelayError):
    """Dataverse said no: `status`, `code` (`0x` and eight lower-case hex digits, else `http-<status>`), `kind`.

    `name` is the code's name where it is a known one, `column` the logical name of a column whose text is too long,
    `request_id` what Microsoft's support asks for. `sql` says that the database gave up: against another transaction,
    or for the time it took. The server's own text may hold a row's values, so it is not kept.
    """

    kind: ClassVar[Kind] = "terminal"

    def __init__(
        self,
        status: int,
        code: str = "",
        *,
        retry_after: float | None = None,
        request_id: str = "",
        column: str = "",
        sql: Sql = "",
    ) -> None:
        self.status = status
        self.name = _NAMES.get(code, "")
        self.column = column
        self.request_id = request_id
        self.sql = sql
        super().__init__(self._describe(status, code), code=code or f"http-{status}")
        self.retry_after = retry_after

    def _describe(self, status: int, code: str) -> str:
        words = [f"Dataverse answered {status}"]
        words += [f"{self.name} ({code})" if self.name else code] if code else []
        words += [f"for column {self.column}"] if self.column else []
        words += [f"[request {self.request_id}]"] if self.request_id else []
        return " ".join(words)


class DataverseRefusal(DataverseError, Terminal):
    """The same request gives the same answer."""


class DataverseMissing(DataverseError, Terminal):
    """The row, or the row that a lookup names, is not there."""

    kind = "missing"


class DataverseRace(DataverseError, Race):
    """Somebody else wrote first: a stale ETag, a primary key or an alternate key that is taken."""

    kind = "race"


class DataverseBusy(DataverseError, Transient):
    """Throttled, locked, timed out or away; `retry_after` is seconds, None when it did not say."""

    kind = "transient"


class DataverseNotReached(DataverseError, Transient):
    """A batch stopped at an earlier failure, so this operation was never carried out."""

    kind = "not-reached"

    def _describe(self, status: int, code: str) -> str:  # noqa: ARG002 - there was no answer to describe
        return "Dataverse stopped the batch at an earlier failure; this operation was not reached"


def classify(status: int, code: str, text: str = "") -> type[DataverseError]:
    """Return the class of an error; `text` (looked at, not kept) tells SQL time-outs and deadlocks by number."""
    if code in _RACES:
        return DataverseRace
    if code in _MISSING:
        return DataverseMissing
    if code in _BUSY or status in _BUSY_STATUSES:
        return DataverseBusy
    if not code and status == 500:  # noqa: PLR2004 - a failure without a code comes from in front of the Web API
        return DataverseBusy
    return DataverseBusy if _sql(code, text) else DataverseRefusal


def _sql(code: str, text: str) -> Sql:
    if code == "0x80044151" or _SQL_TIMEOUT.search(text):
        return "timeout"
    return "deadlock" if code == "0x80040255" or _DEADLOCK.search(text) else ""


def normalise_code(code: object) -> str:
    """Return `0x` and eight lower-case hex digits for a hex or (signed) decimal code; "" for anything else."""
    if isinstance(code, bool):
        return ""
    if isinstance(code, int):
        return f"0x{code & 0xFFFFFFFF:08x}"
    if isinstance(code, str):
        text = code.strip()
        if re.fullmatch(r"0[xX][0-9a-fA-F]{1,8}", text):
            return f"0x{int(text, 16):08x}"
        if re.fullmatch(r"-?[0-9]{1,10}", text):
            return f"0x{int(text) & 0xFFFFFFFF:08x}"
    return ""


def read_error(status: int, headers: Mapping[str, str], body: Any) -> DataverseError:
    """Make the error that an answer means; both body shapes are read, `{"error":{…}}` and `{"Message","ErrorCode"}`."""
    code, text = _code_and_text(body)
    column = _COLUMN.search(text) if code == "0x80044331" else None
    request_id = headers.get("x-ms-service-request-id") or headers.get("req_id") or ""
    return classify(status, code, text)(
        status,
        code,
        retry_after=read_retry_after(headers),
        request_id=request_id if _REQUEST_ID.fullmatch(request_id) else "",
        column=column[1] if column else "",
        sql=_sql(code, text),
    )


def _code_and_text(body: Any) -> tuple[str, str]:
    if not isinstance(body, Mapping):
        return "", ""
    inner = body.get("error")
    if isinstance(inner, Mapping):
        code, parts = inner.get("code"), [inner.get("message")]
    else:
        code, parts = body.get("ErrorCode"), [body.get("Message"), body.get("ExceptionMessage")]
    return normalise_code(code), " ".join(part for part in parts if isinstance(part, str))


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return `Retry-After` in seconds, given as seconds or as an HTTP date; None if absent or neither."""
    text = (headers.get("retry-after") or "").strip()
    if re.fullmatch(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", text):
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())
