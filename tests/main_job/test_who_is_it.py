"""Which row a resource means, and when nothing may be written because that is not sure."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from support.samples import GUID, PATIENT, bundle, codes, patient, practitioner, results
from support.state import state
from support.world import ROOT, World, world

SYSTEM = "urn:oid:org.d365.mc4h.patient.id"
CONTACTS = "/api/data/v9.2/contacts"


async def contact(w: World, **columns: Any) -> str:
    """Create a contact as a user does and return its GUID."""
    answer = await w.http.post(CONTACTS, json=columns)
    assert answer.status_code == 204, answer.text
    return answer.headers["OData-EntityId"].rpartition("(")[2].rstrip(")").lower()


def carrying(resource: dict[str, Any], guid: str, **more: str) -> dict[str, Any]:
    """Return the resource with a Dynamics identifier."""
    return {**resource, "identifier": [*resource["identifier"], {"system": SYSTEM, "value": guid, **more}]}


async def refused(w: World, *resources: dict[str, Any]) -> dict[str, list[str]]:
    """Post and return the error codes; fails unless nothing was written on either side."""
    await w.put(*resources)
    await w.settle()
    before = await state(w, times=True)
    reply = await w.post(bundle(*resources))
    assert reply.status == 422
    assert reply.body
    await w.settle()
    assert await state(w, times=True) == before
    return codes(reply.body)


async def test_a_patient_and_a_practitioner_with_one_id_are_two_contacts(tmp_path: Path) -> None:
    """Identity is type and id: two rows, two Dynamics identifiers, neither touches the other."""
    async with world(tmp_path) as w:
        both = [patient("example"), practitioner("example")]
        await w.put(*both)
        reply = await w.post(bundle(*both))
        assert reply.body
        assert results(reply.body) == {"Patient/example": "created", "Practitioner/example": "created"}
        rows = {row["msemr_contacttype"]: row for row in await w.rows("contacts")}
        assert set(rows) == {935000000, 935000001}
        for kind, number in (("patient", 935000000), ("practitioner", 935000001)):
            resource = w.newest()[f"{kind.title()}/example"]
            ours = [each for each in resource["identifier"] if each["system"].startswith("urn:oid:org.d365")]
            assert ours == [{"system": f"urn:oid:org.d365.mc4h.{kind}.id", "value": rows[number]["contactid"]}]
        await w.post(bundle(practitioner("example", gender="male")))
        assert rows[935000000] == next(row for row in await w.rows("contacts") if row["msemr_contacttype"] == 935000000)


async def test_a_sales_contact_is_never_touched(tmp_path: Path) -> None:
    """A contact that no map's `where` fits is somebody else's, even with the same FHIR id on it."""
    async with world(tmp_path) as w:
        guid = await contact(w, firstname="Sales", msemr_azurefhirid="p1")
        await w.settle()
        assert w.fhir.calls == []
        before = await w.rows("contacts", f"contactid eq {guid}")
        await w.put(patient("p1"))
        reply = await w.post(bundle(patient("p1")))
        assert reply.body
        assert reply.body["entries"][0]["row"]["id"] != guid
        assert await w.rows("contacts", f"contactid eq {guid}") == before


async def test_an_id_in_another_case_is_another_resource(tmp_path: Path) -> None:
    """SQL ignores case, FHIR does not."""
    async with world(tmp_path) as w:
        await w.put(patient("abc"), patient("ABC"))
        await w.post(bundle(patient("abc")))
        reply = await w.post(bundle(patient("ABC")))
        assert reply.body
        assert results(reply.body) == {"Patient/ABC": "created"}
        assert sorted(row["msemr_azurefhirid"] for row in await w.rows("contacts")) == ["ABC", "abc"]


async def test_another_patients_guid_is_an_identity_conflict(tmp_path: Path) -> None:
    """A GUID in a resource is a claim: naming another patient's row, nothing is written on either side."""
    async with world(tmp_path) as w:
        await w.put(patient("p1"))
        reply = await w.post(bundle(patient("p1")))
        assert reply.body
        guid = reply.body["entries"][0]["row"]["id"]
        assert await refused(w, carrying(patient("p2"), guid)) == {"Patient/p2": ["identity-conflict"]}


async def test_a_known_patient_naming_another_row_is_an_identity_conflict(tmp_path: Path) -> None:
    """The FHIR id says one row, the Dynamics identifier another."""
    async with world(tmp_path) as w:
        await w.put(patient("p1"))
        await w.post(bundle(patient("p1")))
        other = await contact(w, firstname="Other", msemr_contacttype=PATIENT)
        assert await refused(w, carrying(patient("p1"), other)) == {"Patient/p1": ["identity-conflict"]}


async def test_the_guid_of_a_sales_contact_is_an_identity_conflict(tmp_path: Path) -> None:
    """A claim on a row that the map does not speak for is refused."""
    async with world(tmp_path) as w:
        guid = await contact(w, firstname="Sales")
        assert await refused(w, carrying(patient("p1"), guid)) == {"Patient/p1": ["identity-conflict"]}


async def test_two_resources_claiming_one_row_are_both_refused(tmp_path: Path) -> None:
    """Neither can be believed more than the other."""
    async with world(tmp_path) as w:
        guid = await contact(w, firstname="One", msemr_contacttype=PATIENT)
        found = await refused(w, carrying(patient("p1"), guid), carrying(patient("p2"), guid))
        assert found == {"Patient/p1": ["identity-conflict"], "Patient/p2": ["identity-conflict"]}


