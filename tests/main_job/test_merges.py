"""A patient that another one replaces: its row goes out of use and points to the other's; undone, it is back."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from relay.dataverse.keys import row_key
from relay.errors import MapError
from relay.mapping.load import load_maps
from relay.store.tombstones import TABLE
from support.made_up import PRACTITIONER, maps_folder
from support.merges import GONE, MERGED_INTO, carried, patient_map, removed, replaced, state, told, version
from support.refusals import refuses
from support.samples import bundle, encounter, patient, results
from support.users import saves
from support.world import URN, World, world

LOSER = row_key("fhir", "Patient", "p1")
SURVIVOR = row_key("fhir", "Patient", "p2")
MERGES = patient_map(MERGED_INTO)
POINTER = "_msemr_link1_value"


def maps(folder: Path, text: str = MERGES) -> Path:
    """Return a folder of this one map."""
    return maps_folder(folder, text)


async def rows(it: World) -> dict[str, dict[str, Any]]:
    """Return the contacts by FHIR id."""
    return {row["msemr_azurefhirid"]: row for row in await it.rows("contacts")}


async def send(it: World, *resources: dict[str, Any], status: int = 200) -> dict[str, Any]:
    """Put resources on the FHIR server as they are there now, and send them."""
    await it.put(*resources)
    return await carried(it, bundle(*resources), status)


@pytest.mark.parametrize("writeback", ["inline", "event"])
@pytest.mark.parametrize("write", ["auto", "fewest-calls"])
@pytest.mark.parametrize("own", [True, False], ids=["own-maps", "shipped"])
async def test_the_loser_points_to_the_survivor(tmp_path: Path, writeback: str, write: str, own: bool) -> None:
    """The loser's row goes out of use and keeps its identifiers; the survivor keeps its GUID; both share an identifier."""
    settings = {"maps": maps(tmp_path)} if own else {}
    async with world(tmp_path, writeback=writeback, write=write, **settings) as it:
        await send(it, patient("p1"), patient("p2"))
        await it.settle()
        loser, survivor = await it.read("Patient", "p1"), await it.read("Patient", "p2")
        loser |= {"active": False, "link": replaced("p1", "p2")["link"]}
        survivor["identifier"] += [{**each, "use": "old"} for each in loser["identifier"]]
        survivor["link"] = [{"type": "replaces", "other": {"reference": "Patient/p1"}}]
        outcome = await send(it, loser, survivor)
        assert told(outcome, "Patient/p1") == [("updated", ["merged"])]
        assert set(results(outcome).values()) == {"updated"}
        assert {each["writeback"] for each in outcome["entries"] if each["resource"] == "Patient/p1"} == {"none"}
        await it.settle()
        found = await rows(it)
        assert {name: found["p1"][name] for name in GONE} == GONE
        assert (found["p2"]["statecode"], found["p2"]["contactid"]) == (0, SURVIVOR)
        if own:
            assert (found["p1"][POINTER], found["p2"][POINTER]) == (SURVIVOR, None)
        else:
            links = await it.rows("msemr_contactlinks")
            assert {(each["_msemr_patient_value"], each["_msemr_link_value"]) for each in links} == {
                (LOSER, SURVIVOR),
                (SURVIVOR, LOSER),
            }
        mine = await it.rows("prefix_patientidentifiers", f"_prefix_patient_value eq {LOSER}")
        assert {each["statecode"] for each in mine} == {0}
        assert {each["prefix_value"] for each in mine} == {"p1-0", "p1-1", LOSER}
        assert set(results(await send(it, loser, survivor)).values()) == {"unchanged"}
        assert await it.dead() == []


