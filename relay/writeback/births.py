"""A row that users made becomes a resource: looked for by its identifiers first, made once, its id written on the row."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, Final

from relay.dataverse.client import DataverseClient
from relay.errors import Failed, Transient
from relay.fhir.client import BUSY, FhirClient, Hit, Token
from relay.fhir.edits import apply_edits
from relay.fhir.identifiers import dynamics_ids
from relay.mapping.expansions import IDENTIFIER
from relay.mapping.model import EntityMap, IdentifierMap, Resolve, Table
from relay.mapping.reverse import resource_of
from relay.store.agreed import Agreed
from relay.store.turns import Turns
from relay.writeback.outgoing import Sent, fits, marks_of, refuse
from relay.writeback.rows import Row, RowReader, save, standing_for

INACTIVE: Final = 1
"""The `statecode` of a row that was deactivated, as by a merge; most tables have no third state."""


class Births:
    """Makes resources of rows, each once. Raises Transient to be tried again, Failed for a person.

    A FHIR server's conditional create need not be atomic (HAPI's is not: hapifhir/hapi-fhir issue 3141), so two tries at
    once take turns by a note in the store; should that be lost, a server that keeps the condition still makes one.
    """

    def __init__(
        self,
        rows: RowReader,
        dataverse: DataverseClient,
        fhir: FhirClient,
        *,
        agreed: Agreed,
        turns: Turns,
        resolve: Resolve,
        new_tag: Callable[[], str],
    ) -> None:
        self._rows = rows
        self._dataverse = dataverse
        self._fhir = fhir
        self._agreed = agreed
        self._turns = turns
        self._resolve = resolve
        self._new_tag = new_tag

    async def bear(self, entity_map: EntityMap, guid: str) -> Sent:
        """Find or make the resource that a row without a FHIR id stands for, and write its id on the row.

        Raises Failed `several-matches`, `ambiguous-match`, `identifier-conflict`, `id-too-long` or `fhir-<status>`, and
        Transient `unlinked-reference` while a row it points to has no FHIR id.
        """
        identifier = entity_map.identifier
        if identifier is None:
            return Sent("ignored", "no-identifier")
        async with self._turns.taking(entity_map.table.name, guid):
            return await self._bear(entity_map, identifier, guid)

    async def _bear(self, entity_map: EntityMap, identifier: IdentifierMap, guid: str) -> Sent:
        columns = dict.fromkeys(
            (*entity_map.columns, *entity_map.outward.when, *entity_map.where, *_state(entity_map.table))
        )
        row = await self._rows.read(entity_map, guid, columns, children=True)
        if row is None:
            return Sent("ignored", "row-gone")
        values = row.view.values
        if values.get(entity_map.key):
            return Sent("linked")
        if not fits(entity_map, values) or any(values.get(each) == INACTIVE for each in _state(entity_map.table)):
            return Sent("ignored", "not-wanted")
        own = (identifier.system, guid)
        tokens = dict.fromkeys((own, *_tokens(identifier, row)))
        async with AsyncExitStack() as turns:
            # Two rows of one person, made at once, would each find nothing and make a resource.
            for token in sorted(tokens):
                await turns.enter_async_context(self._turns.taking(entity_map.resource, *token))
            if (hit := await self._search(entity_map, own, list(tokens))) is not None:
                await self._claim(entity_map, row, hit.id)
                return Sent("linked")
            return await self._make(entity_map, row, own)

    async def _make(self, entity_map: EntityMap, row: Row, own: Token) -> Sent:
        outgoing = resource_of(entity_map, row.view, self._resolve)
        refuse(outgoing)
        entries = [*outgoing.resource.get("identifier", ()), {"system": own[0], "value": row.id}]
        text = _dump({**outgoing.resource, "identifier": entries})
        made = await self._fhir.create(entity_map.resource, text, own)
        if made.status in BUSY or made.status == 409:  # noqa: PLR2004 - HAPI's word for two at once
            message = f"the FHIR server answered {made.status} to a create"
            raise Transient(message, code=f"fhir-{made.status}", retry_after=made.retry_after)
        if not made.id:
            codes = f" ({', '.join(made.codes)})" if made.codes else ""
            raise Failed(f"the FHIR server answered {made.status}{codes} to a create", code=f"fhir-{made.status}")
        await self._claim(entity_map, row, made.id)
        lost = tuple(dict.fromkeys(issue.at for issue in outgoing.issues))
        tracked = [each for each in entity_map.outward.tracked if each not in lost]
        if tracked:
            await self._agreed.put(entity_map.table.name, row.id, marks_of(self._agreed, entity_map, row, tracked))
        return Sent("created", lost=lost)

    async def _search(self, entity_map: EntityMap, own: Token, tokens: Sequence[Token]) -> Hit | None:
        """Return the one resource that carries the row's GUID or an identifier of it, none of them as `use: old`."""
        found = await self._fhir.search(entity_map.resource, tokens)
        if found.several:
            message = f"several {entity_map.resource} resources carry this row's identifiers"
            raise Failed(message, code="several-matches", at="identifier")
        if not found.hits:
            return None
        resource = json.loads(found.hits[0].text)
        current, old = dynamics_ids(resource, own[0])
        if any(each != own[1] for each in current) or own[1] in old:
            message = "the resource with this row's identifiers carries another Dynamics identifier"
            raise Failed(message, code="identifier-conflict", at="identifier")
        if all(each.get("use") == "old" for each in _carried(resource, tokens)):
            message = (
                "the resource with this row's identifiers carries them as `use: old`: they may be another's by now"
            )
            raise Failed(message, code="identifier-conflict", at="identifier")
        return found.hits[0]

    async def _claim(self, entity_map: EntityMap, row: Row, fhir_id: str) -> None:
        """Write the FHIR id on the row, unless another row carries it or somebody changed this one meanwhile."""
        table, column = entity_map.table, entity_map.table.columns[entity_map.key]
        if column.max_length is not None and len(fhir_id) > column.max_length:
            raise Failed(
                f"{column.name} holds {column.max_length} characters, the id has {len(fhir_id)}",
                code="id-too-long",
                at=column.name,
            )
        await self._check_alone(entity_map, row, fhir_id)
        await save(self._dataverse, table, row, {entity_map.key: fhir_id}, self._new_tag())
        try:
            await self._check_alone(entity_map, row, fhir_id)
        except Failed:
            # A bundle made a row for the resource just now: that one stays, and this one is as it was.
            await save(self._dataverse, table, replace(row, etag=""), {entity_map.key: None}, self._new_tag())
            raise

    async def _check_alone(self, entity_map: EntityMap, row: Row, fhir_id: str) -> None:
        """Raise Failed `ambiguous-match` when another row stands for the resource."""
        if any(guid != row.id for guid in await standing_for(self._dataverse, entity_map, fhir_id)):
            message = f"another row of {entity_map.table.name} stands for this resource"
            raise Failed(message, code="ambiguous-match", at=entity_map.key)


