"""HTTP functions that send messages."""

import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.route(route="send/{what}")
@app.queue_output(arg_name="out", queue_name="inbound", connection="AzureWebJobsStorage")
async def send(req: func.HttpRequest, out) -> func.HttpResponse:  # noqa: ANN001 - an annotation would fix one kind of value
    """Send what the route names."""
    values = {
        "text": "text",
        "bytes": "grün".encode(),
        "list": ["a", "b"],
        "message": func.QueueMessage(body=b"x"),
        "long": "x" * 50_000,
        "nothing": None,
    }
    out.set(values[req.route_params["what"]])
    return func.HttpResponse("sent")
