from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from surface_kit import BUNDLES, OURS, surface

from relay.cli import main
from support.world import ROOT

SAMPLE = ROOT / "samples" / "bundle.json"
COMMAND = [sys.executable, "-W", "error", "-c", "import sys; from relay.cli import main; sys.exit(main())"]
PREVIEWED = {"resource", "table", "columns", "children", "unmapped", "issues"}
SECONDS = 30.0  # until something is taken to have failed


# --- demo


def test_the_demo_keeps_its_word(capsys: pytest.CaptureFixture[str]) -> None:
    """`relay demo --json` shows one resource first and last: its row's GUID is new in it, and nothing else changed."""
    assert main(["demo", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    shown = json.loads(out)
    assert list(shown) == ["before", "after", "outcome", "rows", "calls", "settled"]
    before, after = shown["before"], shown["after"]
    assert before["resourceType"] == after["resourceType"] == "Patient"
    kept = {name: value for name, value in before.items() if name not in ("meta", "identifier")}
    assert kept == {name: value for name, value in after.items() if name not in ("meta", "identifier")}
    *others, added = after["identifier"]
    assert others == before["identifier"]
    entry = next(each for each in shown["outcome"]["entries"] if each["resource"] == f"Patient/{before['id']}")
    assert (entry["result"], entry["writeback"]) == ("created", "written")
    guid = entry["row"]["id"]
    assert added == {"system": f"{OURS}patient.id", "value": guid}
    contact, *identifiers = shown["rows"]
    assert (contact["table"], contact["contactid"], contact["msemr_azurefhirid"]) == ("contact", guid, before["id"])
    pairs = {(each["prefix_system"], each["prefix_value"]) for each in identifiers}
    assert pairs == {(each["system"], each["value"]) for each in after["identifier"]}
    assert set(shown["calls"]) == {"dataverse", "fhir"}
    assert all(count >= 1 for count in shown["calls"].values())
    assert shown["settled"] is True


def test_the_demo_tells_a_person_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """Without --json the story is text, and the process is left as it was."""
    environ, folder = dict(os.environ), Path.cwd()
    assert main(["demo"]) == 0
    out, err = capsys.readouterr()
    assert "Patient/demo-ana-lindqvist" in out
    assert (err, dict(os.environ), Path.cwd()) == ("", environ, folder)


# --- wrong use


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dance"],
        ["preview"],
        ["preview", "x", "--frobnicate"],
        ["up", "--port", "many"],
        ["up", "--port", "65536"],
        ["up", "--port", "-1"],
        ["demo", "now"],
    ],
    ids=" ".join,
)
def test_wrong_use_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be understood ends with exit code 2, a usage line on stderr and nothing on stdout."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert err.startswith("usage: relay")


