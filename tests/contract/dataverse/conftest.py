"""An org for the client's contract: the emulator, or the one that `DATAVERSE_URL` names, with a table of its own.

The table is made before the first test and deleted after the last one, on the emulator too, so that both speak of the
same. A real org needs an application user that may customize: `DATAVERSE_TENANT_ID`, `DATAVERSE_CLIENT_ID` and
`DATAVERSE_CLIENT_SECRET`; `DATAVERSE_PREFIX` is the publisher's (default: new).
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from devstack import dataverse as dataverse_emulator
from relay.auth import dataverse_auth
from relay.dataverse.batch import Request
from relay.dataverse.client import DataverseClient
from relay.dataverse.errors import DataverseError
from relay.dataverse.throttle import Governor
from relay.settings import Settings

CRM = "Microsoft.Dynamics.CRM"
SECRETS = ("DATAVERSE_TENANT_ID", "DATAVERSE_CLIENT_ID", "DATAVERSE_CLIENT_SECRET")
PATIENCE = 300.0  # seconds that an alternate key's index may take: Microsoft's own sample waits as long
LOCKED = 20  # tries while another customization is under way

Connect = Callable[[], DataverseClient]


@dataclass(frozen=True)
class Place:
    """An org and a table in it: `name` is the logical name, `code` an alternate key's column, `other` a plain text."""

    connect: Connect
    real: bool
    name: str
    entity_set: str

    @property
    def key(self) -> str:
        """The primary key's column."""
        return f"{self.name}id"

    @property
    def code(self) -> str:
        """The column of the alternate key."""
        return f"{self.name}_code"

    @property
    def parent(self) -> str:
        """The lookup to another row of the table, and its navigation property."""
        return f"{self.name}_parent"


@contextmanager
def _emulator() -> Iterator[Connect]:
    org = dataverse_emulator.create_app(key_ms=0)
    try:
        yield lambda: DataverseClient("http://dataverse", transport=httpx.ASGITransport(org))
    finally:
        org.store.close()


def _org(url: str) -> Connect:
    if missing := [name for name in SECRETS if not os.environ.get(name)]:
        pytest.fail(f"DATAVERSE_URL is set, and {', '.join(missing)} not", pytrace=False)
    tenant, client, secret = (os.environ[name] for name in SECRETS)
    settings = Settings(
        dataverse_url=url, dataverse_auth="client_secret", tenant_id=tenant, client_id=client, client_secret=secret
    )
    return lambda: DataverseClient(url, auth=dataverse_auth(settings), governor=Governor(max_wait=PATIENCE))


@pytest.fixture(scope="session")
def place() -> Iterator[Place]:
    """Make a table for this run and delete it afterwards, whatever became of the tests."""
    url = os.environ.get("DATAVERSE_URL", "")
    name = f"{os.environ.get('DATAVERSE_PREFIX', 'new')}_relay{secrets.token_hex(4)}"
    with nullcontext(_org(url)) if url else _emulator() as connect:
        found = Place(connect, bool(url), name, f"{name}s")
        try:
            entity_set = asyncio.run(_made(found))
            yield Place(connect, found.real, name, entity_set)
        finally:
            asyncio.run(_removed(found))


async def _made(place: Place) -> str:
    """Make the table, its columns, lookup and alternate key; returns its entity set once the key is usable."""
    async with place.connect() as org:
        await _customize(org, "POST", "EntityDefinitions", _table(place))
        above = f"EntityDefinitions(LogicalName='{place.name}')"
        await _customize(org, "POST", f"{above}/Attributes", _text(place.code, 100))
        await _customize(org, "POST", "RelationshipDefinitions", _lookup(place))
        await _customize(org, "POST", f"{above}/Keys", _key(place))
        await _until_active(org, f"{above}/Keys(LogicalName='{place.code}key')?$select=EntityKeyIndexStatus")
        return str((await org.get(f"{above}?$select=EntitySetName"))["EntitySetName"])


async def _customize(org: DataverseClient, method: str, url: str, body: dict[str, Any] | None = None) -> None:
    """Change the org, one thing after the other: a customization under way elsewhere is waited for."""
    for attempt in range(LOCKED):
        try:
            await org.send(Request(method, url, body, {"Consistency": "Strong"}))
        except DataverseError as error:
            if error.name != "CustomizationLock" or attempt == LOCKED - 1:
                raise
            await asyncio.sleep(15)
        else:
            return


async def _until_active(org: DataverseClient, url: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await org.get(url))["EntityKeyIndexStatus"] != "Active":  # noqa: ASYNC110 - somebody else's index
            await asyncio.sleep(5)


async def _removed(place: Place) -> None:
    async with place.connect() as org:
        try:
            await _customize(org, "DELETE", f"EntityDefinitions(LogicalName='{place.name}')")
        except DataverseError as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise


def _label(text: str) -> dict[str, Any]:
    label = {"@odata.type": f"{CRM}.LocalizedLabel", "Label": text, "LanguageCode": 1033}
    return {"@odata.type": f"{CRM}.Label", "LocalizedLabels": [label]}


def _text(name: str, length: int, **more: Any) -> dict[str, Any]:
    return {
        "@odata.type": f"{CRM}.StringAttributeMetadata",
        "SchemaName": name,
        "DisplayName": _label(name),
        "RequiredLevel": {"Value": "None"},
        "MaxLength": length,
        "FormatName": {"Value": "Text"},
        **more,
    }


def _table(place: Place) -> dict[str, Any]:
    return {
        "@odata.type": f"{CRM}.EntityMetadata",
        "SchemaName": place.name,
        "DisplayName": _label("Contract of the relay's client"),
        "DisplayCollectionName": _label("Contracts of the relay's client"),
        "OwnershipType": "UserOwned",
        "HasActivities": False,
        "HasNotes": False,
        "IsActivity": False,
        "Attributes": [_text(f"{place.name}_name", 50, IsPrimaryName=True)],
    }


def _lookup(place: Place) -> dict[str, Any]:
    return {
        "@odata.type": f"{CRM}.OneToManyRelationshipMetadata",
        "SchemaName": f"{place.parent}s",
        "ReferencedEntity": place.name,
        "ReferencedAttribute": place.key,
        "ReferencingEntity": place.name,
        "ReferencingEntityNavigationPropertyName": place.parent,
        "ReferencedEntityNavigationPropertyName": f"{place.parent}s",
        "CascadeConfiguration": {"Delete": "RemoveLink", "Assign": "NoCascade", "Share": "NoCascade"},
        "Lookup": {
            "@odata.type": f"{CRM}.LookupAttributeMetadata",
            "SchemaName": place.parent,
            "DisplayName": _label("Parent"),
            "RequiredLevel": {"Value": "None"},
        },
    }


def _key(place: Place) -> dict[str, Any]:
    return {
        "@odata.type": f"{CRM}.EntityKeyMetadata",
        "SchemaName": f"{place.code}key",
        "DisplayName": _label("Code"),
        "KeyAttributes": [place.code],
    }


@pytest.fixture
async def org(place: Place) -> AsyncIterator[DataverseClient]:
    """Return a client of the org."""
    async with place.connect() as client:
        yield client