@pytest.mark.parametrize("order", ["loser-first", "survivor-first", "together", "merged-at-once"])
async def test_every_order_of_arrival_ends_alike(tmp_path: Path, order: str) -> None:
    """A loser whose survivor is not there yet fails and goes through when sent again; then nothing tells who came first."""
    async with world(tmp_path, maps=maps(tmp_path)) as it:
        loser, survivor = version(replaced("p1", "p2"), 2), version(patient("p2"), 1)
        old = version(patient("p1"), 1)
        match order:
            case "loser-first":
                await send(it, old)
                outcome = await send(it, loser, status=422)
                assert told(outcome) == [("failed", ["unresolved-reference"])]
                await send(it, survivor)
                await send(it, loser)
            case "survivor-first":
                await send(it, survivor)
                await send(it, old)
                await send(it, loser)
            case "together":
                await send(it, old)
                await send(it, loser, survivor)
            case _:
                assert told(await send(it, loser, survivor), "Patient/p1") == [("created", ["merged"])]
        assert told(await carried(it, bundle(old))) == [("skipped", ["stale"])]
        await it.settle()
        found = await rows(it)
        assert {each: (row["statecode"], row[POINTER]) for each, row in found.items()} == {
            "p1": (1, SURVIVOR),
            "p2": (0, None),
        }
        assert found["p1"]["contactid"] == LOSER
        children = await it.rows("prefix_patientidentifiers")
        assert len(children) == 6


@pytest.mark.parametrize("write", ["auto", "fewest-calls"])
async def test_a_merge_undone(tmp_path: Path, write: str) -> None:
    """Active and no longer replaced, the row is back in use and points to nobody; merged again, it goes again."""
    async with world(tmp_path, write=write, bulk_from=1, maps=maps(tmp_path)) as it:
        await send(it, patient("p2"), replaced("p1", "p2"))
        assert told(await send(it, patient("p1", active=True))) == [("updated", ["reactivated"])]
        found = (await rows(it))["p1"]
        assert (found["statecode"], found["statuscode"], found[POINTER]) == (0, 1, None)
        assert await it.store.list_rows(TABLE) == []
        assert told(await send(it, replaced("p1", "p2"))) == [("updated", ["merged"])]
        assert await state(it) == {"p1": 1, "p2": 0}


async def test_a_merge_of_a_row_that_a_user_took_out_of_use(tmp_path: Path) -> None:
    """It points to the survivor, and undoing the merge leaves it to the user."""
    async with world(tmp_path, maps=maps(tmp_path)) as it:
        await send(it, patient("p1"), patient("p2"))
        await saves(it, "contacts", LOSER, **GONE)
        assert told(await send(it, replaced("p1", "p2"))) == [("updated", [])]
        assert told(await send(it, patient("p1"))) == [("updated", ["row-inactive"])]
        assert await state(it) == {"p1": 1, "p2": 0}


async def test_a_loser_that_is_deleted_and_back(tmp_path: Path) -> None:
    """A deleted loser stays out of use, and does when it is back as a loser; back as itself, it is in use again."""
    async with world(tmp_path, maps=maps(tmp_path)) as it:
        await send(it, patient("p1"), patient("p2"))
        await send(it, replaced("p1", "p2"))
        assert told(await removed(it, "Patient/p1")) == [("unchanged", [])]
        assert told(await send(it, replaced("p1", "p2"))) == [("unchanged", [])]
        assert await state(it) == {"p1": 1, "p2": 0}
        assert told(await send(it, patient("p1"))) == [("updated", ["reactivated"])]
        assert await state(it) == {"p1": 0, "p2": 0}


async def test_a_survivor_that_carries_the_losers_guid(tmp_path: Path) -> None:
    """A merge that copied the identifiers as they were leaves a claim on a row out of use: it is nobody's, and no conflict."""
    async with world(tmp_path, maps=maps(tmp_path)) as it:
        await send(it, patient("p1"), patient("p2"))
        await send(it, {**await it.read("Patient", "p1"), **replaced("p1", "p2")})
        survivor = await it.read("Patient", "p2")
        survivor["identifier"] += [{"system": URN.format("patient"), "value": LOSER}]
        survivor["name"] = [{"family": "New"}]
        assert told(await send(it, survivor)) == [("updated", [])]
        assert (await rows(it))["p2"]["contactid"] == SURVIVOR


