"""What is sent to a Subscription's endpoint, by whatever kind of server: which changes it tells of, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import Refused
from relay.inbound.notifications import Notification, read_notification
from relay.settings import Settings

FILES = Path(__file__).parent / "notifications"
LIMITS = Settings(fhir_url="https://example.org/fhir")
ENCOUNTER = "Encounter/551683b3-1477-41d1-b58e-32fe8b0047b0"
PATIENT = "Patient/1599eb66-431a-447c-a3de-6897fe9ae9a1"
SUBSCRIPTION = "https://example.org/fhir/Subscription/admission"


def read(body: bytes | str | dict[str, Any], *, method: str = "POST", path: str = "", **more: str) -> Notification:
    """Read a request with this body, which is the name of a file unless it is one already."""
    if isinstance(body, str):
        body = (FILES / f"{body}.json").read_bytes()
    content = json.dumps(body).encode() if isinstance(body, dict) else body
    said = {"content_type": "application/fhir+json;charset=UTF-8", "content_encoding": "", **more}
    return read_notification(
        method,
        path,
        content,
        content_type=said["content_type"],
        content_encoding=said["content_encoding"],
        limits=LIMITS,
    )


def told(notification: Notification) -> list[tuple[str, str, bool]]:
    """Return address, operation and whether there is a body, of each change."""
    return [("/".join(each.key), each.op, each.resource is not None) for each in notification.changes]


def refusal(*arguments: Any, **options: Any) -> str:
    with pytest.raises(Refused) as refused:
        read(*arguments, **options)
    return refused.value.code


@pytest.mark.parametrize("name", ["r4_handshake", "r4b_handshake", "r5_handshake", "r4_heartbeat", "r4b_heartbeat"])
def test_handshake_and_heartbeat_tell_of_no_change(name: str) -> None:
    """They ask for an answer; what they tell is the count, which is not raised by them."""
    found = read(name)
    assert found.kind == name.partition("_")[2]
    assert (found.changes, found.unsaid, found.events) == ((), False, ())
    assert (found.subscription, found.total) == (SUBSCRIPTION, 0 if "handshake" in name else 2)


@pytest.mark.parametrize("name", ["r4_empty", "r4b_empty", "r5_empty"])
def test_without_content_something_changed(name: str) -> None:
    """An empty notification has its number, and does not say what changed."""
    found = read(name, path="Encounter")
    assert (found.changes, found.unsaid, found.types) == ((), True, ("Encounter",))
    assert (found.total, found.events) == (2, (2,))


@pytest.mark.parametrize("name", ["r4_id_only", "r4b_id_only", "r5_id_only"])
def test_with_ids_only_there_is_no_body(name: str) -> None:
    """The focus is what changed, relative or below the FHIR server's own base."""
    found = read(name)
    assert told(found) == [(ENCOUNTER, "unknown", False)]
    assert (found.total, found.events, found.unsaid) == (2, (2,), False)


@pytest.mark.parametrize(
    ("name", "op"),
    [
        ("r4_full_resource", "create"),
        ("r4_multi_resource", "create"),
        ("r4b_full_resource", "create"),
        ("r5_full_resource", "unknown"),
        ("aidbox_full_resource", "unknown"),
    ],
)
def test_with_the_resource_it_is_taken_to_the_letter(name: str, op: str) -> None:
    """The body is the sender's own text; what was read for context only (GET) is no change."""
    found = read(name)
    assert told(found) == [(ENCOUNTER, op, True)]
    (change,) = found.changes
    assert change.resource is not None
    assert change.resource in (FILES / f"{name}.json").read_bytes()
    assert change.version == "1"


def test_what_hapi_sends_by_topic() -> None:
    """HAPI's full URLs are relative, its timestamps dates: what changed is named by the entry's request."""
    found = read("hapi_r4_id_only")
    assert told(found) == [(PATIENT, "update", False)]
    assert (found.subscription, found.total, found.events) == ("Subscription/relay", 1, (1,))


def test_numbers_may_be_numbers() -> None:
    """R5's integer64 is text in JSON; a server that writes a number is understood."""
    found = read("r5_full_resource")
    assert (found.total, found.events) == (310, (310,))


def test_several_events_are_several_changes() -> None:
    """Each event's focus is a change, and each has its number."""
    found = read("r4_two_events")
    assert told(found) == [(ENCOUNTER, "unknown", False), (PATIENT, "unknown", False)]
    assert found.events == (3, 4)
    assert told(read("r5_query_event")) == told(found)


