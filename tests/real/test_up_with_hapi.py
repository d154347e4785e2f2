"""`relay up --fhir hapi` runs HAPI beside the app, and leaves nothing running."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from support.world import ROOT

pytestmark = pytest.mark.real

RELAY = str(Path(sys.executable).with_name("relay"))


def test_the_stack_with_hapi_in_front(tmp_path: Path) -> None:
    """The sample put on HAPI and given to the relay comes back with GUIDs; when the command ends, so does HAPI."""
    command = [RELAY, "up", "--json", "--port", "0", "--store", str(tmp_path / "store"), "--fhir", "hapi"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tmp_path) as up:  # noqa: S603 - our own command
        try:
            assert up.stdout is not None
            urls = json.loads(up.stdout.readline())
            headers = {"Content-Type": "application/fhir+json"}
            sample = (ROOT / "samples" / "bundle.json").read_bytes()
            with httpx.Client(headers=headers, timeout=100) as http:
                software = http.get(f"{urls['fhir']}/metadata").json()["software"]
                assert software["name"].startswith("HAPI FHIR")
                assert http.post(urls["fhir"], content=sample).status_code == 200
                outcome = http.post(f"{urls['functions']}/api/bundle", content=sample).json()
            assert outcome["status"] == "succeeded"
            assert {each["writeback"] for each in outcome["entries"]} == {"written"}
        finally:
            up.send_signal(signal.SIGINT)
            code = up.wait(timeout=60)
    assert code == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{urls['fhir']}/Patient/nobody")
