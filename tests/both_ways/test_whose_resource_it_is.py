"""A row writes the resource that is its own, and a resource is linked to the row whose identifiers it has now."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from ways_kit import create, open_world, resources, update
from writers_kit import kept_back, linked, pointed, row_of, two_writers

from support.mishaps import once
from support.world import World

BORN = "create_in_fhir: true\nwriteback_when: {msemr_azurefhirsyncenabled: true}\n"
GATED = {"patient.yaml": {"create: always\n": "create: always\n" + BORN}}
PERSON = {"lastname": "Lindqvist", "msemr_contacttype": 935000000}
MRN = {"system": "http://example.org/mrn", "value": "M-1"}
BOB: dict[str, Any] = {"resourceType": "Patient", "id": "bob", "name": [{"use": "official", "family": "Bob"}]}
SEND = {"msemr_azurefhirsyncenabled": True}


async def with_number(w: World) -> str:
    """Make a contact with a record number that may not go to FHIR yet; returns its GUID."""
    guid = await create(w, "contacts", PERSON)
    row = {"prefix_system": MRN["system"], "prefix_value": MRN["value"]}
    await create(w, "prefix_patientidentifiers", {**row, "prefix_Patient@odata.bind": f"/contacts({guid})"})
    await w.settle()
    return guid


async def test_another_patients_id_is_typed_in(tmp_path: Path) -> None:
    """A key that is changed to another patient's id does not write over that patient."""
    async with open_world(tmp_path, two_writers("dataverse")) as w:
        guid = await linked(w)
        await w.put(BOB)
        await w.post(BOB)
        await w.settle()
        before = await w.read("Patient", "bob")
        await update(w, "contacts", guid, {"msemr_azurefhirid": "bob", "lastname": "Berg"})
        await w.settle()
        assert await w.read("Patient", "bob") == before
        assert await w.dead() == ["identifier-conflict"]


async def test_a_patient_becomes_a_practitioner(tmp_path: Path) -> None:
    """FHIR ids repeat across types: a changed contact type does not write over the practitioner of the same id."""
    line = "  - {column: lastname, copy: "
    practitioner = {"create: always\n": "create: always\nwriteback: [update]\nconflict: dataverse\n"}
    practitioner[line] = "  - {column: lastname, writeback: true, copy: "
    async with open_world(tmp_path, {**two_writers(), "practitioner.yaml": practitioner}) as w:
        guid = await linked(w)
        doctor = {**BOB, "resourceType": "Practitioner", "id": "ana"}
        await w.put(doctor)
        await w.post(doctor)
        await w.settle()
        before = await w.read("Practitioner", "ana")
        where = w.relay.maps.for_resource("Practitioner")
        assert where is not None
        await update(w, "contacts", guid, {**where.where, "lastname": "Berg"})
        await w.settle()
        assert await w.read("Practitioner", "ana") == before
        assert await w.dead() == ["identifier-conflict"]


async def test_a_reference_by_identifier_is_known(tmp_path: Path) -> None:
    """A managing organization that FHIR names by its identifier alone is the same before and after: no conflict."""
    async with open_world(tmp_path, two_writers()) as w:
        by_number = {"type": "Organization", "identifier": {"system": "urn:orgs", "value": "1"}}
        ana = {"resourceType": "Patient", "id": "ana", "name": [{"family": "A"}], "managingOrganization": by_number}
        guid = await linked(w, ana)
        await update(w, "contacts", guid, await pointed(w, "Two"))
        await w.settle()
        assert (await w.read("Patient", "ana"))["managingOrganization"] == {"reference": "Organization/two"}
        assert await w.dead() == []


async def test_a_lookup_that_waits_holds_nothing_else_back(tmp_path: Path) -> None:
    """A name goes to FHIR at once, although the organization saved with it has no FHIR id yet."""
    async with open_world(tmp_path, two_writers()) as w:
        guid = await linked(w)
        where = w.relay.maps.for_resource("Organization")
        assert where is not None
        await create(w, "accounts", {"name": "New", **where.where})
        await w.settle()
        (event,) = await kept_back(w, lambda: _with(w, guid, "New", {"lastname": "Berg"}))
        assert (await w.relay.writebacks.handle(event)).reason == "unlinked-reference"
        after = await w.read("Patient", "ana")
        assert (after["name"][0]["family"], after["managingOrganization"]) == (
            "Berg",
            {"reference": "Organization/one"},
        )


