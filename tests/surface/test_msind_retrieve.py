from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from msind_kit import bundle, call, on_maps, results, retrieve, retrieved, upsert
from surface_kit import OURS, Surface, shipped_maps, surface

from devstack.control import Fault
from support.world import ROOT

ALWAYS = 0
API = "msind_RetrieveBundle"
META = {"versionId": "3", "lastUpdated": "2026-05-01T10:00:00Z"}
DOCTOR = {
    "resourceType": "Practitioner",
    "id": "same-id",
    "name": [{"use": "official", "family": "Birch", "given": ["Doc"]}],
    "gender": "male",
    "birthDate": "1950-01-31",
}
CLINIC = {"resourceType": "Organization", "id": "o1", "name": "Clinic", "telecom": [{"system": "fax", "value": "5"}]}
ALDER = {
    "resourceType": "Patient",
    "id": "same-id",
    "meta": META,
    "identifier": [{"system": "urn:mrn", "value": "1"}, {"system": "urn:ssn", "value": "2"}],
    "name": [{"use": "official", "family": "Alder", "given": ["Ana", "Bo"], "prefix": ["Dr"]}],
    "gender": "female",
    "birthDate": "1965-11-04",
    "telecom": [
        {"system": "phone", "use": "mobile", "value": "+46 1"},
        {"system": "phone", "use": "home", "value": "+46 2"},
        {"system": "email", "value": "ana@example.org"},
    ],
    "address": [{"line": ["1 Street", "Floor 2"], "city": "Lund", "country": "SE"}],
    "generalPractitioner": [{"reference": "Practitioner/same-id"}],
    "managingOrganization": {"reference": "Organization/o1"},
}
VISIT = {
    "resourceType": "Encounter",
    "id": "e1",
    "meta": META,
    "status": "finished",
    "class": {"code": "AMB"},
    "subject": {"reference": "Patient/same-id"},
    "period": {"start": "2026-02-28T23:30:00Z", "end": "2026-03-01T00:15:00Z"},
}
PLAN = {
    "resourceType": "CarePlan",
    "id": "c1",
    "identifier": [{"system": "urn:plan", "value": "7"}],
    "status": "active",
    "intent": "plan",
    "title": "Walk",
    "subject": {"reference": "Patient/same-id"},
    "encounter": {"reference": "Encounter/e1"},
}
WORLD = (DOCTOR, CLINIC, ALDER, VISIT, PLAN)


def linked(resource: Mapping[str, Any], guid: str) -> dict[str, Any]:
    """Return a resource with its Dynamics identifier."""
    own = {"system": f"{OURS}{str(resource['resourceType']).lower()}.id", "value": guid}
    return {**resource, "identifier": [*resource.get("identifier", ()), own]}


def unordered(resource: Mapping[str, Any]) -> dict[str, Any]:
    """Return a resource whose identifiers and telecoms are in one order: their rows and columns have none."""
    arrays = {name: sorted(resource.get(name, ()), key=str) for name in ("identifier", "telecom")}
    return {**resource, **arrays}


@pytest.mark.parametrize("resource", [DOCTOR, CLINIC, ALDER, PLAN], ids=lambda each: each["resourceType"])
async def test_what_was_upserted_is_retrieved(tmp_path: Path, resource: dict[str, Any]) -> None:
    """Id, version, every mapped element, and the GUID that UpsertBundle told as the Dynamics identifier; nothing else."""
    async with surface(tmp_path, webhook=False) as it:
        roots = await results(it, *WORLD)
        name = (resource["resourceType"], resource["id"])
        guid = next(
            each["msind_resultingrecordid"]
            for each in roots
            if (each["msind_fhirresourcetype"], each["msind_fhirresourceid"]) == name
        )
        body = await retrieve(it, "/".join(name))
        assert json.loads(body["msind_StatusDetail"]) == {
            "Message": "The resource was retrieved successfully.",
            "Warning": [],
        }
        assert unordered(json.loads(body["msind_JSON"])) == unordered(linked(resource, guid))


async def test_retrieving_and_upserting_again_changes_nothing(tmp_path: Path) -> None:
    """What comes out may be put in: every record is up to date."""
    async with surface(tmp_path, webhook=False) as it:
        await it.put(ALDER, DOCTOR, CLINIC)
        await results(it, *WORLD)
        before = it.snapshot()
        again = await retrieved(it, "Patient/same-id")
        root, *_ = await results(it, again)
        assert root["msind_requeststatusdetail"] == "The record is up to date: nothing had to change."
        assert it.snapshot() == before


