"""Navigation names, read from the org when it does not know one that the facts assume: once per table and process."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from relay.dataverse import quoting
from relay.dataverse.client import DataverseClient
from relay.dataverse.errors import DataverseError
from relay.errors import Transient
from relay.mapping.definitions import navigation_names
from relay.mapping.load import MapSet
from relay.mapping.rename import Names, renamed

UNKNOWN: Final = frozenset({"0x80048d19", "0x80060888"})
"""Codes of a body with an undeclared property, and of a URL with a name that is not known."""

_RELATIONSHIPS: Final = (
    "$select=LogicalName&$expand="
    "ManyToOneRelationships($select=ReferencingAttribute,ReferencedEntity,ReferencingEntityNavigationPropertyName)"
)

log = logging.getLogger(__name__)


class NamesRead(Transient):
    """The maps have other names now: what was read and written with the old ones is to be done again."""


class OrgNames:
    """What an org calls the navigation properties of tables about which it was asked."""

    def __init__(self, dataverse: DataverseClient) -> None:
        self._dataverse = dataverse
        self._known: dict[str, Names] = {}

    def applied(self, maps: MapSet) -> MapSet:
        """Return the maps with the names that are known."""
        return renamed(maps, self._known)

    async def ask(self, tables: Iterable[str]) -> None:
        """Read the names of tables that were not asked about yet; what is refused is left as the facts say.

        Raises Transient when Dataverse is away.
        """
        for table in sorted(set(tables) - self._known.keys()):
            at = f"EntityDefinitions(LogicalName='{quoting.logical_name(table)}')"
            try:
                definition = await self._dataverse.get(f"{at}?{_RELATIONSHIPS}", metered=False)
                self._known[table] = navigation_names(definition)
            except Transient:
                raise
            except (DataverseError, KeyError, TypeError):
                log.warning("the navigation names of %s cannot be read from the org", table)
                self._known[table] = {}
