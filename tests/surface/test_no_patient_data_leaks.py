from __future__ import annotations

import dataclasses
import gzip
import json
import logging
import sqlite3
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from surface_kit import FHIR_JSON, Surface, surface

from devstack.control import Fault
from devstack.stack import running

BIRD = "kanari"  # every planted text holds it
DATES = ("1911-11-07", "1911", "2019-02-28")
NUMBERS = ("31415.92653", "5550199842")
ALWAYS = 0

PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "kanari-id-1",
    "extension": [
        {"url": "https://kanari.example/x", "valueString": "kanari extension"},
        {"url": "u", "valueDecimal": 31415.92653},
    ],
    "identifier": [
        {"system": "https://kanari.example/mrn", "value": "kanari-mrn"},
        {"system": "urn:ssn", "value": "kanari-ssn", "assigner": {"display": "kanari clinic"}},
    ],
    "name": [
        {"use": "official", "family": "Kanarienvogel", "given": ["Kanari", "kanari middle"], "text": "kanari text"}
    ],
    "telecom": [
        {"system": "phone", "use": "mobile", "value": "5550199842"},
        {"system": "email", "value": "kanari@example.org"},
    ],
    "gender": "female",
    "birthDate": "1911-11-07",
    "address": [{"line": ["1 kanari street"], "city": "kanari city", "postalCode": "KANARI 1"}],
    "maritalStatus": {"text": "kanari status"},
    "text": {"status": "generated", "div": "<div xmlns='http://www.w3.org/1999/xhtml'>kanari</div>"},
}
VISIT: dict[str, Any] = {
    "resourceType": "Encounter",
    "id": "kanari-visit",
    "status": "finished",
    "class": {"code": "AMB"},
    "type": [{"text": "kanari visit"}],
    "subject": {"reference": "Patient/kanari-id-1", "display": "kanari display"},
    "period": {"start": "2019-02-28T01:02:03Z"},
    "priority": {"coding": [{"system": "urn:kanari", "code": "kanari-code", "display": "kanari concept"}]},
}


def bundle(*resources: Any, kind: str = "transaction") -> bytes:
    """Write a bundle of these resources; a mapping with `request` or without `resourceType` is an entry as it is."""
    entries = [
        each
        if not isinstance(each, dict) or "resourceType" not in each
        else {"resource": each, "request": {"method": "PUT", "url": f"{each['resourceType']}/{each.get('id')}"}}
        for each in resources
    ]
    return json.dumps({"resourceType": "Bundle", "type": kind, "entry": entries}).encode()


GOOD = bundle(PATIENT, VISIT)


