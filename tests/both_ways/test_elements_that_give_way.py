"""What a changed column replaces or takes away in a resource, and what of its neighbours stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ways_kit import PATIENT as LINK
from ways_kit import open_world, update
from writers_kit import ANA, linked, row_of, two_writers

from relay.mapping.model import ByFhirId, Concept, Issue
from relay.mapping.outward import RowView
from relay.mapping.reverse import changes
from support.made_up import PATIENT, made_up
from support.world import ROOT

GUID = "00000000-0000-4000-8000-000000000001"
LOCAL = {"coding": [{"system": "http://example.org/local", "code": "x"}]}
OTHER = {"coding": [{"system": "http://example.org/other", "code": "y"}]}
OBSERVATION = (
    "resource: Observation\ntable: msemr_observation\nkey: msemr_azurefhirid\nwriteback: [update]\nattributes:\n"
)
STATUS = "values: {registered: 935000000, final: 935000002}, unmapped: keep, writeback: true"


def resolve(reference: Mapping[str, Any]) -> ByFhirId | None:
    kind, _, fhir_id = str(reference.get("reference", "")).partition("/")
    return ByFhirId(kind, fhir_id) if fhir_id else None


def changed(
    folder: Path, lines: str, resource: dict[str, Any], row: RowView, *columns: str
) -> tuple[dict[str, Any], tuple[Issue, ...]]:
    """Bring columns of an observation's row into the resource; returns it and what could not be brought."""
    entity_map = made_up(folder, OBSERVATION + lines, PATIENT).for_resource("Observation")
    assert entity_map is not None
    outgoing = changes(entity_map, {"resourceType": "Observation", **resource}, row, columns, resolve)
    return {name: each for name, each in outgoing.resource.items() if name != "resourceType"}, outgoing.issues


UNLISTED = {
    "by_an_index": ("map: '$.category[0].coding[0].code'", {"coding": [{"code": "final"}]}),
    "by_every_coding": (
        "create: {at: '$.category[0]', set: {coding: [{code: '%'}]}}, map: '$.category[0].coding[*].code'",
        {"coding": [{"code": "final"}]},
    ),
}


@pytest.mark.parametrize("name", UNLISTED)
def test_an_unlisted_code_gives_way_in_its_place(tmp_path: Path, name: str) -> None:
    """The first category is replaced where it stands: the second one neither moves nor changes."""
    action, expected = UNLISTED[name]
    line = f"  - {{column: msemr_status, {action}, {STATUS}}}\n"
    row = RowView({"msemr_status": 935000002})
    after, issues = changed(tmp_path, line, {"category": [LOCAL, OTHER]}, row, "msemr_status")
    assert (after["category"], issues) == ([expected, OTHER], ())


def test_a_concept_of_words_alone_gives_way_in_its_place(tmp_path: Path) -> None:
    """A category without a code is replaced where it stands."""
    line = "  - {column: msemr_code, concept: '$.category[0].coding[0]', type: 935000012, writeback: true}\n"
    row = RowView({"_msemr_code_value": GUID}, {GUID: Concept(935000012, "new", "New")})
    after, issues = changed(tmp_path, line, {"category": [{"text": "words"}, OTHER]}, row, "msemr_code")
    assert (after["category"], issues) == ([{"coding": [{"code": "new", "display": "New"}]}, OTHER], ())


def test_an_item_that_only_another_place_could_replace_stays(tmp_path: Path) -> None:
    """Where `create` appends, an unlisted item that the path reads first would hide the new one: nothing is written."""
    create = "create: {at: '$.category[*]', set: {coding: [{code: '%'}]}}"
    line = f"  - {{column: msemr_status, map: '$.category[0].coding[0].code', {create}, {STATUS}}}\n"
    row = RowView({"msemr_status": 935000002})
    after, issues = changed(tmp_path, line, {"category": [LOCAL, OTHER]}, row, "msemr_status")
    assert after["category"] == [LOCAL, OTHER]
    assert [each.code for each in issues] == ["cannot-write"]


CHOICE = """  - {column: msemr_effectivetypedatetime, copy: $.effectiveDateTime, beside: {msemr_effectivetype: 935000000}, writeback: true}
  - {column: msemr_effectivestart, copy: $.effectivePeriod.start, beside: {msemr_effectivetype: 935000001}, writeback: true}
"""


def test_one_alternative_of_a_choice_takes_the_place_of_the_other(tmp_path: Path) -> None:
    """A user who goes over to a period leaves the old time in its column: the resource has the period alone."""
    row = RowView(
        {
            "msemr_effectivetype": 935000001,
            "msemr_effectivetypedatetime": "2020-01-01T00:00:00Z",
            "msemr_effectivestart": "2021-01-01T00:00:00Z",
        }
    )
    before = {"effectiveDateTime": "2020-01-01T00:00:00Z"}
    after, issues = changed(tmp_path, CHOICE, before, row, "msemr_effectivestart")
    assert (after, issues) == ({"effectivePeriod": {"start": "2021-01-01T00:00:00Z"}}, ())


