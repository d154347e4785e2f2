"""Queue functions: one that fails on request, its poison queue, one that hands on."""

import asyncio
import typing

import azure.functions as func

app = func.FunctionApp()
seen: list[tuple[str, str, int | None]] = []
most = [0, 0]
gate = asyncio.Event()
gate.set()
begun = asyncio.Event()


@app.queue_trigger(arg_name="msg", queue_name="%INBOUND%", connection="AzureWebJobsStorage")
async def inbound_worker(msg: func.QueueMessage) -> None:
    """Note the message; fail when it says so."""
    text = msg.get_body().decode()
    seen.append(("inbound", text, msg.dequeue_count))
    begun.set()
    assert msg.id
    assert msg.pop_receipt
    assert msg.insertion_time < msg.time_next_visible < msg.expiration_time
    most[0] += 1
    most[1] = max(most)
    try:
        await asyncio.sleep(0)  # the others of the batch begin too
        await gate.wait()
    finally:
        most[0] -= 1
    if text.startswith("fail"):
        raise RuntimeError("asked to")


@app.queue_trigger(arg_name="msg", queue_name="inbound-poison", connection="AzureWebJobsStorage")
async def inbound_poison(msg: str) -> None:
    """Note the message; fail when it says so."""
    seen.append(("poison", msg, None))
    if msg == "fail always":
        raise RuntimeError("asked to")


@app.queue_trigger(arg_name="msg", queue_name="writeback", connection="AzureWebJobsStorage")
@app.queue_output(arg_name="out", queue_name="inbound", connection="AzureWebJobsStorage")
@app.queue_output(arg_name="$return", queue_name="inbound", connection="AzureWebJobsStorage")
def hand_on(msg: func.QueueMessage, out: func.Out[typing.List[str]]) -> str:  # noqa: UP006 - the worker takes no list[str]
    """Send three messages for one."""
    out.set(["one", "two"])
    return msg.get_body().decode()
