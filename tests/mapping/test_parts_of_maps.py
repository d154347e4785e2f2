from __future__ import annotations

from pathlib import Path

import pytest
from mapping_kit import IDENTIFIER, MAPS, TOP, load

from relay.mapping.elements import disabled_expansions, meant, narrowed
from relay.mapping.load import load_maps

R4 = {"status", "statusReason", "onsetDateTime", "onsetAge", "medicationCodeableConcept", "value", "valueSet", "code"}
MEANT = {
    "status": {"status"},
    "onset": {"onsetDateTime", "onsetAge"},
    "onset[x]": {"onsetDateTime", "onsetAge"},
    "onsetAge": {"onsetAge"},
    "medication[x]": {"medicationCodeableConcept"},
    "statusReason": {"statusReason"},
    "value": {"value"},
    "medic": set(),
    "cod": set(),
    "photo": set(),
    "": set(),
}


@pytest.mark.parametrize("element", MEANT)
def test_an_element_goes_by_its_name_or_by_those_of_its_choice(element: str) -> None:
    """`onset` is every type of onset; what only begins alike is another element."""
    assert meant(element, R4) == MEANT[element]


def test_a_status_that_is_not_there_is_not_its_reason() -> None:
    """What follows the base of a choice is a type of FHIR."""
    assert meant("status", R4 - {"status"}) == set()


def test_a_narrowed_map_has_the_lines_of_its_elements_alone() -> None:
    """Columns and expansions of other elements are gone; where, key and version are what every row is known by."""
    patient = load_maps(MAPS).for_resource("Patient")
    assert patient is not None
    known = ("msemr_contacttype", "msemr_azurefhirid", "msemr_azurefhirversion", "msemr_azurefhirlastupdatedon")
    part = narrowed(patient, ("gender", "birthDate", "photo", "id"))
    assert part.columns == (*known, "birthdate", "gendercode")
    assert part.expansions == ()
    assert part.elements == {"gender", "birthDate"}
    assert (part.where, part.key, part.identifier) == (patient.where, patient.key, patient.identifier)
    tied = narrowed(patient, ("identifier",))
    assert [each.element for each in tied.expansions] == ["identifier"]
    assert narrowed(patient, patient.elements).columns == patient.columns
    assert narrowed(patient, ()).lines == ()


NESTED = """
expansions:
  links:
    {off}table: msemr_contactlink
    lookup: msemr_patient
    attributes:
      - {{column: msemr_name, copy: $.type, match: true}}
attributes:
  - {{expand: link, using: links}}
"""


@pytest.mark.parametrize("off", [True, False])
def test_a_disabled_expansion_is_known_by_its_element(tmp_path: Path, off: bool) -> None:
    """One that is carried out is not among them."""
    text = NESTED.format(off="disabled: true\n    " if off else "")
    found = disabled_expansions(next(iter(load(tmp_path, TOP + IDENTIFIER + text))))
    assert {at: each.table.name for at, each in found.items()} == ({("link",): "msemr_contactlink"} if off else {})