@pytest.mark.parametrize(
    "link",
    [
        [{"type": "replaced-by", "other": {"display": "somebody"}}],
        [{"type": "replaced-by", "other": {"reference": "Patient/p1"}}],
        [{"type": "replaced-by", "other": {"reference": "RelatedPerson/p2"}}],
        [{"type": "replaced-by", "other": {"reference": f"Patient/{each}"}} for each in ("p2", "p3")],
        [{"type": "replaced-by"}],
    ],
    ids=["no-reference", "itself", "another-type", "two", "nobody"],
)
async def test_a_survivor_that_is_not_one(tmp_path: Path, link: list[Any]) -> None:
    """Without one other patient that replaces it, the row stays in use, with a warning."""
    async with world(tmp_path, maps=maps(tmp_path)) as it:
        outcome = await send(it, patient("p1", active=False, link=link))
        assert told(outcome) == [("created", ["survivor-unknown"])]
        assert await state(it) == {"p1": 0}


@pytest.mark.parametrize(
    "more",
    [
        {"active": True, "link": replaced("p1", "p2")["link"]},
        {"active": False},
        {"active": False, "link": [{"type": "seealso", "other": {"reference": "Patient/p2"}}]},
        {"active": False, "link": {"type": "replaced-by"}},
    ],
    ids=["still-active", "no-link", "seealso", "no-array"],
)
async def test_what_is_no_merge(tmp_path: Path, more: dict[str, Any]) -> None:
    """It takes both: not active, and replaced; anything else leaves the row in use."""
    async with world(tmp_path, maps=maps(tmp_path)) as it:
        await send(it, patient("p2"), patient("p1", **more))
        assert await state(it) == {"p1": 0, "p2": 0}


async def test_merges_ignored(tmp_path: Path) -> None:
    """With `merges: ignore` the row stays in use, and the survivor need not be there."""
    text = patient_map("merges: ignore\ndeletes: ignore")
    async with world(tmp_path, maps=maps(tmp_path, text)) as it:
        assert told(await send(it, replaced("p1", "p2"))) == [("created", [])]
        assert await state(it) == {"p1": 0}


async def test_encounters_of_a_loser_stay_with_it(tmp_path: Path) -> None:
    """What refers to the loser is not moved by the relay: FHIR says who it is about."""
    async with world(tmp_path) as it:
        await send(it, patient("p1"), patient("p2"), encounter(subject="Patient/p1"))
        await send(it, replaced("p1", "p2"))
        assert results(await send(it, encounter(subject="Patient/p1"))) == {"Encounter/e1": "unchanged"}
        (visit,) = await it.rows("msemr_encounters")
        assert visit["_msemr_encounterpatientidentifier_value"] == LOSER


async def test_an_identifier_that_both_have_means_the_survivor(tmp_path: Path) -> None:
    """A reference by an identifier that the loser has kept and the survivor got is to the one in use, not ambiguous."""
    async with world(tmp_path) as it:
        shared = {"system": "https://site.example/0", "value": "p1-0"}
        await send(it, patient("p1"), patient("p2", identifier=[shared]))
        visit = encounter(subject="Patient?identifier=https://site.example/0|p1-0")
        assert told(await carried(it, bundle(visit), 422)) == [("failed", ["ambiguous-reference"])]
        await send(it, replaced("p1", "p2"))
        await carried(it, bundle(visit, method="POST"))
        (made,) = await it.rows("msemr_encounters")
        assert made["_msemr_encounterpatientidentifier_value"] == SURVIVOR


@pytest.mark.parametrize("backwards", [False, True])
async def test_an_identifier_that_both_have_in_one_bundle(tmp_path: Path, backwards: bool) -> None:
    """Sent together, loser and survivor, what refers to the identifier that both have means the survivor."""
    async with world(tmp_path) as it:
        shared = {"system": "https://site.example/0", "value": "p1-0"}
        pair = [replaced("p1", "p2"), patient("p2", identifier=[shared])]
        visit = encounter(subject="Patient?identifier=https://site.example/0|p1-0")
        await it.put(*pair)
        await carried(it, bundle(*(reversed(pair) if backwards else pair), visit, method="POST"))
        (made,) = await it.rows("msemr_encounters")
        assert made["_msemr_encounterpatientidentifier_value"] == SURVIVOR


