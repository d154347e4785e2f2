"""Entity maps → map files: one for each root map, its expansions within."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relay.mapping.document import Place
from relay.mapping.model import Table
from relay.mapping.paths import Member, Step
from relay.mapping.r4 import RESOURCE_TYPES
from relay.mapping.toolkit.expansions import Expander
from relay.mapping.toolkit.lines import Built, NotSaid, Setting, line_of, merged, origins_of
from relay.mapping.toolkit.report import Entry, Report
from relay.mapping.toolkit.rows import EntityRow, lose_all

_KEYS: Mapping[tuple[Step, ...], str] = {
    (Member("id"),): "key",
    (Member("meta"), Member("versionId")): "version",
    (Member("meta"), Member("lastUpdated")): "last_updated",
}
"""The elements that the top of a map names a column for."""
_CONVENTION = {
    "key": ("msemr_azurefhirid", "prefix_fhirid"),
    "version": ("msemr_azurefhirversion", "prefix_fhirversion"),
    "last_updated": ("msemr_azurefhirlastupdatedon", "prefix_fhirlastupdatedon"),
}
"""What those columns are called where no line says it: in the toolkit's tables, else as the relay adds them."""
_KINDS = {"contact": "msemr_contacttype"}
"""Tables that hold rows of several resource types, and the column that tells them apart."""


@dataclass(eq=False, slots=True)
class MapFile:
    """One map: its top, then its lines; `title` are the lines of comment at its head.

    `origins` are the rows that its parts came from, by where they stand in `data`.
    """

    name: str
    title: tuple[str, ...]
    top: dict[str, Any]
    lines: list[Built]
    entity: EntityRow
    origins: dict[Place, list[Entry]]

    @property
    def data(self) -> dict[str, Any]:
        """Return the map as a file has it."""
        return self.top | ({"attributes": [each.line for each in self.lines]} if self.lines else {})


def build_maps(entities: Sequence[EntityRow], tables: Mapping[str, Table], report: Report) -> list[MapFile]:
    """Build every map; `tables` are the facts to read constants and conventions by."""
    expander = Expander(entities, tables)
    roots: dict[str, EntityRow] = {}
    for entity in entities:
        if expander.expands(entity):
            continue
        if entity.resource not in RESOURCE_TYPES:
            what = f"{entity.resource} is no R4 type" if entity.resource else "there is no Azure FHIR Resource"
            lose_all(entity, what)
        elif not entity.table:
            lose_all(entity, "there is no EntityName")
        else:
            _choose(entity, roots)
    mapped = {resource: entity.table for resource, entity in roots.items()}
    made = [_map(entity, mapped, tables, expander) for entity in roots.values()]
    _tell_apart(made)
    for entity in expander.unused():
        lose_all(entity, "no Expand line of a map that is carried runs this expansion")
    for each in made:
        _settle(each, report)
    for row in (row for entity in entities for row in entity.attributes):
        if not row.entry.file and not row.entry.losses:
            row.entry.lose("the expansion around it is not carried")
        for value in row.values:
            value.entry.file = row.entry.file
            if not row.entry.file:
                value.entry.lose("its attribute map is not carried")
    return made


def _choose(entity: EntityRow, roots: dict[str, EntityRow]) -> None:
    """Keep one root map for each type: an active one before an archived one, an enabled one before a disabled one."""
    there = roots.get(entity.resource)
    if there is None:
        roots[entity.resource] = entity
        return
    worse, better = sorted((there, entity), key=lambda each: (each.active, not each.disabled, each is there))
    roots[entity.resource] = better
    lose_all(worse, f"a resource type has one map, and {entity.resource} has {better.name} already")


def _map(entity: EntityRow, mapped: Mapping[str, str], tables: Mapping[str, Table], expander: Expander) -> MapFile:
    setting = Setting(tables.get(entity.table), tables, mapped, child=False, writeback=entity.goes_out)
    top: dict[str, Any] = {"resource": entity.resource, "table": entity.table}
    origins: dict[Place, list[Entry]] = {(): [entity.entry]}
    lines = list(_lines(entity, setting, top, origins))
    _conventions(entity, setting, top)
    if entity.disabled or not entity.active:
        top["disabled"] = True
        if not entity.active:
            entity.entry.change("is archived: disabled")
    _writeback(entity, top, lines)
    expanding = expander.lines_of(entity, mapped)
    if expanding.identifier is not None:
        top["identifier"] = expanding.identifier
    if expanding.definitions:
        top["expansions"] = expanding.definitions
    title = [f"{entity.resource} → {entity.table}, imported from the Data integration toolkit: {entity.name}"]
    if entity.tag:
        title.append(f"Tag: {entity.tag}")
        entity.entry.change("Tag became a comment: its effect is not documented")
    origins |= expanding.origins
    name = f"{entity.resource.lower()}.yaml"
    return MapFile(name, tuple(title), top, [*merged(lines), *expanding.lines], entity, origins)


