"""A blob function that fails on request, and the queue that its failures end in."""

import azure.functions as func

app = func.FunctionApp()
seen: list[tuple[str | None, bytes, int | None]] = []
poison: list[str] = []


@app.blob_trigger(arg_name="blob", path="bundles/{name}.json", connection="AzureWebJobsStorage")
async def bundle_blob(blob: func.InputStream) -> None:
    """Note the blob; fail when it says so."""
    data = blob.read()
    seen.append((blob.name, data, blob.length))
    assert blob.uri is not None
    assert blob.uri.startswith(("file:///", "http://127.0.0.1:"))
    assert blob.blob_properties["ETag"]
    if data == b"fail":
        raise RuntimeError("asked to")


@app.queue_trigger(arg_name="msg", queue_name="webjobs-blobtrigger-poison", connection="AzureWebJobsStorage")
async def bundle_blob_poison(msg: str) -> None:
    """Note the message."""
    poison.append(msg)