async def _with(w: World, guid: str, organization: str, row: dict[str, Any]) -> None:
    await update(w, "contacts", guid, {**row, **await pointed(w, organization)})


async def test_a_number_that_is_old_links_nobody(tmp_path: Path) -> None:
    """A record number that a resource has as `use: old` may be somebody else's by now: a person looks at it."""
    async with open_world(tmp_path, GATED) as w:
        await w.put({**BOB, "identifier": [{**MRN, "use": "old"}]})
        guid = await with_number(w)
        await update(w, "contacts", guid, SEND)
        await w.settle()
        assert (await w.rows("contacts"))[0]["msemr_azurefhirid"] is None
        assert await w.dead() == ["identifier-conflict"]


async def test_a_deactivated_row_makes_no_resource(tmp_path: Path) -> None:
    """A row that was merged away is inactive: it stays at home, whatever it consents to."""
    async with open_world(tmp_path, GATED) as w:
        guid = await with_number(w)
        await update(w, "contacts", guid, {"statecode": 1, "statuscode": 2})
        await update(w, "contacts", guid, SEND)
        await w.settle()
        assert await resources(w, "Patient") == []
        assert await w.dead() == []


async def test_two_rows_of_one_person_at_once(tmp_path: Path) -> None:
    """Two rows with one record number, worked on at once, make one resource; the second row needs a person."""
    async with open_world(tmp_path, GATED) as w:
        rows = [await with_number(w), await with_number(w)]
        events = await kept_back(w, *(lambda each=each: update(w, "contacts", each, SEND) for each in rows))
        waiting, all_here = [0], asyncio.Event()

        async def meet(request: httpx.Request) -> None:
            if request.method == "POST" and request.url.path.endswith("/_search"):
                waiting[0] += 1
                if waiting[0] == len(rows):
                    all_here.set()
                for _ in range(100):  # so that both would have searched before either creates
                    if not all_here.is_set():
                        await asyncio.sleep(0)

        w.to_fhir.before.append(meet)
        handled = await asyncio.gather(*(w.relay.writebacks.handle(each) for each in events))
        assert sorted(each.reason for each in handled) == ["present", "under-way"]
        await w.settle()
        assert len(await resources(w, "Patient")) == 1
        assert await w.dead() == ["identifier-conflict"]


async def test_a_bundle_makes_the_row_first(tmp_path: Path) -> None:
    """A row is made for the resource while another is being linked to it: that one stands, the other is as it was."""
    async with open_world(tmp_path, GATED) as w:
        await w.put({**BOB, "identifier": [MRN]})
        guid = await with_number(w)

        async def bundle() -> None:
            await w.post(await w.read("Patient", "bob"))

        once(w.to_dataverse, lambda request: request.method == "PATCH", bundle)
        await update(w, "contacts", guid, SEND)
        await w.settle()
        assert (await row_of(w, "bob"))["contactid"] != guid
        assert await w.dead() == ["ambiguous-match"]


@pytest.mark.parametrize("code", ["en", None])
async def test_a_concept_without_a_type_is_told(tmp_path: Path, code: str | None) -> None:
    """A codeable concept row that a user left without its type stands for no code: the rest of the row goes out."""
    maps = {"patient.yaml": {"create: always\n": "create: always\ncreate_in_fhir: true\n"}}
    async with open_world(tmp_path, maps) as w:
        concept = await create(w, "msemr_codeableconcepts", {"msemr_name": "English", "msemr_code": code})
        (navigation,) = w.relay.maps.tables["contact"].columns["msemr_communication1language"].navigation.values()
        await create(w, "contacts", {**PERSON, f"{navigation}@odata.bind": f"/msemr_codeableconcepts({concept})"})
        await w.settle()
        (patient,) = await resources(w, "Patient")
        assert "communication" not in patient
        assert await w.dead() == ["cannot-write"]
