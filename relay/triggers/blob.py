"""Files dropped into container `bundles`."""

from __future__ import annotations

import os

import azure.functions as func

from relay.app import fresh_relay
from relay.settings import read_blob_source

bp = func.Blueprint()

# Read when functions are indexed, before there is a Relay: Flex Consumption knows the Event Grid source only.
_SOURCES = {"polling": func.BlobSource.LOGS_AND_CONTAINER_SCAN, "event-grid": func.BlobSource.EVENT_GRID}
_source = _SOURCES.get(read_blob_source(os.environ.get("RELAY_BLOB_SOURCE", "polling")))
if _source is None:
    raise ValueError(f"RELAY_BLOB_SOURCE: valid are {', '.join(_SOURCES)}")


@bp.function_name("bundle_blob")
@bp.blob_trigger("blob", "bundles/{name}", "AzureWebJobsStorage", source=_source)
async def bundle_blob(blob: func.InputStream) -> None:
    """Take a dropped file; its outcome will be `bundles-outcome/<name>.json`."""
    _, _, name = (blob.name or "").partition("/")
    properties = getattr(blob, "blob_properties", None) or {}  # the published interface leaves it out
    version = f"{properties.get('ETag', '')} {properties.get('LastModified', '')}"
    await (await fresh_relay()).inbound.drop(name, blob.read(), version=version)