REFUSED = {
    "masterid": ("merged_into: masterid", "masterid is written by Dataverse alone"),
    "no-lookup": ("merged_into: lastname", "lastname is no lookup to contact (valid: msemr_contact1, "),
    "unknown": ("merged_into: nowhere", "unknown column nowhere"),
    "taken": ("merged_into: msemr_link2", "msemr_link2 is written by merged_into already"),
    "deletes": ("deletes: deactivate\nwhere_: x", "unknown key"),
    "state": ("deletes: deactivate\nmerges: deactivate", "statecode is written by line"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_keys_that_cannot_be(tmp_path: Path, name: str) -> None:
    """A pointer that is no lookup of one's own, and a policy for rows whose state the map writes itself, are refused at load."""
    line, message = REFUSED[name]
    text = patient_map(line)
    if name == "taken":
        text += '  - {column: msemr_link2, reference: "$.link[0].other", targets: {Patient: contact}}\n'
    if name == "state":
        text += "  - {column: statecode, map: $.active, values: {true: 0, false: 1}}\n"
    with pytest.raises(MapError, match="map0") as caught:
        load_maps(maps(tmp_path, text))
    assert message in str(caught.value)


def test_a_map_that_writes_the_state_itself_leaves_ends_alone(tmp_path: Path) -> None:
    """Where a line writes the state, and where the facts name no state out of use, the default is to ignore."""
    text = patient_map()
    text += "  - {column: statecode, map: $.active, values: {true: 0, false: 1}}\n"
    (entity_map,) = load_maps(maps(tmp_path, text))
    assert (entity_map.deletes, entity_map.merges) == ("ignore", "ignore")


def test_others_have_the_default(tmp_path: Path) -> None:
    """Every other map deactivates rows of what was deleted."""
    (entity_map,) = load_maps(maps_folder(tmp_path, PRACTITIONER))
    assert (entity_map.deletes, entity_map.merges, entity_map.merged_into) == ("deactivate", "deactivate", "")


async def test_a_refused_merge_leaves_no_tombstone(tmp_path: Path) -> None:
    """A row that Dataverse would not take out of use is in use, and if a user takes it out, it is the user's doing."""
    async with world(tmp_path, maps=maps(tmp_path)) as it:
        await send(it, patient("p1"), patient("p2"))
        refuses(it, lambda sent: sent.requests[0].method == "PATCH", 403, "0x80040220", times=1)
        outcome = await send(it, replaced("p1", "p2"), status=422)
        assert told(outcome) == [("failed", ["dataverse-0x80040220"])]
        assert await it.store.list_rows(TABLE) == []
        await send(it, replaced("p1", "p2"))
        assert await state(it) == {"p1": 1, "p2": 0}


@pytest.mark.parametrize(("number", "ends"), [(2, 0), (4, 1)])
async def test_a_merge_that_is_told_late(tmp_path: Path, number: int, ends: int) -> None:
    """What the server has not replaced (any more) keeps its row in use, unless the server shows a version from before."""
    async with world(tmp_path, maps=maps(tmp_path), events=False) as it:
        it.fhir.store._clock = lambda: datetime(2026, 5, 1, 10, 3, tzinfo=UTC)
        await send(it, patient(), patient("p2"))
        outcome = await carried(it, bundle(version(replaced("p1", "p2"), number)))
        assert told(outcome) == ([("skipped", ["stale"])] if number == 2 else [("updated", ["merged"])])
        assert await state(it) == {"p1": ends, "p2": 0}


async def test_a_merge_where_times_are_days(tmp_path: Path) -> None:
    """A column of days may hold when a resource was written; the server's version is compared with it by its day."""
    text = MERGES.replace("msemr_azurefhirlastupdatedon", "anniversary")
    async with world(tmp_path, maps=maps(tmp_path, text)) as it:
        await it.put(patient("p1"), patient("p2"))
        await carried(it, bundle(version(patient("p1"), 1), patient("p2")))
        outcome = await carried(it, bundle(version(replaced("p1", "p2"), 2)))
        assert told(outcome) == [("skipped", ["stale"])]
        assert await state(it) == {"p1": 0, "p2": 0}
