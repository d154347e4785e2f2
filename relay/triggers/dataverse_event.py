"""POST /dataverse/event: Dataverse's post-create webhook."""

from __future__ import annotations

import logging

import azure.functions as func

from relay.app import get_relay
from relay.errors import Refused, StoreUnavailable
from relay.triggers.answers import answer

bp = func.Blueprint()

log = logging.getLogger(__name__)


@bp.function_name("dataverse_event")
@bp.route("dataverse/event", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
async def dataverse_event(req: func.HttpRequest) -> func.HttpResponse:
    """Store the event and answer; the work is the queue's. Dataverse tries once more on 503, and on nothing else."""
    try:
        await get_relay().take_event(req.get_body())
    except Refused as refused:
        log.warning("an event was refused: %s", refused.code)
        return answer(refused.status, {"error": {"code": refused.code, "message": str(refused)}})
    except StoreUnavailable as error:
        log.error("an event could not be stored")  # noqa: TRY400 - the code says it; a trace would say no more
        message = "the store does not answer: send it again"  # its own text names files of this machine
        return answer(503, {"error": {"code": error.code, "message": message}}, {"Retry-After": "30"})
    return answer(202)
