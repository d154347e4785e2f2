"""Find the rows that drafts mean: one `$batch` of reads per bundle, folded into a `Located`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, TypeVar
from uuid import UUID

from relay.dataverse import quoting
from relay.dataverse.batch import MAX_OPERATIONS, Request
from relay.dataverse.client import DataverseClient
from relay.dataverse.keys import concept_keys, row_key
from relay.errors import Transient
from relay.inbound.identity import match_values
from relay.inbound.located import Located, Row
from relay.inbound.nesting import targets_of, walked
from relay.mapping.load import MapSet
from relay.mapping.model import ByFhirId, ByIdentifier, Concept, Draft, EntityMap, ExpansionMap, Scalar, Table, Target
from relay.mapping.states import STATE, STATES, retired

IN_VALUES = 200  # values of one In filter
URL_CHARACTERS = 12_000  # of values in one URL: percent-encoded at worst three times that, below the 64 KB limit
OR_TERMS = 100  # a query takes at most 500 conditions; a term here has at most one per column of `where` plus the key

CONCEPT_TABLE = "msemr_codeableconcept"
CONCEPT_SET = "msemr_codeableconcepts"

T = TypeVar("T")
Fold = Callable[[Iterable[Mapping[str, Any]]], None]


@dataclass(slots=True)
class Wanted:
    """Everything a set of drafts asks of Dataverse, without doubles."""

    ids: dict[str, dict[str, None]] = field(default_factory=lambda: defaultdict(dict))  # resource type → FHIR ids
    guids: dict[str, dict[str, None]] = field(default_factory=lambda: defaultdict(dict))  # table → GUIDs
    parents: dict[str, dict[str, None]] = field(default_factory=lambda: defaultdict(dict))  # type → ids with children
    concepts: dict[int, dict[str, None]] = field(default_factory=lambda: defaultdict(dict))  # type → codes
    identifiers: dict[str, dict[str, None]] = field(default_factory=lambda: defaultdict(dict))  # type → values
    matches: dict[str, dict[tuple[Scalar, ...], None]] = field(default_factory=lambda: defaultdict(dict))

    def target(self, target: Target) -> None:
        """Ask for what a lookup column points to."""
        match target:
            case ByFhirId(type=kind, id=fhir_id):
                self.ids[kind][fhir_id] = None
            case ByIdentifier(type=kind, value=value):
                self.identifiers[kind][value] = None
            case Concept(type=number, code=code):
                self.concepts[number][code] = None
                for key in concept_keys(number, code):
                    self.guids[CONCEPT_TABLE][key] = None


def wanted_by(drafts: Iterable[Draft], guids: Iterable[tuple[str, str]] = ()) -> Wanted:
    """Collect what these drafts ask of Dataverse; `guids` are further (table, GUID) rows to read."""
    wanted = Wanted()
    for table, guid in guids:
        wanted.guids[table][guid] = None
    for draft in drafts:
        kind = draft.map.resource
        wanted.ids[kind][draft.id] = None
        if draft.map.expansions and draft.end != "deleted":
            wanted.parents[kind][draft.id] = None
        for claim in draft.claims:
            wanted.guids[draft.map.table.name][claim] = None
        if (values := match_values(draft)) is not None:
            wanted.matches[kind][values] = None
        for _, target in targets_of(draft):
            wanted.target(target)
    return wanted


class Locator:
    """Asks Dataverse what it has, in as few calls as the batch limit allows."""

    def __init__(self, client: DataverseClient, maps: MapSet, source_name: str = "fhir") -> None:
        self._client = client
        self.maps = maps
        self._source_name = source_name

    async def locate(self, drafts: Sequence[Draft], guids: Iterable[tuple[str, str]] = ()) -> Located:
        """Read the rows that these drafts mean; `guids` are further (table, GUID) rows to read.

        Raises Transient when Dataverse is away or busy.
        """
        located = Located()
        keyed = [(each, row_key(self._source_name, each.map.resource, each.id)) for each in drafts]
        taken: set[str] = set()
        await self._read([*self._reads(wanted_by(drafts, guids), located), *self._taken(keyed, taken)])
        lost = [(each, key) for each, key in keyed if not located.by_fhir_id(each.map.resource, each.id)]
        # A row under a resource's own key that does not carry its FHIR id: it lost the id, or is another's by now.
        remade = [(each.map.table.name, key) for each, key in lost if key in taken]
        await self._read(self._late([each for each, _ in lost], remade, located))
        return located

    async def read(self, wanted: Wanted) -> Located:
        """Read what is wanted, and nothing else; raises Transient when Dataverse is away or busy."""
        located = Located()
        await self._read(self._reads(wanted, located))
        return located

    async def _read(self, reads: Iterable[tuple[Request, Fold]]) -> None:
        listed = list(reads)
        for chunk in (listed[start : start + MAX_OPERATIONS] for start in range(0, len(listed), MAX_OPERATIONS)):
            answers = await self._client.batch([request for request, _ in chunk])
            for (_, fold), (answer,) in zip(chunk, answers, strict=True):
                if answer.error is not None:
                    raise answer.error
                rows = list(answer.body["value"])
                if following := answer.body.get("@odata.nextLink"):
                    async for page in self._client.pages(following):
                        rows += page["value"]
                fold(rows)

    def _reads(self, wanted: Wanted, located: Located) -> Iterator[tuple[Request, Fold]]:
        for kind, ids in wanted.ids.items():
            if entity_map := self.maps.for_resource(kind):
                yield from self._rows_by_id(entity_map, ids, located)
        for kind, ids in wanted.parents.items():
            if entity_map := self.maps.for_resource(kind):
                yield from self._descendants_by_id(entity_map, ids, located)
        for table, guids in wanted.guids.items():
            yield from self._rows_by_guid(table, guids, located)
            for path in self._paths_of(table):
                # Of a child row that is asked for by its key: it may have lost its parent, and what hangs on it not.
                yield from self._descendants(path[-1].expansions, guids, located)
        for kind, matches in wanted.matches.items():
            if entity_map := self.maps.for_resource(kind):
                yield from self._rows_by_match(entity_map, matches, located)
        for kind, values in wanted.identifiers.items():
            if entity_map := self.maps.for_resource(kind):
                yield from self._parents_by_identifier(entity_map, values, located)
        for number, codes in wanted.concepts.items():
            yield from self._concepts(number, codes, located)

    def _rows_by_id(
        self, entity_map: EntityMap, ids: Iterable[str], located: Located
    ) -> Iterator[tuple[Request, Fold]]:
        def fold(rows: Iterable[Mapping[str, Any]]) -> None:
            for values in rows:
                # SQL compares without case, FHIR ids with: the key under the row's own spelling keeps them apart.
                located.keyed[entity_map.resource, values[entity_map.key]].append(row_of(entity_map.table, values))

        for chunk in chunked(findable(ids, entity_map.table, entity_map.key), IN_VALUES):
            condition = quoting.both(quoting.in_filter(entity_map.key, chunk), *where_filters(entity_map))
            url = quoting.query(entity_map.table.entity_set, select=selected(entity_map), filter=condition)
            yield Request("GET", url), fold

    def _rows_by_guid(self, table: str, guids: Iterable[str], located: Located) -> Iterator[tuple[Request, Fold]]:
        maps = self.maps.for_table(table)
        facts = self.maps.tables[table]
        columns = dict.fromkeys(column for entity_map in maps for column in selected(entity_map))
        columns |= dict.fromkeys(column for path in self._paths_of(table) for column in selected_of_child(path[-1]))
        columns.pop(facts.primary_id, None)

        def fold(rows: Iterable[Mapping[str, Any]]) -> None:
            for values in rows:
                row = row_of(facts, values)
                located.guids[table, row.id] = row

        for chunk in chunked(guids, IN_VALUES):
            condition = quoting.in_filter(facts.primary_id, chunk)
            yield (
                Request("GET", quoting.query(facts.entity_set, select=(facts.primary_id, *columns), filter=condition)),
                fold,
            )

    def _rows_by_match(
        self, entity_map: EntityMap, matches: Iterable[tuple[Scalar, ...]], located: Located
    ) -> Iterator[tuple[Request, Fold]]:
        def fold(rows: Iterable[Mapping[str, Any]]) -> None:
            for values in rows:
                found = tuple(values.get(column) for column in entity_map.match)
                located.matched[entity_map.resource, found].append(row_of(entity_map.table, values))

        for chunk in chunked(matches, max(1, OR_TERMS // len(entity_map.match))):
            candidates = quoting.any_of(
                *(
                    quoting.both(
                        *(_equals(entity_map.table, c, v) for c, v in zip(entity_map.match, values, strict=True))
                    )
                    for values in chunk
                )
            )
            free = quoting.equals(entity_map.key, None)
            condition = quoting.both(candidates, free, *where_filters(entity_map))
            url = quoting.query(entity_map.table.entity_set, select=selected(entity_map), filter=condition)
            yield Request("GET", url), fold

    def _paths_of(self, table: str) -> Iterator[tuple[ExpansionMap, ...]]:
        """Yield the expansions into a table, each after those that it stands in."""
        for entity_map in self.maps:
            yield from (path for path in walked(entity_map.expansions) if path[-1].table.name == table)

    def _descendants_by_id(
        self, entity_map: EntityMap, ids: Iterable[str], located: Located
    ) -> Iterator[tuple[Request, Fold]]:
        """Read what hangs on the rows with these FHIR ids, children and their children in the same call."""
        findables = findable(ids, entity_map.table, entity_map.key)
        for path in walked(entity_map.expansions):
            upwards = _upwards(path, entity_map.table)
            for chunk in chunked(findables, OR_TERMS):
                parents = quoting.any_of(*(upwards + quoting.equals(entity_map.key, each) for each in chunk))
                where = (upwards + each for each in where_filters(entity_map))
                yield self._children(path[-1], quoting.both(parents, *where), located)

    def _descendants(
        self, expansions: Iterable[ExpansionMap], guids: Iterable[str], located: Located
    ) -> Iterator[tuple[Request, Fold]]:
        """Read what hangs on the rows with these GUIDs."""
        for path in walked(expansions):
            upwards = _upwards(path[1:], path[0].table)
            for chunk in chunked(guids, OR_TERMS):
                lookup = f"_{path[0].lookup}_value"
                parents = (upwards + quoting.equals(lookup, UUID(guid)) for guid in chunk)
                yield self._children(path[-1], quoting.any_of(*parents), located)

    @staticmethod
    def _taken(keyed: Iterable[tuple[Draft, str]], taken: set[str]) -> Iterator[tuple[Request, Fold]]:
        """Ask which of the keys are there that the drafts would be created under.

        Without that a create would be refused, and what refers to it in the same call be tied to a stranger's row.
        """
        tables: dict[str, tuple[Table, list[str]]] = {}
        for draft, key in keyed:
            tables.setdefault(draft.map.table.name, (draft.map.table, []))[1].append(key)
        for table, keys in tables.values():

            def fold(rows: Iterable[Mapping[str, Any]], table: Table = table) -> None:
                taken.update(row_of(table, values).id for values in rows)

            for chunk in chunked(keys, IN_VALUES):
                condition = quoting.in_filter(table.primary_id, chunk)
                url = quoting.query(table.entity_set, select=(table.primary_id,), filter=condition)
                yield Request("GET", url), fold

    def _late(
        self, lost: Iterable[Draft], remade: Iterable[tuple[str, str]], located: Located
    ) -> Iterator[tuple[Request, Fold]]:
        """Read what the first call could not name: rows by key alone, children of rows not found by FHIR id."""
        parents: dict[str, tuple[EntityMap, dict[str, None]]] = {}
        alone: dict[str, list[str]] = defaultdict(list)
        for table, guid in remade:
            alone[table].append(guid)
            for entity_map in self.maps.for_table(table):
                parents.setdefault(entity_map.resource, (entity_map, {}))[1][guid] = None
        for table, keys in alone.items():
            yield from self._rows_by_guid(table, keys, located)
        for draft in lost:
            values = match_values(draft)
            found = [located.guids.get((draft.map.table.name, claim)) for claim in draft.claims]
            found += located.matched.get((draft.map.resource, values), []) if values is not None else []
            for row in found:
                if row is not None:
                    parents.setdefault(draft.map.resource, (draft.map, {}))[1][row.id] = None
        for entity_map, guids in parents.values():
            yield from self._descendants(entity_map.expansions, guids, located)

    @staticmethod
    def _children(expansion: ExpansionMap, condition: str, located: Located) -> tuple[Request, Fold]:
        def fold(rows: Iterable[Mapping[str, Any]]) -> None:
            for values in rows:
                row = row_of(expansion.table, values)
                if parent := row.lookup(expansion.lookup):
                    known = located.children[expansion.table.name, expansion.lookup, parent]
                    if all(each.id != row.id for each in known):
                        known.append(row)

        url = quoting.query(expansion.table.entity_set, select=selected_of_child(expansion), filter=condition)
        return Request("GET", url), fold

    @staticmethod
    def _parents_by_identifier(
        entity_map: EntityMap, values: Iterable[str], located: Located
    ) -> Iterator[tuple[Request, Fold]]:
        identifier = entity_map.identifier
        if identifier is None:
            return
        select = (identifier.system_column, identifier.value_column, f"_{identifier.lookup}_value")

        def into(found: dict[tuple[str, str, str], set[str]]) -> Fold:
            def fold(rows: Iterable[Mapping[str, Any]]) -> None:
                for row in rows:
                    key = (entity_map.resource, row[identifier.system_column], row[identifier.value_column])
                    if parent := row[f"_{identifier.lookup}_value"]:
                        found[key].add(parent.lower())

            return fold

        navigation = identifier.table.columns[identifier.lookup].navigation[entity_map.table.name]
        for chunk in chunked(findable(values, identifier.table, identifier.value_column), IN_VALUES):
            condition = quoting.both(quoting.in_filter(identifier.value_column, chunk), quoting.equals("statecode", 0))
            url = quoting.query(identifier.table.entity_set, select=select, filter=condition)
            yield Request("GET", url), into(located.identified)
            if entity_map.merges != "ignore" and retired(entity_map.table) == 1:
                in_use = f"{quoting.set_name(navigation)}/{quoting.equals(STATE, 0)}"
                url = quoting.query(identifier.table.entity_set, select=select, filter=quoting.both(condition, in_use))
                yield Request("GET", url), into(located.in_use)

    @staticmethod
    def _concepts(number: int, codes: Iterable[str], located: Located) -> Iterator[tuple[Request, Fold]]:
        def fold(rows: Iterable[Mapping[str, Any]]) -> None:
            for row in sorted(rows, key=lambda row: str(row["msemr_codeableconceptid"])):
                # Two rows for one concept may exist; the lowest GUID is the one, every time.
                located.concepts.setdefault((number, row["msemr_code"]), row["msemr_codeableconceptid"].lower())

        for chunk in chunked(codes, IN_VALUES):
            condition = quoting.both(quoting.equals("msemr_type", number), quoting.in_filter("msemr_code", chunk))
            url = quoting.query(CONCEPT_SET, select=("msemr_codeableconceptid", "msemr_code"), filter=condition)
            yield Request("GET", url), fold


def wire_name(table: Table, column: str) -> str:
    """Return the name under which the Web API reads a column: lookups are `_<name>_value`."""
    return f"_{column}_value" if table.columns[column].targets else column


def selected(entity_map: EntityMap) -> tuple[str, ...]:
    """Return the `$select` of a mapped table: its primary key and every column the map speaks of."""
    table = entity_map.table
    states = (name for name in STATES if name in table.columns)
    columns = (entity_map.key, *entity_map.where, *entity_map.columns, *entity_map.outward.when, *states)
    return (table.primary_id, *dict.fromkeys(wire_name(table, column) for column in columns if column))


def selected_of_child(expansion: ExpansionMap) -> tuple[str, ...]:
    """Return the `$select` of an expansion's table: its primary key, its columns, its parent, whether it is active."""
    table = expansion.table
    columns = (*expansion.columns, expansion.lookup, "statecode")
    names = (wire_name(table, column) for column in columns if column in table.columns)
    return (table.primary_id, *dict.fromkeys(names))


