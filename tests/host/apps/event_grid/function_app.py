"""Functions that Event Grid feeds."""

import azure.functions as func

app = func.FunctionApp()
seen = []


@app.event_grid_trigger(arg_name="event")
async def told(event: func.EventGridEvent) -> None:
    """Note what came; `fail` in it fails."""
    kind = getattr(event, "event_type", None) or event.type
    seen.append((type(event).__name__, event.id, kind, event.subject, event.get_json()))
    if event.subject == "fail":
        raise ValueError("as asked")


@app.blob_trigger(arg_name="blob", path="bundles/{name}", connection="AzureWebJobsStorage", source="EventGrid")
async def announced(blob: func.InputStream) -> None:
    """Note a blob."""
    seen.append((blob.name, blob.read()))
