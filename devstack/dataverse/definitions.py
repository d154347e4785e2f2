"""Definitions over HTTP: EntityDefinitions with attributes and keys, and RelationshipDefinitions, read and written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from devstack.dataverse import definition_bodies as bodies
from devstack.dataverse.customizing import Customizing, Lock
from devstack.dataverse.definition_body import Body
from devstack.dataverse.definition_queries import COLLECTIONS, below, many, named, one
from devstack.dataverse.definition_shapes import (
    NAMESPACE,
    Shape,
    key_shape,
    plain_shape,
    relationship_shapes,
    table_shape,
)
from devstack.dataverse.errors import InvalidArgument, MethodNotAllowed, NotSupported, UnknownSegment
from devstack.dataverse.keys import Segment
from devstack.dataverse.metadata import Column, Metadata, Table, metadata_id
from devstack.dataverse.relationship_bodies import relationship
from devstack.dataverse.solutions import ATTRIBUTE, ENTITY, ENTITY_KEY, RELATIONSHIP, Solutions
from devstack.dataverse.wire import Answer, Call, answer

ROOTS: Final = ("EntityDefinitions", "RelationshipDefinitions", "GlobalOptionSetDefinitions")
OPERATION: Final = "EntityCustomization"


class Definitions:
    """Answers calls about definitions; every method runs inside the caller's transaction."""

    def __init__(self, metadata: Metadata, customizing: Customizing, solutions: Solutions, lock: Lock) -> None:
        self._metadata = metadata
        self._customizing = customizing
        self._solutions = solutions
        self._lock = lock

    def answer(self, call: Call, path: list[Segment]) -> Answer:
        """Read or write definitions; raises NotSupported for what is not emulated."""
        if path[0].name == "GlobalOptionSetDefinitions":
            raise NotSupported("global option sets (GlobalOptionSetDefinitions)")
        if call.method == "GET":
            return self._read(call, path)
        self._lock.enter(OPERATION)
        if call.options:
            raise NotSupported(f"the query option {next(iter(call.options))} on {call.method} of definitions")
        if path[0].name == "RelationshipDefinitions":
            return self._write_relationship(call, path)
        if path[0].words is None:
            if len(path) > 1 or call.method != "POST":
                raise MethodNotAllowed(call.method)
            return self.create(call, call.json("EntityMetadata"), "EntityMetadata")
        table = self._metadata.tables[self._named(path[0])["LogicalName"]]
        if len(path) == 1:
            return self._write_table(call, table)
        if path[1].name == "Attributes":
            return self._write_column(call, table, path)
        if path[1].name == "Keys":
            return self._write_key(call, table, path)
        raise UnknownSegment(path[1].name)

    # reading

    def _read(self, call: Call, path: list[Segment]) -> Answer:
        shapes: Any = self._shapes(path[0].name, call.options) if path[0].words is None else self._named(path[0])
        for segment in path[1:]:
            shapes = below(shapes, segment)
        context = f"{call.root}$metadata#{'/'.join(segment.name for segment in path)}"
        if isinstance(shapes, list):
            return answer(200, {"@odata.context": context, "value": many(shapes, call.options)})
        return answer(200, {"@odata.context": f"{context}/$entity", **one(shapes, call.options, single=True)})

    def _shapes(self, root: str, options: Mapping[str, str]) -> list[Shape]:
        if root == "RelationshipDefinitions":
            return relationship_shapes(self._metadata)
        asked = options.get("$select", "") + options.get("$expand", "")
        if any(name in asked for name in COLLECTIONS):
            return [table_shape(self._metadata, each) for each in self._metadata.tables.values()]
        return [plain_shape(each) for each in self._metadata.tables.values()]

    def _named(self, segment: Segment) -> Shape:
        if segment.name == "RelationshipDefinitions":
            return named(self._shapes(segment.name, {}), segment, "a relationship", "SchemaName")
        names = [{"MetadataId": each.metadata_id, "LogicalName": each.name} for each in self._metadata.tables.values()]
        found = named(names, segment, "an entity", "LogicalName")
        return table_shape(self._metadata, self._metadata.tables[found["LogicalName"]])

    # writing

    def create(self, call: Call, document: object, kind: str) -> Answer:
        """Make a table; the answer has its id in OData-EntityId."""
        table = bodies.table(document, kind)
        solution = self._solution(call)
        self._solutions.check_prefix(solution, table.schema_name, *(each.schema_name for each in _custom(table)))
        self._customizing.add_table(table)
        self._solutions.add(solution, ENTITY, table.metadata_id)
        return _made(f"{call.root}EntityDefinitions({table.metadata_id})")

    def _solution(self, call: Call) -> str:
        return call.headers.get("mscrm.solutionuniquename") or call.options.get("SolutionUniqueName", "")

    def _write_table(self, call: Call, table: Table) -> Answer:
        if call.method == "DELETE":
            self._customizing.remove_table(table)
            self._solutions.forget(table.metadata_id)
        elif call.method == "PUT":
            self._customizing.change_table(bodies.changed_table(table, call.json("EntityMetadata")))
            self._solutions.add(self._solution(call), ENTITY, table.metadata_id)
        else:
            raise MethodNotAllowed(call.method)
        return _done()

    def _write_column(self, call: Call, table: Table, path: list[Segment]) -> Answer:
        if path[1].words is None:
            _only(call, path, 2, "POST")
            column = bodies.column(call.json("AttributeMetadata"))
            self._solutions.check_prefix(self._solution(call), column.schema_name)
            self._customizing.add_column(table, column)
            made = metadata_id(table.name, column.name)
            self._solutions.add(self._solution(call), ATTRIBUTE, made)
            return _made(f"{call.root}{call.path.strip('/')}({made})")
        shape = below(below(table_shape(self._metadata, table), path[1]), path[2]) if len(path) == 3 else None  # noqa: PLR2004 - table, attributes, cast
        shape = shape or below(table_shape(self._metadata, table), path[1])
        _only(call, path, 3, "PUT", "DELETE")
        column = table.columns[shape["LogicalName"]]
        if call.method == "DELETE":
            self._customizing.remove_column(table, column)
            self._solutions.forget(shape["MetadataId"])
        else:
            self._customizing.change_column(table, bodies.changed_column(column, call.json("AttributeMetadata")))
        return _done()

    def _write_key(self, call: Call, table: Table, path: list[Segment]) -> Answer:
        if path[1].words is None:
            _only(call, path, 2, "POST")
            document = call.json("EntityKeyMetadata")
            self._solutions.check_prefix(self._solution(call), Body(document, "EntityKeyMetadata").schema_name())
            key = self._customizing.add_key(table, document)
            made = key_shape(table, key)["MetadataId"]
            self._solutions.add(self._solution(call), ENTITY_KEY, made)
            return _made(f"{call.root}{call.path.strip('/')}({made})")
        shape = below(table_shape(self._metadata, table), path[1])
        _only(call, path, 2, "DELETE")
        self._customizing.remove_key(table, next(each for each in table.keys if each.name == shape["LogicalName"]))
        self._solutions.forget(shape["MetadataId"])
        return _done()

    def _write_relationship(self, call: Call, path: list[Segment]) -> Answer:
        if path[0].words is None:
            _only(call, path, 1, "POST")
            asked = relationship(call.json("OneToManyRelationshipMetadata"))
            solution = self._solution(call)
            self._solutions.check_prefix(solution, asked.name, asked.lookup.schema_name)
            child, column = self._customizing.add_relationship(asked)
            made = metadata_id(child.name, column.name, column.targets[0])
            self._solutions.add(solution, RELATIONSHIP, made)
            return _made(f"{call.root}RelationshipDefinitions({made})")
        shape = self._named(path[0])
        if call.method == "PUT":
            raise NotSupported("changing relationships (PUT RelationshipDefinitions)")
        _only(call, path, 2, "DELETE")
        child, column = self._lookup(shape)
        if not column.custom:
            raise InvalidArgument(f"The relationship {shape['SchemaName']} is managed and cannot be deleted.")
        self._customizing.remove_relationship(child, column)
        self._solutions.forget(shape["MetadataId"])
        return _done()

    def _lookup(self, shape: Shape) -> tuple[Table, Column]:
        child = self._metadata.tables[shape["ReferencingEntity"]]
        return child, child.columns[shape["ReferencingAttribute"]]

    def build_key_again(self, body: Body) -> None:
        """Carry out ReactivateEntityKey."""
        self._lock.enter(OPERATION)
        table = self._customizing.table(body.needed("EntityLogicalName"))
        self._customizing.build_again(table, body.needed("EntityKeyLogicalName"))

    def create_many(self, call: Call, body: Body) -> None:
        """Carry out CreateEntities: several tables, or none when one of them is wrong."""
        self._lock.enter(OPERATION)
        body.known(("Entities",))
        entities = body.items("Entities")
        if not entities:
            raise InvalidArgument("CreateEntities: 'Entities' is empty.")
        for each in entities:
            kind = Body(each, "ComplexEntityMetadata").text("@odata.type", f"{NAMESPACE}ComplexEntityMetadata")
            if kind.removeprefix("#") != f"{NAMESPACE}ComplexEntityMetadata":
                raise body.wrong("Entities", f"holds a '{kind}', no ComplexEntityMetadata")
            self.create(call, each, "ComplexEntityMetadata")


def _custom(table: Table) -> list[Column]:
    return [column for column in table.columns.values() if column.custom]


def _only(call: Call, path: list[Segment], longest: int, *methods: str) -> None:
    if call.method not in methods:
        raise MethodNotAllowed(call.method)
    if len(path) > longest:
        raise UnknownSegment(path[-1].name)


def _made(uri: str) -> Answer:
    return Answer(204, {"OData-Version": "4.0", "Location": uri, "OData-EntityId": uri})


def _done() -> Answer:
    return Answer(204, {"OData-Version": "4.0"})