def test_a_deletion_is_told_by_its_request() -> None:
    """An entry with DELETE and no resource is a deletion of what its URL names."""
    assert told(read("r4_deleted")) == [(ENCOUNTER, "delete", False)]


def test_the_state_of_a_subscription_is_no_change() -> None:
    """An answer about the Subscription itself asks for nothing."""
    found = read("r4_error")
    assert (found.kind, found.changes, found.unsaid) == ("query-status", (), False)


def test_a_part_of_a_resource_is_no_body() -> None:
    """What is tagged SUBSETTED names what changed, and is read."""
    assert told(read("r5_subsetted")) == [(ENCOUNTER, "unknown", False)]


def test_two_bodies_of_which_neither_is_the_newer() -> None:
    """Two versions of one resource without time or version name what changed, and the server tells which is the newer."""
    bodies = [{"resourceType": "Patient", "id": "p1", "gender": each} for each in ("male", "female")]
    status = {"resourceType": "SubscriptionStatus", "type": "event-notification"}
    entries = [{"resource": each} for each in (status, *bodies)]
    found = read({"resourceType": "Bundle", "type": "subscription-notification", "entry": entries})
    assert told(found) == [("Patient/p1", "unknown", False)] * 2


@pytest.mark.parametrize(
    ("meta", "whole"),
    [
        ({}, False),
        ({"versionId": "a b", "lastUpdated": "yesterday"}, False),
        ({"lastUpdated": "2026-06-01T12:00:00"}, False),
        ({"lastUpdated": "2026-06-01T12:00:00Z"}, True),
        ({"versionId": "1"}, True),
    ],
)
def test_a_body_of_no_known_age_is_no_body(meta: dict[str, str], whole: bool) -> None:
    """Notifications overtake each other: what could be older than what the row has, unseen, is read."""
    for resource in ({"resourceType": "Patient", "id": "p1", "meta": meta}, {"resourceType": "Patient", "id": "p1"}):
        assert told(read(resource, method="PUT")) == [("Patient/p1", "update", whole and "meta" in resource)]


@pytest.mark.parametrize(
    ("full_url", "whole"),
    [
        ("", True),
        ("Patient/p1", True),
        ("urn:uuid:1599eb66-431a-447c-a3de-6897fe9ae9a1", True),
        ("https://example.org/fhir/Patient/p1", True),
        ("https://example.org/fhir/Patient/p1/_history/1", True),
        ("https://example.org/fhir/Patient/p2", False),
        ("https://other.example/fhir/Patient/p1", False),
        ("HTTPS://other.example/fhir/Patient/p1", False),
    ],
)
def test_a_body_of_another_server_is_no_body(full_url: str, whole: bool) -> None:
    """An id means another patient on another server: ours is read, whatever that one says of its own."""
    resource = {"resourceType": "Patient", "id": "p1", "meta": {"versionId": "1"}}
    entry = {"fullUrl": full_url, "resource": resource, "request": {"method": "PUT", "url": "Patient/p1"}}
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
    assert told(read(bundle)) == [("Patient/p1", "update", whole)]


def test_another_server_is_never_followed() -> None:
    """A reference to another server than RELAY_FHIR_URL names nothing here; alone it is refused, beside others left out."""
    assert refusal("r5_another_server") == "foreign-reference"
    assert told(read("r5_one_foreign_of_two")) == [(PATIENT, "unknown", False)]


def test_any_other_bundle_is_its_entries() -> None:
    """HAPI's payload search sends a transaction: each of its entries is a change with its body."""
    assert told(read("hapi_payload_search")) == [(ENCOUNTER, "update", True), (PATIENT, "update", True)]
    assert read({"resourceType": "Bundle", "type": "batch"}).changes == ()


@pytest.mark.parametrize("name", ["nameless_entries", "not_a_type"])
def test_what_tells_of_nothing_is_refused(name: str) -> None:
    """A bundle none of whose entries can be told apart, and a status of no known type, are no notifications."""
    assert refusal(name) == {"nameless_entries": "not-a-resource", "not_a_type": "not-a-notification"}[name]


@pytest.mark.parametrize(
    ("method", "path", "op"),
    [
        ("PUT", "Patient/p1", "update"),
        ("PUT", "Patient/p1/_history/2", "update"),
        ("PUT", "", "update"),
        ("POST", "", "unknown"),
        ("POST", "Patient", "unknown"),
        ("POST", "Patient/p1", "unknown"),
    ],
)
def test_a_resource_alone(method: str, path: str, op: str) -> None:
    """As HAPI puts it, and as others post it: the body is the change."""
    patient = {"resourceType": "Patient", "id": "p1", "meta": {"versionId": "2"}}
    found = read(patient, method=method, path=path)
    assert told(found) == [("Patient/p1", op, True)]
    assert found.changes[0].version == "2"
    assert found.changes[0].resource == json.dumps(patient).encode()


