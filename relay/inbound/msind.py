"""Microsoft's msind_UpsertBundle over the relay's intake: the same parameters in, the same results out.

The contract is that of the Dataverse healthcare APIs, so a caller changes the URL alone; docs/msind.md has what differs.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Final

from relay.errors import Refused
from relay.inbound.limits import parse, read_text
from relay.inbound.service import Inbound, Reply
from relay.mapping.elements import disabled_expansions
from relay.mapping.load import MapSet
from relay.settings import Settings

CREATED: Final = 935_000_000
UPDATED: Final = 935_000_001
EXPANDED: Final = 935_000_002
"""The choices of msind_requestactionperformed."""

SUCCESS: Final = 935_000_000
WARNING: Final = 935_000_001
ERROR: Final = 935_000_002
"""The choices of msind_requeststatus."""

ALL_WELL: Final = "The bundle was processed successfully."
NOT_ALL_WELL: Final = (
    "Warning: There were records that encountered errors. Inspect the individual records error details."
)

_RETRY_AFTER = 60  # seconds; each resend is stored and carried out too, so no haste
_ACCEPTED = 202
_UNAVAILABLE = 503
_TAG = re.compile(r"[A-Za-z0-9._:-]{1,100}")
_POSITION = re.compile(r"\[\d+\]")

_NOTHING_TO_WRITE = frozenset({"read", "outcome", "subscription-status"})
"""Why an entry is passed over that holds no resource to be written: it has no result."""
_NOT_IN_FHIR = frozenset({"no-resource", "not-successful"})
"""Why an entry is passed over whose resource did not come with the answer of the FHIR server, or is not there at all."""
_NO_MAP = "no-map"
_MAP_OFF = "map-disabled"
_EXPANSION_OFF = "expansion-disabled"
_GONE = "gone"

_SENTENCES: Final = {
    "created": "The record was created successfully.",
    "updated": "The record was updated successfully.",
    "unchanged": "The record is up to date: nothing had to change.",
    "deactivated": "The record was deactivated: its item is gone from the resource.",
    "deleted": "The record was deleted: its item is gone from the resource.",
    "skipped": "The record was left as it is.",
    "failed": "The record was written, but not all of it.",
    "parked": "The record waits for what the resource refers to, and is written when that is there.",
}
_AGAIN = "then resubmit the bundle to re-process"

log = logging.getLogger(__name__)


def read_parameters(
    body: bytes,
    content_type: str,
    content_encoding: str,
    limits: Settings,
    *,
    required: str,
    optional: Collection[str] = (),
) -> dict[str, str]:
    """Return the parameters of a custom API's call, all of them texts; annotations and nulls are passed over.

    Raises Refused: what `relay.inbound.limits` refuses, `missing-parameter`, `unknown-parameter`, `invalid-parameter`.
    """
    # A parameter is a whole bundle: here a text may be as long as the body, its own texts are measured later.
    limits = limits.model_copy(update={"max_string": limits.max_body_bytes})
    sent = parse(read_text(body, content_type=content_type, content_encoding=content_encoding, limits=limits), limits)
    if not isinstance(sent, dict):
        raise Refused("the body is not an object of parameters", code="invalid-parameter")
    given = {name: value for name, value in sent.items() if "@" not in name and value is not None}
    names = (required, *optional)
    if not given.keys() <= set(names):
        raise Refused(
            f"the body has a parameter that there is not (valid: {', '.join(names)})", code="unknown-parameter"
        )
    if required not in given:
        raise Refused(f"the parameter {required} is missing", code="missing-parameter")
    for name, value in given.items():
        if not isinstance(value, str):
            raise Refused(f"the parameter {name} is not text", code="invalid-parameter")
    return given


class Upserts:
    """Carries out msind_UpsertBundle: the bundle goes the way of every other, its outcome becomes Microsoft's results."""

    def __init__(self, settings: Settings, inbound: Inbound, maps: MapSet) -> None:
        self._settings = settings
        self._inbound = inbound
        self._maps = maps

    async def upsert(self, body: bytes, content_type: str, content_encoding: str) -> Reply:
        """Return the answer to one call: 200 with results, 400 for what cannot be taken, 503 for what is to be sent again.

        What is answered 503 `not-finished` is stored and goes on all the same; `job` is where its outcome will be.
        """
        try:
            given = read_parameters(
                body,
                content_type,
                content_encoding,
                self._settings,
                required="msind_JSON",
                optional=("msind_BundleTag",),
            )
        except Refused as refused:
            return Reply(400, odata_error(refused.code, str(refused)))
        bundle = given["msind_JSON"].encode()
        reply = self._render(await self._inbound.post(bundle, "application/fhir+json", "", respond_async=False))
        tag = given.get("msind_BundleTag", "")
        if _TAG.fullmatch(tag):  # anything else could be anything, a patient's name too
            log.info("bundle %s was sent with the tag %s and answered %d", reply.job or "(none)", tag, reply.status)
        return reply

    def _render(self, reply: Reply) -> Reply:
        if reply.status == _ACCEPTED:
            message = (
                "Dataverse is away, or it or the relay is busy: the bundle is stored and will be carried out; "
                "sending it again is safe"
            )
            return Reply(_UNAVAILABLE, odata_error("not-finished", message), reply.job, _RETRY_AFTER)
        body = reply.body or {}
        if body.get("resourceType") == "OperationOutcome":
            (issue,) = body["issue"]
            status = reply.status if reply.status == _UNAVAILABLE else 400
            return Reply(
                status, odata_error(issue["details"]["text"], issue["diagnostics"]), retry_after=reply.retry_after
            )
        return Reply(200, render_upsert(body, self._maps), reply.job)


