"""HTTP answers: JSON bodies with the content type that goes with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import azure.functions as func


def answer(
    status: int, body: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
) -> func.HttpResponse:
    """Return an answer; a FHIR resource travels as FHIR JSON, everything else as plain JSON."""
    fhir = body is not None and "resourceType" in body
    return func.HttpResponse(
        json.dumps(body).encode() if body is not None else b"",
        status_code=status,
        headers=dict(headers or {}),
        mimetype="application/fhir+json" if fhir else "application/json",
    )
