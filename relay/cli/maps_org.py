"""Reads table definitions from an org, signed in as the app is (RELAY_* settings)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from relay.errors import Transient

if TYPE_CHECKING:
    from relay.dataverse.client import DataverseClient

Facts = dict[str, dict[str, Any]]

_TABLE = (
    "?$select=LogicalName,SchemaName,DisplayName,EntitySetName,PrimaryIdAttribute,PrimaryNameAttribute,OwnershipType,"
    "IsOptimisticConcurrencyEnabled&$expand="
    "ManyToOneRelationships($select=ReferencingAttribute,ReferencedEntity,ReferencingEntityNavigationPropertyName),"
    "Keys($select=SchemaName,KeyAttributes,DisplayName)"
)
_AT_ONCE = 4
_NOT_FOUND = 404


def read_org(url: str, tables: Iterable[str]) -> Facts:
    """Return what `metadata.json` would say of each table that the org has; a table it lacks is left out.

    Raises SettingsError, DataverseError and Transient as the client does.
    """
    return asyncio.run(_read(url, tables))


async def _read(url: str, tables: Iterable[str]) -> Facts:
    from relay.auth import dataverse_auth
    from relay.dataverse.client import DataverseClient
    from relay.settings import load_settings

    settings = load_settings(dataverse_url=url)
    seconds = settings.timeout.total_seconds()
    async with DataverseClient(url, auth=dataverse_auth(settings), timeout=seconds) as client:
        await client.who_am_i()  # what is no org, or lets nobody in, is told so, and not as a lack of tables
        return await read_definitions(client, tables)


async def read_definitions(client: DataverseClient, tables: Iterable[str]) -> Facts:
    """Return the facts of the tables that are there, a few tables at once."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(name: str) -> tuple[str, dict[str, Any] | None]:
        async with gate:
            return name, await _table(client, name)

    found = await asyncio.gather(*(one(name) for name in sorted(set(tables))))
    return {name: facts for name, facts in found if facts is not None}


async def _table(client: DataverseClient, name: str) -> dict[str, Any] | None:
    from relay.dataverse import quoting
    from relay.dataverse.errors import DataverseError
    from relay.mapping.definitions import KINDS_WITH_OPTIONS, column_type, table_facts

    at = f"EntityDefinitions(LogicalName='{quoting.logical_name(name)}')"
    try:
        definition = await client.get(f"{at}{_TABLE}", metered=False)
        attributes = (await client.get(f"{at}/Attributes", metered=False))["value"]
        kinds = {column_type(each) for each in attributes}
        options: dict[str, Any] = {}
        for kind in KINDS_WITH_OPTIONS:
            if kind in kinds:
                options |= await _options(client, f"{at}/Attributes/Microsoft.Dynamics.CRM.{kind}AttributeMetadata")
        return table_facts(definition, attributes, options)
    except DataverseError as error:
        if error.status == _NOT_FOUND:
            return None
        raise
    except (AttributeError, KeyError, TypeError):
        raise Transient(f"the org's definition of {name} cannot be read", code="bad-answer") from None


async def _options(client: DataverseClient, at: str) -> Mapping[str, Any]:
    """Return the options by column; a column that shares a global option set may not repeat its options."""
    found = {}
    for each in (await client.get(f"{at}?$select=LogicalName&$expand=OptionSet", metered=False))["value"]:
        options = each.get("OptionSet")
        if options is None:
            path = at.replace("/Attributes/", f"/Attributes(LogicalName='{each['LogicalName']}')/")
            options = (await client.get(f"{path}?$select=LogicalName&$expand=GlobalOptionSet", metered=False)).get(
                "GlobalOptionSet"
            )
        found[each["LogicalName"]] = (options or {}).get("Options", [])
    return found
