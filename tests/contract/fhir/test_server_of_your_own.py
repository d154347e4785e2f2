from __future__ import annotations

import os

import httpx
import pytest


@pytest.mark.real
def test_the_server_that_fhir_url_names_speaks_r4() -> None:
    """FHIR_URL names a server of your own, on which the whole contract is tried; it must be one of FHIR R4 or R4B."""
    url = os.environ.get("FHIR_URL", "").rstrip("/")
    if not url:
        pytest.skip("FHIR_URL is not set: no server of your own is tried (docs/servers.md)")
    answer = httpx.get(f"{url}/metadata", headers={"Accept": "application/fhir+json"})
    assert answer.is_success
    assert answer.json()["fhirVersion"].startswith(("4.0", "4.3"))
