from __future__ import annotations

import json

import pytest
from intake_inputs import FOLDER, limits, take, take_bundle, take_file, verdict, verdicts

from relay.errors import Refused
from relay.inbound.intake import BUNDLE_TYPES, read_bundle


def test_one_resource_is_one_entry() -> None:
    """A single resource is entry 0 of type `resource`, with nothing asked for."""
    incoming = take(b'{"resourceType":"Patient","id":"p1"}')
    entry = incoming.entries[0]
    assert (incoming.type, len(incoming.entries), entry.method, entry.key) == ("resource", 1, "", ("Patient", "p1"))
    assert entry.resource_type == "Patient"


def test_the_tag_is_handed_on() -> None:
    """The sender's tag goes through as it is; without one it is empty."""
    body = b'{"resourceType":"Bundle","type":"batch"}'
    assert read_bundle(body, content_type="", content_encoding="", limits=limits(), tag="Monday").tag == "Monday"
    assert take(body).tag == ""


@pytest.mark.parametrize("kind", BUNDLE_TYPES)
def test_every_bundle_type_is_taken(kind: str) -> None:
    """All R4 bundle types and the notification are taken; a bundle without entries is fine."""
    assert take_bundle(kind=kind).entries == ()
    incoming = take_bundle(
        {"resource": {"resourceType": "Patient", "id": "p1"}, "response": {"status": "200"}}, kind=kind
    )
    assert (incoming.type, verdicts(incoming)) == (kind, ["taken"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("empty.json", []),
        ("entries_of_every_method.json", ["taken", "taken", "taken"]),
        ("null_entry.json", ["not-a-resource", "taken"]),
        ("no_resource.json", ["not-a-resource"] * 4),
        ("no_id.json", ["no-id"]),
        ("invalid_id.json", ["invalid-id"] * 5),
        ("id_of_64_characters.json", ["taken"]),
        ("same_id_of_two_types.json", ["taken", "taken"]),
        ("subsetted.json", ["subsetted", "taken"]),
        ("subsetted_bundle.json", ["subsetted"]),
        ("searchset_with_outcome.json", ["outcome", "taken"]),
        ("delete_entry.json", ["taken", "unsupported"]),
        ("patch_entry.json", ["unsupported"]),
        ("get_entries.json", ["read", "read"]),
        ("unknown_method.json", ["invalid-element"] * 3),
        ("put_url_disagrees.json", ["invalid-element"] * 3),
        ("put_urls_that_agree.json", ["taken"] * 6),
        ("nested_bundle.json", ["unsupported"]),
        ("batch_response.json", ["taken", "no-resource", "not-successful", "outcome", "not-successful"]),
        ("notification_r4.json", ["subscription-status", "taken"]),
        ("notification_r4b.json", ["subscription-status", "taken"]),
        ("notification_r5.json", ["subscription-status", "taken"]),
        ("notification_ids_only.json", ["subscription-status", "not-a-resource"]),
        ("message.json", ["taken", "taken"]),
        ("document.json", ["taken", "taken"]),
    ],
)
def test_what_becomes_of_each_entry(name: str, expected: list[str]) -> None:
    """Every entry is taken, skipped for a stated reason, or has a problem; one bad entry fails alone."""
    assert verdicts(take_file(name)) == expected


def test_an_entry_keeps_what_was_asked() -> None:
    """Method, URL, fullUrl and If-None-Exist of an entry are handed on, the method in upper case."""
    entries = take_file("entries_of_every_method.json").entries
    assert [entry.method for entry in entries] == ["", "POST", "PUT"]
    assert [entry.url for entry in entries] == ["", "Patient", "Patient/p3"]
    assert [entry.if_none_exist for entry in entries] == ["", "identifier=urn:a|2", ""]
    assert take_file("put_urls_that_agree.json").entries[1].method == "PUT"
    assert take_file("forward_reference.json").entries[0].full_url == "https://fhir.test/Encounter/e1"


def test_a_deletion_names_its_resource() -> None:
    """A DELETE entry says so, and its key comes from its URL; a conditional one has none."""
    first, second = take_file("delete_entry.json").entries
    assert (first.method, first.key, first.resource_type) == ("DELETE", ("Patient", "p1"), "Patient")
    assert (second.method, second.key) == ("DELETE", None)
    assert first.problem is None
    assert second.problem is not None
    assert second.problem.message == "conditional DELETE entries are not carried out"