def _state(table: Table) -> tuple[str, ...]:
    """Return the column that says whether a row is active, of a table whose rows are active or inactive, no more."""
    state = table.columns.get("statecode")
    return ("statecode",) if state is not None and state.options.get(INACTIVE) == "Inactive" else ()


def _tokens(identifier: IdentifierMap, row: Row) -> Iterator[Token]:
    """List the identifiers of a row by which its resource is looked for; one without a system names nobody."""
    for each in row.view.children.get(identifier.table.name, ()):
        system, value = (
            str(each.values.get(column) or "").strip() for column in (identifier.system_column, identifier.value_column)
        )
        if system and value and (identifier.search is None or system in identifier.search):
            yield system, value


def _carried(resource: Mapping[str, Any], tokens: Sequence[Token]) -> Iterator[Mapping[str, Any]]:
    """List the identifiers of a resource that are among the tokens; servers may search without regard to case."""
    wanted = {(system, value.casefold()) for system, value in tokens}
    for each in resource.get(IDENTIFIER) or ():
        if isinstance(each, Mapping) and (each.get("system"), str(each.get("value")).strip().casefold()) in wanted:
            yield each


def _dump(resource: Mapping[str, Any]) -> str:
    """Write a resource that the relay made; numbers keep their digits."""
    return apply_edits('{"resourceType":""}', [((name,), value) for name, value in resource.items()])
