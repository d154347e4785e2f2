"""An export → map files and a report: the whole of an import, but for reading and writing files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from relay.mapping.document import Place
from relay.mapping.model import Table
from relay.mapping.toolkit.columns import field_named
from relay.mapping.toolkit.maps import MapFile, build_maps
from relay.mapping.toolkit.records import Records
from relay.mapping.toolkit.report import Report
from relay.mapping.toolkit.rows import Reader
from relay.mapping.toolkit.write import write_map

_FAULT = re.compile(r"(?P<file>.+?\.yaml):(?P<line>[0-9]+): ")


@dataclass(frozen=True, slots=True)
class Converted:
    """The map files of an export, as data and as text by file name, and what became of each row."""

    maps: tuple[MapFile, ...]
    texts: Mapping[str, str]
    report: Report


def convert(records: Records, tables: Mapping[str, Table], named: Mapping[str, str]) -> Converted:
    """Turn an export into map files; `tables` are facts, `named` says which column holds a field (key → column)."""
    report = Report()
    entities = Reader(records, named, report).entities()
    maps = tuple(build_maps(entities, tables, report))
    if not maps and not report.problems:
        report.problems.append("there is no entity map of a resource in the export")
    return Converted(maps, {each.name: write_map(each.data, each.title, _labels(each)) for each in maps}, report)


def unknown_names(names: Mapping[str, str], records: Records) -> list[str]:
    """Return what is wrong with a caller's answers: a field nobody knows, a column that is not there."""
    present = {name.casefold() for row in records.rows for name in row.cells}
    wrong = [f"{name}: no column of the toolkit's forms is called so" for name in names if field_named(name) is None]
    missing = [
        f"{column}: no row of the export has this column"
        for column in names.values()
        if column.casefold() not in present
    ]
    return wrong + missing


def blame(converted: Converted, lines: Mapping[str, Mapping[Place, int]], faults: str) -> None:
    """Add what the loader says to the report, and to the rows that the lines of the files came from.

    `lines` are the line numbers of each file's places, `faults` the loader's message, `file:line: …` each.
    """
    by_name = {each.name: each for each in converted.maps}
    for fault in filter(None, re.split(r"\n(?=\S)", faults)):
        converted.report.faults.append(fault)
        found = _FAULT.match(fault)
        made = by_name.get(re.split(r"[\\/]", found["file"])[-1]) if found else None
        if found is None or made is None:
            continue
        numbers = lines.get(made.name, {})
        at = {
            place: numbers[place] for place in made.origins if place in numbers and numbers[place] <= int(found["line"])
        }
        place = max(at, key=lambda each: (at[each], len(each)), default=())
        for entry in made.origins.get(place, ()):
            entry.lose(f"does not load: {fault[found.end() :].splitlines()[0]}")


def _labels(made: MapFile) -> dict[Place, str]:
    """Return the labels of options, to stand as comments behind the numbers."""
    remarks: dict[Place, str] = {}
    for index, built in enumerate(made.lines):
        for row in built.rows if built.action == "map" else ():
            for value in row.values:
                if value.label and value.label.casefold() != value.fhir.casefold() and value.active and value.fhir:
                    remarks["attributes", index, "values", value.fhir] = value.label
    return remarks
