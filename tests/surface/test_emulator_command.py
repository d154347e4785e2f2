"""`relay emulator`: Dataverse alone, on a port of this machine, until a signal."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from relay.cli import main

COMMAND = [sys.executable, "-W", "error", "-c", "import sys; from relay.cli import main; sys.exit(main())", "emulator"]
SECONDS = 30.0
FACTS = {
    "schemaName": "new_Book",
    "displayName": "Book",
    "entitySet": "new_books",
    "primaryId": "new_bookid",
    "primaryName": "new_name",
    "ownership": "UserOwned",
    "columns": {
        "new_bookid": {"type": "Uniqueidentifier"},
        "new_name": {"type": "String", "maxLength": 100},
        "createdon": {"type": "DateTime", "format": "DateAndTime"},
        "modifiedon": {"type": "DateTime", "format": "DateAndTime"},
        "versionnumber": {"type": "BigInt"},
    },
}


@contextlib.contextmanager
def emulator(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    pipe = subprocess.PIPE
    environ = os.environ | {"PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(  # noqa: S603 - our own command
        [*COMMAND, "--json", *arguments], env=environ, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate(timeout=SECONDS)
        yield process, json.loads(line)["dataverse"]
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate(timeout=SECONDS)


def stop(process: subprocess.Popen[str], number: int) -> None:
    process.send_signal(number)
    out, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, out, err) == (0, "", "")
    with pytest.raises(ProcessLookupError):  # nobody of its session is left
        os.killpg(process.pid, 0)


def test_it_keeps_its_database_and_leaves_nothing_running(tmp_path: Path) -> None:
    """One JSON line when it is ready; further tables are there, rows outlive it; both signals are an ordinary end."""
    facts = tmp_path / "books.json"
    facts.write_text(json.dumps({"tables": {"new_book": FACTS}}), "utf-8")
    options = ["--database", str(tmp_path / "org.db"), "--metadata", str(facts), "--dop-hint", "7", "--call-ms", "20"]
    with emulator(*options) as (process, url):
        began = time.monotonic()
        made = httpx.post(f"{url}/api/data/v9.2/new_books", json={"new_name": "Emma"})
        assert time.monotonic() - began >= 0.02
        assert (made.status_code, made.headers["x-ms-dop-hint"]) == (204, "7")
        stop(process, signal.SIGTERM)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((httpx.URL(url).host, httpx.URL(url).port or 80), timeout=5)
    with emulator(*options) as (process, url):
        rows = httpx.get(f"{url}/api/data/v9.2/new_books").json()["value"]
        assert [row["new_name"] for row in rows] == ["Emma"]
        stop(process, signal.SIGINT)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("facts.json", "{}", "facts.json"),
        ("facts.json", json.dumps({"tables": {"contact": FACTS}}), "facts.json: table contact"),
        ("org.db", "no database" * 100, "database"),
    ],
)
def test_what_cannot_start_is_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, told: str
) -> None:
    """A file that is wrong is told by name, and no address is printed."""
    (tmp_path / name).write_text(text, "utf-8")
    option = "--metadata" if name.endswith("json") else "--database"
    assert main(["emulator", option, str(tmp_path / name)]) == 1
    out, err = capsys.readouterr()
    assert (out, err.startswith("relay emulator: ")) == ("", True)
    assert told in err


@pytest.mark.parametrize(
    "arguments",
    [["--port", "x"], ["--call-ms", "-1"], ["--call-ms", "nan"], ["--operation-ms", "x"], ["--dop-hint", "0"]],
    ids=" ".join,
)
def test_wrong_use_is_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    """What is no port or number ends with 2 and says which are."""
    with pytest.raises(SystemExit) as ended:
        main(["emulator", *arguments])
    assert ended.value.code == 2
    assert "valid: " in capsys.readouterr().err


def test_a_port_that_is_taken_is_1(capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody else's port is left alone, and the reason is told."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        taken.listen()
        assert main(["emulator", "--port", str(taken.getsockname()[1])]) == 1
    out, err = capsys.readouterr()
    assert (out, err.startswith("relay emulator: ")) == ("", True)