ELEMENTS = {
    "Patient/same-id?_elements=birthDate": {"birthDate"},
    "Patient/same-id?_elements=gender,name": {"gender", "name"},
    "Patient/same-id?_elements=gender%2Cname": {"gender", "name"},
    "Patient/same-id?_elements=identifier": {"identifier"},
    "Patient/same-id?_elements=id,meta,resourceType": set(),
    "Patient/same-id?_elements=communication": set(),
    "Encounter/e1?_elements=period": {"period", "status", "class"},
    "CarePlan/c1?_elements=title": {"title", "status", "intent", "subject"},
}


async def test_elements_are_those_asked_for_and_those_that_must_be(tmp_path: Path) -> None:
    """Id, meta and the elements R4 wants come always; the resource is marked as a part, so that nobody takes it for whole."""
    async with surface(tmp_path, webhook=False) as it:
        await results(it, *WORLD)
        for query, elements in ELEMENTS.items():
            whole = await retrieved(it, query.partition("?")[0])
            part = await retrieved(it, query)
            assert set(part) == {"resourceType", "id", "meta", *elements}, query
            (tag,) = part["meta"].pop("tag")
            assert tag["code"] == "SUBSETTED"
            assert part == {name: whole.get(name, {}) for name in part}, query
            body = (await upsert(it, bundle(part | {"meta": {"tag": [tag]}}))).json()
            assert "(subsetted at " in body["msind_Results"][0]["msind_requeststatusdetail"]


async def test_no_more_is_read_than_is_asked_for(tmp_path: Path) -> None:
    """For a column or two neither child rows nor the rows that lookups point to are read."""
    async with surface(tmp_path, webhook=False) as it:
        await results(it, *WORLD)
        for query, calls in {"Patient/same-id": 3, "Patient/same-id?_elements=birthDate": 2, "Patient/none": 1}.items():
            it.forget_calls()
            await retrieve(it, query)
            assert len(it.calls()) == calls, query


async def test_an_element_that_the_map_does_not_have_is_told(tmp_path: Path) -> None:
    """It is left out with a warning that has a time; the rest of the answer is as ever."""
    async with surface(tmp_path, webhook=False) as it:
        await results(it, *WORLD)
        body = await retrieve(it, "Patient/same-id?_elements=gender,photo")
        (warning,) = json.loads(body["msind_StatusDetail"])["Warning"]
        assert warning == {
            "Time Stamp": "2026-06-01T12:00:00+00:00",
            "Message": "photo: no line of the entity map makes it",
        }
        assert json.loads(body["msind_JSON"])["gender"] == "female"


NOT_QUERIES = [
    "",
    "Patient",
    "Patient/",
    "/Patient/p1",
    "patient/p1",
    "Patient/p 1",
    "Patient/p'1",
    "Patient/" + "x" * 65,
    "Patient/p1/",
    "Patient/p1/_history/1",
    "Patient?_id=p1",
    "Patient/p1?",
    "Patient/p1?_summary=true",
    "Patient/p1?_elements=",
    "Patient/p1?_elements=name,",
    "Patient/p1?_elements=name.family",
    "Patient/p1?_elements=name&_summary=true",
    "Patient/p1?_elements=" + ",".join(["name"] * 500),
    "Patient/p1\n",
    "https://fhir.example/Patient/p1",
    "Patient/p1 or 1 eq 1",
]


async def test_nothing_but_the_two_forms_is_a_query(tmp_path: Path) -> None:
    """Searches, other parameters and everything else have status false with a reason, and nobody is asked anything."""
    async with surface(tmp_path, webhook=False) as it:
        for query in NOT_QUERIES:
            body = await retrieve(it, query)
            assert body["msind_Status"] is False, query
            assert "Type/id?_elements=a,b" in json.loads(body["msind_StatusDetail"])["Message"]
        assert it.calls() == []


