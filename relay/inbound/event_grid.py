"""Events of Azure Health Data Services as Event Grid hands them over: which resource changed, never its content.

learn.microsoft.com, "Azure Health Data Services as an Event Grid source": delivered at least once, in no order. So an event
is a hint, and the server is asked for what is true now.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from relay.errors import Refused
from relay.inbound.change import Change, Op
from relay.inbound.service import Inbound
from relay.settings import Settings

SOURCE = "event-grid"

_PREFIX = "Microsoft.HealthcareApis.FhirResource"
_OPS: Mapping[str, Op] = {"Created": "create", "Updated": "update", "Deleted": "delete"}

log = logging.getLogger(__name__)


class FhirEvents:
    """Takes events one by one; one is done with only once its change is kept."""

    def __init__(self, inbound: Inbound, settings: Settings) -> None:
        self._inbound = inbound
        self._host = urlsplit(settings.fhir_url).hostname or ""

    async def take(self, kind: str | None, data: Any) -> None:
        """Keep the change that an event tells of; what is not for this FHIR server is passed over, and logged.

        Raises StoreUnavailable when it could not be kept: Event Grid then delivers it again.
        """
        try:
            change = read_event(kind, data, self._host)
        except Refused as refused:  # delivered again it would be the same
            log.warning("an event was refused: %s", refused.code)
            return
        if change is not None:
            await self._inbound.keep([change])


def read_event(kind: str | None, data: Any, host: str) -> Change | None:
    """Read an event's type and data; None, and a log line, for another kind of event and for the account of another host.

    Raises Refused `not-an-event`, or `invalid-id` when what is named is no FHIR type and id.
    """
    op = _OPS.get(kind.removeprefix(_PREFIX)) if kind is not None and kind.startswith(_PREFIX) else None
    if op is None:
        log.info("an event of another kind is passed over")
        return None
    said = data if isinstance(data, Mapping) else {}
    account, resource, fhir_id = (said.get(name) for name in ("resourceFhirAccount", "resourceType", "resourceFhirId"))
    if not isinstance(account, str) or not isinstance(resource, str) or not isinstance(fhir_id, str):
        raise Refused("the event names no account, type and id", code="not-an-event")
    if account.lower() != host.lower():
        log.warning("an event of another FHIR service than RELAY_FHIR_URL is passed over")
        return None
    version = said.get("resourceVersionId")
    known = isinstance(version, int | str) and not isinstance(version, bool)
    return Change(SOURCE, resource, fhir_id, str(version) if known else None, op, None)
