"""POST, PUT and DELETE /fhir-hook/{*path}: the endpoint of FHIR Subscriptions, and at `pubsub` of Google's Pub/Sub."""

from __future__ import annotations

import azure.functions as func

from relay.app import fresh_relay
from relay.triggers.answers import answer

bp = func.Blueprint()

_UNAUTHORIZED = 401


@bp.function_name("fhir_hook")
@bp.route("fhir-hook/{*path}", methods=["POST", "PUT", "DELETE"], auth_level=func.AuthLevel.FUNCTION)
async def fhir_hook(req: func.HttpRequest) -> func.HttpResponse:
    """Keep the changes that a FHIR server tells of and answer; the work is the queue's."""
    relay, path = await fresh_relay(), req.route_params.get("path", "")
    if path == "pubsub" and req.method == "POST":
        reply = await relay.pubsub.take(req.get_body(), req.headers.get("Authorization", ""))
    else:
        reply = await relay.hook.take(
            req.method,
            path,
            req.get_body(),
            req.headers.get("Content-Type", ""),
            req.headers.get("Content-Encoding", ""),
        )
    headers = {"Content-Location": f"/api/bundle/{reply.job}"} if reply.job else {}
    if reply.status == _UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if reply.retry_after is not None:
        headers["Retry-After"] = str(reply.retry_after)
    return answer(reply.status, reply.body, headers)