class Sinks:
    """Everything that may be read by people who may not see patients."""

    def __init__(self, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
        self._caplog, self._capfd = caplog, capfd
        self.answers: list[tuple[str, str]] = []
        self.also: set[str] = set()

    def answered(self, answer: httpx.Response) -> httpx.Response:
        """Note an answer: all of a refusal, and an outcome but for the names of its resources."""
        text = answer.text
        if answer.content and "entries" in answer.json():
            document = answer.json()
            for entry in document["entries"]:
                entry["resource"] = ""
                self.also |= {row["id"] for row in [entry["row"], *entry["children"]] if row}
            text = json.dumps(document)
        self.answers.append((f"answer {answer.status_code}", f"{answer.headers} {text}"))
        return answer

    def check(self, folder: Path) -> None:
        """Assert that no planted text got out; that of rows' GUIDs, none got into logs and tables."""
        out, err = self._capfd.readouterr()
        private = [("stdout", out), ("stderr", err), ("logs", self._caplog.text), *_tables(folder)]
        private += [("logs", repr(record.__dict__.get("args"))) for record in self._caplog.records]
        assert self._caplog.records, "nothing was logged at all: the sinks are not connected"
        for where, text in [*private, *self.answers]:
            for word in (BIRD, *DATES[:1], DATES[2], *NUMBERS):
                assert word not in text.lower(), f"{word} in {where}: {_around(text, word)}"
        for where, text in private:
            for guid in self.also:
                assert guid not in text, f"a row's GUID in {where}: {_around(text, guid)}"


def _around(text: str, word: str) -> str:
    at = text.lower().find(word)
    return text[max(0, at - 300) : at + 100]


def _tables(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the tables of the store: dead letters, ledger, deliveries; and what its blobs are called."""
    if not (folder / "relay.sqlite").exists():
        return  # nothing was ever stored
    database = sqlite3.connect(folder / "relay.sqlite")
    try:
        for row in database.execute("select * from rows where name != 'blobreceipts'"):  # the host's own notes of files
            yield f"table {row[0]}", repr(row)
    finally:
        database.close()
    for path in folder.rglob("*"):
        if path.is_file() and path.relative_to(folder).parts[0].startswith("relay-"):
            yield "blob name", str(path.relative_to(folder))


@pytest.fixture
def sinks(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Sinks:
    """Listen to every logger at DEBUG, and to what is printed."""
    caplog.set_level(logging.DEBUG)
    return Sinks(caplog, capfd)


async def all_ways_in(it: Surface, sinks: Sinks, body: bytes = GOOD) -> None:
    """Send a body by POST at once, by POST for later and as a file, deliver events, and ask for the outcome."""
    sinks.answered(await it.post(body))
    later = sinks.answered(await it.post(body, Prefer="respond-async"))
    file = it.store.folder / "bundles" / "in.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(body)
    await it.settle(within=timedelta(days=2))
    if later.status_code == 202:
        sinks.answered(await it.http.get(later.headers["Content-Location"]))
    for event in list(it.events)[:3]:
        sinks.answered(await it.http.post("/api/dataverse/event", content=event))
    await it.settle(within=timedelta(days=2))


@pytest.mark.parametrize("writeback", ["inline", "event"])
async def test_a_good_bundle_leaves_no_trace_of_its_patient(tmp_path: Path, sinks: Sinks, writeback: str) -> None:
    """Created, written back, sent again, updated, delivered as events: logs, tables and answers know nobody."""
    async with surface(tmp_path, writeback=writeback, log_key="k") as it:
        await it.put(PATIENT, VISIT)
        await all_ways_in(it, sinks)
        assert len(it.rows("contact", "msemr_encounter")) == 2
        await all_ways_in(it, sinks, bundle(PATIENT | {"birthDate": "1911-11-08"}, VISIT))
    sinks.check(tmp_path / "store")


async def test_what_is_forwarded_leaves_no_trace(tmp_path: Path, sinks: Sinks) -> None:
    """A server that repeats the patient in its refusals, and loses answers, is not repeated: codes and places alone get out."""
    issue = {"severity": "error", "code": "value", "diagnostics": "HAPI-1: kanari", "details": {"text": "kanari 1911"}}
    refused = {"resourceType": "OperationOutcome", "issue": [{**issue, "expression": ["Patient.where(id='kanari')"]}]}
    entry = {"response": {"status": "422 kanari", "outcome": refused}}
    answer = {"resourceType": "Bundle", "type": "batch-response", "entry": [entry, entry]}
    async with surface(tmp_path, forward="true", log_key="k") as it:
        it.fhir.faults.append(Fault(method="POST", path="^/$", effect="lose"))
        await all_ways_in(it, sinks)
        for fault in ({"status": 422, "body": refused}, {"status": 200, "body": answer}):
            it.fhir.faults.append(Fault(method="POST", path="^/$", times=3, **fault))
            await all_ways_in(it, sinks, bundle(PATIENT, VISIT, kind="batch"))
            it.fhir.faults.clear()
    sinks.check(tmp_path / "store")


def mutated(**changed: Any) -> bytes:
    """Write the bundle with members of the patient replaced."""
    return bundle(PATIENT | changed, VISIT)


BAD: Mapping[str, bytes] = {
    "not JSON": b"kanari,1911-11-07\n",
    "cut off": GOOD[:-200],
    "cut off in a string": GOOD[: GOOD.index(b"Kanarienvogel") + 8],
    "NaN": GOOD.replace(b"31415.92653", b"NaN, 1: kanari"),
    "a member twice": b'{"resourceType":"Patient","kanari":1,"kanari":2}',
    "half a surrogate": GOOD.replace(b"Kanarienvogel", b"kanari\\ud800"),
    "Latin-1": GOOD.replace(b"Kanarienvogel", b"kanari\xff"),
    "gzip cut off": gzip.compress(GOOD)[:-8],
    "not FHIR": b'{"patient": "kanari"}',
    "a type like a name": b'{"resourceType":"kanari vogel","id":"1"}',
    "an unknown bundle": bundle(PATIENT, kind="kanari"),
    "a string too long": mutated(name=[{"family": "kanari" * 30_000}]),
    "a name that is text": mutated(name="kanari"),
    "a date that is none": mutated(birthDate="kanari-11-07"),
    "a partial date": mutated(birthDate="1911"),
    "an unknown gender": mutated(gender="kanari"),
    "a deceased date": mutated(deceasedDateTime="kanari"),
    "a number that is text": mutated(multipleBirthInteger="kanari"),
    "meta that is text": mutated(meta="kanari"),
    "a version too long": mutated(meta={"versionId": "kanari" * 100, "lastUpdated": "kanari"}),
    "a telecom too long": mutated(telecom=[{"system": "email", "value": "kanari" * 100}]),
    "a claim that is none": mutated(identifier=[{"system": "urn:oid:org.d365.mc4h.patient.id", "value": "kanari"}]),
    "an identifier that is text": mutated(identifier=["kanari", {"system": {"a": "kanari"}, "value": "kanari"}]),
    "a reference to nobody": bundle(VISIT | {"subject": {"reference": "Patient/kanari-nobody"}}),
    "a reference elsewhere": bundle(PATIENT, VISIT | {"subject": {"reference": "https://kanari.example/Patient/1"}}),
    "a reference by identifier": bundle(VISIT | {"subject": {"reference": "Patient?identifier=urn:kanari|kanari"}}),
    "a reference that is no text": bundle(PATIENT, VISIT | {"subject": {"reference": ["kanari"]}}),
    "an illegal id": bundle(PATIENT | {"id": "kanari id 1911-11-07"}),
    "an id too long": bundle(PATIENT | {"id": "kanari-" + "x" * 50}),
    "one id twice": bundle(PATIENT, PATIENT | {"gender": "male"}),
    "an unknown method": bundle({"resource": PATIENT, "request": {"method": "KANARI", "url": "kanari"}}),
    "a URL of another": bundle({"resource": PATIENT, "request": {"method": "PUT", "url": "Patient/kanari-2"}}),
    "entries that are none": bundle("kanari", None, {"resource": "kanari"}, {"fullUrl": "kanari"}),
    "a NUL": mutated(name=[{"family": "kanari\x00"}]),
    "CR and LF": mutated(name=[{"family": "x\r\n--batch_kanari\r\nContent-Type: kanari"}], gender="\r\nkanari"),
    "an unknown concept": bundle(PATIENT, VISIT | {"priority": {"coding": ["kanari"], "text": 1}}),
}


@pytest.mark.parametrize("validate", ["off", "reject"])
async def test_a_bad_bundle_is_told_of_without_its_content(tmp_path: Path, sinks: Sinks, validate: str) -> None:
    """A refusal says where and what kind of fault there is, never what stood there."""
    async with surface(tmp_path, validate=validate, webhook=False) as it:
        for name, body in BAD.items():
            answer = sinks.answered(await it.post(body))
            assert answer.status_code in (200, 207, 400, 422), (name, answer.status_code)
            file = it.store.folder / "bundles" / "in" / str(len(sinks.answers))
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(body)
        await it.settle()
    sinks.check(tmp_path / "store")


async def test_notifications_leave_no_trace_of_their_patient(tmp_path: Path, sinks: Sinks) -> None:
    """What a Subscription sends, good and bad, read or given up on, is in no log, table or answer."""
    status = {"resourceType": "SubscriptionStatus", "type": "event-notification", "notificationEvent": ["kanari"]}
    status |= {"subscription": {"reference": "Subscription/kanari"}, "eventsSinceSubscriptionStart": "7"}
    numbered = bundle({"resource": status}, PATIENT, kind="subscription-notification")
    visit = VISIT | {"subject": {"reference": "Patient/kanari-nobody"}}
    async with surface(tmp_path, retry_for="1h", log_key="k") as it:
        await it.put(PATIENT, visit)
        for body in (json.dumps(visit).encode(), json.dumps(PATIENT).encode(), numbered, numbered, b"", *BAD.values()):
            answer = await it.http.post("/api/fhir-hook", content=body, headers=FHIR_JSON)
            assert sinks.answered(answer).status_code in (200, 202, 400), body[:80]
        for path in ("kanari", "Patient/kanari-2", "Patient/kanari-id-1"):
            await it.http.put(f"/api/fhir-hook/{path}", content=json.dumps(PATIENT).encode(), headers=FHIR_JSON)
            await it.http.delete(f"/api/fhir-hook/{path}")
        await it.settle(within=timedelta(days=2))
        assert {"unresolved-reference"} <= {each["code"] for each in await it.relay.dead_letters.list()}
    sinks.check(tmp_path / "store")


async def test_files_events_and_polling_leave_no_trace_of_their_patient(tmp_path: Path, sinks: Sinks) -> None:
    """Lines good and bad, what Event Grid and Pub/Sub tell, and what is asked for: no log, table, answer or blob's name knows of it."""
    lines = [json.dumps(PATIENT).encode(), *(body.replace(b"\n", b" ") for body in BAD.values())]
    kind = "Microsoft.HealthcareApis.FhirResourceUpdated"
    told = {"resourceType": "Patient", "resourceFhirAccount": "fhir", "resourceFhirId": "kanari-id-1"}
    push = {"pubsub_audience": "a", "pubsub_email": "e"}
    async with surface(tmp_path, log_key="k", poll="0 0 0 1 1 *", settings=push) as it:
        await it.host.invoke("poll")
        await it.put(PATIENT, VISIT)
        file = it.store.folder / "bundles" / "in.ndjson"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"\n".join(lines))
        for data in (
            told,
            told | {"resourceFhirId": "kanari id"},
            told | {"resourceFhirAccount": "kanari"},
            {"kanari": 1},
        ):
            event = {"id": "kanari", "subject": "kanari", "eventType": kind, "data": data}
            url = "/runtime/webhooks/EventGrid?functionName=fhir_event"
            assert sinks.answered(await it.http.post(url, json=[event])).status_code == 202
        for token in ("kanari", "kanari.kanari.kanari"):
            headers = {"Authorization": f"Bearer {token}"}
            sinks.answered(await it.http.post("/api/fhir-hook/pubsub", json={"message": "kanari"}, headers=headers))
        await it.settle(within=timedelta(days=2))
        await it.host.invoke("poll")
        await it.settle(within=timedelta(days=2))
        outcome = json.loads((it.store.folder / "bundles-outcome" / "in.ndjson.json").read_bytes())
        assert outcome["lines"]["failed"] > len(BAD) / 2
        assert len(it.rows("contact", "msemr_encounter")) == 2
    sinks.check(tmp_path / "store")


ECHO = "the value kanari Kanarienvogel 1911-11-07 of kanari-id-1 is wrong"
OUTCOME = {
    "resourceType": "OperationOutcome",
    "issue": [
        {"severity": "error", "code": "kanari", "diagnostics": ECHO, "details": {"text": ECHO}, "expression": [ECHO]}
    ],
}
FAULTS: Mapping[str, tuple[str, Fault]] = {
    f"{side} {name}": (side, fault)
    for side, name, fault in [
        ("fhir", "422 to a PUT", Fault(method="PUT", times=ALWAYS, status=422, body=OUTCOME)),
        ("fhir", "422 to a batch", Fault(method="POST", times=ALWAYS, status=422, body=OUTCOME)),
        ("fhir", "403 in text", Fault(times=ALWAYS, status=403, body=ECHO)),
        ("fhir", "500", Fault(times=ALWAYS, status=500, body=OUTCOME)),
        ("fhir", "200 and no FHIR", Fault(times=ALWAYS, status=200, body=ECHO)),
        ("fhir", "another resource", Fault(times=ALWAYS, status=200, body=PATIENT | {"id": "kanari-2"})),
        ("fhir", "an odd ETag", Fault(times=ALWAYS, status=200, body=PATIENT, headers={"ETag": "kanari"})),
        ("fhir", "an odd Retry-After", Fault(times=ALWAYS, status=503, headers={"Retry-After": "kanari"})),
        ("fhir", "a redirect", Fault(times=ALWAYS, status=302, headers={"Location": "https://kanari.example/"})),
        ("dataverse", "400", Fault(times=ALWAYS, status=400, body={"error": {"code": "0x80040203", "message": ECHO}})),
        (
            "dataverse",
            "400 with an odd code",
            Fault(times=ALWAYS, status=400, body={"error": {"code": ECHO, "message": ECHO}}),
        ),
        (
            "dataverse",
            "403 the old way",
            Fault(times=ALWAYS, status=403, body={"Message": ECHO, "ErrorCode": -2147220960}),
        ),
        ("dataverse", "500", Fault(times=ALWAYS, status=500, body=ECHO)),
        ("dataverse", "200 and no batch", Fault(times=ALWAYS, status=200, body={"value": [PATIENT]})),
        (
            "dataverse",
            "a broken batch",
            Fault(
                times=ALWAYS,
                status=200,
                body=f"--kanari\r\n{ECHO}",
                headers={"Content-Type": "multipart/mixed; boundary=kanari"},
            ),
        ),
        ("dataverse", "an odd request id", Fault(times=ALWAYS, status=403, headers={"x-ms-service-request-id": ECHO})),
    ]
}

DONE_ALL_THE_SAME = {"fhir another resource", "fhir an odd ETag", "fhir 422 to a batch"}


@pytest.mark.parametrize("name", FAULTS)
async def test_what_the_servers_say_of_a_patient_goes_no_further(tmp_path: Path, sinks: Sinks, name: str) -> None:
    """Servers repeat values in their errors; the relay keeps their codes only, in outcomes and dead letters too."""
    side, fault = FAULTS[name]
    async with surface(tmp_path, retry_for="1h") as it:
        await it.put(PATIENT, VISIT)
        (it.fhir if side == "fhir" else it.dataverse).faults.append(fault)
        await all_ways_in(it, sinks, bundle(PATIENT) if fault.method == "PUT" else GOOD)
        assert await it.relay.dead_letters.list() or name in DONE_ALL_THE_SAME
    sinks.check(tmp_path / "store")


async def test_dataverses_own_refusal_of_a_row_names_no_value(tmp_path: Path, sinks: Sinks) -> None:
    """A value that only Dataverse finds fault with is failed by code and column."""
    async with surface(tmp_path) as it:
        table = it.dataverse.metadata.tables["contact"]
        shorter = dataclasses.replace(table.columns["lastname"], max_length=3)  # a person changed it since
        table.columns["lastname"] = table.properties["lastname"] = shorter
        answer = sinks.answered(await it.post(bundle(PATIENT)))
        (entry,) = answer.json()["entries"]
        (issue,) = [each for each in entry["issues"] if each["severity"] == "error"]
        assert (answer.status_code, issue["code"], issue["at"]) == (422, "dataverse-0x80044331", "lastname")
        await it.settle()
    sinks.check(tmp_path / "store")


@pytest.mark.parametrize(
    "error", [httpx.ReadTimeout, httpx.ConnectError, httpx.RemoteProtocolError, httpx.DecodingError]
)
@pytest.mark.parametrize("side", ["dataverse", "fhir"])
async def test_a_connection_that_fails_names_nobody(
    tmp_path: Path, sinks: Sinks, side: str, error: type[httpx.RequestError]
) -> None:
    """Timeouts and broken connections carry their request, which carries the patient: only their kind is told."""
    async with surface(tmp_path, retry_for="1h") as it:
        await it.put(PATIENT, VISIT)

        async def fail(request: httpx.Request) -> httpx.Response:
            raise error(f"{ECHO} {request.url} {request.content!r}", request=request)

        client = getattr(it.relay, side)._http
        client._transport = httpx.MockTransport(fail)
        await all_ways_in(it, sinks)
        assert await it.relay.dead_letters.list()
    sinks.check(tmp_path / "store")


async def test_refused_events_are_told_of_without_their_content(tmp_path: Path, sinks: Sinks) -> None:
    """An event that is none is refused by its kind of fault; what it held is neither logged nor answered."""
    bodies = [
        b"kanari",
        b'{"MessageName": "kanari vogel", "PrimaryEntityName": "kanari", "PrimaryEntityId": "kanari"}',
        b'{"MessageName": "Create", "PrimaryEntityName": "kanari vogel"}',
        b'{"MessageName": "Create", "PrimaryEntityName": "contact", "PrimaryEntityId": "kanari"}',
        b'{"kanari":' * 50_000,
    ]
    async with surface(tmp_path) as it:
        for body in bodies:
            assert sinks.answered(await it.http.post("/api/dataverse/event", content=body)).status_code == 400
    sinks.check(tmp_path / "store")


async def test_poison_is_kept_without_being_told(tmp_path: Path, sinks: Sinks) -> None:
    """Messages that nothing can be made of become dead letters whose table row holds a code and a hash."""
    async with surface(tmp_path) as it:
        for queue in ("inbound", "writeback", "inbound-poison", "writeback-poison", "webjobs-blobtrigger-poison"):
            await it.store.send(queue, '{"BlobName": "kanari", "id": "kanari"}')
        await it.settle()
        assert len(await it.relay.dead_letters.list()) == 3
    sinks.check(tmp_path / "store")


async def test_a_failing_store_tells_no_file_names(tmp_path: Path, sinks: Sinks) -> None:
    """A blob that cannot be written is an answer without the path, which for a dropped file is a person's choice."""
    async with surface(tmp_path) as it:
        await it.store.check()
        scratch = it.store.folder / ".writing"
        scratch.rmdir()
        scratch.write_text("in the way")
        answer = sinks.answered(await it.post(GOOD))
        assert (answer.status_code, str(tmp_path) in answer.text) == (503, False)
        scratch.unlink()
    sinks.check(tmp_path / "store")


async def test_nothing_gets_out_over_real_connections(tmp_path: Path, sinks: Sinks) -> None:
    """With every logger of the HTTP libraries in play, over loopback, logs and output know nobody."""
    async with running(folder=tmp_path) as stack, httpx.AsyncClient(timeout=60) as http:
        for each in (PATIENT, VISIT):
            (await http.put(f"{stack.fhir_url}/{each['resourceType']}/{each['id']}", json=each)).raise_for_status()
        url = f"{stack.functions_url}/api/bundle"
        for body in (GOOD, BAD["a date that is none"], BAD["not JSON"]):
            sinks.answered(await http.post(url, content=body, headers=FHIR_JSON))
        assert stack.fhir is not None
        stack.fhir.faults.append(Fault(method="POST", status=422, body=OUTCOME))
        sinks.answered(await http.post(url, content=GOOD, headers=FHIR_JSON))
        assert await stack.settle()
    sinks.check(tmp_path)


def test_the_loggers_that_write_urls_are_kept_quiet() -> None:
    """The HTTP libraries write URLs and headers below WARNING; a deployment that logs at DEBUG does not get them."""
    import relay.dataverse.client  # noqa: F401 - what sets them

    assert all(logging.getLogger(name).getEffectiveLevel() >= logging.WARNING for name in ("httpx", "httpcore"))
