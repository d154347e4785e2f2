from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fenced import ROOT, blocks
from generated import PAGES, commands, setting_name

from relay.cli import build_parser
from relay.settings import Settings

DOCS = ["README.md", "CHANGELOG.md", *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*.md")))]
ERRORS = {"Refused", "Failed", "Transient", "Terminal"}
MARKS = {"Issue": 1, "LinkResult": 1, "failed": 0, "fail": 0, "skipped": 0, "Unfit": 0}
"""Callables that take a code, and at which place."""


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_generated_pages_are_up_to_date(name: str) -> None:
    """docs/settings.md and docs/commands.md are what the code says."""
    assert page(name) == PAGES[name](), "run `python tests/docs/generated.py`"


def test_every_setting_has_a_meaning() -> None:
    """A setting without a description says nothing to whoever deploys the app."""
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_every_command_is_in_the_readme() -> None:
    """The README names each command, docs/commands.md has its options."""
    missing = [path for path, _ in commands(build_parser()) if f"relay {path}" not in page("README.md")]
    assert missing == []


def test_every_setting_that_a_page_names_exists() -> None:
    """RELAY_X in any page is a setting, or one of the variables of the tests."""
    known = {setting_name(name, field) for name, field in Settings.model_fields.items()} | {
        "RELAY_TEST_DATA",
        "RELAY_TEST_RECORDS",
        "RELAY_CACHE",
    }
    named = {(name, word) for name in DOCS for word in re.findall(r"\bRELAY_[A-Z_]+[A-Z]\b", page(name))}
    assert sorted((name, word) for name, word in named if word not in known) == []


def function_bindings() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (name, trigger) of every function of the app."""
    spec = importlib.util.spec_from_file_location("function_app_of_the_docs", ROOT / "function_app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for function in module.app.get_functions():
        yield function.get_function_name(), function.get_trigger().get_dict_repr()


def test_every_function_and_route_is_in_the_http_page() -> None:
    """docs/http.md has each function with its route, blob path, queue or schedule."""
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", page("docs/http.md"), re.MULTILINE))
    prefix = json.loads(page("host.json"))["extensions"]["http"]["routePrefix"]
    seen: set[str] = set()
    for name, trigger in function_bindings():
        seen.add(name)
        if trigger["type"] == "httpTrigger":
            methods = " ".join(str(getattr(each, "value", each)) for each in trigger["methods"])
            level = (
                "none"
                if str(getattr(trigger["authLevel"], "value", trigger["authLevel"])).lower() == "anonymous"
                else "function"
            )
            assert rows[name].startswith(f"`{methods} /{prefix}/{trigger['route']}` | {level} |"), name
        else:
            where = trigger.get("path") or trigger.get("queueName") or trigger.get("schedule") or trigger["type"]
            assert f"`{where}`" in rows[name], name
    functions = {
        name
        for name, rest in rows.items()
        if "/api/" in rest or rest.startswith(("blob ", "queue ", "timer", "Event Grid"))
    }
    assert functions == seen


def codes() -> Iterator[tuple[str, str]]:
    """Yield (code, file) of every code that the flow gives to an outcome, an answer or a log line."""
    for path in sorted((ROOT / "relay").rglob("*.py")):
        name = str(path.relative_to(ROOT))
        if name in ("relay/errors.py", "relay/mapping/check.py") or name.startswith(("relay/cli/", "relay/store/")):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = getattr(node.func, "id", getattr(node.func, "attr", ""))
            given = [each.value for each in node.keywords if each.arg == "code"] if called in ERRORS else []
            if called in MARKS and len(node.args) > MARKS[called]:
                given.append(node.args[MARKS[called]])
            for part in (leaf for each in given for leaf in ast.walk(each)):
                if isinstance(part, ast.Constant) and re.fullmatch(r"[a-z]+(-[a-z]+)*", str(part.value)):
                    yield str(part.value), name


def test_every_code_is_in_the_http_page() -> None:
    """Codes are what callers decide by: each one that the code can give is explained."""
    named = set(re.findall(r"`([a-z]+(?:-[a-z]+)*)`", page("docs/http.md")))
    found = sorted({pair for pair in codes() if pair[0] not in named})
    assert found == []


def test_the_outcome_example_has_the_shape_of_an_outcome() -> None:
    """The example in docs/http.md has the members of a rendered outcome, in their order."""
    from relay.inbound.operations import Child
    from relay.inbound.outcome import Report, render_outcome
    from relay.telemetry import Meter

    (shown,) = [json.loads(each.text) for each in blocks("docs/http.md") if each.language == "json"]
    report = Report(0, "Patient/a", "created", "contact", "b", [Child("c", "d", "created")])
    made = render_outcome("e", "relay-e", [report], Meter())

    def keys(value: Any) -> Any:
        if isinstance(value, dict):
            return [(name, keys(each)) for name, each in value.items()]
        return [keys(each) for each in value[:1]] if isinstance(value, list) else None

    assert keys(shown) == keys(made)


def test_every_key_of_host_json_is_in_the_host_page() -> None:
    """docs/host.md explains each value of host.json."""

    def paths(value: Any, at: str = "") -> Iterator[str]:
        for name, each in value.items():
            yield from paths(each, f"{at}{name}.") if isinstance(each, dict) else [f"{at}{name}"]

    missing = [path for path in paths(json.loads(page("host.json"))) if f"`{path}`" not in page("docs/host.md")]
    assert missing == []


def test_every_promise_names_a_test_that_exists() -> None:
    """A row of docs/GUARANTEES.md has at least one test file; all files named there exist."""
    rows = [line for line in page("docs/GUARANTEES.md").splitlines() if line.startswith("| ") and "held by" not in line]
    assert rows
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)`", row)
        assert named, row
        assert [each for each in named if not (ROOT / each).is_file()] == []


def test_the_number_of_default_maps_is_right() -> None:
    """Wherever a page says how many maps ship, that many are there."""
    count = len(list((ROOT / "maps").glob("*.yaml")))
    said = {name: re.findall(r"\b(\d+) maps\b", page(name)) for name in ("README.md", "docs/maps.md")}
    assert said == {name: [str(count)] for name in said}


def test_every_figure_has_a_place_on_the_performance_page() -> None:
    """docs/performance.md was written by the benches that are there."""
    listing = subprocess.run(
        [sys.executable, "bench/run.py", "--figures"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    shown = page("docs/performance.md")
    missing = [what for what in listing.stdout.splitlines() if f"| {what} |" not in shown]
    assert missing == [], "run `python bench/run.py --write docs/performance.md`"


@pytest.mark.parametrize("name", DOCS)
def test_links_lead_somewhere(name: str) -> None:
    """A relative link names a file that exists, and a heading that is in it."""
    for target in re.findall(r"\]\((?!https?://)([^)\s]+)\)", page(name)):
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}, target


def test_decisions_are_numbered_and_have_one_form() -> None:
    """docs/decisions holds 0001, 0002, … without gaps, each with context, decision and consequences."""
    files = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [path.name[:4] for path in files] == [f"{number:04}" for number in range(1, len(files) + 1)]
    for number, path in enumerate(files, 1):
        text = path.read_text(encoding="utf-8")
        assert text.startswith(f"# {number}. "), path.name
        for heading in ("**Status:**", "## Context", "## Decision", "## Consequences"):
            assert heading in text, path.name
        for code in re.findall(r"`((?:relay|maps|devstack)/[\w/.]*|pyproject\.toml)`", text):
            assert (ROOT / code).exists(), f"{path.name}: {code}"


def test_the_changelog_has_the_version_of_the_package() -> None:
    """CHANGELOG.md has Unreleased first, then the version that pyproject.toml declares."""
    versions = re.findall(r"^## \[([^\]]+)\]", page("CHANGELOG.md"), re.MULTILINE)
    declared = re.search(r'^version = "([^"]+)"', page("pyproject.toml"), re.MULTILINE)
    assert declared is not None
    assert versions[:2] == ["Unreleased", declared[1]]


def test_pages_name_no_place_of_one_machine() -> None:
    """No page holds an absolute path of a checkout or a home folder."""
    for name in DOCS:
        assert not re.search(r"(?<![\w.])/(?:home|Users|root|work)/", page(name)), name


def test_there_is_a_test_for_each_page_that_is_read_off_the_code() -> None:
    """A page that says it is written by a program is one that these tests compare."""
    written = {name for name in DOCS if Path(name).suffix == ".md" and "\nWritten by `" in page(name)[:200]}
    assert written == {*PAGES, "docs/performance.md"}