def _lines(
    entity: EntityRow, setting: Setting, top: dict[str, Any], origins: dict[Place, list[Entry]]
) -> Iterator[Built]:
    """Build the lines that write columns; those of id and meta go into the top of the map."""
    usual = {name for names in _CONVENTION.values() for name in names}
    for row in sorted(entity.attributes, key=lambda each: each.column not in usual):
        if row.action in ("", "expand"):
            continue
        try:
            built = line_of(row, setting)
        except NotSaid as why:
            row.entry.lose(str(why))
            continue
        key = _KEYS.get(built.paths[0].steps) if row.action == "copy" and len(built.paths) == 1 else None
        if key is None or (key in top and key == "key"):
            yield built
        elif key in top:
            row.entry.lose(f"{key} of the map is {top[key] or 'left out'} already")
        elif row.disabled and key != "key":
            row.entry.change(f"is disabled: {key} of the map is left out")
            top[key] = ""
            origins[key,] = [row.entry]
        else:
            (row.entry.change if row.disabled else row.entry.note)(f"is {key} of the map")
            top[key] = row.column
            origins[key,] = [row.entry]


def _conventions(entity: EntityRow, setting: Setting, top: dict[str, Any]) -> None:
    """Name the columns of id and meta that no line named; a map needs its key."""
    given = {key: top.pop(key) for key in _CONVENTION if key in top}
    for key, names in _CONVENTION.items():
        name = given.get(key)
        if name is None:
            name = next((each for each in names if setting.column(each) is not None), "")
            if not name and key == "key":
                name = names[0]
            if name:
                entity.entry.change(f"no line copies what {key} stands for: {name}, by convention")
        if name:
            top[key] = name


def _writeback(entity: EntityRow, top: dict[str, Any], lines: Sequence[Built]) -> None:
    """Say which Dataverse events go out, and what is otherwise than in the toolkit when they do."""
    if not entity.goes_out:
        if entity.messages or entity.writeback:
            what = "without Supported Messages" if entity.writeback else "is No, with Supported Messages"
            entity.entry.change(f"Enable Write Back to FHIR {what}: nothing goes out")
        else:
            entity.entry.note("Enable Write Back to FHIR is No: no line says writeback: true")
        return
    top["writeback"] = list(entity.messages)
    if "create" in entity.messages:
        entity.entry.change(
            "a row that a user creates becomes a resource only with create_in_fhir: true, which is yours to say"
        )
    bare = [built for built in lines if built.bare and built.line.get("writeback")]
    if bare:
        columns = ", ".join(built.line["column"] for built in bare)
        entity.entry.change(
            f"lines without c ({columns}): the toolkit leaves an absent element absent, the relay makes it"
        )


def _tell_apart(made: Sequence[MapFile]) -> None:
    """Turn constants that tell the rows of two maps on one table apart into `where`."""
    by_table: dict[str, list[MapFile]] = {}
    for each in made:
        for constant in [line for line in each.lines if line.action == "default" and line.rows[0].match]:
            if "disabled" not in constant.line:
                _to_where(each, constant)  # what a row is looked up by, and always the same
        by_table.setdefault(each.entity.table, []).append(each)
    for table, sharing in by_table.items():
        column = _KINDS.get(table) or (_distinguishing(sharing) if len(sharing) > 1 else None)
        for each in sharing:
            built = _constant_line(each, column) if column else None
            if built is not None:
                _to_where(each, built)
            elif table in _KINDS and column not in each.top.get("where", {}):
                each.entity.entry.change(
                    f"no line sets {column} by default: there is no where, so any row of {table} may be taken"
                )


def _distinguishing(sharing: Sequence[MapFile]) -> str | None:
    """Return a column that every one of these maps sets to a constant of its own."""
    for built in sharing[0].lines:
        column = str(built.line.get("column", ""))
        found = [_constant_line(each, column) for each in sharing]
        if len({repr(each.line["default"]) for each in found if each is not None}) == len(sharing):
            return column
    return None


def _constant_line(made: MapFile, column: str) -> Built | None:
    fitting = (each for each in made.lines if each.action == "default" and each.line["column"] == column)
    return next((each for each in fitting if "disabled" not in each.line), None)


def _to_where(made: MapFile, built: Built) -> None:
    """Move one line to `where`, which stands below the table."""
    made.lines.remove(built)
    column, constant = built.line["column"], built.line["default"]
    where = {**made.top.pop("where", {}), column: constant}
    made.top = {"resource": made.top["resource"], "table": made.top["table"], "where": where} | made.top
    made.origins["where", column] = [row.entry for row in built.rows]
    for row in built.rows:
        row.entry.change("became where: it is also how the rows of this map are told from others of the table")


def _settle(made: MapFile, report: Report) -> None:
    """Tell each row which file it went into."""
    report.written.append((made.name, made.entity.resource, made.entity.table))
    made.origins |= origins_of(made.lines, ("attributes",))
    for entries in made.origins.values():
        for entry in entries:
            entry.file = made.name
