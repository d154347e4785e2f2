"""Maps with the navigation names that an org really has, in place of those that the facts assume."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import replace

from relay.mapping.check import every_expansion
from relay.mapping.load import MapSet
from relay.mapping.model import EntityMap, Table

Names = Mapping[str, Mapping[str, str]]
"""Lookup column → table it may point to → navigation property."""


def renamed(maps: MapSet, names: Mapping[str, Names]) -> MapSet:
    """Return the maps with these names, by table; the same object if they change nothing."""
    tables = {name: _table(maps.tables[name], found) for name, found in names.items() if name in maps.tables}
    others = {id(maps.tables[name]): table for name, table in tables.items() if table != maps.tables[name]}
    # a map holds its tables in many places, and each of them must be the same one
    return deepcopy(maps, {**others}) if others else maps


def tables_of(maps: Iterable[EntityMap]) -> set[str]:
    """Return the names of the tables that these maps write."""
    found: set[str] = set()
    for entity_map in maps:
        found.add(entity_map.table.name)
        found |= {each.table.name for each in every_expansion(entity_map.expansions)}
        found |= {entity_map.identifier.table.name} if entity_map.identifier is not None else set()
    return found


def _table(table: Table, names: Names) -> Table:
    columns = {
        name: replace(column, navigation={**column.navigation, **_known(column.navigation, names.get(name, {}))})
        for name, column in table.columns.items()
    }
    return replace(table, columns=columns)


def _known(ours: Mapping[str, str], its: Mapping[str, str]) -> Mapping[str, str]:
    return {target: its[target] for target in ours if target in its}