def test_deletions_in_a_history() -> None:
    """In a history the fullUrl names what was deleted where no request does; elsewhere such an entry is no resource."""
    url = {"fullUrl": "https://fhir.test/Patient/p1"}
    for entry in (url, {**url, "request": {"method": "DELETE", "url": ""}}, {**url, "response": {"status": "410"}}):
        (read,) = take_bundle(entry, kind="history").entries
        assert (read.method, read.key, read.problem, read.sent) == ("DELETE", ("Patient", "p1"), None, None)
    (read,) = take_bundle(url).entries
    assert read.problem is not None
    assert read.problem.code == "not-a-resource"


def test_what_a_deletion_cannot_mean() -> None:
    """A URL that names no resource fails; a body says nothing, so it is not looked at."""
    (read,) = take_bundle({"request": {"method": "DELETE", "url": "Patient"}}).entries
    assert read.problem is not None
    assert read.problem.code == "invalid-element"
    body = {"resourceType": "Patient", "id": "p2"}
    (read,) = take_bundle({"resource": body, "request": {"method": "DELETE", "url": "Patient/p1"}}).entries
    assert (read.key, read.resource) == (("Patient", "p1"), None)


def test_an_entry_without_id_still_says_its_type() -> None:
    """An entry that names no resource still tells its type, so that one without a map can be told apart."""
    entry = take_file("no_id.json").entries[0]
    assert (entry.key, entry.resource_type) == (None, "Patient")


@pytest.mark.parametrize(
    "odd",
    [
        {"fullUrl": 1, "request": {"method": 2, "url": [], "ifNoneExist": {}}},
        {"request": [], "search": "match", "response": 7},
        {"resource": [], "search": {"mode": []}},
        {"resource": {"resourceType": ["Patient"], "id": {}}},
        {
            "resource": {"resourceType": "Patient", "id": "p1", "meta": {"tag": [None, 3, {"code": []}]}},
            "response": None,
        },
        {"resource": {"resourceType": "Patient", "id": "p1", "meta": []}, "response": {"etag": 1, "lastModified": 2}},
        "entry",
        [[]],
    ],
)
@pytest.mark.parametrize("kind", BUNDLE_TYPES)
def test_ill_typed_entries_never_break_intake(odd: object, kind: str) -> None:
    """Whatever stands where an object or text belongs, the entry is judged and its neighbour is taken."""
    good = {"resource": {"resourceType": "Patient", "id": "p2"}, "response": {"status": "201"}}
    assert verdict(take_bundle(odd, good, kind=kind).entries[1]) == "taken"


def everything_said(body: bytes) -> list[str]:
    try:
        entries = take(body).entries
    except Refused as refused:
        return [str(refused)]
    return [part for entry in entries if entry.problem for part in (entry.problem.message, entry.problem.at)]


def test_problems_name_places_and_no_values() -> None:
    """Messages and places of problems hold nothing that the sender wrote."""
    canary = "Canary1234"
    for path in sorted(FOLDER.glob("*.json")):
        text = path.read_bytes().decode(errors="ignore")
        for word in ("p1", "p2", "p3", "p4", "MERGE", "parcel"):
            text = text.replace(word, canary + word)
        for said in everything_said(text.encode()):
            assert said
            assert canary not in said


def test_too_many_entries_are_413() -> None:
    """A bundle with more entries than the limit is refused whole; one at the limit is taken."""
    body = json.dumps({"resourceType": "Bundle", "type": "batch", "entry": [{}, {}, {}]}).encode()
    with pytest.raises(Refused, match="3 entries are more than 2") as refused:
        take(body, max_entries=2)
    assert (refused.value.status, refused.value.code) == (413, "too-many-entries")
    assert len(take(body, max_entries=3).entries) == 3


def test_an_unknown_bundle_type_is_refused_with_the_choices() -> None:
    """The refusal names every type that is taken, and not the one that was sent."""
    with pytest.raises(Refused, match="batch, batch-response, collection") as refused:
        take_file("unknown_bundle_type.json")
    assert "parcel" not in str(refused.value)
