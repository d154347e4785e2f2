"""Queue functions: tries, delays, poison, outputs."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from devstack.host import FunctionFailed, HostError, StartError
from relay.errors import StoreUnavailable
from relay.store.local import LocalStore

HOST_JSON = '{"extensions": {"queues": {"visibilityTimeout": "00:00:30", "batchSize": 8, "newBatchThreshold": 4}}}'
SETTINGS = '{"Values": {"INBOUND": "inbound"}}'
OPTIONS = {"host_json": HOST_JSON, "local_settings": SETTINGS}


async def test_a_message_runs_its_function_once(hosted: Any) -> None:
    """A message that was worked on is gone."""
    async with hosted("queue", **OPTIONS) as up:
        await up.store.send("inbound", "größe")
        assert await up.host.run_due() == 1
        assert up.app.seen == [("inbound", "größe", 1)]
        assert await up.store.length("inbound") == 0
        assert await up.host.run_due() == 0


async def test_a_failed_message_comes_back_after_the_visibility_timeout(hosted: Any, clock: Any) -> None:
    """Each failure costs one try and hides the message for `visibilityTimeout`."""
    async with hosted("queue", **OPTIONS) as up:
        await up.store.send("inbound", "fail")
        await up.host.run_due()
        clock.advance(seconds=29)
        assert await up.host.run_due() == 0
        assert await up.host.next_due() == clock() + timedelta(seconds=1)
        clock.advance(seconds=1)
        assert await up.host.run_due() == 1
        assert [count for _, _, count in up.app.seen] == [1, 2]


async def test_after_five_tries_a_message_is_poison(hosted: Any, clock: Any) -> None:
    """The fifth failure moves the message to `<queue>-poison`, text unchanged, where its function takes it."""
    async with hosted("queue", **OPTIONS) as up:
        await up.store.send("inbound", "fail")
        for _ in range(4):
            await up.host.run_due()
            clock.advance(seconds=30)
        assert await up.store.length("inbound-poison") == 0
        await up.host.run_due()
        assert [count for what, _, count in up.app.seen if what == "inbound"] == [1, 2, 3, 4, 5]
        assert up.app.seen[-1] == ("poison", "fail", None)
        assert (await up.store.length("inbound"), await up.store.length("inbound-poison")) == (0, 0)


async def test_a_message_that_a_dead_host_held_too_often_is_poison_unseen(hosted: Any, clock: Any) -> None:
    """A message received a sixth time goes to poison without a try, as a crash of the host leaves no failure."""
    async with hosted("queue", **OPTIONS) as up:
        await up.store.send("inbound", "crash")
        for _ in range(5):
            await up.store.receive("inbound", most=1, visibility=timedelta(minutes=10))
            clock.advance(minutes=10)
        await up.host.run_due()
        assert up.app.seen == [("poison", "crash", None)]


async def test_a_poison_queue_has_no_poison_queue(hosted: Any, clock: Any) -> None:
    """What fails in a poison queue stays there until it expires."""
    async with hosted("queue", **OPTIONS) as up:
        await up.store.send("inbound-poison", "fail always")
        for _ in range(8):
            await up.host.run_due()
            clock.advance(minutes=11)
        assert len(up.app.seen) == 5
        assert await up.store.length("inbound-poison") == 1
        assert await up.store.length("inbound-poison-poison") == 0


async def test_max_dequeue_count_is_read_from_host_json(hosted: Any) -> None:
    """`maxDequeueCount` sets the tries, and without a visibility timeout they follow at once."""
    host_json = '{"extensions": {"queues": {"maxDequeueCount": 2}}}'
    async with hosted("queue", host_json=host_json, local_settings=SETTINGS) as up:
        await up.store.send("inbound", "fail")
        assert await up.host.run_due() == 3
        assert [what for what, _, _ in up.app.seen] == ["inbound", "inbound", "poison"]


async def test_outputs_are_sent_after_the_function(hosted: Any) -> None:
    """A list sends each text, `$return` one more; a plain function can do both."""
    async with hosted("queue", **OPTIONS) as up:
        await up.store.send("writeback", "three")
        await up.host.run_due()
        assert sorted(text for _, text, _ in up.app.seen) == ["one", "three", "two"]


async def test_no_more_run_at_once_than_batch_and_threshold(hosted: Any, tmp_path: Path) -> None:
    """At most batchSize + newBatchThreshold messages are worked on side by side, and in the end all are."""
    store = LocalStore(tmp_path / "store")
    for number in range(10):
        await store.send("inbound", str(number))
    host_json = '{"extensions": {"queues": {"batchSize": 3, "newBatchThreshold": 1, "maxPollingInterval": "00:00:10"}}}'
    async with hosted("queue", host_json=host_json, local_settings=SETTINGS, real_clock=True) as up:
        await up.host.idle()
        assert sorted(int(text) for _, text, _ in up.app.seen) == list(range(10))
        assert 3 <= up.app.most[1] <= 4
    await store.close()


async def test_a_sent_message_wakes_a_polling_host(hosted: Any) -> None:
    """A host that polls every 10 minutes takes what this process sends at once; idle waits for delayed ones."""
    host_json = '{"extensions": {"queues": {"maxPollingInterval": "00:10:00"}}}'
    async with hosted("queue", host_json=host_json, local_settings=SETTINGS, real_clock=True) as up:
        await up.host.idle()
        await up.store.send("inbound", "now")
        await up.store.send("inbound", "soon", delay=timedelta(milliseconds=150))
        await up.host.idle()
        assert ("inbound", "now", 1) in up.app.seen
        await up.host.idle(delayed=True)
        assert {text for _, text, _ in up.app.seen} == {"now", "soon"}


async def test_a_store_that_is_away_for_a_while_is_asked_again(hosted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host outlives failures of its store, and an output that could not be sent is a failed function."""
    monkeypatch.setattr("devstack.host.queues._PAUSE", 0.01)
    receive, failures = LocalStore.receive, iter(range(3))

    async def flaky(self: LocalStore, queue: str, **options: Any) -> Any:
        if next(failures, None) is not None:
            raise StoreUnavailable("away")
        return await receive(self, queue, **options)

    async def full(*_: object, **__: object) -> None:
        raise StoreUnavailable("disk full")

    monkeypatch.setattr(LocalStore, "receive", flaky)
    async with hosted("queue", **OPTIONS, real_clock=True) as up:
        await up.store.send("inbound", "patient")
        await up.host.idle()
        assert up.app.seen == [("inbound", "patient", 1)]
    async with hosted("output") as up:
        monkeypatch.setattr(LocalStore, "send", full)
        assert (await up.client.post("/api/send/text")).status_code == 500


