from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import Any

import pytest
from fenced import ROOT, Block, blocks
from walk import RELAY, is_addresses, is_up, lines, running

from relay.store.azure.account import EMULATOR

Walk = tuple[dict[str, str], Path]

LISTENING = re.compile(r"listening on (\S+),")
MARKS = ("needs Azure", "needs Core Tools")
GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
PATIENT = "demo-ana-lindqvist"
URN = "urn:oid:org.d365.mc4h.patient.id"


def shell() -> list[Block]:
    return [each for each in blocks("README.md") if each.language == "sh" and each.mark not in MARKS]


def is_make(block: Block) -> bool:
    return all(line.startswith("make ") for line in lines(block))


def by_hand() -> list[Block]:
    return [each for each in shell() if not (is_make(each) or is_up(each) or is_addresses(each))]


def test_the_readme_is_short() -> None:
    """Under two hundred lines."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 200


def test_every_block_has_a_language_that_says_what_it_is() -> None:
    """A block is shell, output, or the picture; a marked one says what it needs, in the text before it too."""
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    for block in blocks("README.md"):
        assert block.language in ("sh", "text", ""), block
        assert block.mark in ("", *MARKS), block
        if block.mark:
            before = page[: page.index(f"```sh {block.mark}")]
            assert before.rstrip().endswith(f"{block.mark.replace('needs', 'Needs')}:"), block


def test_make_commands_are_targets_of_the_makefile() -> None:
    """`make x` in a block or in the text is a target that `make help` lists."""
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)`", (ROOT / "README.md").read_text(encoding="utf-8")))
    named |= {line.split()[1] for block in shell() if is_make(block) for line in lines(block)}
    assert named
    assert named <= targets


def test_the_demo_prints_what_the_readme_shows() -> None:
    """Line by line, with GUIDs masked."""
    (shown,) = [each for each in blocks("README.md") if each.language == "text"]
    done = subprocess.run([RELAY, "demo"], capture_output=True, text=True, timeout=120, check=False)  # noqa: S603 - our own command
    assert done.returncode == 0, done.stderr
    assert [GUID.sub("<id>", line) for line in done.stdout.splitlines()] == [
        GUID.sub("<id>", line) for line in shown.text.splitlines()
    ]


def need_shell() -> None:
    if shutil.which("curl") is None or shutil.which("bash") is None:
        pytest.skip("the walk-through needs curl and bash")


@pytest.fixture(scope="module", params=["embedded", pytest.param("hapi", marks=pytest.mark.real)])
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    """Run the README's `relay up` on free ports and a folder of the test's own, the second time with HAPI."""
    need_shell()
    (block,) = [each for each in shell() if is_up(each)]
    folder = tmp_path_factory.mktemp("readme")
    with running(block, folder, fhir=request.param) as urls:
        yield urls, folder / ".relay"


@pytest.fixture
def app_alone(hapi_url: str, azurite: str) -> Iterator[dict[str, str]]:
    """Run what the block for Core Tools runs, on free ports, and the development host in the place of `func start`."""
    need_shell()
    values: dict[str, str] = json.loads((ROOT / "local.settings.sample.json").read_text(encoding="utf-8"))["Values"]
    with Popen([RELAY, "emulator", "--json"], stdout=PIPE, text=True) as emulator:  # noqa: S603 - our own command
        try:
            assert emulator.stdout is not None
            urls = {"DATAVERSE": json.loads(emulator.stdout.readline())["dataverse"], "FHIR": hapi_url}
            environment = values | {"RELAY_DATAVERSE_URL": urls["DATAVERSE"], "RELAY_FHIR_URL": hapi_url}
            with Popen(  # noqa: S603 - our own command
                [sys.executable, "-m", "devstack.host", "--root", str(ROOT), "--port", "0"],
                stdout=PIPE,
                stderr=DEVNULL,
                text=True,
                env={**os.environ, **environment, "AzureWebJobsStorage": azurite},
                cwd=ROOT,
            ) as host:
                try:
                    assert host.stdout is not None
                    found = next(each for line in host.stdout if (each := LISTENING.match(line)))
                    yield urls | {"FUNCTIONS": found[1]}
                finally:
                    host.send_signal(signal.SIGINT)
        finally:
            emulator.send_signal(signal.SIGINT)


def outcome(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    assert found["status"] == "succeeded"
    return found


def is_created(text: str) -> None:
    entries = outcome(text)["entries"]
    assert {each["result"] for each in entries} == {"created"}
    assert {each["writeback"] for each in entries} == {"written"}


def is_unchanged(text: str) -> None:
    assert {each["result"] for each in outcome(text)["entries"]} == {"unchanged"}


def is_row_and_resource(text: str) -> None:
    reader = json.JSONDecoder()
    row, end = reader.raw_decode(text)
    found, _ = reader.raw_decode(text[end:].lstrip())
    (contact,) = row["value"]
    assert contact["fullname"] == "Ana Sofia Lindqvist"
    (entry,) = found["entry"]
    assert entry["resource"]["id"] == PATIENT
    assert {"system": URN, "value": contact["contactid"]} in entry["resource"]["identifier"]


def is_preview(text: str) -> None:
    assert f"Patient/{PATIENT} -> contact" in text


CHECKS: Mapping[str, Callable[[str], None]] = {
    '"$FUNCTIONS/api/bundle" | python3': is_created,
    '"$FHIR/Patient"': is_row_and_resource,
    "Prefer: respond-async": is_unchanged,
    ".relay/bundles": is_unchanged,
    "relay preview": is_preview,
}


def walk(blocks: list[Block], urls: Mapping[str, str], folder: Path | None = None) -> set[str]:
    """Run blocks as they stand, but for addresses and the folder; returns the words by which they were checked."""
    environment = {**os.environ, **urls, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    walked = set()
    for block in blocks:
        (words,) = [each for each in CHECKS if each in block.text]
        script = block.text.replace(".relay/", f"{folder}/").replace(".venv/bin/relay", RELAY)
        done = subprocess.run(  # noqa: S603 - the README's own words
            ["bash", "-euo", "pipefail", "-c", script],  # noqa: S607 - whichever bash the reader has
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
        CHECKS[words](done.stdout)
        walked.add(words)
    return walked


def test_the_walk_through_does_what_the_readme_says(stack: Walk) -> None:
    """Every unmarked shell block that is not a make command, on the embedded server and on HAPI alike."""
    urls, folder = stack
    (addresses,) = [each for each in shell() if is_addresses(each)]
    assert {line.partition("=")[0] for line in lines(addresses)} == set(urls)
    assert walk(by_hand(), urls, folder) == set(CHECKS)


@pytest.mark.real
def test_its_curl_lines_hold_for_the_app_on_azurite_and_hapi(app_alone: dict[str, str]) -> None:
    """With the sample settings and no `relay up`: the host here is ours, because Core Tools are not to be had."""
    curls = [each for each in by_hand() if "curl " in each.text]
    assert len(walk(curls, app_alone)) == 3


def test_the_block_for_core_tools_is_what_the_sample_settings_name() -> None:
    """Ports of the emulator and of HAPI, and Azurite on its usual ones."""
    (block,) = [each for each in blocks("README.md") if each.mark == "needs Core Tools"]
    ports = dict(re.findall(r"(azurite|hapi|emulator|func start) --port (\d+)", block.text))
    values = json.loads((ROOT / "local.settings.sample.json").read_text(encoding="utf-8"))["Values"]
    assert values["RELAY_DATAVERSE_URL"] == f"http://127.0.0.1:{ports['emulator']}"
    assert values["RELAY_FHIR_URL"] == f"http://127.0.0.1:{ports['hapi']}/fhir"
    assert EMULATOR["BlobEndpoint"].startswith(f"http://127.0.0.1:{ports['azurite']}/")
    assert ports["func start"] == "7071"
