"""One good function and one whose route parameter is an argument, which takes both away."""

# ruff: noqa: ARG001 - the worker hands over every bound parameter, used or not

import azure.functions as func

app = func.FunctionApp()


@app.route(route="good")
async def good(req: func.HttpRequest) -> func.HttpResponse:
    """Answer."""
    return func.HttpResponse("x")


@app.route(route="c/{cid}")
async def bad_one(req: func.HttpRequest, cid: str) -> func.HttpResponse:
    """Answer."""
    return func.HttpResponse(cid)
