"""Loads a folder of maps: each file is checked against the facts in metadata.json, then all against each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path, PurePath
from typing import Any

from relay.errors import MapError
from relay.mapping.document import Document, parse_document, read_document
from relay.mapping.entity import build_entity
from relay.mapping.metadata import METADATA_FILE, load_metadata, parse_metadata
from relay.mapping.model import EntityMap, Table
from relay.mapping.shape import MapShape, shaped
from relay.mapping.values import same

_SUFFIXES = frozenset({".yaml", ".yml", ".json"})
_NOT_MAPS = frozenset({METADATA_FILE, "schema.json"})


@dataclass(frozen=True)
class MapSet:
    """Every entity map of a folder, and the tables they may name; a disabled map is only known as `disabled`."""

    maps: tuple[EntityMap, ...]
    tables: Mapping[str, Table]
    off: Mapping[str, EntityMap] = field(default_factory=dict)
    """The disabled maps by resource type."""
    _by_resource: dict[str, EntityMap] = field(init=False, repr=False, compare=False)
    _by_table: dict[str, tuple[EntityMap, ...]] = field(init=False, repr=False, compare=False)
    _by_identifier_table: dict[str, tuple[EntityMap, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_table: dict[str, tuple[EntityMap, ...]] = {}
        by_identifier_table: dict[str, tuple[EntityMap, ...]] = {}
        for each in self.maps:
            by_table[each.table.name] = (*by_table.get(each.table.name, ()), each)
            if each.identifier is not None:
                name = each.identifier.table.name
                by_identifier_table[name] = (*by_identifier_table.get(name, ()), each)
        object.__setattr__(self, "_by_resource", {each.resource: each for each in self.maps})
        object.__setattr__(self, "_by_table", by_table)
        object.__setattr__(self, "_by_identifier_table", by_identifier_table)

    def __iter__(self) -> Iterator[EntityMap]:
        return iter(self.maps)

    def for_resource(self, resource: str) -> EntityMap | None:
        """Return the map of a FHIR resource type."""
        return self._by_resource.get(resource)

    def disabled(self, resource: str) -> EntityMap | None:
        """Return the map of a FHIR resource type if it is there and disabled."""
        return self.off.get(resource)

    def for_table(self, table: str) -> tuple[EntityMap, ...]:
        """Return the maps whose rows are in `table` (logical name)."""
        return self._by_table.get(table, ())

    def for_identifier_table(self, table: str) -> tuple[EntityMap, ...]:
        """Return the maps whose identifier rows are in `table` (logical name)."""
        return self._by_identifier_table.get(table, ())

    def fitting(self, table: str, row: Mapping[str, Any]) -> EntityMap | None:
        """Return the map of `table` whose `where` a row, as the Web API returns it, fits; None: somebody else's row."""
        for each in self.for_table(table):
            columns = each.table.columns
            if all(name in row and same(columns[name], row[name], value) for name, value in each.where.items()):
                return each
        return None


def load_maps(folder: Path) -> MapSet:
    """Read metadata.json and every map beside it; raises MapError with all faults, one a line, in file order."""
    tables = load_metadata(folder / METADATA_FILE)
    paths = [path for path in folder.iterdir() if is_map(path)]
    return build_maps(str(folder), {path: partial(read_document, path) for path in paths}, tables)


def parse_maps(name: str, files: Mapping[str, bytes], facts: Path) -> MapSet:
    """Read maps from their contents by file name; without a metadata.json among them the facts are those of `facts`.

    Raises MapError as `load_maps` does.
    """
    place = PurePath(name)
    if METADATA_FILE in files:
        tables = parse_metadata(place / METADATA_FILE, files[METADATA_FILE])
    else:
        tables = load_metadata(facts)
    read = {path: partial(parse_document, path, data) for each, data in files.items() if is_map(path := place / each)}
    return build_maps(name, read, tables)


def is_map(path: PurePath) -> bool:
    """Tell whether a file of this name is a map."""
    return path.suffix in _SUFFIXES and path.name not in _NOT_MAPS


def build_maps(name: str, files: Mapping[PurePath, Callable[[], Document]], tables: Mapping[str, Table]) -> MapSet:
    """Build and check maps, each read by its function, in the order of their names."""
    if not files:
        raise MapError(f"{name}: holds no maps (valid: {', '.join(f'*{suffix}' for suffix in sorted(_SUFFIXES))})")
    errors: list[MapError] = []
    shapes: list[tuple[MapShape, Document]] = []
    for path in sorted(files):
        try:
            document = files[path]()
            if not isinstance(document.data, dict):
                raise document.error((), "a map is an object of keys", ["resource", "table", "key", "attributes"])
        except MapError as error:
            errors.append(error)
            continue
        if (shape := shaped(MapShape, document, (), document.data, errors)) is not None:
            shapes.append((shape, document))
    mapped = {shape.resource: shape.table for shape, _ in shapes if not shape.disabled}
    built = [(build_entity(shape, document, tables, mapped, errors), document) for shape, document in shapes]
    errors.extend(_across([(entity, document) for entity, document in built if entity is not None]))
    if errors:
        raise MapError("\n".join(map(str, errors)))
    entities = [entity for entity, _ in built if entity is not None]
    off = {entity.resource: entity for entity in entities if entity.disabled}
    return MapSet(tuple(entity for entity in entities if not entity.disabled), tables, off)


def _across(built: list[tuple[EntityMap, Document]]) -> Iterator[MapError]:
    """Every fault between two maps: one resource type twice, or one row that both would take."""
    for (one, _), (other, document) in combinations(built, 2):
        if one.resource == other.resource:
            yield document.error(("resource",), f"{one.resource} has a map in {one.file} already")
        elif one.table is other.table and not (one.disabled or other.disabled or _disjoint(one, other)):
            yield document.error(
                ("where",),
                f"a row of {one.table.name} could fit this map and that of {one.resource} in {one.file}: "
                "one column must have different values in the where of both",
            )


def _disjoint(one: EntityMap, other: EntityMap) -> bool:
    return any(name in other.where and other.where[name] != value for name, value in one.where.items())
