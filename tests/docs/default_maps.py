"""The page docs/default-maps.md, read off the shipped maps: what goes where, and what each file's head says of itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from textwrap import fill
from typing import Any

from relay.mapping.document import read_document
from relay.mapping.elements import disabled_expansions
from relay.mapping.load import MapSet, load_maps
from relay.mapping.model import EntityMap, ExpansionMap

_FOR_EDITORS = "# yaml-language-server: "
OURS = "prefix_"
"""How the names begin that are no part of Microsoft's model."""

_HEAD = """\
# Default maps

Written by `python tests/docs/generated.py` from `maps/`; do not edit.

The maps that ship, in `maps/`: one file per type. Copy the folder, take out what you do not need, and change the rest:
[maps](maps.md). `relay maps check` says what is wrong then, `relay maps check --from URL` what your org says otherwise.

- The table of each type has its child table of identifiers, and the row's GUID goes back into the resource. Nothing else
  goes to FHIR: [both ways](both-ways.md) is off.
- Names, codes and dates that do not fit their column fail the resource; address lines, titles and the like are cut, and
  that is told. A code for which the table has no option empties its column, and that is told too.
- An element that is absent leaves its column as it is, but for the parts of a value that is taken whole.
- `statecode` and `statuscode` stay with Dataverse: the status in FHIR has a column of its own, or none.
"""

_OURS = f"""\
## What is not in Microsoft's model

`{OURS}` stands for your publisher's prefix: replace it in maps and `metadata.json` by your own. These tables and columns
have to be made in your org; nothing makes them for you yet.

- For every type a table of identifiers, after Microsoft's reference architecture: `{OURS}patientidentifier` with the columns
  `{OURS}system` and `{OURS}value`, and the lookup `{OURS}patient` to the row. The name is the type's, in small letters.
"""

_TEXTS = """\
## What each one does

And what it leaves out, as the head of its file has it. `relay maps coverage` counts what no line reads of files of yours.
"""


def default_maps_page(folder: Path) -> str:
    """Return the page for the maps of a folder."""
    maps = load_maps(folder)
    entities = sorted([*maps, *maps.off.values()], key=lambda each: each.resource)
    lines = [_HEAD, f"## The {len(entities)} maps", ""]
    lines += ["| FHIR type | table | key | child rows besides identifiers |", "|---|---|---|---|"]
    lines += [_row(maps, entity) for entity in entities]
    lines += ["", "Off: the map or the line is there, with `disabled: true`; the reason stands below.", ""]
    lines += [_OURS + _added(entities), "", _TEXTS]
    for entity in entities:
        lines += [f"### {entity.resource}", "", *_head(Path(entity.file)), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _row(maps: MapSet, entity: EntityMap) -> str:
    where = ", ".join(f"`{name}` {_option(entity, name, value)}" for name, value in entity.where.items())
    table = f"`{entity.table.name}`" + (f" ({where})" if where else "")
    name = entity.resource + (" (off)" if maps.disabled(entity.resource) else "")
    cells = (f"[{name}](#{entity.resource.lower()})", table, f"`{entity.key}`", "<br>".join(_children(entity)))
    return f"| {' | '.join(cells)} |"


def _option(entity: EntityMap, column: str, value: Any) -> str:
    return entity.table.columns[column].options.get(value, str(value))


def _children(entity: EntityMap) -> Iterator[str]:
    """Yield what the arrays become; the lines that are off come last."""
    own = entity.identifier.table if entity.identifier else None
    yield from _named("", (each for each in entity.expansions if each.table is not own))
    off = dict(disabled_expansions(entity))
    yield from (f"{'.'.join(at)} → `{each.table.name}` (off)" for at, each in off.items())
    yield from (f"{name} → `{table}` (off)" for name, table in _switched_off(Path(entity.file)))


def _named(above: str, expansions: Iterable[ExpansionMap]) -> Iterator[str]:
    for each in expansions:
        yield f"{above}{each.element} → `{each.table.name}`"
        yield from _named(f"{above}{each.element}.", each.expansions)


def _switched_off(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (array, table) of the lines that a loaded map no longer has, because they say `disabled`."""
    data: Any = read_document(path).data
    named = data.get("expansions", {})
    for line in data["attributes"]:
        if "expand" in line and line.get("disabled"):
            yield line["expand"], named[line["using"]]["table"] if "using" in line else line["table"]


def _added(entities: Iterable[EntityMap]) -> str:
    """Tell which tables of Microsoft's have columns of ours."""
    tables = {
        entity.table.name: [name for name in (entity.key, entity.version, entity.last_updated) if name.startswith(OURS)]
        for entity in entities
    }
    columns = dict.fromkeys(name for names in tables.values() for name in names)
    named = ", ".join(f"`{name}`" for name in sorted(table for table, names in tables.items() if names))
    text = f"- The columns {', '.join(f'`{name}`' for name in columns)} on the tables without a column for the FHIR id: {named}."
    return fill(text, 120, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _head(path: Path) -> Iterator[str]:
    """Yield the comment at the head of a file; its first line says what the table above says."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            return
        if not line.startswith(_FOR_EDITORS):
            yield line.removeprefix("#").removeprefix(" ")
