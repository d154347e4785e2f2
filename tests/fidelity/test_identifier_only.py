from __future__ import annotations

from typing import Any

import fhir_texts
from fhir_texts import GUID, OTHER, SYSTEM, exactly, taken_out
from hypothesis import given
from hypothesis import strategies as st

from relay.fhir.identifiers import Added, Conflict, Present, add_identifier, mark_old
from support.data import need_fhir_data, resources

ENTRY = f'{{"system":"{SYSTEM}","value":"{GUID}"}}'
some = fhir_texts.arrays(fhir_texts.identifiers() | fhir_texts.values.filter(lambda text: not text.startswith("{")))
none = st.sampled_from([None, "null"])

WITHOUT_ARRAY = {
    "AdverseEvent",
    "AuditEvent",
    "Binary",
    "Bundle",
    "CapabilityStatement",
    "CompartmentDefinition",
    "Composition",
    "ConceptMap",
    "GraphDefinition",
    "ImplementationGuide",
    "Ingredient",
    "Linkage",
    "MedicationKnowledge",
    "MessageHeader",
    "NamingSystem",
    "OperationDefinition",
    "OperationOutcome",
    "Parameters",
    "Provenance",
    "QuestionnaireResponse",
    "SearchParameter",
    "SpecimenDefinition",
    "Subscription",
    "TerminologyCapabilities",
    "TestReport",
    "TestScript",
    "VerificationResult",
}
"""R4 types whose identifier is one object, or that have none."""


def apart(text: str) -> tuple[list[Any], list[Any] | None]:
    """Parse a resource into its members but identifier, and its identifier."""
    _kind, pairs = exactly(text)
    found = [value for name, value in pairs if name == "identifier"]
    return [pair for pair in pairs if pair[0] != "identifier"], found[0] if found else None


def check_added(old: str, new: str) -> None:
    """Nothing but identifier differs, its old entries come first, and taking the piece out gives the old text."""
    others, before = apart(old)
    still, after = apart(new)
    assert still == others
    assert after == [*(before or []), exactly(ENTRY)]
    if ("identifier", None) in exactly(old)[1]:  # null made room for an array
        assert new.count(f"[{ENTRY}]") == 1
        assert new.replace(f"[{ENTRY}]", "null") == old
        return
    piece = taken_out(new, old)
    assert len(piece) in {len(ENTRY), len(ENTRY) + 1, len(f',"identifier":[{ENTRY}]')}


@given(fhir_texts.resources(some | none))
def test_the_new_text_differs_in_identifier_only(text: str) -> None:
    """Whatever a resource holds and however it is written, only one identifier is added, or nothing is."""
    merged = add_identifier(text, system=SYSTEM, value=GUID.upper())
    if isinstance(merged, Added):
        check_added(text, merged.text)
        assert add_identifier(merged.text, system=SYSTEM, value=GUID) == Present()
    else:
        assert SYSTEM in text


@given(fhir_texts.resources(some | none))
def test_a_conflict_can_be_settled_by_marking(text: str) -> None:
    """Marking a GUID old changes nothing but `use`, and ends the conflict that it was."""
    marked = mark_old(text, system=SYSTEM, value=OTHER)
    assert apart(marked)[0] == apart(text)[0]
    assert mark_old(marked, system=SYSTEM, value=OTHER) == marked
    merged = add_identifier(marked, system=SYSTEM, value=GUID)
    if merged == Conflict("other-guid"):
        assert '"x"' in text  # the only other value that is written under the system


@given(fhir_texts.resources(none), st.text(max_size=20))
def test_any_system_is_written_as_json(text: str, system: str) -> None:
    """A system with quotes, backslashes or letters outside ASCII is found again as it was given."""
    merged = add_identifier(text, system=system, value=GUID)
    assert isinstance(merged, Added)
    assert add_identifier(merged.text, system=system, value=GUID) == Present()


def test_every_published_resource_differs_in_identifier_only() -> None:
    """Every real resource whose type has an identifier array gets its identifier and keeps every other byte."""
    need_fhir_data()
    kinds: dict[str, int] = {}
    total = 0
    for name, body in resources():
        text = body.decode()
        pairs = dict(exactly(text)[1])
        if isinstance(pairs.get("identifier"), tuple) or pairs["resourceType"] in WITHOUT_ARRAY:
            continue
        merged = add_identifier(text, system=SYSTEM, value=GUID)
        assert isinstance(merged, Added), name
        check_added(text, merged.text)
        kinds[pairs["resourceType"]] = kinds.get(pairs["resourceType"], 0) + 1
        total += 1
    assert total > 30_000
    assert len(kinds) > 80
