"""The faults that Dataverse is known for, by name; each is a preset of a Fault of the control side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from devstack.control import Fault, Named
from devstack.dataverse.errors import DataverseError, UnknownSegment
from devstack.dataverse.protection import too_many_at_once, too_many_requests, too_much_time

_BULK: Final = r"Microsoft\.Dynamics\.CRM\.(Create|Update|Upsert)Multiple"
_SQL: Final = "CRM ErrorCode: {crm} Sql ErrorCode: -2146232060 Sql Number: {sql}"


class Deadlock(DataverseError):
    """SQL Server chose this transaction to end a deadlock; nothing of it was done."""

    status = 500
    code = "0x80044150"

    def __init__(self) -> None:
        super().__init__(f"Sql error: Generic SQL error. {_SQL.format(crm=-2147204784, sql=1205)}")


class SqlTimeout(DataverseError):
    """SQL Server took too long; nothing of it was done."""

    status = 500
    code = "0x80044151"

    def __init__(self) -> None:
        super().__init__(f"Sql error: SQL timeout expired. {_SQL.format(crm=-2147204783, sql=-2)}")


class RolledBack(DataverseError):
    """A bulk action went wrong in one of its rows, does not say in which, and did nothing."""

    def __init__(self) -> None:
        super().__init__("An unexpected error occurred.")


class CustomizationLock(DataverseError):
    """Another customization is under way in this environment."""

    status = 429
    code = "0x80071151"

    def __init__(self, operation: str = "EntityCustomization", other: str = "PublishAll") -> None:
        super().__init__(
            f"Cannot start the requested operation [{operation}] because there is another [{other}] running at this "
            "moment. Use Solution History for more details."
        )


class Struck(DataverseError):
    """A fault of the control side struck one operation; its answer is the fault's."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.name or "a fault of the control side")
        self.status, self.headers = fault.status, fault.headers
        self._body = fault.body

    @property
    def document(self) -> Any:
        """The body that the fault says, or an error without words."""
        return {"error": {"code": "", "message": ""}} if self._body is None else self._body


def _answered(error: DataverseError, **more: Any) -> Mapping[str, Any]:
    return {"status": error.status, "headers": dict(error.headers), "body": error.document, **more}


TROUBLES: Final[Mapping[str, Named]] = {
    "throttle_requests": Named(
        "429: the requests facet of service protection", _answered(too_many_requests(6000, 300, 2))
    ),
    "throttle_time": Named("429: the execution time facet", _answered(too_much_time(1_200_000, 300, 2))),
    "throttle_concurrency": Named("429: the concurrency facet", _answered(too_many_at_once(52))),
    "customization_lock": Named("429: a customization is under way", _answered(CustomizationLock())),
    "lost_response": Named("the call is carried out and its answer is lost", {"effect": "lose"}),
    "deadlock_1205": Named("SQL deadlock, nothing is done", _answered(Deadlock())),
    "sql_timeout": Named("SQL time-out, nothing is done", _answered(SqlTimeout())),
    "bulk_rollback": Named(
        "a bulk action does its work, is rolled back and names no row",
        _answered(RolledBack(), path=_BULK, effect="undo"),
    ),
    "no_bulk": Named(
        "a bulk action that the table turns out not to have",
        _answered(UnknownSegment("Microsoft.Dynamics.CRM.CreateMultiple"), path=_BULK),
    ),
    "stale_etag": Named(
        "a write with a version, alone or in a batch, meets a row that a user saved just before it",
        {"method": "PATCH", "inside": True, "effect": "overtake"},
    ),
    "lost_event": Named("an event that no asynchronous step of a webhook hears of", {"effect": "drop"}),
    "duplicate_event": Named("an event that asynchronous steps of webhooks hear of twice", {"effect": "repeat"}),
    "reordered_events": Named(
        "`times` events (2) that asynchronous steps of webhooks hear of in reverse order",
        {"effect": "reverse", "times": 2},
    ),
    "second_error_shape": Named(
        "a time-out told in the shape that some failures in front of OData have",
        {
            "status": 500,
            "body": {
                "Message": "An error has occurred.",
                "ExceptionMessage": SqlTimeout().message,
                "ExceptionType": "Microsoft.Crm.CrmException",
                "ErrorCode": -2147204783,
            },
        },
    ),
}
