"""Columns that FHIR and Dataverse's users both write: who changed one since both agreed decides, and else the map."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

from relay.store.agreed import TABLE
from support.made_up import TWO_WRITERS, maps_folder, two_writers
from support.samples import bundle, patient, practitioner, results
from support.users import deletes, makes, saves
from support.world import World, world

Json = dict[str, Any]
Rule = Literal["park", "fhir", "dataverse"]

GATED = TWO_WRITERS + "writeback_when: {donotemail: true}\n"


def told(outcome: Json, resource: str = "Patient/p1") -> list[tuple[str, str, str]]:
    """Return (severity, code, at) of what is said of one resource."""
    (entry,) = (each for each in outcome["entries"] if each["resource"] == resource)
    return [(issue["severity"], issue["code"], issue["at"]) for issue in entry["issues"]]


def person(text: str, **more: Any) -> Json:
    """Return a patient with this nickname."""
    return {"resourceType": "Patient", "id": "p1", "name": [{"text": text}], "gender": "female", **more}


async def send(it: World, *resources: Json) -> Json:
    """Send a bundle and return its outcome."""
    reply = await it.post(bundle(*resources))
    assert reply.body is not None
    assert reply.status == 200, reply.body
    return dict(reply.body)


async def row_of(it: World) -> Json:
    """Return the one contact that is a patient."""
    (row,) = await it.rows("contacts", "msemr_contacttype eq 935000000")
    return row


def store_calls(it: World) -> list[str]:
    """Record what is asked of the table of marks from now on."""
    seen: list[str] = []
    for name in ("list_rows", "put_row", "get_row", "add_row", "delete_row"):
        method = getattr(it.store, name)

        async def call(table: str, *arguments: Any, _method: Any = method, _name: str = name) -> Any:
            if table == TABLE:
                seen.append(_name)
            return await _method(table, *arguments)

        setattr(it.store, name, call)
    return seen


async def test_a_users_change_outlives_another_change_from_fhir(tmp_path: Path) -> None:
    """What the user changed stays although the resource comes in anew, and the rest of the resource is written."""
    async with world(tmp_path, events=False, maps=maps_folder(tmp_path, *two_writers("park"))) as it:
        await send(it, person("Ann"))
        key = (await row_of(it))["contactid"]
        await saves(it, "contacts", key, nickname="Annie")
        outcome = await send(it, person("Ann", birthDate="1980-01-01"))
        assert results(outcome) == {"Patient/p1": "updated"}
        assert told(outcome) == [("information", "kept-dataverse", "nickname")]
        row = await row_of(it)
        assert (row["nickname"], row["birthdate"]) == ("Annie", "1980-01-01")
        assert told(await send(it, person("Ann", birthDate="1980-01-01"))) == [
            ("information", "kept-dataverse", "nickname")
        ]


async def test_a_conflict_is_parked_until_both_are_alike(tmp_path: Path) -> None:
    """Nothing is overwritten and the outcome warns, each time; once both sides agree again, FHIR is followed as before."""
    async with world(tmp_path, events=False, maps=maps_folder(tmp_path, *two_writers("park"))) as it:
        await send(it, person("Ann"))
        key = (await row_of(it))["contactid"]
        await saves(it, "contacts", key, nickname="Annie")
        for _ in range(2):
            outcome = await send(it, person("Anna"))
            assert results(outcome) == {"Patient/p1": "unchanged"}
            assert told(outcome) == [("warning", "conflict", "nickname")]
        assert (await row_of(it))["nickname"] == "Annie"
        assert told(await send(it, person("Annie"))) == []
        assert told(await send(it, person("Anna"))) == []
        assert (await row_of(it))["nickname"] == "Anna"


async def test_the_map_may_let_fhir_win(tmp_path: Path) -> None:
    """`conflict: fhir` overwrites what both changed, says so, and that is agreed on then."""
    async with world(tmp_path, events=False, maps=maps_folder(tmp_path, *two_writers("fhir"))) as it:
        await send(it, person("Ann"))
        await saves(it, "contacts", (await row_of(it))["contactid"], nickname="Annie")
        assert told(await send(it, person("Anna"))) == [("information", "conflict", "nickname")]
        assert (await row_of(it))["nickname"] == "Anna"
        assert told(await send(it, person("Hannah"))) == []
        assert (await row_of(it))["nickname"] == "Hannah"


async def test_a_row_that_was_there_first(tmp_path: Path) -> None:
    """Of a row never agreed on, FHIR fills what is empty; what a user put there is not overwritten unasked."""
    async with world(tmp_path, events=False, maps=maps_folder(tmp_path, *two_writers("park"))) as it:
        await makes(
            it,
            "contacts",
            msemr_contacttype=935000000,
            msemr_azurefhirid="p1",
            nickname="Annie",
            birthdate="1970-01-01",
        )
        outcome = await send(it, person("Ann", birthDate="1980-01-01"))
        assert told(outcome) == [("warning", "conflict", "nickname")]
        row = await row_of(it)
        assert (row["nickname"], row["gendercode"], row["birthdate"]) == ("Annie", 2, "1980-01-01")


async def test_lookups_have_two_writers_too(tmp_path: Path) -> None:
    """A doctor that a user chose stays while FHIR says what it said."""
    async with world(tmp_path, events=False, maps=maps_folder(tmp_path, *two_writers("park"))) as it:
        sent = person("Ann", generalPractitioner=[{"reference": "Practitioner/d1"}])
        await send(it, sent, practitioner("d1"), practitioner("d2"))
        (other,) = await it.rows("contacts", "msemr_azurefhirid eq 'd2'")
        bind = {"msemr_generalpractioner@odata.bind": f"/contacts({other['contactid']})"}
        await saves(it, "contacts", (await row_of(it))["contactid"], **bind)
        assert told(await send(it, sent)) == [("information", "kept-dataverse", "msemr_generalpractioner")]
        assert (await row_of(it))["_msemr_generalpractioner_value"] == other["contactid"]


async def test_what_fhir_says_nothing_of_stays(tmp_path: Path) -> None:
    """With `null: keep` an element that is gone changes neither the row nor what was agreed on."""
    text = TWO_WRITERS.replace("null: clear", "null: keep")
    async with world(tmp_path, events=False, maps=maps_folder(tmp_path, *two_writers("park", text))) as it:
        nameless = {"resourceType": "Patient", "id": "p1", "gender": "female"}
        await send(it, person("Ann"))
        assert results(await send(it, nameless)) == {"Patient/p1": "unchanged"}
        assert told(await send(it, person("Anna"))) == []
        await saves(it, "contacts", (await row_of(it))["contactid"], nickname="Annie")
        assert told(await send(it, nameless)) == []
        assert told(await send(it, person("Anna"))) == [("information", "kept-dataverse", "nickname")]
        assert (await row_of(it))["nickname"] == "Annie"


OBSERVATION = """
resource: Observation
table: msemr_observation
key: msemr_azurefhirid
writeback: [update]
conflict: RULE
attributes:
  - {column: msemr_valuestring, copy: $.valueString, writeback: true, beside: {msemr_valuetype: 935000002}}
  - {column: msemr_valuetypequantityvalue, copy: $.valueQuantity.value, beside: {msemr_valuetype: 935000000}}
  - {column: msemr_comment, copy: "$.note[0].text"}