async def test_a_stopped_host_gives_its_messages_back(hosted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What still runs after the grace is cancelled, and its message visible at once for the next host."""
    monkeypatch.setattr("devstack.host.app._GRACE", 0.05)
    async with hosted("queue", **OPTIONS, real_clock=True) as up:
        up.app.gate.clear()
        await up.store.send("inbound", "held")
        async with asyncio.timeout(10):
            await up.app.begun.wait()
        await up.host.stop()
        (message,) = await up.store.peek("inbound")
        assert (message.text, message.dequeue_count) == ("held", 1)


async def test_a_function_runs_by_name(hosted: Any) -> None:
    """`invoke` waits and raises; the admin route answers 202 and does it in the background."""
    async with hosted("queue", **OPTIONS) as up:
        await up.host.invoke("inbound_poison", "by hand")
        with pytest.raises(FunctionFailed, match="inbound_poison: RuntimeError: asked to"):
            await up.host.invoke("inbound_poison", "fail always")
        with pytest.raises(HostError, match="valid: inbound_worker"):
            await up.host.invoke("unknown")
        answer = await up.client.post("/admin/functions/INBOUND_poison", json={"input": "over HTTP"})
        assert (answer.status_code, answer.content) == (202, b"")
        await up.host.idle()
        assert [text for _, text, _ in up.app.seen] == ["by hand", "fail always", "over HTTP"]


@pytest.mark.parametrize("body", ["[]", '{"input": 1}', "{"])
async def test_the_admin_route_refuses_what_it_cannot_read(hosted: Any, body: str) -> None:
    """The body is `{"input": "text"}` or empty."""
    async with hosted("queue", **OPTIONS) as up:
        assert (await up.client.post("/admin/functions/inbound_poison", content=body)).status_code == 400
        assert (await up.client.post("/admin/functions/unknown")).status_code == 404
        assert (await up.client.delete("/admin/functions/inbound_poison")).status_code == 405


@pytest.mark.parametrize(
    ("what", "texts"), [("text", ["text"]), ("bytes", ["grün"]), ("list", ["a", "b"]), ("nothing", [])]
)
async def test_http_functions_send_messages(hosted: Any, what: str, texts: list[str]) -> None:
    """Text, bytes and lists go to the queue that the output names."""
    async with hosted("output") as up:
        assert (await up.client.post(f"/api/send/{what}")).text == "sent"
        assert [message.text for message in await up.store.peek("inbound")] == texts


@pytest.mark.parametrize(("what", "reason"), [("message", "func.QueueMessage is not served"), ("long", "50000 bytes")])
async def test_an_output_that_cannot_be_sent_fails_the_function(
    hosted: Any, what: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A message that was not sent is no success: 500, and the log says why."""
    async with hosted("output") as up:
        assert (await up.client.post(f"/api/send/{what}")).status_code == 500
    assert reason in caplog.text


async def test_a_missing_setting_is_a_start_error(hosted: Any) -> None:
    """A queue named by a setting needs that setting."""
    with pytest.raises(StartError, match="inbound_worker: msg: the setting INBOUND"):
        async with hosted("queue"):
            pass


@pytest.mark.parametrize(
    "value",
    ["UseDevelopmentStorage=true", "DefaultEndpointsProtocol=https;AccountName=x;AccountKey=c2VjcmV0"],
)
async def test_a_storage_connection_is_refused(hosted: Any, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A host on a folder would never see what the app puts into an account: it says so and does not repeat the key."""
    monkeypatch.setenv("AzureWebJobsStorage", value)
    with pytest.raises(StartError, match="AzureWebJobsStorage is a storage connection, but this host runs on") as it:
        async with hosted("queue", **OPTIONS):
            pass
    assert "c2VjcmV0" not in str(it.value)


async def test_an_identity_connection_is_refused_too(hosted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`AzureWebJobsStorage__accountName` is a storage connection as well."""
    monkeypatch.setenv("AzureWebJobsStorage__accountName", "x")
    with pytest.raises(StartError, match="AzureWebJobsStorage__accountName is a storage connection"):
        async with hosted("queue", **OPTIONS):
            pass


async def test_the_stores_own_folder_is_a_connection(hosted: Any, tmp_path: Any) -> None:
    """`file:` and the folder of the host's store is the one connection there is; another folder is refused."""
    async with hosted("queue", settings={"AzureWebJobsStorage": f"file:{tmp_path / 'store'}"}, **OPTIONS) as up:
        assert len(up.host.functions) == 3
    with pytest.raises(StartError, match="names the store"):
        async with hosted("queue", settings={"AzureWebJobsStorage": "file:elsewhere"}, **OPTIONS):
            pass
