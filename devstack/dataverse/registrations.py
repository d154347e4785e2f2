"""What a webhook's registration may be: rows of service endpoints, steps and images that are wrong or not emulated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from devstack.dataverse.errors import InvalidArgument, NotSupported
from devstack.dataverse.metadata import metadata_id
from devstack.dataverse.system import ASYNCHRONOUS, BULK_MESSAGES, POST_OPERATION, PRE_OPERATION, WEBHOOK, WEBHOOK_KEY

UNSETTLED: Final = (
    "How a webhook's authvalue is written for HttpHeader and HttpQueryString is not known: both are refused.",
    "What a step on CreateMultiple or UpdateMultiple itself is sent is not known: both are refused.",
)
"""What no page settles, and how it is here."""
PORT_RULE: Final = "Dataverse posts to port 80 for http and 443 for https only"
_ENDPOINT, _STEP, _IMAGE = "serviceendpoint", "sdkmessageprocessingstep", "sdkmessageprocessingstepimage"
_NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    _ENDPOINT: ("name", "contract", "authtype"),
    _STEP: ("name", "sdkmessageid", "eventhandler", "stage", "mode"),
    _IMAGE: ("sdkmessageprocessingstepid", "entityalias", "imagetype", "messagepropertyname"),
}
_OTHER_CONTRACTS: Final = {7: "Event Hub", 9: "Event Grid", 10: "Managed Data Lake"}
_PRE_IMAGE, _POST_IMAGE = frozenset({0, 2}), frozenset({1, 2})
_PROPERTIES: Final = {"Create": "id", "Update": "Target", "Delete": "Target"}
"""What an image of a message is taken of."""

Row = dict[str, Any]


def odd_port(url: str) -> bool:
    """Tell whether Dataverse would not post to a URL because of its port."""
    return httpx.URL(url).port is not None


def check(name: str, row: Row, look_up: Callable[[str, str], Row | None], *, strict_ports: bool) -> None:
    """Refuse a registration that is wrong (InvalidArgument) or that the emulator does not carry out (NotSupported).

    `look_up` finds a row by table and id; `strict_ports` refuses a URL that Dataverse would not post to.
    """
    for column in _NEEDED.get(name, ()):
        if row.get(column) is None:
            raise InvalidArgument(f"{name}: '{column}' is required.")
    if name == _ENDPOINT:
        _check_endpoint(row)
        if strict_ports and odd_port(row["url"]):
            raise InvalidArgument(f"serviceendpoint: {PORT_RULE}; 'url' names another.")
    elif name == _STEP:
        _check_step(row)
    elif name == _IMAGE:
        _check_image(row, look_up)


def _check_endpoint(row: Row) -> None:
    if row["contract"] != WEBHOOK:
        kind = _OTHER_CONTRACTS.get(row["contract"], "Service Bus")
        raise NotSupported(f"service endpoints of contract {row['contract']}, {kind} (valid: {WEBHOOK}, webhook)")
    if row["authtype"] != WEBHOOK_KEY:
        raise NotSupported(
            f"webhooks of authtype {row['authtype']}, whose values' form is not known (valid: {WEBHOOK_KEY}, WebhookKey)"
        )
    if not _is_url(row.get("url")):
        raise InvalidArgument("serviceendpoint: 'url' must be an absolute http or https URL.")
    if not row.get("authvalue"):
        raise InvalidArgument("serviceendpoint: 'authvalue' is required for authtype 4 (WebhookKey).")
    if row["messageformat"] != 2:  # noqa: PLR2004 - Json
        raise NotSupported(f"messageformat {row['messageformat']} (valid: 2, Json)")


def _is_url(text: Any) -> bool:
    try:
        urlsplit(text or "")
        url = httpx.URL(text or "")
    except (ValueError, httpx.InvalidURL):
        return False
    return url.scheme in ("http", "https") and bool(url.host)


def _check_step(row: Row) -> None:
    for message in BULK_MESSAGES:
        if row["sdkmessageid"] == metadata_id("sdkmessage", message):
            raise NotSupported(f"steps on {message} (each row of it raises its own event)")
    if row["mode"] == ASYNCHRONOUS and row["stage"] != POST_OPERATION:
        raise InvalidArgument("sdkmessageprocessingstep: an asynchronous step is possible at stage 40 only.")
    if row["stage"] not in (PRE_OPERATION, POST_OPERATION):
        raise NotSupported(f"steps at stage {row['stage']} (valid: {PRE_OPERATION}, {POST_OPERATION})")


def _check_image(row: Row, look_up: Callable[[str, str], Row | None]) -> None:
    step = look_up(_STEP, row["sdkmessageprocessingstepid"])
    message = look_up("sdkmessage", step["sdkmessageid"]) if step else None
    if step is None or message is None:
        return  # the step is gone, and its images never taken
    what = f"an image of {message['name']} at stage {step['stage']}"
    if row["messagepropertyname"] != (name := _PROPERTIES[message["name"]]):
        raise InvalidArgument(f"sdkmessageprocessingstepimage: {what} is of the property '{name}'.")
    if message["name"] == "Create" and row["imagetype"] in _PRE_IMAGE:
        raise InvalidArgument(f"sdkmessageprocessingstepimage: {what} cannot show the row before.")
    if row["imagetype"] in _POST_IMAGE and (step["stage"] != POST_OPERATION or message["name"] == "Delete"):
        raise InvalidArgument(f"sdkmessageprocessingstepimage: {what} cannot show the row afterwards.")
