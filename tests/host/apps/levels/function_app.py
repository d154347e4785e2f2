"""One HTTP function of each level."""

# ruff: noqa: ARG001 - the worker hands over every bound parameter, used or not

import azure.functions as func

app = func.FunctionApp()


@app.route(route="open", auth_level=func.AuthLevel.ANONYMOUS)
async def open_door(req: func.HttpRequest) -> func.HttpResponse:
    """Answer everyone."""
    return func.HttpResponse("in")


@app.route(route="keyed", auth_level=func.AuthLevel.FUNCTION)
async def keyed(req: func.HttpRequest) -> func.HttpResponse:
    """Answer who has a key."""
    return func.HttpResponse("in")


@app.route(route="other", auth_level=func.AuthLevel.FUNCTION)
async def other(req: func.HttpRequest) -> func.HttpResponse:
    """Answer who has a key."""
    return func.HttpResponse("in")


@app.route(route="admin-only", auth_level=func.AuthLevel.ADMIN)
async def admin_only(req: func.HttpRequest) -> func.HttpResponse:
    """Answer who has the master key."""
    return func.HttpResponse("in")
