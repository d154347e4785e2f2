"""GET /health and GET /ready, and the timer that keeps the store tidy."""

from __future__ import annotations

import logging

import azure.functions as func

from relay import __version__
from relay.app import fresh_relay, get_relay
from relay.triggers.answers import answer

bp = func.Blueprint()

log = logging.getLogger(__name__)


@bp.function_name("health")
@bp.route("health", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def health(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001 - the host passes it
    """Answer that the process lives; it asks nobody."""
    return answer(200, {"status": "ok", "version": __version__})


@bp.function_name("ready")
@bp.route("ready", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
async def ready(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001 - the host passes it
    """Answer 200 when the store, the maps and both sides are there, else 503 and which of them is not."""
    checks = await get_relay().ready()
    fine = all(state == "ok" for state in checks.values())
    return answer(200 if fine else 503, {"status": "ok" if fine else "not-ready", "checks": checks})


@bp.function_name("sweep")
@bp.timer_trigger("timer", "0 17 * * * *")
async def sweep(timer: func.TimerRequest) -> None:  # noqa: ARG001 - the host passes it
    """Once an hour, delete what is past its retention."""
    gone = await (await fresh_relay()).sweep()
    log.info("retention: %d things deleted", gone)
