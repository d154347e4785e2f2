"""A user who saves again while the first change is under way: FHIR ends with what the row holds, and no conflict is told.

Within a process the two events wait for each other, so the second is another process's.
"""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from ways_kit import open_world, update
from writers_kit import both, kept_back, linked, row_of, two_writers

from support.mishaps import Kill, once
from support.world import World

RULES = ["park", "fhir", "dataverse"]


async def saved(w: World, guid: str, name: str) -> str:
    """Save a family name; returns the message of its event."""
    (message,) = await kept_back(w, lambda: update(w, "contacts", guid, {"lastname": name}))
    return message


def after_the_put(w: World, kill: bool = False) -> list[str]:
    """Do what is in the list, once and in another process, when the PUT is done and nothing is noted of it; or die."""
    messages: list[str] = []

    async def hook(request: httpx.Request) -> None:
        if request.method == "PUT":
            w.to_fhir.after.remove(hook)
            if kill:
                raise Kill
            for each in messages:
                await w.beside().writebacks.handle(each)

    w.to_fhir.after.append(hook)
    return messages


@pytest.mark.parametrize("rule", RULES)
async def test_the_second_save_is_through_before_the_first(tmp_path: Path, rule: str) -> None:
    """The worker of the first event has read the row and the resource; then the second does everything."""
    async with open_world(tmp_path, two_writers(rule)) as w:
        guid = await linked(w)
        first = await saved(w, guid, "First")

        async def second() -> None:
            await w.beside().writebacks.handle(await saved(w, guid, "Second"))

        once(w.to_fhir, lambda request: request.method == "PUT", second)
        await w.relay.writebacks.handle(first)
        await w.settle()
        assert await both(w) == ("Second", "Second")
        assert await w.dead() == []


@pytest.mark.parametrize("rule", RULES)
async def test_the_second_save_comes_between_put_and_mark(tmp_path: Path, rule: str) -> None:
    """FHIR has the first name and nobody has noted it: still it is no change of FHIR's."""
    async with open_world(tmp_path, two_writers(rule)) as w:
        guid = await linked(w)
        first = await saved(w, guid, "First")
        after_the_put(w).append(await saved(w, guid, "Second"))
        await w.relay.writebacks.handle(first)
        await w.settle()
        assert await both(w) == ("Second", "Second")
        assert await w.dead() == []


async def test_a_change_that_is_taken_back(tmp_path: Path) -> None:
    """The second event finds both sides alike, and after it the first one's PUT arrives: it is made good at once."""
    async with open_world(tmp_path, two_writers()) as w:
        guid = await linked(w)
        first = await saved(w, guid, "First")

        async def second() -> None:
            await w.beside().writebacks.handle(await saved(w, guid, "Lindqvist"))

        once(w.to_fhir, lambda request: request.method == "PUT", second)
        await w.relay.writebacks.handle(first)
        await w.settle()
        assert await both(w) == ("Lindqvist", "Lindqvist")


@pytest.mark.parametrize("echo", [False, True], ids=["alone", "with_the_echo"])
@pytest.mark.parametrize("rule", RULES)
async def test_dying_before_the_mark(tmp_path: Path, rule: str, echo: bool) -> None:
    """The relay dies after a PUT, the user saves again, the resource may come in: the user's last word counts."""
    async with open_world(tmp_path, two_writers(rule)) as w:
        guid = await linked(w)
        first = await saved(w, guid, "First")
        after_the_put(w, kill=True)
        with pytest.raises(Kill):
            await w.relay.writebacks.handle(first)
        await w.restart()
        second = await saved(w, guid, "Second")
        if echo:
            await w.post(await w.read("Patient", "ana"))
        for each in (second, first):
            await w.relay.writebacks.handle(each)
        await w.settle()
        assert await both(w) == ("Second", "Second")
        assert await w.dead() == []


async def test_what_comes_in_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    """FHIR's change lands in the row while a user's event is worked on: the old name of the row does not go out."""
    async with open_world(tmp_path, two_writers("dataverse")) as w:
        guid = await linked(w)
        theirs = await w.read("Patient", "ana")
        theirs["name"][0]["family"] = "Fhirsson"
        await w.put(theirs)
        (event,) = await kept_back(w, lambda: update(w, "contacts", guid, {"firstname": "Anna"}))

        async def bundle() -> None:
            await w.post(await w.read("Patient", "ana"))

        once(w.to_fhir, lambda request: request.method == "GET", bundle)
        await w.relay.writebacks.handle(event)
        await w.settle()
        assert await both(w) == ("Fhirsson", "Fhirsson")
        assert (await row_of(w))["firstname"] == "Anna"
