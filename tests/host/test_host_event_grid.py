"""What Event Grid delivers: handshakes, both envelopes, blobs that it announces."""

from __future__ import annotations

import json
from typing import Any

import pytest

from devstack.host import HostError

EVENT = {
    "id": "1",
    "topic": "t",
    "subject": "s",
    "eventType": "kind",
    "eventTime": "2026-01-01T00:00:00Z",
    "data": {"a": 1},
}
CLOUD = {"specversion": "1.0", "id": "2", "source": "t", "subject": "s", "type": "kind", "data": {"a": 1}}
TOLD = "/runtime/webhooks/EventGrid?functionName=told"
BLOBS = "/runtime/webhooks/blobs?functionName=Host.Functions.announced"


async def test_events_of_both_envelopes_reach_the_function_one_by_one(hosted: Any) -> None:
    """An array of the Event Grid schema, a CloudEvent and a batch of them; the function sees the platform's own classes."""
    async with hosted("event_grid") as up:
        for body in ([EVENT, EVENT | {"id": "3"}], CLOUD, [CLOUD]):
            assert (await up.client.post(TOLD, json=body)).status_code == 202
        assert up.app.seen == [
            ("EventGridEvent", "1", "kind", "s", {"a": 1}),
            ("EventGridEvent", "3", "kind", "s", {"a": 1}),
            ("CloudEvent", "2", "kind", "s", {"a": 1}),
            ("CloudEvent", "2", "kind", "s", {"a": 1}),
        ]


async def test_handshakes_are_answered_without_the_function(hosted: Any) -> None:
    """The code comes back in the Event Grid schema, the origin by OPTIONS in CloudEvents."""
    async with hosted("event_grid") as up:
        asked = [
            {"id": "1", "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "data": {"validationCode": "x"}}
        ]
        answer = await up.client.post(TOLD, json=asked, headers={"aeg-event-type": "SubscriptionValidation"})
        assert answer.json() == {"validationResponse": "x"}
        answer = await up.client.options(BLOBS, headers={"WebHook-Request-Origin": "eventgrid.azure.net"})
        assert (answer.status_code, answer.headers["webhook-allowed-origin"]) == (200, "eventgrid.azure.net")
        assert up.app.seen == []


async def test_a_delivery_that_fails_is_500_so_that_it_comes_again(hosted: Any) -> None:
    """A function that raises is not taken for done; what is no event, or for nobody, is refused."""
    async with hosted("event_grid") as up:
        assert (await up.client.post(TOLD, json=[EVENT | {"subject": "fail"}])).status_code == 500
        for content in (b"", b"[]", b"[1]", b"{"):
            assert (await up.client.post(TOLD, content=content)).status_code == 400
        for url in (
            TOLD.replace("told", "other"),
            TOLD.replace("told", "announced"),
            BLOBS.replace("announced", "told"),
        ):
            assert (await up.client.post(url, json=[EVENT])).status_code == 404


async def test_an_event_function_runs_by_name(hosted: Any) -> None:
    """The admin route takes one event as its input; anything but JSON is refused."""
    async with hosted("event_grid") as up:
        answer = await up.client.post("/admin/functions/told", json={"input": json.dumps(EVENT)})
        assert answer.status_code == 202
        await up.host.idle()
        assert [each[1] for each in up.app.seen] == ["1"]
        with pytest.raises(HostError, match="told: the input is no event"):
            await up.host.invoke("told", "{")


async def test_a_blob_runs_when_it_is_announced_and_not_before(hosted: Any) -> None:
    """Nobody looks at the container; other containers, other events and blobs that are gone are passed over."""
    created = {"id": "1", "eventType": "Microsoft.Storage.BlobCreated", "data": {}}
    place = "/blobServices/default/containers/{}/blobs/{}"
    async with hosted("event_grid") as up:
        await up.store.put_blob("bundles", "a/b.json", b"x")
        assert await up.host.run_due() == 0
        events = [
            created | {"subject": place.format("bundles", "gone.json")},
            created | {"subject": place.format("others", "a/b.json")},
            created | {"subject": place.format("bundles", "a/b.json"), "eventType": "Microsoft.Storage.BlobDeleted"},
            created | {"subject": place.format("bundles", "a/b.json")},
        ]
        assert (await up.client.post(BLOBS, json=events)).status_code == 202
        assert await up.host.run_due() == 1
        assert up.app.seen == [("bundles/a/b.json", b"x")]
        await up.host.invoke("announced", "bundles/a/b.json")
        assert len(up.app.seen) == 2
