"""Tables in Azure Storage: a row is an entity, its keys spelled so that any text can be one."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from azure.core.exceptions import HttpResponseError, ServiceResponseError
from azure.data.tables import EdmType, EntityProperty, UpdateMode
from azure.data.tables.aio import TableClient, TableServiceClient

from relay.store import Row
from relay.store.azure.account import Account
from relay.store.azure.wire import client_options, code_of, collect, created, credential_of, none_if, storage_errors
from relay.store.names import check_row, check_table, fit_key, read_key

_NO_TABLE, _NO_ROW, _THERE = "TableNotFound", "ResourceNotFound", "EntityAlreadyExists"

_ADDED_BY = "relayAddedBy"  # no caller's property: `check_row` refuses it
_OWN = {"PartitionKey", "RowKey", _ADDED_BY}


class Tables:
    """The table side of the store; a table is made when something is first written to it."""

    def __init__(self, account: Account) -> None:
        self._service = TableServiceClient(
            account.addresses["table"], credential=credential_of(account), **client_options()
        )

    async def get(self, table: str, partition: str, row: str) -> Row | None:
        """Read a row; None when it is not there."""
        found = await self._find(table, partition, row)
        return None if found is None else _values(found)

    async def put(self, table: str, partition: str, row: str, values: Row) -> None:
        """Write a row whole; one that is there is replaced."""
        check_row(table, partition, row, values)
        client = self._client(table)
        entity = _entity(partition, row, values)
        with storage_errors(f"table {table}"):
            await created(lambda: client.upsert_entity(entity, mode=UpdateMode.REPLACE), client.create_table, _NO_TABLE)

    async def add(self, table: str, partition: str, row: str, values: Row) -> bool:
        """Create a row; False when it is there already.

        An answer can be lost, and a repeated call is then told that the row is there: who added it is noted in it, so
        that one's own row is not taken for a rival's.
        """
        check_row(table, partition, row, values)
        client = self._client(table)
        mine = uuid4().hex
        entity = _entity(partition, row, values) | {_ADDED_BY: mine}
        with storage_errors(f"table {table}"):
            lost: ServiceResponseError | None = None
            try:
                await created(lambda: client.create_entity(entity), client.create_table, _NO_TABLE)
            except ServiceResponseError as error:
                lost = error
            except HttpResponseError as error:
                if code_of(error) != _THERE:
                    raise
            else:
                return True
            there = await self._find(table, partition, row)
            if there is None and lost is not None:
                raise lost
        return there is not None and there.get(_ADDED_BY) == mine

    async def delete(self, table: str, partition: str, row: str) -> None:
        """Delete a row; one that is not there is fine."""
        client = self._client(table)
        first, second = fit_key(partition), fit_key(row)
        if first is not None and second is not None:  # else nobody could have written it
            with storage_errors(f"table {table}"):
                await none_if(client.delete_entity(first, second), _NO_TABLE, _NO_ROW)

    async def list(
        self, table: str, partition: str | None = None, most: int | None = None
    ) -> list[tuple[str, str, Row]]:
        """List (partition, row, values) of a table or of one partition, in key order; with `most` the first so many."""
        client = self._client(table)
        if partition is None:
            entities = client.list_entities()
        elif (key := fit_key(partition)) is None:
            return []
        else:
            entities = client.query_entities("PartitionKey eq @partition", parameters={"partition": key})
        with storage_errors(f"table {table}"):
            found = await none_if(collect(entities, most), _NO_TABLE) or []
        rows = [(read_key(each["PartitionKey"]), read_key(each["RowKey"]), _values(each)) for each in found]
        return sorted(rows, key=lambda row: row[:2])

    async def close(self) -> None:
        """Give back the connections."""
        await self._service.close()

    async def _find(self, table: str, partition: str, row: str) -> Any:
        client = self._client(table)
        first, second = fit_key(partition), fit_key(row)
        if first is None or second is None:
            return None
        with storage_errors(f"table {table}"):
            return await none_if(client.get_entity(first, second), _NO_TABLE, _NO_ROW)

    def _client(self, table: str) -> TableClient:
        return self._service.get_table_client(check_table(table))


def _entity(partition: str, row: str, values: Row) -> dict[str, Any]:
    """Write a row as an entity; a whole number would be one of 32 bits if it did not say otherwise."""
    written = {
        name: EntityProperty(value, EdmType.INT64) if isinstance(value, int) and not isinstance(value, bool) else value
        for name, value in values.items()
    }
    return {"PartitionKey": fit_key(partition), "RowKey": fit_key(row), **written}


def _values(entity: Any) -> Row:
    return {
        name: value.value if isinstance(value, EntityProperty) else value
        for name, value in entity.items()
        if name not in _OWN
    }
