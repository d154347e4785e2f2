"""Functions that need what the development host does not have."""

# ruff: noqa: ARG001 - the worker hands over every bound parameter, used or not

import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.service_bus_queue_trigger(arg_name="msg", queue_name="events", connection="BUS")
async def bus(msg: func.ServiceBusMessage) -> None:
    """Take a message."""


@app.route(route="saved")
@app.blob_output(arg_name="out", path="bundles/x", connection="AzureWebJobsStorage")
async def saved(req: func.HttpRequest, out: func.Out[str]) -> func.HttpResponse:
    """Write a blob."""
    out.set("x")
    return func.HttpResponse("x")


@app.timer_trigger(arg_name="timer", schedule="0 0 0 1 1 *")
@app.retry(strategy="fixed_delay", max_retry_count="3", delay_interval="00:00:10")
async def insistent(timer: func.TimerRequest) -> None:
    """Run."""


@app.route(route="fine")
async def fine(req: func.HttpRequest) -> func.HttpResponse:
    """Answer."""
    return func.HttpResponse("fine")
