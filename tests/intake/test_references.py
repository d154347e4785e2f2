from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from intake_inputs import references, take_bundle, take_file

from relay.inbound.intake import Incoming
from relay.inbound.references import References
from relay.mapping.model import ByFhirId, ByIdentifier

SERVER = "https://fhir.test/r4"


def resolve(reference: Any, incoming: Incoming | None = None, *, entry: int = 0, fhir_url: str = SERVER) -> Any:
    """Read a Reference (its text alone, or the whole element) inside an entry of a bundle."""
    incoming = incoming or take_bundle({"resource": {"resourceType": "Basic", "id": "b1"}})
    element = {"reference": reference} if isinstance(reference, str) else reference
    return References(incoming, fhir_url=fhir_url).resolver(incoming.entries[entry])(element)


@pytest.mark.parametrize(
    "reference",
    [
        "Patient/p1",
        "Patient/p1/_history/3",
        "https://fhir.test/r4/Patient/p1",
        "https://fhir.test/r4/Patient/p1/_history/3",
        "https://FHIR.test:443/r4/Patient/p1",
        "HTTPS://fhir.test/r4/Patient/p1",
    ],
)
def test_a_resource_of_the_server_is_meant_by_its_id(reference: str) -> None:
    """Relative references and those on the configured server mean type and id; a version means the resource."""
    for fhir_url in (SERVER, f"{SERVER}/", "https://fhir.test:443/r4"):
        assert resolve(reference, fhir_url=fhir_url) == ByFhirId("Patient", "p1")


@pytest.mark.parametrize(
    "reference",
    [
        "#x",
        "#",
        "https://fhir.test/r4/Patient/p1#x",
        "https://elsewhere.test/r4/Patient/p1",
        "http://fhir.test/r4/Patient/p1",
        "https://fhir.test:8443/r4/Patient/p1",
        "https://fhir.test/r5/Patient/p1",
        "https://fhir.test/r4evil/Patient/p1",
        "https://fhir.test/Patient/p1",
        "https://fhir.test@elsewhere.test/r4/Patient/p1",
        "https://elsewhere.test@fhir.test/r4/Patient/p1",
        "https://fhir.test\\@elsewhere.test/r4/Patient/p1",
        "https://fhir.test/r4/../Patient/p1",
        "https://fhir.test/r4/x/Patient/p1",
        "https://fhir.test:port/r4/Patient/p1",
        "https://[fhir.test/r4/Patient/p1",
        "//fhir.test/r4/Patient/p1",
        "file:///r4/Patient/p1",
        "urn:uuid:00000000-0000-4000-8000-000000000001",
        "Patient",
        "Patient/",
        "/Patient/p1",
        "Patient/p1/",
        "Patient/p1\n",
        " Patient/p1",
        "patient/p1",
        "Patient/../Basic/b1",
        "Patient/p 1",
        "Patient/p%31",
        "Patient/" + "p" * 65,
        "Patient/p1/_history/",
        "Patient/p1?x=1",
        "",
    ],
)
def test_what_cannot_mean_a_row_means_none(reference: str) -> None:
    """Contained resources, other servers, unknown URNs and what is no legal type and id mean none."""
    assert resolve(reference) is None


@pytest.mark.parametrize("fhir_url", ["", "fhir.test", "ftp://fhir.test/r4", "https://", "https://fhir.test:x/"])
def test_without_a_server_only_the_bundle_counts(fhir_url: str) -> None:
    """With no usable server URL absolute references mean none; relative ones still mean type and id."""
    assert resolve("https://fhir.test/r4/Patient/p1", fhir_url=fhir_url) is None
    assert resolve("Patient/p1", fhir_url=fhir_url) == ByFhirId("Patient", "p1")


def test_urns_mean_entries_of_the_bundle() -> None:
    """A urn:uuid or urn:oid means the entry with that fullUrl; a UUID's case does not matter."""
    incoming = take_file("transaction_urn_uuid.json")
    encounter = incoming.entries[2].resource
    assert encounter is not None
    assert resolve(encounter["subject"], incoming, entry=2) == ByFhirId("Patient", "p1")
    assert resolve(encounter["participant"][0]["individual"], incoming) == ByFhirId("Practitioner", "d1")
    assert resolve("URN:UUID:00000000-0000-4000-8000-000000000001", incoming) == ByFhirId("Patient", "p1")
    assert resolve("urn:uuid:00000000-0000-4000-8000-000000000002", incoming) is None


def test_a_full_url_of_two_resources_means_none() -> None:
    """Two entries with one fullUrl leave open which is meant."""
    assert resolve("urn:uuid:00000000-0000-4000-8000-000000000001", take_file("two_entries_one_full_url.json")) is None


