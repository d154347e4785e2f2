"""Show the main job, embedded: a bundle comes in, rows appear, the GUIDs come back into the FHIR resources."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relay.dataverse.json_text import dumps, loads

if TYPE_CHECKING:
    import httpx

    from devstack.stack import Stack

SAMPLE = Path(__file__).resolve().parent.parent.parent / "samples" / "bundle.json"
MAPS = Path(__file__).resolve().parent.parent.parent / "maps"
SYSTEM = "urn:oid:org.d365.mc4h.patient.id"
PATIENT = "Patient/demo-ana-lindqvist"
WALK_IN = "demo-walk-in"
API = "/api/data/v9.2"


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options: there are none."""
    _ = parser


def run(options: argparse.Namespace) -> int:
    """Run the demo; 1 if any step did not happen."""
    with tempfile.TemporaryDirectory(prefix="relay-demo-", ignore_cleanup_errors=True) as scratch:
        story = asyncio.run(play(Path(scratch)))
    if options.json:
        print(dumps(story.document()))
    else:
        print("\n".join(story.lines))
    for step in story.missing:
        print(f"relay demo: did not happen: {step}", file=sys.stderr)
    return 1 if story.missing else 0


@dataclass
class Story:
    """What happened, for the reader and for programs."""

    lines: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)
    outcome: Mapping[str, Any] = field(default_factory=dict)
    rows: list[Mapping[str, Any]] = field(default_factory=list)
    calls: dict[str, int] = field(default_factory=dict)
    settled: bool = False

    def say(self, line: str = "") -> None:
        """Add a line for the reader."""
        self.lines.append(line)

    def check(self, step: str, happened: object) -> None:
        """Note a step that has to have happened."""
        if not happened:
            self.missing.append(step)

    def document(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        names = ("before", "after", "outcome", "rows", "calls", "settled")
        return {name: getattr(self, name) for name in names}


async def play(folder: Path, storage: Mapping[str, str] | None = None) -> Story:
    """Play the demo with the store in this folder, or in the account that the settings `storage` name; maps are copied there."""
    import httpx

    from devstack.stack import running

    story = Story()
    maps = _maps(folder / "maps")
    settings = {"RELAY_MAPS": str(maps)}
    store = None if storage else folder
    async with (
        running(folder=store, storage=storage, settings=settings) as stack,
        httpx.AsyncClient(timeout=60) as http,
    ):
        await _bundle(story, stack, http)
        await _event(story, stack, http)
        await _care_plan(story, stack, http)
        story.settled = await stack.settle()
        story.check("both sides fall silent", story.settled)
        story.say(
            f"The relay made {story.calls['dataverse']} calls to Dataverse and {story.calls['fhir']} to FHIR, then silence."
        )
    return story


def _maps(folder: Path) -> Path:
    """Copy the default maps and let care plans of users become resources: nothing of that is on until a map says so."""
    shutil.copytree(MAPS, folder)
    plan = folder / "careplan.yaml"
    plan.write_text(plan.read_text(encoding="utf-8") + "\ncreate_in_fhir: true\n", encoding="utf-8")
    return folder


async def _bundle(story: Story, stack: Stack, http: httpx.AsyncClient) -> None:
    """Post the sample to the FHIR server, then to the relay, and look at both sides."""
    answer = await http.post(
        stack.fhir_url, content=SAMPLE.read_bytes(), headers={"Content-Type": "application/fhir+json"}
    )
    story.check("the FHIR server takes the sample", answer.is_success)
    story.before = loads((await http.get(f"{stack.fhir_url}/{PATIENT}")).text)
    story.say(f"1. The FHIR server has {PATIENT} with identifiers:")
    _tell_identifiers(story, story.before)

    quiet = stack.calls()
    answer = await http.post(f"{stack.functions_url}/api/bundle", content=SAMPLE.read_bytes())
    story.outcome = answer.json()
    await stack.settle()
    story.calls = _since(stack, quiet)
    story.check("the relay carries the bundle out", answer.status_code == 200)  # noqa: PLR2004 - OK
    receipt = story.outcome.get("receipt", {})
    story.say(f"2. POST /api/bundle answers {answer.status_code}, {story.outcome.get('status')}:")
    for entry in story.outcome.get("entries", []):
        row = entry["row"] or {"table": "-", "id": "-"}
        story.say(
            f"   {entry['resource']:<34}{entry['result']:<9}{row['table']:<16}{row['id']}  write-back {entry['writeback']}"
        )
    story.say(
        f"   calls: {receipt.get('calls')}, the reference architecture: at least {receipt.get('reference_calls')}"
    )
    entry = next((each for each in story.outcome.get("entries", []) if each["resource"] == PATIENT), None)
    guid = entry["row"]["id"] if entry and entry["row"] else ""
    await _rows(story, stack, http, guid)
    story.after = loads((await http.get(f"{stack.fhir_url}/{PATIENT}")).text)
    story.say(f"4. The FHIR server has {PATIENT} with identifiers:")
    _tell_identifiers(story, story.after)
    story.check(
        "the GUID is new in the FHIR resource",
        guid and guid not in _guids(story.before) and guid in _guids(story.after),
    )
    kept = {k: v for k, v in story.after.items() if k not in ("identifier", "meta")}
    same = kept == {k: v for k, v in story.before.items() if k not in ("identifier", "meta")}
    story.check("nothing but `identifier` changed", same)


async def _rows(story: Story, stack: Stack, http: httpx.AsyncClient, guid: str) -> None:
    columns = "contactid,fullname,birthdate,gendercode,mobilephone,msemr_azurefhirid"
    answer = await http.get(f"{stack.dataverse_url}{API}/contacts({guid})?$select={columns}")
    story.check("Dataverse has the row", answer.is_success)
    story.rows.append({"table": "contact", **_plain(answer.json())})
    select = "prefix_patientidentifierid,prefix_system,prefix_value"
    url = (
        f"{stack.dataverse_url}{API}/prefix_patientidentifiers?$select={select}&$filter=_prefix_patient_value eq {guid}"
    )
    found = [
        {"table": "prefix_patientidentifier", **_plain(row)} for row in (await http.get(url)).json().get("value", [])
    ]
    story.rows += found
    story.check("the identifier rows are there", any(row["prefix_value"] == guid for row in found))
    story.say(f"3. Dataverse has contact {guid}:")
    story.say(f"   {', '.join(f'{k}={v}' for k, v in _plain(answer.json()).items() if k != 'contactid')}")
    for row in found:
        story.say(f"   prefix_patientidentifier {row['prefix_system']} = {row['prefix_value']}")


async def _event(story: Story, stack: Stack, http: httpx.AsyncClient) -> None:
    """Let a user create a contact in Dataverse for a patient that FHIR already has; only the event tells the relay."""
    patient = {
        "resourceType": "Patient",
        "id": WALK_IN,
        "name": [{"use": "official", "family": "Marsh", "given": ["Theo"]}],
    }
    await http.put(f"{stack.fhir_url}/Patient/{WALK_IN}", json=patient)
    contact = {"firstname": "Theo", "lastname": "Marsh", "msemr_azurefhirid": WALK_IN, "msemr_contacttype": 935000000}
    created = await http.post(f"{stack.dataverse_url}{API}/contacts", json=contact)
    quiet = stack.calls()
    await stack.settle()
    for side, count in _since(stack, quiet).items():
        story.calls[side] += count
    guid = created.headers.get("OData-EntityId", "").rpartition("(")[2].rstrip(")")
    after = (await http.get(f"{stack.fhir_url}/Patient/{WALK_IN}")).json()
    story.say(f"5. A user creates contact {guid} in Dataverse; its post-create event comes back, and")
    story.say(f"   Patient/{WALK_IN} has identifiers:")
    _tell_identifiers(story, after)
    story.check("the event brings the GUID of a user's contact to FHIR", guid and guid in _guids(after))


async def _care_plan(story: Story, stack: Stack, http: httpx.AsyncClient) -> None:
    """Let a user write a care plan in Dataverse, for the patient of the bundle; FHIR has never heard of it."""
    rows = f"{stack.dataverse_url}{API}"
    found = await http.get(f"{rows}/contacts?$select=contactid&$filter=msemr_azurefhirid eq '{PATIENT.split('/')[1]}'")
    (contact,) = found.json()["value"]
    plan = {
        "msemr_title": "Walk every day",
        "msemr_planstatus": 935000001,  # active
        "msemr_planintent": 935000001,  # plan
        "msemr_PatientIdentifier@odata.bind": f"/contacts({contact['contactid']})",
    }
    quiet = stack.calls()
    created = await http.post(f"{rows}/msemr_careplans", json=plan)
    guid = created.headers.get("OData-EntityId", "").rpartition("(")[2].rstrip(")")
    own = stack.calls()["dataverse"] - quiet["dataverse"]
    await stack.settle()
    for side, count in _since(stack, quiet).items():
        story.calls[side] += count - (own if side == "dataverse" else 0)
    row = (await http.get(f"{rows}/msemr_careplans({guid})?$select=msemr_title,msemr_azurefhirid")).json()
    fhir_id = row.get("msemr_azurefhirid") or ""
    resource = (await http.get(f"{stack.fhir_url}/CarePlan/{fhir_id}")).json() if fhir_id else {}
    story.say(f"6. A user writes care plan {guid} in Dataverse, for {PATIENT}. With `create_in_fhir: true` in its map,")
    story.say(
        f"   FHIR gets CarePlan/{fhir_id}: {resource.get('title')!r} for {resource.get('subject', {}).get('reference')}, with"
    )
    _tell_identifiers(story, resource)
    story.check("the care plan of a user appears in FHIR", resource.get("title") == plan["msemr_title"])
    values = [each.get("value") for each in resource.get("identifier", [])]
    story.check("the care plan carries the GUID of its row", guid and guid in values)
    story.check("the care plan is the patient's", resource.get("subject") == {"reference": PATIENT})


def _since(stack: Stack, before: Mapping[str, int]) -> dict[str, int]:
    return {side: count - before[side] for side, count in stack.calls().items()}


def _guids(resource: Mapping[str, Any]) -> list[str]:
    return [each.get("value", "") for each in resource.get("identifier", []) if each.get("system") == SYSTEM]


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not name.startswith("@")}


def _tell_identifiers(story: Story, resource: Mapping[str, Any]) -> None:
    for each in resource.get("identifier", []):
        story.say(f"   {each.get('system')} = {each.get('value')}")
