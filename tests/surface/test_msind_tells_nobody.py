from __future__ import annotations

import json
import logging
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from msind_kit import bundle, call, retrieve, retrieved, upsert
from surface_kit import surface

from devstack.control import Fault

BIRD = "kanari"  # every planted text holds it
BIRTH = "1911-11-07"
PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "p1",
    "identifier": [{"system": "https://kanari.example/mrn", "value": "kanari-mrn"}],
    "name": [{"use": "official", "family": "Kanarienvogel", "given": ["Kanari"], "text": "kanari text"}],
    "birthDate": BIRTH,
    "address": [{"city": "kanari city"}],
    "managingOrganization": {"reference": "Organization/o1", "display": "kanari clinic"},
}
CLINIC = {"resourceType": "Organization", "id": "o1", "name": "kanari clinic"}
BAD = [
    PATIENT | {"birthDate": "kanari-11-07"},
    PATIENT | {"name": "kanari"},
    PATIENT | {"managingOrganization": {"reference": "Organization/kanari"}},
    PATIENT | {"telecom": [{"system": "email", "value": "kanari" * 100}]},
    PATIENT | {"id": "kanari id"},
    PATIENT | {"meta": "kanari"},
]
QUERIES = ["Patient/kanari", "Patient/kanari 1911-11-07", "kanari", "Kanari/1", "Patient/p1?_elements=kanari.family"]
ECHO = {"error": {"code": "0x80040203", "message": f"the value Kanarienvogel {BIRTH} is wrong"}}


async def test_neither_logs_nor_tables_nor_refusals_know_a_patient(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of what goes in and comes out only the retrieved resource itself has the patient's words."""
    caplog.set_level(logging.DEBUG)
    said: list[str] = []
    async with surface(tmp_path, log_key="k") as it:
        await it.put(PATIENT, CLINIC)
        said.append((await upsert(it, bundle(CLINIC, PATIENT), "kanari's tag")).text)
        said.extend([(await upsert(it, bundle(CLINIC, each), "Kanari Kanarienvogel")).text for each in BAD])
        texts = ["kanari", '{"resourceType":"Bundle","type":"kanari"}', '{"kanari":1,"kanari":2}', "[kanari"]
        said.extend([(await call(it, "msind_UpsertBundle", {"msind_JSON": each})).text for each in texts])
        for sent in ({"kanari": "kanari"}, {"msind_JSON": ["kanari"]}, b"kanari"):
            said.extend([(await call(it, name, sent)).text for name in ("msind_UpsertBundle", "msind_RetrieveBundle")])
        said.extend([json.dumps(await retrieve(it, each)) for each in QUERIES if "_elements" not in each])
        assert (await retrieved(it, "Patient/p1"))["name"][0]["family"] == "Kanarienvogel"
        it.dataverse.faults.append(Fault(times=0, status=400, body=ECHO))
        said.append((await upsert(it, bundle(PATIENT | {"gender": "male"}))).text)
        said.append(json.dumps(await retrieve(it, "Patient/p1")))
        it.dataverse.faults.clear()
        it.dataverse.faults.append(Fault(times=0, status=503, body=ECHO))
        said.append((await upsert(it, bundle(PATIENT))).text)
        said.append((await call(it, "msind_RetrieveBundle", {"msind_FHIRQuery": "Patient/p1"})).text)
    out, err = capfd.readouterr()
    with sqlite3.connect(tmp_path / "store" / "relay.sqlite") as database:
        rows = [repr(each) for each in database.execute("select * from rows")]
    database.close()
    assert caplog.records
    for where, text in [("logs", caplog.text), ("output", out + err), ("tables", str(rows)), ("answers", str(said))]:
        assert BIRD not in text.lower(), where
        assert BIRTH not in text, where
