"""One call in, one answer out: which resource a URL means and what each method does with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote

from devstack.dataverse import system
from devstack.dataverse.actions import Actions
from devstack.dataverse.bulk import ACTIONS, NAMESPACE, Bulk
from devstack.dataverse.callers import Callers
from devstack.dataverse.customizing import Customizing, Lock
from devstack.dataverse.deep import DeepInsert
from devstack.dataverse.definitions import ROOTS as DEFINITIONS
from devstack.dataverse.definitions import Definitions
from devstack.dataverse.errors import (
    BadSyntax,
    ConcurrencyVersionMismatch,
    DuplicateRecord,
    InvalidPayload,
    MethodNotAllowed,
    NotSupported,
    OptimisticConcurrencyNotEnabled,
    UnknownSegment,
)
from devstack.dataverse.fetchxml import OPTION as FETCHXML
from devstack.dataverse.fetchxml import Fetch
from devstack.dataverse.keys import Address, ById, Segment, address, record, segments
from devstack.dataverse.metadata import Collection, Metadata, Navigation, Table
from devstack.dataverse.payload import Reader, add_key, drop_key, existing
from devstack.dataverse.query import Query, Reading
from devstack.dataverse.records import Records
from devstack.dataverse.rows import Row, Store
from devstack.dataverse.solutions import Solutions
from devstack.dataverse.sql import OPTION as SQL
from devstack.dataverse.sql import PlainSql
from devstack.dataverse.tracking import OPTION, Tracking
from devstack.dataverse.wire import Answer, Call, answer, condition, etag

NOT_HERE: Final = (
    *("RetrieveVersion", "RetrieveCurrentOrganization", "RetrieveTotalRecordCount", "RetrieveAllEntities"),
    *("CreateCustomerRelationships", "CreatePolymorphicLookupAttribute", "InsertOptionValue", "UpdateOptionValue"),
    *("DeleteOptionValue", "OrderOption", "InsertStatusValue", "UpdateStateValue", "CloneAsSolution", "ExportSolution"),
    *("ImportSolution", "AddSolutionComponent", "RemoveSolutionComponent", "RetrieveDependenciesForDelete"),
    *("ExecuteTransaction", "Merge", "GrantAccess", "RevokeAccess", "ModifyAccess"),
)
"""Actions and functions that are there in Dataverse, and that somebody may look for here."""


class Service:
    """The Web API over a store; every call happens inside a transaction that somebody else opens."""

    def __init__(
        self,
        metadata: Metadata,
        store: Store,
        customizing: Customizing,
        lock: Lock,
        *,
        wall_clock: Callable[[], float],
        delta_days: float,
        bypass_steps: bool,
        strict_ports: bool,
    ) -> None:
        self.metadata = metadata
        self.store = store
        self._callers = Callers(metadata, store, bypass_steps=bypass_steps)
        self._records = Records(store, strict_ports=strict_ports)
        self._deep = DeepInsert(self._records)
        self.bulk = Bulk(store, self._records)
        self.tracking = Tracking(store, wall_clock, days=delta_days)
        self._fetch, self._sql = Fetch(store), PlainSql(store)
        self._solutions = Solutions(store)
        self._definitions = Definitions(metadata, customizing, self._solutions, lock)
        self._actions = Actions(self._records, self._definitions, customizing, self._solutions, lock)

    def carry_out(self, call: Call) -> Answer:
        """Carry out a call inside the caller's transaction; raises DataverseError."""
        call.refuse_unsupported()
        user = self._callers.user(call)
        if call.path.strip("/") == "":
            return self._document(call)
        found = segments(call.path)
        first = found[0]
        about_tables = self._definitions if first.name in DEFINITIONS else self._actions
        if first.name in (*DEFINITIONS, *self._actions.names):
            return about_tables.answer(call, found)
        if call.method != "GET":
            _allow(call, "$select", "$expand", "tag")
        if first.name == "WhoAmI":
            return self._who(call, found, user)
        if first.name.startswith("$") or first.name in NOT_HERE:
            raise NotSupported(first.name)
        if first.name not in self.metadata.by_set and first.words is not None and len(found) == 1:
            raise NotSupported(f"the function or action {first.name}")
        table = self.metadata.set(first.name)
        if first.words is None:
            return self._set(call, table, found[1:])
        where = address(table, first.words)
        if len(found) == 1:
            return self._record(call, table, where)
        return self._below(call, table, where, found[1:])

    def save(self, call: Call) -> None:
        """Save the row that a call names as a user does who changes nothing: it has another version afterwards.

        Inside the caller's transaction; nobody is told of it, and no row is no matter.
        """
        found = segments(call.path)
        table = self.metadata.by_set.get(found[0].name)
        if table is not None and found[0].words is not None:
            row = self._find(table, address(table, found[0].words))
            if row is not None:
                self.store.update(table, row[table.primary_id], {"versionnumber": self.store.next_version()})

    def _document(self, call: Call) -> Answer:
        _only(call, "GET")
        _allow(call)
        sets = [{"name": name, "kind": "EntitySet", "url": name} for name in sorted(self.metadata.by_set)]
        return answer(200, {"@odata.context": f"{call.root}$metadata", "value": sets})

    def _who(self, call: Call, found: list[Segment], user: str) -> Answer:
        _only(call, "GET")
        _allow(call)
        if len(found) > 1 or found[0].words:
            raise UnknownSegment(found[-1].name)
        return answer(
            200,
            {
                "@odata.context": f"{call.root}$metadata#Microsoft.Dynamics.CRM.WhoAmIResponse",
                "BusinessUnitId": system.BUSINESS_UNIT,
                "UserId": user,
                "OrganizationId": system.ORGANIZATION,
            },
        )

    # collections

    def _set(self, call: Call, table: Table, rest: list[Segment]) -> Answer:
        if rest:
            if rest[0].name == "$count" and len(rest) == 1:
                _only(call, "GET")
                return self._count(call, table)
            if rest[0].name == "Microsoft.Dynamics.CRM.RetrieveUnpublishedMultiple" and table.name == "systemform":
                return self._unpublished(call, table, rest)
            if rest[0].name.startswith(NAMESPACE):
                return self._action(call, table, rest)
            raise UnknownSegment(rest[0].name)
        if call.method == "GET":
            return self._rows(call, table)
        _only(call, "GET", "POST")
        return self._create(call, table)

    def _rows(self, call: Call, table: Table) -> Answer:
        if FETCHXML in call.options:
            return self._fetch.answer(call, table)
        if SQL in call.options:
            return self._sql.answer(call, table)
        return self.tracking.answer(call, table) if self.tracking.asked(call) else self._list(call, table)

    def _action(self, call: Call, table: Table, rest: list[Segment]) -> Answer:
        action = rest[0].name.removeprefix(NAMESPACE)
        if action not in ACTIONS or len(rest) > 1 or rest[0].words:
            raise NotSupported(f"the action {action}")
        _only(call, "POST")
        _allow(call, "tag")
        return self.bulk.answer(call, table, action, self._callers.origin(call))

    def _count(self, call: Call, table: Table) -> Answer:
        if self.tracking.asked(call):
            _allow(call, OPTION)
            return self._number(self.tracking.count(call, table))
        _allow(call, "$filter", *(name for name in call.options if name.startswith("@")))
        reading = Reading(self.store, call)
        parsed = reading.query(table, call.options)
        _, _, total = reading.rows(table, Query(where=parsed.where, top=0, count=True))
        return self._number(total)

    @staticmethod
    def _number(value: int) -> Answer:
        return Answer(200, {"Content-Type": "text/plain", "OData-Version": "4.0"}, str(value).encode())

    def _list(self, call: Call, table: Table, within: Any = None, instead: Mapping[str, str] | None = None) -> Answer:
        reading = Reading(self.store, call, instead)
        query = reading.query(table, call.options)
        rows, more, total = reading.rows(table, query, within=within)
        document: dict[str, Any] = {"@odata.context": f"{call.root}$metadata#{table.entity_set}{query.shape}"}
        if query.count:
            document["@odata.count"] = total
        document["value"] = [reading.row(table, row, query) for row in rows]
        if more and query.top is None:
            offset = (int(query.after) if query.after and query.order else 0) + len(rows)
            document["@odata.nextLink"] = reading.link(query, rows[-1], table, offset)
        return answer(200, document, _applied(call))

    def _unpublished(self, call: Call, table: Table, rest: list[Segment]) -> Answer:
        """List forms as they are before they are published."""
        _only(call, "GET")
        if len(rest) > 1 or rest[0].words:
            raise UnknownSegment(rest[-1].name)
        return self._list(call, table, instead={"formxml": "unpublishedformxml"})

    def _create(self, call: Call, table: Table) -> Answer:
        reading = Reading(self.store, call)
        query = reading.query(table, call.options)
        reader = Reader(self.store, call.references)
        row = self._deep.create(table, call.json(table.entity_set), reader, self._callers.origin(call))
        return self._written(call, table, row, query, created=True, uri=None)

    # one record

    def _record(self, call: Call, table: Table, where: Address) -> Answer:
        if call.method == "GET":
            return self._read(call, table, existing(self.store, table, where))
        if call.method == "PATCH":
            return self._upsert(call, table, where)
        _only(call, "GET", "PATCH", "DELETE")
        row = existing(self.store, table, where)
        _match(call, table, row)
        self._records.delete(table, row, self._callers.origin(call))
        return Answer(204, {"OData-Version": "4.0"})

    def _read(self, call: Call, table: Table, row: Row) -> Answer:
        reading = Reading(self.store, call)
        for name in ("$filter", "$orderby", "$top", "$count", "$skiptoken"):
            if name in call.options:
                raise BadSyntax(f"The query option {name} does not apply to one record.")
        query = reading.query(table, call.options)
        version = row["versionnumber"]
        cached = table.optimistic_concurrency and not query.expand and not reading.annotations.any
        if cached and condition(call, "if-none-match") == version:
            return Answer(304, {"ETag": etag(version), "OData-Version": "4.0"})
        document = {"@odata.context": f"{call.root}$metadata#{table.entity_set}{query.shape}/$entity"}
        return answer(200, document | reading.row(table, row, query), {"ETag": etag(version)} | _applied(call))

    def _upsert(self, call: Call, table: Table, where: Address) -> Answer:
        reading = Reading(self.store, call)
        options = {name: value for name, value in call.options.items() if name != "$expand"}
        query = reading.query(table, options)
        changes = Reader(self.store, call.references).changes(table, call.json(table.entity_set))
        uri = (
            call.root + quote(call.path.removeprefix("/"), safe="/()'=,-_.@$") if not isinstance(where, ById) else None
        )
        row = self._find(table, where)
        if row is None:
            if condition(call, "if-match") is not None:
                existing(self.store, table, where)
            if isinstance(where, ById):
                changes.put(table.primary_id, where.id)
            else:
                add_key(table, where, changes)
            created = self._records.create(table, changes, self._callers.origin(call))
            return self._written(call, table, created, query, created=True, uri=uri)
        if condition(call, "if-none-match") == "*":
            raise DuplicateRecord
        _match(call, table, row)
        if not isinstance(where, ById):
            drop_key(where, changes)
        updated = self._records.update(table, row, changes, self._callers.origin(call))
        return self._written(call, table, updated, query, created=False, uri=uri)

    def _find(self, table: Table, where: Address) -> Row | None:
        return self.store.get(table, where.id) if isinstance(where, ById) else self.store.find(table, where.values)

    def _written(self, call: Call, table: Table, row: Row, query: Query, *, created: bool, uri: str | None) -> Answer:
        self._solutions.add_row(call.headers.get("mscrm.solutionuniquename"), table, row)
        uri = uri or f"{call.root}{table.entity_set}({row[table.primary_id]})"
        if not call.representation:
            return Answer(204, {"OData-Version": "4.0", "Location": uri, "OData-EntityId": uri})
        row = self.store.get(table, row[table.primary_id]) or row
        document = {"@odata.context": f"{call.root}$metadata#{table.entity_set}{query.shape}/$entity"}
        document |= Reading(self.store, call).row(table, row, query)
        answered = answer(201 if created else 200, document, {"ETag": etag(row["versionnumber"])} | _applied(call))
        answered.headers["Location"] = uri
        return answered

    # below one record

    def _below(self, call: Call, table: Table, where: Address, rest: list[Segment]) -> Answer:
        name = rest[0].name
        navigation, collection = table.navigations.get(name), table.collections.get(name)
        if name.startswith(NAMESPACE):
            raise NotSupported(f"the function or action {name.removeprefix(NAMESPACE)}")
        if rest[0].words is not None:
            raise NotSupported(f"keys after a navigation property ('{name}')")
        to = navigation or collection
        if len(rest) > 1:
            if to is not None and rest[1].name == "$ref" and len(rest) == 2:  # noqa: PLR2004 - name and $ref
                return self._reference(call, table, where, to)
            raise NotSupported(f"the path '{'/'.join(each.name for each in rest)}' below a record")
        row = existing(self.store, table, where)
        if collection is not None:
            _only(call, "GET")
            child = self.metadata.tables[collection.child]
            return self._list(call, child, (collection.column, row[table.primary_id]))
        if navigation is not None:
            _only(call, "GET")
            return self._related(call, row, navigation)
        return self._column(call, table, row, name)

    def _column(self, call: Call, table: Table, row: Row, name: str) -> Answer:
        column = table.properties.get(name)
        if column is None or column.secret:
            raise UnknownSegment(name)
        if call.method == "GET":
            _allow(call)
            query = Query(select=(column,))
            value = Reading(self.store, call).row(table, row, query)[name]
            if value is None:
                return Answer(204, {"OData-Version": "4.0"})
            context = f"{call.root}$metadata#{table.entity_set}({row[table.primary_id]})/{name}"
            return answer(200, {"@odata.context": context, "value": value})
        _only(call, "GET", "PUT", "DELETE")
        value = None
        if call.method == "PUT":
            body = call.json(table.entity_set)
            if body.keys() != {"value"}:
                raise InvalidPayload(table.entity_set, 'The body is not {"value": …}.')
            value = body["value"]
        return self._change(call, table, row, {name: value})

    def _related(self, call: Call, row: Row, navigation: Navigation) -> Answer:
        kept = row[navigation.column.name]
        other = len(navigation.column.targets) > 1 and row[f"{navigation.column.name}@table"] not in navigation.targets
        if kept is None or other:
            return Answer(204, {"OData-Version": "4.0"})
        target = self.metadata.target(navigation)
        return self._read(call, target, existing(self.store, target, ById(kept)))

    def _reference(self, call: Call, table: Table, where: Address, to: Navigation | Collection) -> Answer:
        row = existing(self.store, table, where)
        if isinstance(to, Collection):
            _only(call, "POST")
            return self._add_reference(call, table, row, to)
        if call.method == "DELETE":
            return self._change(call, table, row, {to.name: None})
        _only(call, "PUT", "DELETE")
        return self._change(call, table, row, {f"{to.name}@odata.bind": _named(call, table)})

    def _add_reference(self, call: Call, table: Table, row: Row, collection: Collection) -> Answer:
        """Let a row of the collection look this one up: an update of that row."""
        named = Reader(self.store, call.references).expand(_named(call, table))
        child, there = record(self.metadata, named)
        if child.name != collection.child:
            expected = f"Microsoft.Dynamics.CRM.{collection.child}"
            raise InvalidPayload(table.entity_set, f"'{named}' is not of type '{expected}'.")
        bind = f"{collection.column.navigation[table.name]}@odata.bind"
        reference = f"{table.entity_set}({row[table.primary_id]})"
        changes = Reader(self.store, {}).changes(child, {bind: reference})
        self._records.update(child, existing(self.store, child, there), changes, self._callers.origin(call))
        return Answer(204, {"OData-Version": "4.0"})

    def _change(self, call: Call, table: Table, row: Row, body: dict[str, Any]) -> Answer:
        _match(call, table, row)
        changes = Reader(self.store, call.references).changes(table, body)
        self._records.update(table, row, changes, self._callers.origin(call))
        return Answer(204, {"OData-Version": "4.0"})