def odata_error(code: str, message: str) -> dict[str, Any]:
    """Return an error as a custom API gives it."""
    return {"error": {"code": code, "message": message}}


def render_upsert(outcome: Mapping[str, Any], maps: MapSet) -> dict[str, Any]:
    """Return the response of msind_UpsertBundle for an outcome; any warning or error in it makes msind_Status false."""
    results = [result for entry in outcome["entries"] for result in _results(entry, maps)]
    whole = [_said(issue) for issue in outcome.get("issues", ())]
    well = not whole and all(result.status == SUCCESS for result in results)
    return {
        "msind_Status": well,
        "msind_StatusDetail": "\r\n".join(whole) or (ALL_WELL if well else NOT_ALL_WELL),
        "msind_Results": [result.render() for result in results],
    }


@dataclass(frozen=True, slots=True)
class _Result:
    """One msind_upsertfhirbundleresult; a member without a value is null."""

    resource: str
    row_id: str | None
    table: str | None
    action: int | None
    status: int
    detail: str

    def render(self) -> dict[str, Any]:
        kind, _, fhir_id = self.resource.partition("/")
        return {
            "msind_fhirresourceid": fhir_id or None,
            "msind_fhirresourcetype": kind or None,
            "msind_resultingrecordid": self.row_id,
            "msind_resultingrecordtype": self.table,
            "msind_requestactionperformed": self.action,
            "msind_requeststatus": self.status,
            "msind_requeststatusdetail": self.detail,
        }


def _results(entry: Mapping[str, Any], maps: MapSet) -> Iterator[_Result]:
    """Yield the result of an entry, then one per row of its expansions, then one per expansion that is off."""
    codes = {issue["code"] for issue in entry["issues"]}
    if entry["result"] == "skipped" and codes & _NOTHING_TO_WRITE:
        return
    resource, row = entry["resource"], entry["row"]
    kind = resource.partition("/")[0]
    entity_map = maps.for_resource(kind) or maps.disabled(kind)
    row_id = row["id"] if row else None
    table = entity_map.table.name if entity_map else None
    detail = "\r\n".join(_root_detail(entry, kind))
    yield _Result(resource, row_id, table, _action(entry), _status(entry, codes), detail)
    for child in entry["children"]:
        yield _Result(resource, row_id, child["table"], EXPANDED, SUCCESS, _SENTENCES[child["result"]])
    places = (issue["at"] for issue in entry["issues"] if issue["code"] == _EXPANSION_OFF)
    off = disabled_expansions(entity_map) if entity_map else {}
    for path in dict.fromkeys(_POSITION.sub("", place).removeprefix("$.") for place in places):
        expansion = off.get(tuple(path.split(".")))
        detail = f"Error: The expansion of {path} is disabled. Enable the map, {_AGAIN}."
        yield _Result(resource, row_id, expansion.table.name if expansion else None, EXPANDED, ERROR, detail)


def _action(entry: Mapping[str, Any]) -> int | None:
    """Return what was done with the row: an update also where nothing had to change; None where there is no row to show."""
    if entry["result"] == "created":
        return CREATED
    return UPDATED if entry["row"] and entry["result"] in ("updated", "unchanged", "skipped") else None


def _status(entry: Mapping[str, Any], codes: AbstractSet[str]) -> int:
    result = entry["result"]
    if result == "failed" or _EXPANSION_OFF in codes:
        return ERROR
    if result == "skipped":
        if codes & {_NO_MAP, _MAP_OFF}:
            return ERROR
        return WARNING if codes & _NOT_IN_FHIR else SUCCESS
    told = any(issue["severity"] != "information" for issue in _issues(entry))
    return WARNING if told or result == "parked" else SUCCESS


def _issues(entry: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the issues of an entry as far as its records are concerned.

    A write-back that is queued is the relay's own business. One that failed is a warning, since the records are there;
    none at all where the FHIR server does not have the resource, which callers of this contract never had to see to.
    """
    severities = {"queued": None, "failed": "warning"}
    for issue in entry["issues"]:
        if issue["at"] != "identifier" or entry["writeback"] not in severities:
            yield issue
        elif severity := severities[entry["writeback"]]:
            yield {**issue, "severity": "information" if issue["code"] == _GONE else severity}


def _root_detail(entry: Mapping[str, Any], kind: str) -> Iterator[str]:
    if entry["row"] or entry["result"] == "parked":
        yield _SENTENCES[entry["result"]]
    if entry["writeback"] == "queued":
        yield "Information: The Dynamics identifier is still to be written to the FHIR resource."
    for issue in _issues(entry):
        match issue["code"]:
            case "no-map":
                yield f"Error: There is no entity map for {kind}. Add the map, {_AGAIN}."
            case "map-disabled":
                yield f"Error: The entity map for {kind} is disabled. Enable the map, {_AGAIN}."
            case "expansion-disabled":
                yield f"Error: The expansion for this resource failed: {issue['message']}. Enable the map, {_AGAIN}."
            case _:
                yield _said(issue)


def _said(issue: Mapping[str, Any]) -> str:
    at = f" at {issue['at']}" if issue["at"] else ""
    return f"{str(issue['severity']).capitalize()}: {issue['message']} ({issue['code']}{at})"
