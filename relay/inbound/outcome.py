"""What became of a bundle: the outcome as callers and operators read it, and OperationOutcomes for refusals. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from relay.errors import RelayError
from relay.fhir.links import LinkResult
from relay.inbound.operations import Child, Planned, Result
from relay.mapping.model import Issue
from relay.telemetry import Meter


@dataclass(slots=True)
class Report:
    """What became of one entry."""

    index: int
    resource: str
    result: Result
    table: str = ""
    row_id: str = ""
    children: list[Child] = field(default_factory=list)
    writeback: LinkResult | None = None
    issues: list[Issue] = field(default_factory=list)

    def take(self, planned: Planned) -> None:
        """Take over what planning and writing made of the resource."""
        self.result = planned.result
        self.row_id = planned.row_id
        self.children = list(planned.children)
        self.issues += [issue for issue in planned.issues if issue not in self.issues]

    def fail(self, error: RelayError) -> None:
        """Note that the bundle ended before this entry was done with; if its row was written, that stays told."""
        if not self.row_id:
            self.result = "failed"
        self.issues.append(Issue("error", error.code, str(error)))

    def made_before(self, guids: Collection[str]) -> None:
        """Count these rows as created: a lost race was planned again, and then they were there already."""
        if self.row_id in guids and self.result in ("updated", "unchanged"):
            self.result = "created"
        self.children = [replace(each, result="created") if each.id in guids else each for each in self.children]

    def render(self) -> dict[str, Any]:
        """Return the entry as it stands in the outcome."""
        issues = [{"severity": i.severity, "code": i.code, "message": i.message, "at": i.at} for i in self.issues]
        link = self.writeback
        if link is not None and link.code:
            severity = {"failed": "error", "queued": "warning"}.get(link.state, "information")
            issues.append({"severity": severity, "code": link.code, "message": link.message, "at": "identifier"})
        return {
            "index": self.index,
            "resource": self.resource,
            "result": self.result,
            "row": {"table": self.table, "id": self.row_id} if self.row_id else None,
            "children": [{"table": c.table, "id": c.id, "result": c.result} for c in self.children],
            "writeback": link.state if link is not None else "none",
            "issues": issues,
        }


def status_of(reports: Iterable[Report]) -> str:
    """Return `succeeded`, `partial` or `failed`; an empty bundle succeeds."""
    results = [report.result for report in reports]
    bad = sum(result in ("failed", "parked") for result in results)
    if not bad:
        return "succeeded"
    return "failed" if bad == len(results) and "parked" not in results else "partial"


def render_outcome(identifier: str, tag: str, reports: list[Report], meter: Meter) -> dict[str, Any]:
    """Return the outcome of one bundle.

    `reference_calls` is the least the reference architecture would have made: two for the call and its trigger, and
    for each new resource one write-back call and one FHIR write (2N + 2).
    """
    created = sum(report.result == "created" for report in reports)
    children = [child for report in reports for child in report.children]
    return {
        "id": identifier,
        "status": status_of(reports),
        "tag": tag,
        "entries": [report.render() for report in reports],
        "receipt": {
            "calls": {"dataverse": meter.dataverse, "fhir": meter.fhir},
            "rows": {
                "created": created + sum(child.result == "created" for child in children),
                "updated": sum(
                    any(c.result in ("updated", "deactivated", "deleted") for c in r.children) + (r.result == "updated")
                    for r in reports
                ),
            },
            "waits_ms": meter.waits_ms,
            "deliveries": 0,
            "reference_calls": 2 * created + 2,
        },
    }


def http_status(outcome: dict[str, Any]) -> int:
    """Return the HTTP status that goes with an outcome: 200, 207 or 422."""
    return {"succeeded": 200, "partial": 207, "failed": 422}[outcome["status"]]


_ISSUE_TYPES = {
    400: "structure",
    404: "not-found",
    413: "too-long",
    415: "not-supported",
    503: "transient",
}


def operation_outcome(error: RelayError, status: int) -> dict[str, Any]:
    """Return a refusal as FHIR says it; `details.text` is the stable code, `diagnostics` the message (no payload)."""
    issue = {
        "severity": "error",
        "code": _ISSUE_TYPES.get(status, "processing"),
        "details": {"text": error.code},
        "diagnostics": str(error),
    }
    return {"resourceType": "OperationOutcome", "issue": [issue]}
