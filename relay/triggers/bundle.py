"""POST /bundle and GET /bundle/{id}."""

from __future__ import annotations

import azure.functions as func

from relay.app import get_relay
from relay.triggers.answers import answer

bp = func.Blueprint()


@bp.function_name("post_bundle")
@bp.route("bundle", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
async def post_bundle(req: func.HttpRequest) -> func.HttpResponse:
    """Take a FHIR Bundle or one resource; `Prefer: respond-async` answers before the work is done."""
    prefer = {each.strip().lower() for each in req.headers.get("Prefer", "").split(",")}
    reply = await get_relay().inbound.post(
        req.get_body(),
        req.headers.get("Content-Type", ""),
        req.headers.get("Content-Encoding", ""),
        respond_async="respond-async" in prefer,
    )
    headers: dict[str, str] = {}
    if reply.job and reply.status == 202:  # noqa: PLR2004 - accepted
        headers["Content-Location"] = f"/api/bundle/{reply.job}"
    if reply.retry_after is not None:
        headers["Retry-After"] = str(reply.retry_after)
    return answer(reply.status, reply.body, headers)


@bp.function_name("bundle_status")
@bp.route("bundle/{id}", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
async def bundle_status(req: func.HttpRequest) -> func.HttpResponse:
    """Answer how an accepted bundle stands."""
    reply = await get_relay().inbound.status(req.route_params.get("id", ""))
    return answer(reply.status, reply.body)
