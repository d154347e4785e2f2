"""Every command line of docs/map-tools.md does what the page shows, in a folder with the page's own files."""

from __future__ import annotations

import ast
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from fenced import ROOT, blocks

from relay.cli import main
from relay.cli.maps import SUBCOMMANDS
from support.served import org

PAGE = "docs/map-tools.md"
ORG = "https://org.crm.dynamics.com"
TABLES = ("contact", "prefix_patientidentifier", "msemr_codeableconcept")
FOUND = {"relay maps diff my-maps new-maps"}
"""Commands that end with 1: they are there to find something."""


def facts() -> dict[str, Any]:
    """Return the shipped facts of the page's tables."""
    document: dict[str, Any] = json.loads((ROOT / "maps" / "metadata.json").read_text(encoding="utf-8"))
    return {**document, "tables": {name: document["tables"][name] for name in TABLES}}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the page's files, each folder of maps with facts beside them."""
    for block in blocks(PAGE):
        if block.mark:
            path = tmp_path / block.mark
            path.parent.mkdir(exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
            if block.language == "yaml":
                (path.parent / "metadata.json").write_text(json.dumps(facts()), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RELAY_DATAVERSE_AUTH", "none")
    return tmp_path


def test_the_commands_do_what_the_page_shows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Line by line, in the page's order; output that is shown is the output."""
    (folder / "org.json").write_text(json.dumps(facts()), encoding="utf-8")
    shown = [block for block in blocks(PAGE) if block.language in ("sh", "text")]
    with org(folder / "org.json") as url:
        for block, following in zip(shown, [*shown[1:], None], strict=True):
            if block.language != "sh":
                continue
            (line,) = block.text.splitlines()
            command, *arguments = shlex.split(line.replace(ORG, url))
            assert command == "relay"
            code = main(arguments)
            out, err = capsys.readouterr()
            assert (code, err) == (int(line in FOUND), ""), line
            if following is not None and following.language == "text":
                assert out == following.text, line


def test_every_subcommand_has_a_heading() -> None:
    """A command that is not on the page is not there."""
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    assert re.findall(r"^## (\w+)$", page, re.MULTILINE) == list(SUBCOMMANDS)


def test_every_code_of_a_finding_is_on_the_page() -> None:
    """People look up the code of a finding."""
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z]+(?:-[a-z]+)*)`", page))
    given: set[str] = set()
    for name in ("check", "lint", "drift", "findings"):
        tree = ast.parse((ROOT / "relay" / "mapping" / f"{name}.py").read_text(encoding="utf-8"))
        words = {
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        given |= {word for word in words if re.fullmatch(r"[a-z]+-[a-z-]+[a-z]", word)}
    assert len(given) > 12
    assert given - named == set()
