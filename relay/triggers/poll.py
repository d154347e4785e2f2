"""A timer that asks the FHIR server for changes; there is no such function unless RELAY_POLL is set."""

from __future__ import annotations

import logging
import os
import re

import azure.functions as func

from relay.app import fresh_relay
from relay.settings import SCHEDULE

bp = func.Blueprint()

log = logging.getLogger(__name__)

# Read when functions are indexed, before there is a Relay: a timer that does nothing would wake the app for nothing.
_schedule = os.environ.get("RELAY_POLL", "").strip()
if _schedule:
    if not re.fullmatch(SCHEDULE, _schedule):
        raise ValueError("RELAY_POLL: valid is a schedule of six fields, such as `0 */5 * * * *`")

    @bp.function_name("poll")
    @bp.timer_trigger("timer", _schedule)
    async def poll(timer: func.TimerRequest) -> None:  # noqa: ARG001 - the host passes it
        """Take what changed since the last time."""
        taken = await (await fresh_relay()).poller.poll()
        log.info("polling: %d changes", taken)