async def test_what_cannot_be_had_says_why(tmp_path: Path) -> None:
    """A map that is missing or disabled, a row that is not there, an id in other letters: status false, no resource."""
    off = {"encounter.yaml": {"": "\ndisabled: true\n"}}
    async with on_maps(tmp_path, off) as it:
        await results(it, DOCTOR, CLINIC, ALDER)
        reasons = {
            "Encounter/e1": "Error: The entity map for Encounter is disabled. Enable the map.",
            "Provenance/v1": "Error: There is no entity map for Provenance.",
            "Patient/nobody": "Error: No row of contact stands for this resource.",
            "Patient/SAME-ID": "Error: No row of contact stands for this resource.",
            "Organization/same-id": "Error: No row of account stands for this resource.",
        }
        for query, reason in reasons.items():
            body = await retrieve(it, query)
            assert json.loads(body["msind_StatusDetail"]) == {"Message": reason, "Warning": []}
            assert body["msind_JSON"] is None


async def test_several_rows_are_none(tmp_path: Path) -> None:
    """Two rows with one FHIR id say two things: neither is told."""
    async with surface(tmp_path, webhook=False) as it:
        for family in ("Alder", "Elder"):
            await contact(it, lastname=family, msemr_azurefhirid="twice")
        body = await retrieve(it, "Patient/twice")
        assert body["msind_Status"] is False
        assert "2 rows of contact" in body["msind_StatusDetail"]


async def test_one_id_of_two_types_is_two_resources(tmp_path: Path) -> None:
    """Patients and practitioners are rows of one table; the map's `where` tells them apart."""
    async with surface(tmp_path, webhook=False) as it:
        await results(it, *WORLD)
        assert (await retrieved(it, "Patient/same-id"))["name"][0]["family"] == "Alder"
        assert (await retrieved(it, "Practitioner/same-id"))["name"][0]["family"] == "Birch"


async def contact(it: Surface, **columns: Any) -> None:
    """Create a patient's contact as a user."""
    answer = await it.org.post("/contacts", json={"msemr_contacttype": 935000000, "lastname": "Alder", **columns})
    assert answer.is_success, answer.text


FILLED = {
    "firstname": "Ana",
    "middlename": "Bo",
    "suffix": "Jr",
    "nickname": "Nan",
    "birthdate": "1965-11-04",
    "gendercode": 2,
    "familystatuscode": 3,
    "msemr_deceaseddate": "2020-02-29",
    "mobilephone": "1",
    "telephone1": "2",
    "telephone2": "3",
    "fax": "4",
    "emailaddress1": "a@b.example",
    "address1_line1": "5 Street",
    "address1_line2": "Floor 6",
    "address1_city": "Lund",
    "address1_stateorprovince": "Skåne",
    "address1_postalcode": "22100",
    "address1_country": "SE",
    "msemr_communication1preferred": True,
    "msemr_medicalrecordnumber": "7",
}
DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
DATE_TIME = re.compile(r"\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2}))?")


