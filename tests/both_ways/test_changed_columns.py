"""A user's change of a write-back column reaches FHIR as that element alone; changed on both sides, the map's rule holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ways_kit import open_world, update

from support.world import World

ANA: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "ana",
    "extension": [{"url": "http://example.org/x", "valueDecimal": 1.10}],
    "name": [
        {"use": "usual", "family": "Lindqvist", "given": ["Ana"]},
        {"use": "official", "family": "Lindqvist", "given": ["Ana", "Maria"], "prefix": ["Dr."]},
    ],
    "telecom": [
        {"system": "phone", "use": "mobile", "value": "555-0001", "rank": 1},
        {"system": "email", "value": "ana@example.org"},
    ],
    "gender": "female",
    "birthDate": "1980-05-01",
    "managingOrganization": {"reference": "Organization/one", "display": "One"},
}
ONE = {"resourceType": "Organization", "id": "one", "name": "One"}
TWO = {"resourceType": "Organization", "id": "two", "name": "Two"}
LAST = """  - {column: lastname, copy: ["$.name[?(@.use=='official')].family", "$.name[0].family"], required: true"""
MOBILE = """  - {column: mobilephone, copy: "$.telecom[?(@.system=='phone' && @.use=='mobile')].value\""""
FAX = """  - {column: fax, copy: "$.telecom[?(@.system=='fax')].value\""""
BIRTH = "  - {column: birthdate, copy: $.birthDate"
GENDER = "  - column: gendercode\n    map: $.gender\n"
MANAGING = (
    "  - {column: msemr_managingorganization, reference: $.managingOrganization, targets: {Organization: account}"
)
ON = ", writeback: true"


def switched_on(conflict: str = "park", when: str = "") -> dict[str, dict[str, str]]:
    lines = {line: line + ON for line in (LAST, MOBILE, FAX, BIRTH, MANAGING)}
    top = f"create: always\nwriteback: [create, update]\nconflict: {conflict}\n{when}"
    return {"patient.yaml": {"create: always\n": top, GENDER: GENDER + "    writeback: true\n", **lines}}


async def known(w: World) -> str:
    """Let the relay know the patient; returns the contact's GUID."""
    await w.put(ONE, TWO, ANA)
    for each in (ONE, TWO, await w.read("Patient", "ana")):
        await w.post(each)
    await w.settle()
    (row,) = await w.rows("contacts", "msemr_azurefhirid eq 'ana'")
    return str(row["contactid"])


def text_of(w: World) -> str:
    """Return the patient as the FHIR server stores it, to the letter."""
    body = [each for each in w.fhir.store.log if each.id == "ana"][-1].body
    return body.decode() if isinstance(body, bytes) else str(body)


CHANGES = {
    "a_family_name": ({"lastname": "Berg"}, ("name", 1, "family"), "Berg"),
    "a_number": ({"mobilephone": "555-0002"}, ("telecom", 0, "value"), "555-0002"),
    "an_item_more": ({"fax": "555-0003"}, ("telecom", 2), {"system": "fax", "value": "555-0003"}),
    "a_date": ({"birthdate": "1980-06-02"}, ("birthDate",), "1980-06-02"),
    "a_code": ({"gendercode": 1}, ("gender",), "male"),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_the_element_alone_changes(tmp_path: Path, name: str) -> None:
    """The resource afterwards is the one before with this one element in its place."""
    row, pointer, value = CHANGES[name]
    async with open_world(tmp_path, switched_on()) as w:
        guid = await known(w)
        before = json.loads(text_of(w), parse_float=str)
        await update(w, "contacts", guid, row)
        await w.settle()
        expected = before
        holder: Any = expected
        for part in pointer[:-1]:
            holder = holder[part]
        if isinstance(holder, list) and pointer[-1] == len(holder):
            holder.append(value)
        else:
            holder[pointer[-1]] = value
        after = json.loads(text_of(w), parse_float=str)
        assert {**after, "meta": None} == {**expected, "meta": None}
        assert await w.dead() == []


async def test_a_reference_goes_to_the_resource_of_the_row(tmp_path: Path) -> None:
    """A lookup becomes `Type/id`; the display of the old one goes with it."""
    async with open_world(tmp_path, switched_on()) as w:
        guid = await known(w)
        (two,) = await w.rows("accounts", "msemr_azurefhirid eq 'two'")
        column = w.relay.maps.tables["contact"].columns["msemr_managingorganization"]
        nav = column.navigation["account"]
        await update(w, "contacts", guid, {f"{nav}@odata.bind": f"/accounts({two['accountid']})"})
        await w.settle()
        assert (await w.read("Patient", "ana"))["managingOrganization"] == {"reference": "Organization/two"}


async def test_an_emptied_column_takes_its_element_away(tmp_path: Path) -> None:
    """What is left of an item is taken away too when only what the filter says is left; the rank stays."""
    async with open_world(tmp_path, switched_on()) as w:
        guid = await known(w)
        await update(w, "contacts", guid, {"mobilephone": None, "birthdate": None})
        await w.settle()
        after = await w.read("Patient", "ana")
        assert "birthDate" not in after
        assert after["telecom"][0] == {"system": "phone", "use": "mobile", "rank": 1}


async def test_other_columns_stay_at_home(tmp_path: Path) -> None:
    """A column without write-back changes nothing in FHIR."""
    async with open_world(tmp_path, switched_on()) as w:
        guid = await known(w)
        versions = w.versions("Patient/ana")
        await update(w, "contacts", guid, {"firstname": "Anna"})
        await w.settle()
        assert w.versions("Patient/ana") == versions


async def test_only_rows_that_may_go_out_do(tmp_path: Path) -> None:
    """`writeback_when` is a consent: without it nothing goes out."""
    changes = switched_on(when="writeback_when: {msemr_azurefhirsyncenabled: true}\n")
    async with open_world(tmp_path, changes) as w:
        guid = await known(w)
        await update(w, "contacts", guid, {"lastname": "Berg"})
        await w.settle()
        assert (await w.read("Patient", "ana"))["name"][1]["family"] == "Lindqvist"
        await update(w, "contacts", guid, {"msemr_azurefhirsyncenabled": True})
        await w.settle()
        assert (await w.read("Patient", "ana"))["name"][1]["family"] == "Berg"


RULES = {
    "park": ("Lindqvist-FHIR", "Lindqvist-Dataverse"),
    "fhir": ("Lindqvist-FHIR",) * 2,
    "dataverse": ("Lindqvist-Dataverse",) * 2,
}


@pytest.mark.parametrize("order", ["user_first", "bundle_first"])
@pytest.mark.parametrize("rule", RULES)
async def test_both_sides_changed(tmp_path: Path, rule: str, order: str) -> None:
    """Park leaves both as they are and tells; the other rules carry one value to the other side."""
    async with open_world(tmp_path, switched_on(rule)) as w:
        guid = await known(w)
        theirs = await w.read("Patient", "ana")
        theirs["name"][1]["family"] = "Lindqvist-FHIR"
        w.hold_events = True
        await w.put(theirs)
        await update(w, "contacts", guid, {"lastname": "Lindqvist-Dataverse"})
        await w.dataverse.webhooks.idle()
        w.hold_events = False
        sent = await w.read("Patient", "ana")
        if order == "bundle_first":
            await w.post(sent)
        for body in w.events[-1:]:
            await w.relay.take_event(body)
        await w.settle()
        if order == "user_first":
            await w.post(await w.read("Patient", "ana"))
        await w.settle()
        (row,) = await w.rows("contacts", "msemr_azurefhirid eq 'ana'")
        resource = await w.read("Patient", "ana")
        assert (resource["name"][1]["family"], row["lastname"]) == RULES[rule]
        assert await w.dead() == (["conflict"] if rule == "park" else [])


async def test_somebody_saves_meanwhile(tmp_path: Path) -> None:
    """A PUT that comes too late is made again on what is there by then: nobody's change is lost."""
    async with open_world(tmp_path, switched_on()) as w:
        guid = await known(w)
        once = [True]

        async def save(request: Any) -> None:
            if request.method == "PUT" and once:
                once.clear()
                theirs = await w.read("Patient", "ana")
                await w.put({**theirs, "active": True})

        w.to_fhir.before.append(save)
        await update(w, "contacts", guid, {"lastname": "Berg"})
        await w.settle()
        after = await w.read("Patient", "ana")
        assert (after["name"][1]["family"], after["active"]) == ("Berg", True)


async def test_the_echo_ends(tmp_path: Path) -> None:
    """The changed resource coming in again writes nothing, and its own event asks for nothing."""
    async with open_world(tmp_path, switched_on()) as w:
        guid = await known(w)
        await update(w, "contacts", guid, {"lastname": "Berg"})
        await w.settle()
        reply = await w.post(await w.read("Patient", "ana"))
        await w.settle()
        assert reply.body is not None
        assert reply.body["entries"][0]["result"] == "unchanged"
        versions = w.versions("Patient/ana")
        await w.settle()
        assert w.versions("Patient/ana") == versions