DISPLAY = "  - {column: msemr_comment, copy: '$.code.coding[0].display', writeback: true}\n"
CODE = "  - {column: msemr_valuestring, copy: '$.code.coding[0].code', writeback: true}\n"


@pytest.mark.parametrize("lines", [CODE + DISPLAY, DISPLAY + CODE], ids=["code_first", "display_first"])
@pytest.mark.parametrize("columns", [("msemr_valuestring",), ("msemr_valuestring", "msemr_comment")], ids=len)
def test_a_display_goes_with_the_code_that_it_named(tmp_path: Path, lines: str, columns: tuple[str, ...]) -> None:
    """A changed code does not keep the words for the old one; words that the user changed with it are written."""
    coding = {"system": "http://example.org", "code": "a", "display": "Apple"}
    row = RowView({"msemr_valuestring": "p", "msemr_comment": "Pear"})
    after, issues = changed(tmp_path, lines, {"code": {"coding": [coding]}}, row, *columns)
    expected = {"system": "http://example.org", "code": "p"} | ({"display": "Pear"} if len(columns) > 1 else {})
    assert (after["code"]["coding"], issues) == ([expected], ())


@pytest.mark.parametrize("before", [{}, {"method": {"coding": [{"code": "1"}]}}], ids=["made", "replaced"])
def test_codes_of_digits_are_text(tmp_path: Path, before: dict[str, Any]) -> None:
    """Codes of SNOMED CT and others are digits alone: in JSON they are text all the same."""
    values = "values: {'1': 935000000, '2': 935000002}, unmapped: keep, writeback: true"
    line = f"  - {{column: msemr_status, map: '$.method.coding[0].code', {values}}}\n"
    after, issues = changed(tmp_path, line, before, RowView({"msemr_status": 935000002}), "msemr_status")
    assert (after["method"]["coding"], issues) == ([{"code": "2"}], ())


async def test_another_value_does_not_come_in_its_place(tmp_path: Path) -> None:
    """An emptied address at home is not taken away where the line would then read the one at work: a person is told."""
    async with open_world(tmp_path, two_writers()) as w:
        guid = await linked(w)
        await update(w, "contacts", guid, {"emailaddress1": None})
        await w.settle()
        await w.post(await w.read("Patient", "ana"))
        await w.settle()
        assert (await w.read("Patient", "ana"))["telecom"] == ANA["telecom"]
        assert (await row_of(w))["emailaddress1"] is None
        assert await w.dead() == ["cannot-write"]


async def test_two_items_are_emptied(tmp_path: Path) -> None:
    """Both given names go: the first has no room to go until the second is gone."""
    async with open_world(tmp_path, two_writers()) as w:
        guid = await linked(w)
        await update(w, "contacts", guid, {"firstname": None, "middlename": None})
        await w.settle()
        assert (await w.read("Patient", "ana"))["name"] == [{"use": "official", "family": "Lindqvist"}]
        assert await w.dead() == []


async def test_blanks_are_no_text(tmp_path: Path) -> None:
    """A column of blanks is empty to FHIR, which knows no such text."""
    async with open_world(tmp_path, two_writers()) as w:
        guid = await linked(w)
        await update(w, "contacts", guid, {"middlename": "   "})
        await w.settle()
        assert (await w.read("Patient", "ana"))["name"][0]["given"] == ["Ana"]
        assert await w.dead() == []


NUMBER = "create: {at: '$.identifier[*]', set: {system: 'urn:numbers', value: '%'}}"


@pytest.mark.parametrize("path", ["$.identifier[0].value", "$.identifier[*].value"])
@pytest.mark.parametrize("own", [0, 1], ids=["first", "last"])
async def test_the_dynamics_identifier_is_no_lines_to_write(tmp_path: Path, own: int, path: str) -> None:
    """A line that reads any identifier neither replaces the one that links the row nor counts it, wherever it stands."""
    text = (ROOT / "maps" / "patient.yaml").read_text(encoding="utf-8")
    start = text.index("  - column: msemr_medicalrecordnumber")
    block = text[start : text.index("\n\n", start)]
    line = f"  - {{column: msemr_medicalrecordnumber, copy: '{path}', writeback: true, {NUMBER}}}"
    async with open_world(tmp_path, two_writers(**{block: line})) as w:
        guid = await linked(w)
        link = {"system": LINK, "value": guid}
        for value in ("M-1", "M-2", None):
            await update(w, "contacts", guid, {"msemr_medicalrecordnumber": value})
            await w.settle()
            after = await w.read("Patient", "ana")
            number = [{"system": "urn:numbers", "value": value}] if value else [{"system": "urn:numbers"}]
            assert sorted(after["identifier"], key=str) == sorted([link, *number], key=str)
            await w.put({**after, "identifier": [*number, link] if own else [link, *number]})
        assert await w.dead() == []