async def test_a_free_row_named_by_its_guid_becomes_the_patients(tmp_path: Path) -> None:
    """A row without a FHIR id that the resource names is updated, not doubled."""
    async with world(tmp_path) as w:
        guid = await contact(w, firstname="Free", jobtitle="kept", msemr_contacttype=PATIENT)
        sent = carrying(patient("p1"), guid.upper())
        await w.put(sent)
        reply = await w.post(bundle(sent))
        assert reply.body
        assert reply.body["entries"][0]["result"] == "updated"
        assert reply.body["entries"][0]["writeback"] == "present"
        (row,) = await w.rows("contacts")
        assert (row["contactid"], row["msemr_azurefhirid"], row["jobtitle"]) == (guid, "p1", "kept")
        assert (await w.post(bundle(sent))).body["entries"][0]["result"] == "unchanged"  # type: ignore[index]  # a body


async def test_two_rows_with_one_fhir_id_are_an_ambiguous_match(tmp_path: Path) -> None:
    """Nobody can say which of them is meant."""
    async with world(tmp_path, events=False) as w:
        for name in ("One", "Two"):
            await contact(w, firstname=name, msemr_azurefhirid="p1", msemr_contacttype=PATIENT)
        assert await refused(w, patient("p1")) == {"Patient/p1": ["ambiguous-match"]}


async def test_match_columns_find_a_row_without_a_fhir_id(tmp_path: Path) -> None:
    """A map may say by which columns a row is known; one candidate is taken, two are ambiguous."""
    folder = maps_that_match(tmp_path)
    async with world(tmp_path, maps=folder) as w:
        known = {"lastname": "Family p1", "birthdate": "1980-02-29", "msemr_contacttype": PATIENT}
        guid = await contact(w, **known)
        await w.put(patient("p1"))
        reply = await w.post(bundle(patient("p1")))
        assert reply.body
        assert (reply.body["entries"][0]["result"], reply.body["entries"][0]["row"]["id"]) == ("updated", guid)
        for _ in range(2):
            await contact(w, **{**known, "lastname": "Family p2"})
        assert await refused(w, patient("p2")) == {"Patient/p2": ["ambiguous-match"]}


async def test_a_row_that_is_gone_is_said_to_be_gone(tmp_path: Path) -> None:
    """The resource names a GUID that Dataverse does not have: row-gone, unless the setting says to make it again."""
    async with world(tmp_path / "fail") as w:
        assert await refused(w, carrying(patient("p1"), GUID)) == {"Patient/p1": ["row-gone"]}
    async with world(tmp_path / "again", row_gone="recreate") as w:
        sent = carrying(patient("p1"), GUID)
        await w.put(sent)
        reply = await w.post(bundle(sent))
        assert reply.body
        assert reply.body["entries"][0]["result"] == "created"
        guid = reply.body["entries"][0]["row"]["id"]
        now = [each for each in w.newest()["Patient/p1"]["identifier"] if each["system"] == SYSTEM]
        assert now == [{"system": SYSTEM, "value": GUID, "use": "old"}, {"system": SYSTEM, "value": guid}]


@pytest.mark.parametrize("setting", ["inline", "event"])
async def test_another_guid_of_ours_on_the_server_is_an_identifier_conflict(tmp_path: Path, setting: str) -> None:
    """The server's resource names another row of ours: a dead letter, and the resource stays as it is."""
    async with world(tmp_path, writeback=setting) as w:
        other = await contact(w, firstname="Other", msemr_contacttype=PATIENT)
        await w.put(carrying(patient("p1"), other))
        await w.post(bundle(patient("p1")))
        await w.settle()
        assert "identifier-conflict" in await w.dead()
        assert w.versions("Patient/p1") == 1


async def test_two_current_guids_in_one_resource_are_an_identifier_conflict(tmp_path: Path) -> None:
    """A resource can be one row only."""
    async with world(tmp_path) as w:
        sent = carrying(carrying(patient("p1"), GUID), "7f9619ff-8b86-4d11-b42d-00c04fc964ff")
        assert await refused(w, sent) == {"Patient/p1": ["identifier-conflict"]}


async def test_our_own_guid_as_old_is_an_identifier_conflict(tmp_path: Path) -> None:
    """Somebody retired this row's GUID in FHIR; the relay does not argue."""
    async with world(tmp_path) as w:
        await w.put(patient("p1"))
        reply = await w.post(bundle(patient("p1")))
        assert reply.body
        guid = reply.body["entries"][0]["row"]["id"]
        await w.put(carrying(patient("p1"), guid, use="old"))
        reply = await w.post(bundle(patient("p1")))
        assert reply.body
        assert reply.body["entries"][0]["writeback"] == "failed"
        assert await w.dead() == ["identifier-conflict"]
        assert w.versions("Patient/p1") == 3


def maps_that_match(folder: Path) -> Path:
    """Copy the default maps and let Patient match on last name and birth date."""
    maps = folder / "maps"
    shutil.copytree(ROOT / "maps", maps)
    text = (maps / "patient.yaml").read_text()
    lines = []
    for line in text.splitlines():
        if "column: lastname" in line or "column: birthdate" in line:
            body = line.rstrip()
            assert body.endswith("}"), line
            lines.append(body[:-1] + ", match: true}")
        else:
            lines.append(line)
    (maps / "patient.yaml").write_text("\n".join(lines) + "\n")
    return maps