def test_path_and_body_agree() -> None:
    """A path that names another resource than the body is refused, and one that names none is no path of ours."""
    patient = {"resourceType": "Patient", "id": "p1"}
    for path in ("Patient/p2", "Group/p1", "Patient/p1/x", "patient", "../Patient/p1", "Patient/p1?x"):
        assert refusal(patient, method="PUT", path=path) == "bad-path"
    assert refusal("r4_full_resource", path=ENCOUNTER) == "bad-path"


def test_a_resource_without_identity() -> None:
    """No id, an id that is none and no resource at all are refused by their codes."""
    assert refusal({"resourceType": "Patient"}) == "no-id"
    assert refusal({"resourceType": "Patient", "id": "a b"}) == "invalid-id"
    assert refusal({"resourceType": "OperationOutcome"}) == "not-a-resource"
    assert refusal(b"<Patient/>", content_type="application/fhir+xml") == "wrong-type"


def test_a_deletion_names_its_resource_in_the_path() -> None:
    """HAPI's DELETE has no body that counts."""
    assert told(read(b"", method="DELETE", path="Patient/p1")) == [("Patient/p1", "delete", False)]
    assert refusal(b"", method="DELETE", path="Patient") == "bad-path"
    assert refusal(b"", method="DELETE", path="Patient/..") == "invalid-id"


def test_an_empty_post() -> None:
    """It says that something changed: which resource or which types only if the path does; an empty PUT says nothing."""
    assert read(b"").unsaid
    assert read(b" \n", path="Patient,Encounter,Patient").types == ("Patient", "Encounter")
    assert told(read(b"", path="Patient/p1")) == [("Patient/p1", "unknown", False)]
    assert refusal(b"", method="PUT", path="Patient/p1") == "no-body"


PARTS = st.sampled_from(["notification-event", "type", "subscription", "event-number", "focus", "part", ""])
LEAVES: Any = st.none() | st.booleans() | st.integers() | st.sampled_from(["event-notification", "Patient/1", "2"])
VALUES: Any = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["name", "part", "reference", "valueString", "resource", "fullUrl"]), inner)
    ),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["Parameters", "SubscriptionStatus"]),
    parts=st.lists(st.fixed_dictionaries({"name": PARTS, "part": VALUES, "valueReference": VALUES}), max_size=3),
    events=VALUES,
    entry=VALUES,
)
def test_whatever_is_sent_is_read_or_refused(kind: str, parts: list[Any], events: Any, entry: Any) -> None:
    """Odd statuses and entries end in a notification or in a refusal, never otherwise."""
    status = {"resourceType": kind, "type": "event-notification", "parameter": parts, "notificationEvent": events}
    bundle = {"resourceType": "Bundle", "type": "history", "entry": [{"resource": status}, entry]}
    try:
        found = read(bundle)
    except Refused:
        return
    assert found.kind in ("event-notification", "heartbeat")


@pytest.mark.parametrize("wrapped", [True, False], ids=["r4", "r5"])
def test_a_notification_tells_of_no_more_than_a_bundle_may_hold(wrapped: bool) -> None:
    """What is in focus is limited as entries are: each costs a read, and to list them must cost no more than they are many."""
    events = [{"focus": {"reference": f"Patient/{number}"}} for number in range(4)]
    part = [[{"name": "focus", "valueReference": each["focus"]}] for each in events]
    parameter = [{"name": "notification-event", "part": each} for each in part]
    status: dict[str, Any] = (
        {"resourceType": "Parameters", "parameter": [{"name": "type", "valueCode": "event-notification"}, *parameter]}
        if wrapped
        else {"resourceType": "SubscriptionStatus", "type": "event-notification", "notificationEvent": events}
    )
    bundle = {"resourceType": "Bundle", "type": "history" if wrapped else "subscription-notification"}
    body = json.dumps({**bundle, "entry": [{"resource": status}]}).encode()

    def read_with(most: int) -> int:
        limits = LIMITS.model_copy(update={"max_entries": most})
        return len(read_notification("POST", "", body, content_type="", content_encoding="", limits=limits).changes)

    assert read_with(4) == 4
    with pytest.raises(Refused) as refused:
        read_with(3)
    assert (refused.value.code, refused.value.status) == ("too-many-entries", 413)
