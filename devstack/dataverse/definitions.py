"""Reading table definitions: EntityDefinitions with attributes, relationships and keys."""

from __future__ import annotations

from typing import Any, Final

from devstack.dataverse.errors import BadSyntax, DataverseError, NotSupported, UnknownSegment
from devstack.dataverse.filters import Both, Compare, Condition, Not, parse
from devstack.dataverse.keys import Segment
from devstack.dataverse.metadata import LOOKUPS, READ_ONLY, Column, Key, Metadata, Table, metadata_id
from devstack.dataverse.query import split
from devstack.dataverse.wire import Answer, Call, answer

Shape = dict[str, Any]
_COLLECTIONS: Final = ("Attributes", "Keys", "ManyToOneRelationships", "OneToManyRelationships")
_LEVELS: Final = {"systemrequired": "SystemRequired", "required": "ApplicationRequired", "recommended": "Recommended"}
_NAMESPACE: Final = "Microsoft.Dynamics.CRM."


class DefinitionNotFound(DataverseError):
    """No definition has this name."""

    status = 404
    code = "0x80060888"

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"Could not find {kind} with the specified name: {name}")


class Definitions:
    """Answers reads of definitions; every write is refused."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata

    def answer(self, call: Call, path: list[Segment]) -> Answer:
        """Read definitions; raises NotSupported for writes and for what is not emulated."""
        if call.method != "GET":
            raise NotSupported(f"writing definitions ({call.method} {path[0].name})")
        if path[0].name != "EntityDefinitions":
            raise NotSupported(path[0].name)
        shapes: Any
        if path[0].words is None:
            shapes = [self._table(each) for each in self._metadata.tables.values()]
            rest = path[1:]
        else:
            shapes = _named(
                [self._table(each) for each in self._metadata.tables.values()], path[0], "an entity", "LogicalName"
            )
            rest = path[1:]
        for segment in rest:
            shapes = _below(shapes, segment)
        context = f"{call.root}$metadata#{'/'.join(segment.name for segment in path)}"
        if isinstance(shapes, list):
            return answer(200, {"@odata.context": context, "value": _many(shapes, call.options)})
        return answer(200, {"@odata.context": f"{context}/$entity", **_one(shapes, call.options, single=True)})

    def _table(self, table: Table) -> Shape:
        return {
            "MetadataId": table.metadata_id,
            "LogicalName": table.name,
            "SchemaName": table.schema_name,
            "EntitySetName": table.entity_set,
            "LogicalCollectionName": table.entity_set,
            "CollectionSchemaName": table.entity_set,
            "PrimaryIdAttribute": table.primary_id,
            "PrimaryNameAttribute": table.primary_name,
            "OwnershipType": table.ownership,
            "IsOptimisticConcurrencyEnabled": table.optimistic_concurrency,
            "ChangeTrackingEnabled": table.change_tracking,
            "IsActivity": False,
            "IsCustomEntity": "_" in table.name,
            "DisplayName": _label(table.display_name),
            "DisplayCollectionName": _label(table.display_name),
            "Attributes": [_attribute(table, column) for column in table.columns.values()],
            "Keys": [_key(table, key) for key in table.keys],
            "ManyToOneRelationships": [
                _relationship(table, column, target) for column in table.columns.values() for target in column.targets
            ],
            "OneToManyRelationships": [
                _relationship(self._metadata.tables[each.child], each.column, table.name)
                for each in table.collections.values()
            ],
        }


def _label(text: str) -> Shape:
    label = {"Label": text, "LanguageCode": 1033, "IsManaged": True, "MetadataId": metadata_id("label", text)}
    return {"LocalizedLabels": [label], "UserLocalizedLabel": label}


def _attribute(table: Table, column: Column) -> Shape:
    name = "Uniqueidentifier" if column.type == "Uniqueidentifier" else column.type
    kind = {"Uniqueidentifier": "", "Customer": "Lookup", "Owner": "Lookup"}.get(name, name)
    writable = column.stored and not column.read_only and column.name not in READ_ONLY
    shape: Shape = {
        "@odata.type": f"#{_NAMESPACE}{kind}AttributeMetadata",
        "MetadataId": metadata_id(table.name, column.name),
        "LogicalName": column.name,
        "SchemaName": column.schema_name,
        "EntityLogicalName": table.name,
        "AttributeType": name,
        "AttributeTypeName": {"Value": f"{name}Type"},
        "IsPrimaryId": column.name == table.primary_id,
        "IsPrimaryName": column.name == table.primary_name,
        "IsValidForCreate": writable,
        "IsValidForUpdate": writable and column.name != table.primary_id,
        "IsValidForRead": not column.secret,
        "AttributeOf": None,
        "RequiredLevel": {"Value": _LEVELS.get(column.required, "None"), "CanBeChanged": True},
        "DisplayName": _label(column.label),
    }
    if column.max_length is not None:
        shape["MaxLength"] = column.max_length
    if column.type in ("Integer", "BigInt", "Decimal", "Double", "Money"):
        shape |= {"MinValue": column.minimum, "MaxValue": column.maximum}
    if column.type == "DateTime":
        shape |= {"Format": column.format, "DateTimeBehavior": {"Value": _behaviour(column)}}
    elif column.format:
        shape["FormatName"] = {"Value": column.format}
    if column.type in LOOKUPS:
        shape["Targets"] = list(column.targets)
    if column.options:
        options = [
            {"Value": value, "Label": _label(text), **({"State": column.states[value]} if column.states else {})}
            for value, text in column.options.items()
        ]
        shape["OptionSet"] = {"Name": f"{table.name}_{column.name}", "IsGlobal": False, "Options": options}
    return shape


def _behaviour(column: Column) -> str:
    return "DateOnly" if column.format == "DateOnly" else "UserLocal"


def _key(table: Table, key: Key) -> Shape:
    return {
        "MetadataId": metadata_id(table.name, "key", key.name),
        "LogicalName": key.name,
        "SchemaName": key.name,
        "EntityLogicalName": table.name,
        "KeyAttributes": list(key.columns),
        "EntityKeyIndexStatus": "Active",
        "DisplayName": _label(key.label),
    }


def _relationship(child: Table, column: Column, target: str) -> Shape:
    name = column.collections.get(target) or f"{child.name}_{column.navigation[target]}_{target}"
    return {
        "@odata.type": f"#{_NAMESPACE}OneToManyRelationshipMetadata",
        "MetadataId": metadata_id(child.name, column.name, target),
        "SchemaName": name,
        "RelationshipType": "OneToManyRelationship",
        "ReferencingEntity": child.name,
        "ReferencingAttribute": column.name,
        "ReferencingEntityNavigationPropertyName": column.navigation[target],
        "ReferencedEntity": target,
        "ReferencedAttribute": f"{target}id",
        "ReferencedEntityNavigationPropertyName": name,
        "CascadeConfiguration": {"Delete": column.delete},
    }


def _named(shapes: list[Shape], segment: Segment, kind: str, by: str) -> Shape:
    words = segment.words or ()
    if len(words) == 1 and words[0].kind == "guid":
        key, value = "MetadataId", words[0].text
    elif len(words) == 3 and words[0].text in (by, "MetadataId") and words[1].text == "=":  # noqa: PLR2004 - name, =, value
        key, value = words[0].text, words[2].text
    else:
        raise BadSyntax(f"Bad Request - Error in query syntax: {segment.name}({by}='…').")
    found = next((shape for shape in shapes if shape[key].lower() == value.lower()), None)
    if found is None:
        raise DefinitionNotFound(kind, value)
    return found


def _below(shapes: Any, segment: Segment) -> Any:
    if segment.name.startswith(_NAMESPACE):
        return _cast(shapes, segment.name)
    if isinstance(shapes, list):
        raise UnknownSegment(segment.name)
    value = shapes.get(segment.name)
    if value is None:
        raise UnknownSegment(segment.name)
    if segment.words is None:
        if isinstance(value, list | dict):
            return value
        raise NotSupported(f"reading the single definition property '{segment.name}'")
    if segment.name not in ("Attributes", "Keys"):
        raise NotSupported(f"keys on {segment.name}")
    return _named(value, segment, "a definition", "LogicalName")


def _cast(shapes: Any, name: str) -> Any:
    if isinstance(shapes, list):
        return [shape for shape in shapes if shape.get("@odata.type") == f"#{name}"]
    if shapes.get("@odata.type") != f"#{name}":
        raise DefinitionNotFound("a definition of type", name)
    return shapes


def _many(shapes: list[Shape], options: dict[str, str]) -> list[Shape]:
    if "$filter" in options:
        condition = parse(options["$filter"], {})
        shapes = [shape for shape in shapes if _holds(shape, condition)]
    return [_one(shape, options) for shape in shapes]


def _one(shape: Shape, options: dict[str, str], *, single: bool = False) -> Shape:
    allowed = {"$select", "$expand"} | (set() if single else {"$filter"})
    if unknown := sorted(options.keys() - allowed):
        raise NotSupported(f"the query option {unknown[0]} on definitions")
    expanded: Shape = {}
    for part in split(options["$expand"], ",") if options.get("$expand") else ():
        name, _, rest = part.strip().partition("(")
        if name not in _COLLECTIONS and name != "OptionSet":
            raise BadSyntax(f"Could not find a property named '{name}' to expand.")
        if name not in shape or (rest and not rest.endswith(")")):
            raise BadSyntax(f"'{part}' cannot be expanded here.")
        nested = dict(option.strip().partition("=")[::2] for option in split(rest[:-1], ";")) if rest else {}
        value = shape[name]
        expanded[name] = _many(value, nested) if isinstance(value, list) else _one(value, nested, single=True)
    if options.get("$select"):
        names = [name.strip() for name in options["$select"].split(",")]
        if unknown := [name for name in names if name not in shape]:
            raise BadSyntax(f"Could not find a property named '{unknown[0]}' on the definition.")
        plain = {name: shape[name] for name in ("@odata.type", *names) if name in shape}
        plain["MetadataId"] = shape.get("MetadataId")
    else:
        plain = {name: value for name, value in shape.items() if name not in (*_COLLECTIONS, "OptionSet")}
    return plain | expanded


def _holds(shape: Shape, condition: Condition) -> bool:
    """Decide a filter on definitions; only eq and ne on plain properties are known."""
    if isinstance(condition, Both):
        decide = all if condition.operator == "and" else any
        return decide(_holds(shape, part) for part in condition.parts)
    if isinstance(condition, Not):
        return not _holds(shape, condition.inner)
    if not isinstance(condition, Compare) or condition.path.navigations or condition.operator not in ("eq", "ne"):
        raise NotSupported("anything but eq and ne on plain properties in $filter on definitions")
    if condition.path.name not in shape:
        raise BadSyntax(f"Could not find a property named '{condition.path.name}' on the definition.")
    word = condition.value
    value: Any = getattr(word, "text", None)
    if getattr(word, "kind", "") == "name":
        value = {"true": True, "false": False, "null": None}.get(value)
    actual = shape[condition.path.name]
    return bool((actual == value) == (condition.operator == "eq"))
