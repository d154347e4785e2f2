"""Messages of Google Cloud Healthcare by Pub/Sub push: which resource they tell of."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from relay.errors import Refused
from relay.inbound.change import Change
from relay.inbound.pubsub import read_message
from relay.settings import Settings

STORE = "projects/p/locations/l/datasets/d/fhirStores/s"
SETTINGS = Settings(fhir_url=f"https://healthcare.googleapis.com/v1/{STORE}/fhir/", max_body_bytes=2000)


def message(data: str = f"{STORE}/fhir/Patient/p1", **attributes: Any) -> bytes:
    said = {
        "action": "UpdateResource",
        "resourceType": "Patient",
        "payloadType": "NameOnly",
        "versionId": "MTY",
        **attributes,
    }
    attributes = {name: value for name, value in said.items() if value is not None}
    sent = {"attributes": attributes, "data": base64.b64encode(data.encode()).decode(), "messageId": "1"}
    return json.dumps({"message": sent, "subscription": "projects/p/subscriptions/s"}).encode()


@pytest.mark.parametrize(
    ("action", "op"),
    [
        ("CreateResource", "create"),
        ("UpdateResource", "update"),
        ("PatchResource", "update"),
        ("DeleteResource", "delete"),
    ],
)
def test_a_name_is_a_change(action: str, op: Any) -> None:
    """Each action of the store; the name may carry a version."""
    wanted = Change("pubsub", "Patient", "p1", "MTY", op, None)
    assert read_message(message(action=action), SETTINGS) == wanted
    assert read_message(message(f"{STORE}/fhir/Patient/p1/_history/MTY", action=action), SETTINGS) == wanted


def test_a_full_resource_names_itself_and_is_not_used() -> None:
    """The body may be older than what the server has: only who it is about is taken; a deletion may still be a name."""
    resource = json.dumps({"resourceType": "Patient", "id": "p1", "name": []})
    full = {"payloadType": "FullResource", "storeName": STORE}
    assert read_message(message(resource, **full), SETTINGS) == Change("pubsub", "Patient", "p1", "MTY", "update", None)
    change = read_message(message(action="DeleteResource", versionId=None, **full), SETTINGS)
    assert change == Change("pubsub", "Patient", "p1", None, "delete", None)


def test_another_store_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    """A topic can be shared: what is of another FHIR store than RELAY_FHIR_URL is logged, without an id."""
    for store in (STORE.replace("fhirStores/s", "fhirStores/s2"), STORE.replace("projects/p", "projects/pp")):
        assert read_message(message(f"{store}/fhir/Patient/p1"), SETTINGS) is None
    assert "another FHIR store" in caplog.text
    assert "p1" not in caplog.text


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "truncated"),
        (b"\xff", "truncated"),
        (b"[]", "not-an-event"),
        (b"{}", "not-an-event"),
        (b'{"message": {}}', "not-an-event"),
        (b'{"message": {"attributes": {"action": "UpdateResource"}, "data": "%"}}', "not-an-event"),
        (message(action="ImportResources"), "not-an-event"),
        (message(action=None), "not-an-event"),
        (message("Patient/p1"), "not-an-event"),
        (message(f"{STORE}/fhir/Patient/p 1"), "not-an-event"),
        (message(f"{STORE}/fhir/Patient/.."), "invalid-id"),
        (message(resourceType="Encounter"), "not-an-event"),
        (message("{}", payloadType="FullResource", storeName=STORE), "not-an-event"),
        (message("{", payloadType="FullResource", storeName=STORE), "truncated"),
        (message("x" * 2000), "too-large"),
    ],
)
def test_what_names_no_resource_is_refused(body: bytes, code: str) -> None:
    """A stable code for each; the sender keeps the message and has a dead-letter topic for it."""
    with pytest.raises(Refused) as refused:
        read_message(body, SETTINGS)
    assert refused.value.code == code
