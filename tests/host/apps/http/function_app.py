"""HTTP functions of every shape."""

# ruff: noqa: ARG001 - the worker hands over every bound parameter, used or not

import asyncio
import gzip
import json

import azure.functions as func

LOOP = asyncio.get_running_loop()
app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.route(route="echo")
async def echo(req: func.HttpRequest) -> func.HttpResponse:
    """Tell what arrived."""
    seen = {
        "method": req.method,
        "url": req.url,
        "params": dict(req.params),
        "headers": dict(req.headers),
        "body": list(req.get_body()[:16]),
        "size": len(req.get_body()),
        "loop": asyncio.get_running_loop() is LOOP,
    }
    return func.HttpResponse(json.dumps(seen), mimetype="application/json")


@app.route(route="item/{id}", methods=["GET", "DELETE"])
async def item(req: func.HttpRequest) -> func.HttpResponse:
    """Tell the route parameters."""
    return func.HttpResponse(json.dumps(["item", dict(req.route_params)]))


@app.route(route="item/{id:int}", methods=["GET"])
async def numbered(req: func.HttpRequest) -> func.HttpResponse:
    """Tell the route parameters."""
    return func.HttpResponse(json.dumps(["numbered", dict(req.route_params)]))


@app.route(route="item/special", methods=["GET"])
async def special(req: func.HttpRequest) -> func.HttpResponse:
    """Tell the route parameters."""
    return func.HttpResponse(json.dumps(["special", dict(req.route_params)]))


@app.route(route="page/{number?}")
async def page(req: func.HttpRequest) -> func.HttpResponse:
    """Tell the route parameters."""
    return func.HttpResponse(json.dumps(["page", dict(req.route_params)]))


@app.route(route="file/{name}.{ext}")
async def file(req: func.HttpRequest) -> func.HttpResponse:
    """Tell the route parameters."""
    return func.HttpResponse(json.dumps(["file", dict(req.route_params)]))


@app.route(route="hook/{*path}", methods=["POST", "PUT", "DELETE"])
async def hook(req: func.HttpRequest) -> func.HttpResponse:
    """Tell the route parameters."""
    return func.HttpResponse(json.dumps(["hook", dict(req.route_params)]))


@app.route()
async def by_name(req: func.HttpRequest) -> str:
    """Answer with a text."""
    return f"{req.method} by name"


@app.route(route="plain")
def plain(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """Answer from the pool of plain functions."""
    return func.HttpResponse(f"{context.function_name} {len(context.invocation_id)} {req.method}")


@app.route(route="status/{code:int}")
async def status(req: func.HttpRequest) -> func.HttpResponse:
    """Answer with the status asked for."""
    return func.HttpResponse(b"body", status_code=int(req.route_params["code"]), headers={"X-Relay": "1", "X-b": "2"})


@app.route(route="gzip", methods=["POST"])
async def compressed(req: func.HttpRequest) -> func.HttpResponse:
    """Answer compressed what came compressed."""
    body = gzip.compress(gzip.decompress(req.get_body()).upper())
    return func.HttpResponse(body, headers={"Content-Encoding": "gzip", "Content-Length": "1"})


@app.route(route="cookies")
async def cookies(req: func.HttpRequest) -> func.HttpResponse:
    """Set two cookies."""
    response = func.HttpResponse()
    response.headers.add("Set-Cookie", "a=1; Path=/x; Secure; HttpOnly; SameSite=Strict; Max-Age=60")
    response.headers.add("Set-Cookie", "b=2; Expires=Thu, 12 Jan 2017 13:55:08 GMT; Domain=example.org")
    return response


@app.route(route="fail")
async def fail(req: func.HttpRequest) -> func.HttpResponse:
    """Raise."""
    raise RuntimeError("nothing of this reaches the caller")


@app.route(route="wrong")
async def wrong(req: func.HttpRequest) -> func.HttpResponse:
    """Return what is no answer."""
    return json.loads("{}")


@app.route(route="header")
async def header(req: func.HttpRequest) -> func.HttpResponse:
    """Answer with a header that cannot be sent."""
    return func.HttpResponse("x", headers={"x-bad": "a\r\nset-cookie: b"})


@app.route(route="slow")
async def slow(req: func.HttpRequest) -> func.HttpResponse:
    """Never end."""
    await asyncio.Event().wait()
    return func.HttpResponse()