def test_a_key_without_its_function_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    """--keys takes FUNCTION=KEY and says so."""
    assert main(["up", "--keys", "secret"]) == 2
    assert "FUNCTION=KEY" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "setting", "told"),
    [
        (["--fhir", "hapi"], {"PATH": ""}, "HAPI needs java, javac, mvn on the PATH"),
        (["--keys", "nobody=k"], {}, "nobody"),
        ([], {"RELAY_WRITEBACK": "sometimes"}, "RELAY_WRITEBACK"),
        ([], {"RELAY_BLOB_SOURCE": "ftp"}, "RELAY_BLOB_SOURCE"),
        ([], {"RELAY_MAPS": "/nowhere"}, "/nowhere"),
    ],
    ids=str,
)
def test_a_stack_that_cannot_start_is_1_and_says_why(
    arguments: list[str],
    setting: dict[str, str],
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A wrong setting, key or choice is told at once by name, without a trace, and no address is printed."""
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    assert main(["up", "--port", "0", "--json", *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("relay up: ")
    assert told in err
    assert "Traceback" not in err


def test_a_port_that_is_taken_is_1(capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody else's port is left alone, and the reason is told."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        taken.listen()
        assert main(["up", "--port", str(taken.getsockname()[1]), "--json"]) == 1
    out, err = capsys.readouterr()
    assert (out, err.startswith("relay up: ")) == ("", True)


# --- preview


def previewed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    """Run `relay preview --json`; gives the exit code, the resources and stderr."""
    code = main(["preview", "--json", *arguments])
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert list(document) == ["resources"]
    for each in document["resources"]:
        assert set(each) == PREVIEWED
        assert all(set(child) == {"table", "columns"} for child in each["children"])
        assert all(set(issue) == {"severity", "code", "message", "at"} for issue in each["issues"])
    return code, document["resources"], err


async def test_a_preview_is_what_a_post_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For the sample, the columns shown offline are those of the rows that a POST makes."""
    code, resources, err = previewed(capsys, str(SAMPLE))
    assert (code, err) == (0, "")
    assert [each["resource"].partition("/")[0] for each in resources] == [
        "Organization",
        "Practitioner",
        "Patient",
        "Encounter",
        "CarePlan",
    ]
    async with surface(tmp_path, webhook=False) as it:
        assert (await it.post(SAMPLE.read_bytes())).status_code == 200
        key = "msemr_azurefhirid"
        for each in resources:
            (row,) = [row for row in it.rows(each["table"]) if row[key] == each["columns"][key]]
            lookups = {name for name, value in each["columns"].items() if re.fullmatch(r"[A-Z]\w+/\S+", str(value))}
            plain = {name: value for name, value in each["columns"].items() if name not in lookups}
            assert {name: row[name] for name in plain} == plain
            assert all(row[name] for name in lookups)
            for child in each["children"]:
                rows = it.rows(child["table"])
                assert any(child["columns"].items() <= row.items() for row in rows)


BAD = {
    "byte_order_mark": 0,
    "circular_reference": 0,
    "document": 0,
    "duplicate_ids": 1,
    "empty": 0,
    "get_entries": 0,
    "id_of_64_characters": 1,
    "invalid_id": 1,
    "latin_1": 1,
    "missing_reference": 0,  # offline nobody knows what is missing
    "nan": 1,
    "no_id": 1,
    "not_a_resource": 1,
    "null_entry": 1,
    "patch_entry": 1,
    "subsetted": 1,
    "truncated": 1,
}


@pytest.mark.parametrize("name", BAD)
def test_a_preview_fails_when_a_resource_would(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """1 when a file cannot be read or an entry would fail, 0 otherwise; stdout is JSON all the same."""
    path = BUNDLES / f"{name}.json"
    code, resources, err = previewed(capsys, str(path))
    assert code == BAD[name]
    told = [issue for each in resources for issue in each["issues"] if issue["severity"] == "error"]
    assert bool(told) or str(path) in err or not code
    assert "Traceback" not in err


def test_one_bad_file_does_not_hide_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each file is read; one that cannot be is named on stderr, and the exit code is 1."""
    missing, folder = tmp_path / "missing.json", tmp_path
    code, resources, err = previewed(capsys, str(missing), str(folder), str(SAMPLE), str(BUNDLES / "nan.json"))
    assert (code, len(resources)) == (1, 5)
    assert all(str(path) in err for path in (missing, folder, BUNDLES / "nan.json"))


def test_a_preview_for_people_names_rows_and_what_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Without --json the rows are text."""
    assert main(["preview", str(SAMPLE)]) == 0
    out = capsys.readouterr().out
    assert "Patient/demo-ana-lindqvist -> contact" in out
    assert "lastname = Lindqvist" in out


# --- up


class Up(NamedTuple):
    """A running `relay up`."""

    process: subprocess.Popen[str]
    urls: dict[str, str]
    store: Path

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where it listens."""
        urls = [httpx.URL(url) for url in self.urls.values()]
        return [(url.host, url.port or 80) for url in urls]

    def stop(self, number: int) -> tuple[int, str, str]:
        """Send a signal and wait; gives the exit code and what else was printed."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, out, err


@contextlib.contextmanager
def up(tmp_path: Path, *arguments: str, **settings: str) -> Iterator[Up]:
    """Run `relay up --json --port 0` as a process and a session of its own."""
    scratch, store = tmp_path / "scratch", tmp_path / "store"
    scratch.mkdir()
    environ = os.environ | {"TMPDIR": str(scratch), "PYTHONUNBUFFERED": "1"} | settings
    command = [*COMMAND, "up", "--json", "--port", "0", "--store", str(store), *arguments]
    pipe = subprocess.PIPE
    process = subprocess.Popen(  # noqa: S603 - our own command
        command, cwd=ROOT, env=environ, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate(timeout=SECONDS)
        yield Up(process, json.loads(line), store)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate(timeout=SECONDS)


def until(condition: Any) -> Any:
    """Wait for something that another process does; gives what the condition gave."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"did not happen within {SECONDS} s")


def test_up_serves_and_leaves_nothing(tmp_path: Path) -> None:
    """One JSON line with three addresses of this machine; it serves bundles and files; SIGTERM ends it with 0, whole."""
    with up(tmp_path) as it:
        assert list(it.urls) == ["functions", "dataverse", "fhir"]
        assert {host for host, _ in it.addresses} == {"127.0.0.1"}
        assert listening(it.addresses) in (None, {"0100007F"})  # 127.0.0.1, and no other address
        with httpx.Client(timeout=SECONDS) as http:
            health = http.get(f"{it.urls['functions']}/api/health")
            ready = http.get(f"{it.urls['functions']}/api/ready")
            assert (health.status_code, ready.status_code) == (200, 200)
            sample = SAMPLE.read_bytes()
            assert http.post(
                it.urls["fhir"], content=sample, headers={"Content-Type": "application/fhir+json"}
            ).is_success
            answer = http.post(f"{it.urls['functions']}/api/bundle", content=sample)
            assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")
            rows = http.get(f"{it.urls['dataverse']}/api/data/v9.2/contacts?$select=fullname").json()["value"]
            assert len(rows) == 2
            patient = http.get(f"{it.urls['fhir']}/Patient/demo-ana-lindqvist").json()
            assert patient["identifier"][-1]["system"] == f"{OURS}patient.id"
            dropped = it.store / "bundles" / "again.json"
            dropped.parent.mkdir(exist_ok=True)
            dropped.write_bytes(sample)
            beside = it.store / "bundles-outcome" / "again.json.json"
            until(beside.exists)
            assert {each["result"] for each in json.loads(beside.read_bytes())["entries"]} == {"unchanged"}
            calls = http.get(f"{it.urls['dataverse']}/_emulator/calls").json()
            assert {"method", "path", "status", "ms"} == set(calls[0])
        code, out, err = it.stop(signal.SIGTERM)
        assert (code, out) == (0, "")
        assert "Traceback" not in err
        assert "Warning" not in err
        for address in it.addresses:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address, timeout=5)
        with pytest.raises(ProcessLookupError):  # nobody of its session is left
            os.killpg(it.process.pid, 0)
        assert list((tmp_path / "scratch").iterdir()) == []


def listening(addresses: list[tuple[str, int]]) -> set[str] | None:
    """Return the local addresses (hex, as Linux lists them) on which these ports listen; None where nobody tells."""
    table = Path("/proc/net/tcp")
    if not table.exists():
        return None
    ports = {f"{port:04X}" for _, port in addresses}
    lines = [
        line.split()
        for path in (table, Path("/proc/net/tcp6"))
        if path.exists()
        for line in path.read_text().splitlines()
    ]
    return {line[1].split(":")[0] for line in lines if line[1].split(":")[-1] in ports and line[3] == "0A"}


def test_up_hands_settings_on_and_stops_on_ctrl_c(tmp_path: Path) -> None:
    """RELAY_* of the caller reach the app, --keys are checked as Azure does, and SIGINT is an ordinary end."""
    with up(tmp_path, "--keys", "post_bundle=first", RELAY_MAX_ENTRIES="1") as it:
        url = f"{it.urls['functions']}/api/bundle"
        with httpx.Client(timeout=SECONDS) as http:
            assert http.post(url, content=SAMPLE.read_bytes()).status_code == 401
            answer = http.post(url, content=SAMPLE.read_bytes(), headers={"x-functions-key": "first"})
            assert (answer.status_code, answer.json()["issue"][0]["details"]["text"]) == (413, "too-many-entries")
            one = {"resourceType": "Patient", "id": "p1", "name": [{"family": "Alder"}]}
            job = http.post(url, json=one, params={"code": "first"}).json()["id"]
            # Dataverse's own key was made for it: its events come in.
            webhooks = f"{it.urls['dataverse']}/_emulator/webhooks"
            until(lambda: http.get(webhooks).json()["delivered"] == 2)
            assert http.get(f"{url}/{job}").status_code == 401
        code, out, err = it.stop(signal.SIGINT)
        assert (code, out) == (0, "")
        assert "Traceback" not in err