def test_a_full_url_that_is_not_absolute_means_nothing() -> None:
    """An entry cannot take over the relative references of others by a fullUrl that looks like one."""
    incoming = take_bundle(full("Patient/p1", "Patient", "other"), full("", "Patient", "third"))
    assert resolve("Patient/p1", incoming) == ByFhirId("Patient", "p1")


def full(url: str, kind: str, fhir_id: str) -> dict[str, Any]:
    return {"fullUrl": url, "resource": {"resourceType": kind, "id": fhir_id}}


def test_references_follow_the_entry_s_own_full_url() -> None:
    """A relative reference is completed by the base of its own entry's fullUrl, and means what the bundle has there."""
    incoming = take_bundle(
        full("https://elsewhere.test/fhir/Encounter/e1", "Encounter", "e1"),
        full("https://elsewhere.test/fhir/Patient/p1", "Patient", "p1"),
        full("https://third.test/Patient/other", "Patient", "other"),
        full("https://elsewhere.test/fhir/Patient/moved", "Patient", "p9"),
        kind="collection",
    )
    assert resolve("Patient/p1", incoming) == ByFhirId("Patient", "p1")
    # A fullUrl that disagrees with its resource's id means nothing: else a slip would point to another patient.
    assert resolve("Patient/moved", incoming) == ByFhirId("Patient", "moved")
    assert resolve("Patient/absent", incoming) == ByFhirId("Patient", "absent")
    assert resolve("https://third.test/Patient/other", incoming) == ByFhirId("Patient", "other")
    assert resolve("https://third.test/Patient/other/_history/2", incoming) == ByFhirId("Patient", "other")
    assert resolve("https://elsewhere.test/fhir/Patient/absent", incoming) == ByFhirId("Patient", "absent")
    assert resolve("https://third.test/Patient/absent", incoming) is None


CONDITIONAL = "Practitioner?identifier=http://hl7.org/fhir/sid/us-npi|99"


def test_a_conditional_reference_means_an_entry_or_an_identifier() -> None:
    """The one entry of the type with exactly this identifier is meant; else the identifier itself."""
    incoming = take_file("conditional_reference.json")
    encounter = incoming.entries[1].resource
    assert encounter is not None
    first, second = (each["individual"] for each in encounter["participant"])
    assert resolve(first, incoming, entry=1) == ByFhirId("Practitioner", "d1")
    assert resolve(second, incoming, entry=1) == ByIdentifier("Practitioner", "http://hl7.org/fhir/sid/us-npi", "100")
    assert resolve(CONDITIONAL.replace("Practitioner", "Patient"), incoming) == ByIdentifier(
        "Patient", "http://hl7.org/fhir/sid/us-npi", "99"
    )


def test_an_identifier_of_two_entries_is_left_to_the_database() -> None:
    """Two entries with one identifier leave open which is meant, so the identifier is handed on."""
    incoming = take_file("two_entries_one_identifier.json")
    assert resolve("Patient?identifier=urn:a|1", incoming) == ByIdentifier("Patient", "urn:a", "1")


def test_only_what_is_carried_on_carries_an_identifier() -> None:
    """Entries without a key, and versions that are passed over, do not answer for an identifier."""
    nameless = {"resource": {"resourceType": "Patient", "identifier": [{"system": "urn:a", "value": "1"}]}}
    older = {"resource": {"resourceType": "Patient", "id": "p1", "identifier": [{"system": "urn:a", "value": "1"}]}}
    incoming = take_bundle({"resource": {"resourceType": "Patient", "id": "p1"}}, older, nameless, kind="history")
    assert resolve("Patient?identifier=urn:a|1", incoming) == ByIdentifier("Patient", "urn:a", "1")


@pytest.mark.parametrize(
    ("query", "system", "value"),
    [
        ("urn:a|1", "urn:a", "1"),
        ("urn%3Aa%7C1", "urn:a", "1"),
        ("urn:a|caf%C3%A9", "urn:a", "café"),
        ("urn:a|A+1", "urn:a", "A 1"),
        ("urn:a|A%2B1", "urn:a", "A+1"),
        (r"urn:a|x\|y\,z\$\\", "urn:a", "x|y,z$\\"),
        ("urn:a|1%261", "urn:a", "1&1"),
    ],
)
def test_a_token_is_decoded_as_servers_decode_it(query: str, system: str, value: str) -> None:
    """Percent signs, plus signs and FHIR's backslash escapes stand for what they stand for in a search."""
    assert resolve(f"Patient?identifier={query}") == ByIdentifier("Patient", system, value)
    assert resolve(f"{SERVER}/Patient?identifier={query}") == ByIdentifier("Patient", system, value)