"""


@pytest.mark.parametrize(("rule", "stays"), [("park", True), ("dataverse", True), ("fhir", False)])
async def test_a_choice_stands_or_falls_as_a_whole(tmp_path: Path, rule: Rule, stays: bool) -> None:
    """A row never holds one alternative's value and another's kind: if one column of a choice stays, all of it does."""
    async with world(tmp_path, events=False, maps=maps_folder(tmp_path, OBSERVATION.replace("RULE", rule))) as it:
        spoken = {"resourceType": "Observation", "id": "o1", "valueString": "high"}
        await send(it, spoken)
        (row,) = await it.rows("msemr_observations")
        await saves(it, "msemr_observations", row["msemr_observationid"], msemr_valuestring="very high")
        measured = {"resourceType": "Observation", "id": "o1", "valueQuantity": {"value": 5}, "note": [{"text": "n"}]}
        outcome = await send(it, measured)
        assert told(outcome, "Observation/o1") == [
            ("warning" if rule == "park" else "information", "conflict", "msemr_valuestring")
        ]
        (row,) = await it.rows("msemr_observations")
        assert row["msemr_comment"] == "n"
        found = (row["msemr_valuetype"], row["msemr_valuestring"], row["msemr_valuetypequantityvalue"])
        assert found == ((935000002, "very high", None) if stays else (935000000, None, 5))


async def test_rows_that_may_not_go_out_have_one_writer(tmp_path: Path) -> None:
    """Where `writeback_when` does not let a row's changes out, FHIR is followed as without write-back."""
    async with world(tmp_path, events=False, maps=maps_folder(tmp_path, *two_writers("park", GATED))) as it:
        await send(it, person("Ann"))
        key = (await row_of(it))["contactid"]
        await saves(it, "contacts", key, nickname="Annie")
        assert told(await send(it, person("Ann"))) == []
        assert (await row_of(it))["nickname"] == "Ann"
        await saves(it, "contacts", key, nickname="Annie", donotemail=True)
        assert told(await send(it, person("Ann"))) == [("information", "kept-dataverse", "nickname")]


