"""Event Grid: what Azure Health Data Services tells of changed resources."""

from __future__ import annotations

import azure.functions as func

from relay.app import fresh_relay

bp = func.Blueprint()


@bp.function_name("fhir_event")
@bp.event_grid_trigger("event")
async def fhir_event(event: func.EventGridEvent) -> None:
    """Keep the change that an event tells of; the runtime hands over a CloudEvent where the subscription has that schema."""
    kind = getattr(event, "event_type", None) or getattr(event, "type", None)
    await (await fresh_relay()).fhir_events.take(kind, event.get_json())