@pytest.mark.parametrize(
    "query",
    [
        "identifier=1",
        "identifier=|1",
        "identifier=urn:a|",
        "identifier=urn:a|1,urn:a|2",
        "identifier=urn:a|1|2",
        "identifier=urn:a|1&active=true",
        "active=true&identifier=urn:a|1",
        "identifier:of-type=urn:a|MR|1",
        "name=x",
        "identifier=urn:a|%FF",
        "identifier=urn:a|1%00",
        "",
    ],
)
def test_another_search_means_none(query: str) -> None:
    """A search that could mean several rows, or is by anything but system and value, means none."""
    assert resolve(f"Patient?{query}") is None


def test_a_logical_reference_means_an_identifier() -> None:
    """Identifier and type without a reference mean the entry that carries it, else the identifier; the reference wins."""
    logical = {"type": "Patient", "identifier": {"system": "urn:a", "value": "1"}}
    assert resolve(logical) == ByIdentifier("Patient", "urn:a", "1")
    assert resolve({**logical, "type": "http://hl7.org/fhir/StructureDefinition/Patient"}) == ByIdentifier(
        "Patient", "urn:a", "1"
    )
    assert resolve(logical, take_file("transaction_urn_uuid.json")) == ByFhirId("Patient", "p1")
    assert resolve({**logical, "reference": "Patient/p7"}) == ByFhirId("Patient", "p7")
    assert resolve({**logical, "reference": "#x"}) is None


@pytest.mark.parametrize(
    "element",
    [
        {},
        {"display": "x"},
        {"reference": 1},
        {"reference": ["Patient/p1"]},
        {"type": "Patient"},
        {"type": "Patient", "identifier": {}},
        {"type": "Patient", "identifier": {"value": "1"}},
        {"type": "Patient", "identifier": {"system": "urn:a", "value": ""}},
        {"type": "Patient", "identifier": {"system": "urn:a", "value": 1}},
        {"type": "Patient", "identifier": [{"system": "urn:a", "value": "1"}]},
        {"type": "../x", "identifier": {"system": "urn:a", "value": "1"}},
        {"type": ["Patient"], "identifier": {"system": "urn:a", "value": "1"}},
        {"identifier": {"system": "urn:a", "value": "1"}},
        None,
        "Patient/p1 ",
        3,
        [],
    ],
)
def test_an_ill_typed_reference_means_none(element: Any) -> None:
    """A Reference with other things where text belongs means none and raises nothing."""
    assert resolve(element) is None


@pytest.mark.parametrize("identifier", [None, "x", 7, {}, [None, 3, {"system": 1, "value": 2}, {"value": "1"}]])
def test_ill_typed_identifiers_of_a_bundle_are_passed_over(identifier: Any) -> None:
    """Whatever stands in an entry's identifier, looking one up works."""
    incoming = take_bundle({"resource": {"resourceType": "Patient", "id": "p1", "identifier": identifier}})
    assert resolve("Patient?identifier=urn:a|1", incoming) == ByIdentifier("Patient", "urn:a", "1")


hostile = st.text(alphabet="Pat/?#:|=%\\@[].*'\"\n\t é&,$_history0", max_size=40)
known = st.sampled_from(
    ["https://", "fhir.test", "/r4/", "Patient", "/p1", "?identifier=", "urn:uuid:", "/_history/", "|"]
)


@given(st.lists(hostile | known, max_size=8).map("".join), st.lists(hostile | known, max_size=5).map("".join))
def test_no_text_raises_or_means_an_illegal_id(reference: str, full_url: str) -> None:
    """Whatever a sender writes, the answer is none, an identifier, or a legal type and id."""
    incoming = take_bundle(full(full_url, "Patient", "p1"))
    match resolve(reference, incoming):
        case ByFhirId(type=kind, id=fhir_id):
            assert kind.isascii()
            assert kind.isalpha()
            assert fhir_id.replace("-", "").replace(".", "").isalnum() or set(fhir_id) <= {"-", "."}
        case ByIdentifier(system=system, value=value):
            assert system
            assert value
        case None:
            pass


def test_names_of_the_small_inputs_hold() -> None:
    """The small inputs about references resolve as their names say."""
    expected = {
        "forward_reference.json": ["Patient/p1", "Organization/o1"],
        "circular_reference.json": ["Organization/o2", "Organization/o1"],
        "reference_to_itself.json": ["Organization/o1"],
        "missing_reference.json": ["Patient/not-here"],
        "contained_reference.json": [None],
        "other_server_reference.json": [None],
    }
    for name, means in expected.items():
        incoming = take_file(name)
        found = [resolve(text, incoming) for entry in incoming.entries for text in references(entry.resource)]
        assert [f"{each.type}/{each.id}" if each else None for each in found] == means, name