async def test_a_row_made_anew_is_agreed_on_anew(tmp_path: Path) -> None:
    """Marks of a row that a user deleted say nothing about the one made in its place, not even of empty columns."""
    async with world(tmp_path, events=False, maps=maps_folder(tmp_path, *two_writers("park"))) as it:
        await send(it, person("Ann"))
        key = (await row_of(it))["contactid"]
        await deletes(it, "contacts", key)
        nameless = person("Ann")
        del nameless["name"]
        await send(it, nameless)
        assert ((await row_of(it))["contactid"], (await row_of(it))["nickname"]) == (key, None)
        await saves(it, "contacts", key, nickname="Ann")
        assert told(await send(it, person("Bea"))) == [("warning", "conflict", "nickname")]


async def test_marks_cost_nothing_where_nothing_changed(tmp_path: Path) -> None:
    """A resend reads the marks of its rows and writes none; a map without two writers asks the store for nothing."""
    async with world(tmp_path, events=False, maps=maps_folder(tmp_path, *two_writers("park"))) as it:
        calls = store_calls(it)
        await send(it, practitioner())
        assert calls == []
        await send(it, person("Ann"))
        assert calls == ["put_row"] * 3
        calls.clear()
        await send(it, person("Ann"), practitioner())
        assert calls == ["list_rows"]


async def test_what_failed_agrees_on_nothing(tmp_path: Path) -> None:
    """No mark is put for a resource that was refused, nor for one that is skipped."""
    async with world(tmp_path, events=False, maps=maps_folder(tmp_path, *two_writers("park"))) as it:
        calls = store_calls(it)
        reply = await it.post(bundle(person("Ann", generalPractitioner=[{"reference": "Practitioner/nobody"}])))
        assert reply.status == 422
        assert calls == []


async def test_both_ways_with_events(tmp_path: Path) -> None:
    """A user's change goes to FHIR, comes back as an echo that changes nothing, and FHIR's next change is followed."""
    async with world(tmp_path, maps=maps_folder(tmp_path, *two_writers("park"))) as it:
        await it.put(patient(name=[{"text": "Ann"}]))
        await send(it, await it.read("Patient", "p1"))
        await it.settle()
        key = (await row_of(it))["contactid"]
        await saves(it, "contacts", key, nickname="Annie")
        await it.settle()
        back = await it.read("Patient", "p1")
        assert back["name"] == [{"text": "Annie"}]
        echo = await send(it, back)
        assert (results(echo), told(echo)) == ({"Patient/p1": "unchanged"}, [])
        assert told(await send(it, {**back, "name": [{"text": "Anna"}]})) == []
        assert (await row_of(it))["nickname"] == "Anna"
        assert await it.dead() == []
