"""POST /bundle and GET /bundle/{id}."""

from __future__ import annotations

from typing import TYPE_CHECKING

import azure.functions as func

from relay.app import fresh_relay
from relay.triggers.answers import answer

if TYPE_CHECKING:  # the event intake shares this process's start and needs none of it
    from relay.inbound.service import Reply

bp = func.Blueprint()

_ACCEPTED = 202


@bp.function_name("post_bundle")
@bp.route("bundle", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
async def post_bundle(req: func.HttpRequest) -> func.HttpResponse:
    """Take a FHIR Bundle or one resource; `Prefer: respond-async` answers before the work is done."""
    # Of a preference only the word counts: what may follow it (`respond-async; wait=10`) asks for nothing else.
    prefer = {each.partition(";")[0].strip().lower() for each in req.headers.get("Prefer", "").split(",")}
    reply = await (await fresh_relay()).inbound.post(
        req.get_body(),
        req.headers.get("Content-Type", ""),
        req.headers.get("Content-Encoding", ""),
        respond_async="respond-async" in prefer,
    )
    headers = {"Content-Location": f"/api/bundle/{reply.job}"} if reply.job and reply.status == _ACCEPTED else {}
    return _render(reply, headers)


@bp.function_name("bundle_status")
@bp.route("bundle/{id}", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
async def bundle_status(req: func.HttpRequest) -> func.HttpResponse:
    """Answer how an accepted bundle stands."""
    reply = await (await fresh_relay()).inbound.status(req.route_params.get("id", ""))
    return _render(reply, {})


def _render(reply: Reply, headers: dict[str, str]) -> func.HttpResponse:
    retry = {} if reply.retry_after is None else {"Retry-After": str(reply.retry_after)}
    return answer(reply.status, reply.body, headers | retry)