def where_filters(entity_map: EntityMap) -> Iterator[str]:
    """Yield the conditions of the map's `where`."""
    for column, value in entity_map.where.items():
        yield quoting.equals(column, value)


def _upwards(path: Sequence[ExpansionMap], table: Table) -> str:
    """Return what leads, in a filter, from the rows of an expansion to those of `table`, on which the path begins.

    It is made of navigation properties, and stands before a condition on those rows; it is empty for an empty path.
    """
    steps = ""
    for expansion in path:
        navigation = expansion.table.columns[expansion.lookup].navigation[table.name]
        steps, table = f"{quoting.set_name(navigation)}/{steps}", expansion.table
    return steps


def _equals(table: Table, column: str, value: Scalar) -> str:
    """Compare a column as its type wants it: dates stand in a filter without quotes."""
    facts = table.columns[column]
    if facts.type == "DateTime" and isinstance(value, str):
        moment = date.fromisoformat(value) if facts.format == "DateOnly" else datetime.fromisoformat(value)
        return quoting.equals(column, moment)
    return quoting.equals(column, value)


def row_of(table: Table, values: Mapping[str, Any]) -> Row:
    """Return a row as the Web API gave it; raises Transient when the answer is not one of this table."""
    key = values.get(table.primary_id)
    if not isinstance(key, str):
        raise Transient(f"{table.name}: an answer without {table.primary_id}", code="bad-answer")
    return Row(key.lower(), values.get("@odata.etag", "") if table.optimistic_concurrency else "", values)


def chunked(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items in runs of at most `size` that also fit a URL."""
    run: list[T] = []
    characters = 0
    for item in items:
        width = len(str(item).encode())
        if run and (len(run) == size or characters + width > URL_CHARACTERS):
            yield run
            run, characters = [], 0
        run.append(item)
        characters += width
    if run:
        yield run


def findable(values: Iterable[str], table: Table, column: str) -> list[str]:
    """Return the values that the column can hold: a longer one is on no row."""
    longest = table.columns[column].max_length
    return [value for value in values if longest is None or len(value) <= longest]
