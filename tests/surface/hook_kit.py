"""What the tests of searches and gaps behind `/fhir-hook` share: notifications, and what the FHIR server was asked."""

from __future__ import annotations

import json
from typing import Any

from surface_kit import FHIR_JSON, Surface

SEARCH = r"\?_lastUpdated="


def notification(number: int, *focus: str, kind: str = "event-notification", total: int | None = None) -> bytes:
    """Return an R5 notification of one event, ids only; without a number it is a heartbeat or a handshake."""
    status: dict[str, Any] = {
        "resourceType": "SubscriptionStatus",
        "status": "active",
        "type": kind,
        "eventsSinceSubscriptionStart": str(total or number),
        "subscription": {"reference": "Subscription/s1"},
    }
    if kind == "event-notification":
        events = [{"eventNumber": str(number), "focus": {"reference": each}} for each in focus]
        status["notificationEvent"] = events or [{"eventNumber": str(number)}]
    bundle = {"resourceType": "Bundle", "type": "subscription-notification", "entry": [{"resource": status}]}
    return json.dumps(bundle).encode()


def as_parameters(bundle: dict[str, Any]) -> dict[str, Any]:
    """Return an R5 notification of one event as R4 writes it."""
    status = bundle["entry"][0]["resource"]
    (event,) = status["notificationEvent"]
    parts = [
        {"name": "event-number", "valueString": event["eventNumber"]},
        {"name": "timestamp", "valueInstant": event["timestamp"]},
        {"name": "focus", "valueReference": event["focus"]},
    ]
    parameter = [
        {"name": "subscription", "valueReference": status["subscription"]},
        {"name": "type", "valueCode": status["type"]},
        {"name": "events-since-subscription-start", "valueString": status["eventsSinceSubscriptionStart"]},
        {"name": "notification-event", "part": parts},
    ]
    return {
        "resourceType": "Bundle",
        "type": "history",
        "entry": [{"resource": {"resourceType": "Parameters", "parameter": parameter}}],
    }


async def tell(it: Surface, body: bytes, path: str = "") -> int:
    """Send a notification and return the status."""
    answer = await it.http.post(f"/api/fhir-hook{path}", content=body, headers=FHIR_JSON)
    return answer.status_code


def searches(it: Surface) -> list[str]:
    """Return the searches for changes that the FHIR server had."""
    return [each["path"] for each in it.fhir.calls if "_lastUpdated" in each["path"]]


def on_clock(it: Surface) -> None:
    """Let the FHIR server tell the time of the test's clock."""
    it.fhir.store._clock = it.clock


def ids(it: Surface) -> list[str]:
    return sorted(row["msemr_azurefhirid"] for row in it.rows("contact"))
