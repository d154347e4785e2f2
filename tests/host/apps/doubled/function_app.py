"""Two functions at one address."""

# ruff: noqa: ARG001 - the worker hands over every bound parameter, used or not

import azure.functions as func

app = func.FunctionApp()


@app.route(route="same", methods=["GET"])
async def first(req: func.HttpRequest) -> func.HttpResponse:
    """Answer."""
    return func.HttpResponse("x")


@app.route(route="same", methods=["POST", "GET"])
async def second(req: func.HttpRequest) -> func.HttpResponse:
    """Answer."""
    return func.HttpResponse("x")
