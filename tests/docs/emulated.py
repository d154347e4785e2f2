"""The page of what the Dataverse emulator has and has not, read off its code and its tests."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from devstack.dataverse import (
    app,
    bulk,
    customizing,
    definition_bodies,
    errors,
    fetchxml,
    query,
    service,
    sql,
    tracking,
)
from devstack.dataverse.errors import DataverseError, NotSupported
from devstack.dataverse.troubles import TROUBLES

ROOT = Path(__file__).resolve().parents[2]
CODE = ROOT / "devstack" / "dataverse"
TESTS = (ROOT / "tests" / "dataverse_emulator", ROOT / "tests" / "sdk")
_ANCHOR = re.compile(r"(?: \((?P<aside>[^()]*(?:\([^()]*\)[^()]*)*)\)| (?P<last>Docs: [^()]*))\.$")


def emulated_page() -> str:
    """Return docs/emulated-features.md."""
    lines = [
        "# What the Dataverse emulator has, and has not",
        "",
        "Written by `python tests/docs/generated.py` from `devstack/dataverse` and its tests; do not edit. How to run it:",
        "[Dataverse emulator](emulator.md).",
        "",
        "What is not here is refused with 501, whose message names it; nothing is taken and forgotten. A fact has its anchor: the",
        "page of Microsoft's documentation, the client of Microsoft's that needs it, or the word *inferred*.",
        "",
        "## Features",
        "",
        "| feature | anchor | held by |",
        "|---|---|---|",
        *(_row(what, anchor, f"`{path}`") for path, what, anchor in features()),
        "",
        "## Words that are read",
        "",
        "| where | words |",
        "|---|---|",
        *(_row(where, words) for where, words in vocabulary()),
        "",
        "## What answers 501",
        "",
        "`…` stands for what the request named. The code is `0x80040800`.",
        "",
        "| part | not supported |",
        "|---|---|",
        *(_row(part, "<br>".join(found)) for part, found in refusals()),
        "",
        "## What no page settles",
        "",
        *(f"- {each}" for each in choices()),
        "",
        "## Switches",
        "",
        "Arguments of `devstack.dataverse.create_app`; times are milliseconds where the name says so. Some are",
        "[options of the command](commands.md#relay-emulator) too.",
        "",
        "| switch | default | meaning |",
        "|---|---|---|",
        *(_row(f"`{name}`", f"`{default}`", meaning) for name, default, meaning in switches()),
        "",
        "## Faults by name",
        "",
        "Given to the control side, `PUT /_emulator/faults`, as a fault's `name`.",
        "",
        "| name | what happens |",
        "|---|---|",
        *(_row(f"`{name}`", named.meaning) for name, named in TROUBLES.items()),
        "",
        "## Error codes",
        "",
        "| code | status | when |",
        "|---|---|---|",
        *(_row(f"`{code}`", str(status), "<br>".join(sorted(when))) for (code, status), when in codes()),
    ]
    return "\n".join([*lines, ""])


def features() -> Iterator[tuple[str, str, str]]:
    """Yield (test file, what it holds, the anchor) of every test file."""
    for folder in TESTS:
        for path in sorted(folder.glob("test_*.py")):
            text = " ".join((ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").split())
            found = _ANCHOR.search(text)
            what = f"{text[: found.start()].rstrip('.')}." if found else text
            anchor = (found["aside"] or found["last"].replace("Docs", "docs", 1)) if found else "the emulator's own"
            yield str(path.relative_to(ROOT)), what, anchor


def vocabulary() -> Iterator[tuple[str, str]]:
    """Yield (where, words) of what the emulator's own tables of words hold."""
    yield "query options", _code(sorted(query._OPTIONS))
    yield (
        "query options that stand for others",
        _code([fetchxml.OPTION, sql.OPTION, tracking.OPTION]),
    )
    yield "bulk actions", _code(bulk.ACTIONS)
    yield "actions and functions alone", _code(["WhoAmI", *_operations()])
    yield "actions and functions alone that answer 501", _code(service.NOT_HERE)
    yield "operators of FetchXML", _code(fetchxml.OPERATORS)
    yield "column types that can be made", _code(definition_bodies._READERS)
    limits = f"{customizing.MAX_KEY_COLUMNS} columns and {customizing.MAX_KEY_BYTES} bytes to a key"
    yield "alternate keys", f"{customizing.MAX_KEYS} to a table, {limits}, of {_code(customizing._KEY_TYPES)}"


def _operations() -> tuple[str, ...]:
    emulator = app.create_app()
    try:
        return emulator._service._actions.names
    finally:
        emulator.store.close()


def _modules() -> Iterator[tuple[Path, ModuleType]]:
    for path in sorted(CODE.glob("*.py")):
        yield (
            path,
            importlib.import_module(
                f"devstack.dataverse.{path.stem}" if path.stem != "__init__" else "devstack.dataverse"
            ),
        )


def refusals() -> Iterator[tuple[str, list[str]]]:
    """Yield (module, what it refuses with NotSupported), with an ellipsis for what a request names."""
    for path, module in _modules():
        found = {
            text
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == NotSupported.__name__ and node.args
            if len(re.findall(r"[a-z]", text := _told(node.args[0]))) > 6
        }
        found |= set(getattr(module, "_NOT_HERE", {}).values())
        if found:
            yield f"`{path.stem}`", sorted(found, key=str.lower)


def _told(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return ""


def choices() -> Iterator[str]:
    """Yield what the modules declare as settled by nobody else."""
    for _, module in _modules():
        yield from getattr(module, "UNSETTLED", ())


def switches() -> Iterator[tuple[str, str, str]]:
    """Yield (name, default, meaning) of the arguments of `create_app`."""
    for name, parameter in inspect.signature(app.create_app).parameters.items():
        default: Any = parameter.default
        yield name, getattr(default, "__name__", None) or str(default), app.SWITCHES[name]


def codes() -> list[tuple[tuple[str, int], set[str]]]:
    """Return when each code is answered, by code and status."""
    found: dict[tuple[str, int], set[str]] = {}
    for _, module in _modules():
        for each in vars(module).values():
            ours = isinstance(each, type) and issubclass(each, DataverseError) and each.__module__ == module.__name__
            if ours and each is not errors.DataverseError and "code" in vars(each):
                when = " ".join((each.__doc__ or "").split()).partition("; ")[0].rstrip(".")
                found.setdefault((each.code, each.status), set()).add(when)
    return sorted(found.items())


def _code(words: Any) -> str:
    return ", ".join(f"`{each}`" for each in words)


def _row(*cells: str) -> str:
    texts = [re.sub(r"<(?!br>)", "&lt;", each.replace("|", "\\|")) for each in cells]
    return f"| {' | '.join(texts)} |"
