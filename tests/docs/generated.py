"""Writes the pages that are read off the code and the maps: settings, commands, default maps, what the emulator has.

`python tests/docs/generated.py` writes them, or those that it is given; a test compares them with what is there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from default_maps import default_maps_page
from emulated import emulated_page
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from servers_page import servers_page

from relay.cli import build_parser
from relay.settings import Settings

ROOT = Path(__file__).resolve().parents[2]

_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def settings_page() -> str:
    """Return docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "Written by `python tests/docs/generated.py` from `relay/settings.py`; do not edit.",
        "",
        "Each setting is an environment variable, which in Azure is an app setting of the Function App. Names are not",
        "case-sensitive. A duration is a number with `ms`, `s`, `m`, `h` or `d` (a bare number is seconds), or ISO 8601, of at most",
        "100 years. A value",
        "that does not fit stops the app at its first use with an error that names the setting and not its value. An empty",
        "default means that nothing is set. Secrets are better given as Key Vault references.",
        "",
        "| setting | type | default | meaning |",
        "|---|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        row = (f"`{setting_name(name, field)}`", _type(field), _default(field.default), field.description or "")
        lines.append(_table_row(row))
    lines += [
        "",
        "`RELAY_FHIR_AUTH=google` and Pub/Sub need the package google-auth, which is optional: `pip install 'relay[google]'`, in",
        "Azure a line in `requirements.txt`.",
        "",
        "An empty `RELAY_STORE` means the storage account that the Functions host itself uses, named as for the host:",
        "`AzureWebJobsStorage` (a connection string, or `UseDevelopmentStorage=true` for Azurite), or an identity:",
        "`AzureWebJobsStorage__accountName`, or `AzureWebJobsStorage__blobServiceUri`, `…__queueServiceUri` and",
        "`…__tableServiceUri`; with `AzureWebJobsStorage__credential=managedidentity`, and `…__clientId` for an identity of",
        "one's own. Two forms at once, or a folder beside an account, are refused: host and relay would work on two stores.",
    ]
    return "\n".join([*lines, ""])


def setting_name(name: str, field: FieldInfo) -> str:
    """Return the environment variable of a field."""
    return field.alias or f"RELAY_{name.upper()}"


def _type(field: FieldInfo) -> str:
    kind: Any = field.annotation
    if get_origin(kind) is Literal:
        return ", ".join(f"`{each}`" for each in get_args(kind))
    names = {
        str: "text",
        int: "number",
        bool: "`true` or `false`",
        timedelta: "duration",
        Path: "path",
        SecretStr: "secret",
    }
    limits = [f"at least {each.ge}" for each in field.metadata if isinstance(getattr(each, "ge", None), int)]
    limits += ["not empty" for each in field.metadata if getattr(each, "min_length", None)]
    return ", ".join([names[kind], *limits])


def _default(value: object) -> str:
    match value:
        case bool():
            return f"`{str(value).lower()}`"
        case timedelta():
            seconds = round(value.total_seconds())
            size, unit = next(each for each in _UNITS if seconds % each[0] == 0)
            return f"`{seconds // size}{unit}`"
        case SecretStr():
            return ""
        case _:
            return f"`{value}`" if str(value) else ""


def commands_page() -> str:
    """Return docs/commands.md."""
    parser = build_parser()
    lines = [
        "# Commands",
        "",
        "Written by `python tests/docs/generated.py` from the command line itself; do not edit.",
        "",
        "Exit codes: 0 done, 1 something failed, 2 wrong use. `relay --version` prints the version, `relay COMMAND --help` the",
        "options.",
    ]
    for path, command in commands(parser):
        lines += ["", f"## relay {path}", "", command.description or "", "", f"`{_usage(path, command)}`", ""]
        lines += ["| argument | default | meaning |", "|---|---|---|"]
        for action in _arguments(command):
            row = (f"`{_name(action)}`", _default_of(action), action.help or "")
            lines.append(_table_row(row))
    return "\n".join([*lines, ""])


def commands(parser: argparse.ArgumentParser, path: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield (words after `relay`, parser) of every command that does something, in their order."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                words = f"{path} {name}".strip()
                below = list(commands(command, words))
                yield from below or [(words, command)]


def _arguments(command: argparse.ArgumentParser) -> list[argparse.Action]:
    return [each for each in command._actions if not isinstance(each, argparse._HelpAction)]


def _usage(path: str, command: argparse.ArgumentParser) -> str:
    words = [f"relay {path}"]
    for action in sorted(_arguments(command), key=lambda each: not each.option_strings):
        name = _name(action)
        repeated = action.nargs in ("+", "*") or isinstance(action, argparse._AppendAction)
        needed = action.required or (not action.option_strings and action.nargs not in ("*", "?"))
        words.append((name if needed else f"[{name}]") + ("…" if repeated else ""))
    return " ".join(words)


def _name(action: argparse.Action) -> str:
    metavar = action.metavar or ("|".join(map(str, action.choices)) if action.choices else action.dest.upper())
    if not action.option_strings:
        return str(metavar)
    takes = "" if action.nargs == 0 else f" {metavar}"
    return f"{action.option_strings[-1]}{takes}"


def _default_of(action: argparse.Action) -> str:
    value = action.default
    if isinstance(value, bool | list | NoneType) or value == argparse.SUPPRESS:
        return ""
    if isinstance(value, Path) and value.is_absolute():
        return f"`{value.relative_to(ROOT)}`"
    return f"`{value}`"


def _table_row(cells: Iterable[str]) -> str:
    """Return a row of a Markdown table; bars are escaped everywhere, angle brackets outside of code."""
    words = [each.replace("|", "\\|") for each in cells]
    parts = [each.split("`") for each in words]
    for each in parts:
        each[::2] = [text.replace("<", "&lt;") for text in each[::2]]
    return f"| {' | '.join('`'.join(each) for each in parts)} |"


PAGES: dict[str, Callable[[], str]] = {
    "docs/settings.md": settings_page,
    "docs/commands.md": commands_page,
    "docs/servers.md": servers_page,
    "docs/default-maps.md": lambda: default_maps_page(ROOT / "maps"),
    "docs/emulated-features.md": emulated_page,
}


def main() -> int:
    """Write the pages named as arguments, or all."""
    for name in sys.argv[1:] or PAGES:
        (ROOT / name).write_text(PAGES[name](), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