def _named(call: Call, table: Table) -> str:
    """Read the record that the body of a `$ref` request names."""
    named = call.json(table.entity_set).get("@odata.id")
    if not isinstance(named, str):
        raise InvalidPayload(table.entity_set, "The body has no '@odata.id'.")
    return named


def _allow(call: Call, *options: str) -> None:
    for name in call.options:
        if name not in options:
            raise NotSupported(f"the query option {name} on {call.method} of '{call.path}'")


def _only(call: Call, *methods: str) -> None:
    if call.method not in methods:
        raise MethodNotAllowed(call.method)


def _match(call: Call, table: Table, row: Row) -> None:
    expected = condition(call, "if-match")
    if expected in (None, "*"):
        return
    if not table.optimistic_concurrency:
        raise OptimisticConcurrencyNotEnabled(table.name)
    if expected != row["versionnumber"]:
        raise ConcurrencyVersionMismatch


def _applied(call: Call) -> dict[str, str]:
    applied = []
    if call.representation and call.method in ("POST", "PATCH"):
        applied.append("return=representation")
    for name in ("odata.include-annotations", "odata.maxpagesize"):
        if name in call.preferences:
            value = call.preferences[name]
            applied.append(f'{name}="{value}"' if name.endswith("annotations") else f"{name}={value}")
    return {"Preference-Applied": ", ".join(applied)} if applied else {}
