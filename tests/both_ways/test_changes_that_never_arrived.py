"""A user's change whose event was lost is not lost: the next bundle of the resource sends it out."""

from __future__ import annotations

from pathlib import Path

from test_changed_columns import known, switched_on
from ways_kit import open_world, update


async def test_the_next_bundle_carries_what_the_event_did_not(tmp_path: Path) -> None:
    """Inbound keeps the user's value, says so, and has the row looked at; both sides hold it then."""
    async with open_world(tmp_path, switched_on()) as w:
        guid = await known(w)
        w.hold_events = True
        await update(w, "contacts", guid, {"lastname": "Berg"})
        await w.dataverse.webhooks.idle()
        w.hold_events = False
        theirs = await w.read("Patient", "ana")
        await w.put({**theirs, "active": True})
        reply = await w.post(await w.read("Patient", "ana"))
        assert reply.body is not None
        assert "kept-dataverse" in [issue["code"] for issue in reply.body["entries"][0]["issues"]]
        await w.settle()
        after = await w.read("Patient", "ana")
        (row,) = await w.rows("contacts", "msemr_azurefhirid eq 'ana'")
        assert (after["name"][1]["family"], row["lastname"]) == ("Berg", "Berg")
        assert await w.dead() == []
