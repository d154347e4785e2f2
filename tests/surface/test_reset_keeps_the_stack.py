"""Emptying an emulator between two scenarios leaves the stack what it is: the webhook goes on."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from devstack.stack import running

PATIENT = {"resourceType": "Patient", "id": "after", "name": [{"family": "After"}]}
CONTACT = {"lastname": "After", "msemr_azurefhirid": "after", "msemr_contacttype": 935000000}


@pytest.mark.parametrize("how", ["reset", "own snapshot", "another stack's snapshot"])
async def test_events_still_come_after(tmp_path: Path, how: str) -> None:
    """A contact that a user creates after a reset, or after a snapshot was put back, is linked by its event."""
    foreign = {}
    if how == "another stack's snapshot":
        async with running(folder=tmp_path / "other") as other, httpx.AsyncClient() as http:
            foreign = (await http.get(f"{other.dataverse_url}/_emulator/snapshot")).json()
    async with running(folder=tmp_path / "store") as stack, httpx.AsyncClient() as http:
        control = f"{stack.dataverse_url}/_emulator"
        if how == "reset":
            assert (await http.post(f"{control}/reset")).is_success
        else:
            snapshot = foreign or (await http.get(f"{control}/snapshot")).json()
            assert (await http.put(f"{control}/snapshot", content=json.dumps(snapshot))).is_success
        await http.put(f"{stack.fhir_url}/Patient/after", json=PATIENT)
        made = await http.post(f"{stack.dataverse_url}/api/data/v9.2/contacts", json=CONTACT)
        assert made.status_code == 204, made.text
        assert await stack.settle()
        linked = (await http.get(f"{stack.fhir_url}/Patient/after")).json()
        assert linked["identifier"][0]["value"] in made.headers["OData-EntityId"]
