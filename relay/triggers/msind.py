"""POST /msind_UpsertBundle and POST /msind_RetrieveBundle: Microsoft's custom APIs under the same names."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from math import ceil
from typing import TYPE_CHECKING, Any

import azure.functions as func

from relay.app import Relay, fresh_relay
from relay.errors import MapError, Refused, Transient
from relay.triggers.answers import answer

if TYPE_CHECKING:  # the event intake shares this process's start and needs none of it
    from relay.inbound.service import Reply

bp = func.Blueprint()

_ODATA = {"OData-Version": "4.0"}
_AWAY = 503


@bp.function_name("msind_upsert_bundle")
@bp.route("msind_UpsertBundle", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
async def msind_upsert_bundle(req: func.HttpRequest) -> func.HttpResponse:
    """Carry a bundle out before answering; 200 with results even where records failed."""

    async def upsert(relay: Relay) -> Reply:
        return await relay.upserts.upsert(*_sent(req))

    return await _answered("msind_UpsertBundleResponse", upsert)


@bp.function_name("msind_retrieve_bundle")
@bp.route("msind_RetrieveBundle", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
async def msind_retrieve_bundle(req: func.HttpRequest) -> func.HttpResponse:
    """Answer a row of Dataverse as the FHIR resource that it stands for."""

    async def retrieve(relay: Relay) -> Reply:
        from relay.inbound.msind import read_parameters
        from relay.inbound.service import Reply

        given = read_parameters(*_sent(req), relay.settings, required="msind_FHIRQuery")
        return Reply(200, await relay.retriever.retrieve(given["msind_FHIRQuery"]))

    return await _answered("msind_RetrieveBundleResponse", retrieve)


def _sent(req: func.HttpRequest) -> tuple[bytes, str, str]:
    return req.get_body(), req.headers.get("Content-Type", ""), req.headers.get("Content-Encoding", "")


async def _answered(response: str, call: Callable[[Relay], Awaitable[Reply]]) -> func.HttpResponse:
    """Make a call and answer as a custom API does, errors too: `{"error": {"code", "message"}}`."""
    try:
        relay = await fresh_relay()
        reply = await call(relay)
    except Refused as refused:
        return _error(400, refused.code, str(refused))
    except (Transient, MapError) as error:  # nothing is kept: the sender sends it again
        return _error(_AWAY, error.code, str(error), getattr(error, "retry_after", None))
    headers = dict(_ODATA)
    if reply.retry_after is not None:
        headers["Retry-After"] = str(reply.retry_after)
    if reply.job and reply.status == _AWAY:  # what is not done yet can be asked for
        headers["Content-Location"] = f"/api/bundle/{reply.job}"
    body: Mapping[str, Any] = reply.body or {}
    if "error" not in body:
        body = {"@odata.context": f"{relay.dataverse.root}$metadata#Microsoft.Dynamics.CRM.{response}", **body}
    return answer(reply.status, body, headers)


def _error(status: int, code: str, message: str, retry_after: float | None = None) -> func.HttpResponse:
    headers = _ODATA | ({"Retry-After": str(ceil(retry_after or 30))} if status == _AWAY else {})
    return answer(status, {"error": {"code": code, "message": message}}, headers)