def leaves(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path and value of every member and item that holds no other."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from leaves(each, f"{at}.{name}" if at else name)
    elif isinstance(value, list):
        for each in value:
            yield from leaves(each, at)
    else:
        yield at, value


def said_by_the_map() -> set[str]:
    """Return the codes and systems that the patient map itself names, with which it tells one element from another."""
    text = (ROOT / "maps" / "patient.yaml").read_text(encoding="utf-8")
    codes = {str(code) for line in yaml.safe_load(text)["attributes"] for code in line.get("values", ())}
    sets = {str(each) for line in yaml.safe_load(text)["attributes"] for _, each in leaves(line.get("create", {}))}
    return codes | sets | set(re.findall(r"=='([^']+)'", text))


async def test_nothing_is_filled_in(tmp_path: Path) -> None:
    """Every value of a resource is the row's, or a code by which the map finds it: an empty column leaves no element."""
    async with surface(tmp_path, webhook=False) as it:
        for number, present in enumerate([*FILLED, "all", "none"]):
            chosen = {name: value for name, value in FILLED.items() if present in (name, "all")}
            await contact(it, msemr_azurefhirid=f"f{number}", **chosen)
            made = await retrieved(it, f"Patient/f{number}")
            assert {"resourceType", "id", "name", "identifier"} <= made.keys()
            assert "meta" not in made
            guid = next(row["contactid"] for row in it.rows("contact") if row["msemr_azurefhirid"] == f"f{number}")
            own = {"Patient", f"f{number}", "Alder", f"{OURS}patient.id", guid}
            allowed = own | said_by_the_map() | {str(value) for value in chosen.values()}
            for at, value in leaves(made):
                assert str(value) in allowed, (present, at)
                assert value not in ("", None)
            assert not any(each in ([], {}) for each in made.values())


async def test_dates_are_dates(tmp_path: Path) -> None:
    """A birth date has no time, which FHIR does not allow there; a date and time has its zone."""
    async with surface(tmp_path, webhook=False) as it:
        await results(it, *WORLD)
        assert DATE.fullmatch((await retrieved(it, "Patient/same-id"))["birthDate"])
        visit = await retrieved(it, "Encounter/e1")
        assert all(DATE_TIME.fullmatch(each) for each in (*visit["period"].values(), visit["meta"]["lastUpdated"]))


async def test_numbers_keep_their_digits(tmp_path: Path) -> None:
    """A decimal column's value is written with its own digits, not with those of a float."""
    weight = {"resourceType": "Observation", "id": "w1", "status": "final", "code": {"coding": [{"code": "w"}]}}
    async with surface(tmp_path, webhook=False) as it:
        await results(it, weight | {"valueQuantity": {"value": 0.1, "unit": "kg"}})
        body = await retrieve(it, "Observation/w1?_elements=value")
        assert re.search(r'"value":0\.1[,}]', body["msind_JSON"])


async def test_what_never_leaves_dataverse_stays_there(tmp_path: Path) -> None:
    """A line that says `writeback: false` takes no part; a map that writes no GUIDs back shows none."""
    private = {
        "patient.yaml": {
            "{column: birthdate, copy: $.birthDate}": "{column: birthdate, copy: $.birthDate, writeback: false}",
            "  writeback: true": "  writeback: false",
        }
    }
    async with on_maps(tmp_path, private) as it:
        await results(it, DOCTOR, CLINIC, ALDER)
        made = await retrieved(it, "Patient/same-id")
        assert "birthDate" not in made
        assert made["gender"] == "female"
        assert {each["system"] for each in made["identifier"]} == {"urn:mrn", "urn:ssn"}
        asked = await retrieved(it, "Patient/same-id?_elements=birthDate")
        assert set(asked) == {"resourceType", "id", "meta"}


async def test_a_reference_to_a_row_without_a_resource_is_told(tmp_path: Path) -> None:
    """The reference is left out with a warning: Dataverse knows whom it means, FHIR does not."""
    async with surface(tmp_path, webhook=False) as it:
        made = await it.org.post("/accounts", json={"name": "Sold to", "msemr_accounttype": 935000001})
        guid = made.headers["OData-EntityId"].rpartition("(")[2].rstrip(")")
        navigation = shipped_maps().tables["contact"].columns["msemr_managingorganization"].navigation["account"]
        await contact(it, msemr_azurefhirid="r1", **{f"{navigation}@odata.bind": f"/accounts({guid})"})
        body = await retrieve(it, "Patient/r1")
        (warning,) = json.loads(body["msind_StatusDetail"])["Warning"]
        assert warning["Message"].startswith("msemr_managingorganization: ")
        assert "managingOrganization" not in json.loads(body["msind_JSON"])


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ({}, "missing-parameter"),
        ({"msind_FHIRQuery": 7}, "invalid-parameter"),
        ({"msind_FHIRQuery": "Patient/p1", "msind_JSON": ""}, "unknown-parameter"),
        (b"Patient/p1", "not-json"),
    ],
    ids=str,
)
async def test_a_call_that_is_none_is_400(tmp_path: Path, sent: Any, code: str) -> None:
    """The shape of OData's errors, as UpsertBundle has it."""
    async with surface(tmp_path, webhook=False) as it:
        answer = await call(it, API, sent)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


async def test_dataverse_away_is_503(tmp_path: Path) -> None:
    """Nothing is kept of a question: the caller asks again."""
    async with surface(tmp_path, webhook=False) as it:
        it.dataverse.faults.append(Fault(path="/api/data/", times=ALWAYS))
        answer = await call(it, API, {"msind_FHIRQuery": "Patient/p1"})
        assert answer.status_code == 503
        assert list(answer.json()["error"]) == ["code", "message"]
        assert int(answer.headers["Retry-After"]) > 0


async def test_a_right_that_is_missing_is_status_false(tmp_path: Path) -> None:
    """Dataverse's code is told, its text is not: that can hold values."""
    refused = {"error": {"code": "0x80040220", "message": "Alder may not be read"}}
    async with surface(tmp_path, webhook=False) as it:
        it.dataverse.faults.append(Fault(path="contacts", status=403, body=refused))
        body = await retrieve(it, "Patient/p1")
        assert body["msind_Status"] is False
        assert "0x80040220" in body["msind_StatusDetail"]
        assert "Alder" not in body["msind_StatusDetail"]
