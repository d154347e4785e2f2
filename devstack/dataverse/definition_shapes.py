"""Definitions as JSON: what EntityMetadata and its parts look like on the wire."""

from __future__ import annotations

from typing import Any, Final

from devstack.dataverse.metadata import LOOKUPS, READ_ONLY, Column, Key, Metadata, Table, metadata_id

Shape = dict[str, Any]
NAMESPACE: Final = "Microsoft.Dynamics.CRM."
_LEVELS: Final = {"systemrequired": "SystemRequired", "required": "ApplicationRequired", "recommended": "Recommended"}


def plain_shape(table: Table) -> Shape:
    """Write a table without its parts."""
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
        "TableType": "Standard",
        "IsActivity": False,
        "IsPrivate": False,
        "IsIntersect": False,
        "IsCustomEntity": "_" in table.name,
        "IsManaged": not table.custom,
        **table.flags,
        "DisplayName": label_shape(table.display_name),
        "DisplayCollectionName": label_shape(table.collection_name or table.display_name),
        "Description": label_shape(table.description),
    }


def table_shape(metadata: Metadata, table: Table) -> Shape:
    """Write a table with its columns, keys and relationships."""
    return plain_shape(table) | {
        "Attributes": [column_shape(table, column) for column in table.columns.values()],
        "Keys": [key_shape(table, key) for key in table.keys],
        "ManyToOneRelationships": [
            relationship_shape(metadata, table, column, target)
            for column in table.columns.values()
            for target in column.targets
        ],
        "OneToManyRelationships": [
            relationship_shape(metadata, metadata.tables[each.child], each.column, table.name)
            for each in table.collections.values()
        ],
        "ManyToManyRelationships": [],
    }


def relationship_shapes(metadata: Metadata) -> list[Shape]:
    """Write every relationship."""
    return [
        relationship_shape(metadata, table, column, target)
        for table, column in metadata.references
        for target in column.targets
    ]


def label_shape(text: str) -> Shape:
    """Write a label in the organization's one language; an empty one has no texts."""
    if not text:
        return {"LocalizedLabels": [], "UserLocalizedLabel": None}
    label = {"Label": text, "LanguageCode": 1033, "IsManaged": True, "MetadataId": metadata_id("label", text)}
    return {"LocalizedLabels": [label], "UserLocalizedLabel": label}


def column_shape(table: Table, column: Column) -> Shape:
    """Write a column."""
    name = "Uniqueidentifier" if column.type == "Uniqueidentifier" else column.type
    kind = {"Uniqueidentifier": "", "Customer": "Lookup", "Owner": "Lookup"}.get(name, name)
    writable = column.stored and not column.read_only and column.name not in READ_ONLY
    shape: Shape = {
        "@odata.type": f"#{NAMESPACE}{kind}AttributeMetadata",
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
        "IsCustomAttribute": "_" in column.name,
        "IsManaged": not column.custom,
        "DisplayName": label_shape(column.label),
        "Description": label_shape(column.description),
    }
    if column.max_length is not None:
        shape["MaxLength"] = column.max_length
    if column.type in ("Integer", "BigInt", "Decimal", "Double", "Money"):
        shape |= {"MinValue": column.minimum, "MaxValue": column.maximum}
    if column.precision is not None:
        shape["Precision"] = column.precision
    if column.type == "DateTime":
        shape |= {"Format": column.shown or column.format, "DateTimeBehavior": {"Value": _behavior(column)}}
    elif column.type == "Integer":
        shape["Format"] = column.format or "None"
    elif column.format:
        shape["FormatName"] = {"Value": column.format}
    if column.type in LOOKUPS:
        shape["Targets"] = list(column.targets)
    if column.type == "Boolean":
        shape |= {"DefaultValue": bool(column.default), "OptionSet": _yes_no_options(column)}
    elif column.options:
        shape["DefaultFormValue"] = -1 if column.default is None else column.default
        options = [
            {"Value": value, "Label": label_shape(text), **({"State": column.states[value]} if column.states else {})}
            for value, text in column.options.items()
        ]
        shape["OptionSet"] = {"Name": f"{table.name}_{column.name}", "IsGlobal": False, "Options": options}
    return shape


def _yes_no_options(column: Column) -> Shape:
    labels = dict(column.options) or {1: "Yes", 0: "No"}
    options = {
        name: {"Value": value, "Label": label_shape(labels.get(value, name))}
        for name, value in (("TrueOption", 1), ("FalseOption", 0))
    }
    return {"IsGlobal": False, "OptionSetType": "Boolean", **options}


def _behavior(column: Column) -> str:
    return column.behavior or ("DateOnly" if column.format == "DateOnly" else "UserLocal")


def key_shape(table: Table, key: Key) -> Shape:
    """Write an alternate key."""
    return {
        "MetadataId": metadata_id(table.name, "key", key.name),
        "LogicalName": key.name,
        "SchemaName": key.schema_name or key.name,
        "EntityLogicalName": table.name,
        "KeyAttributes": list(key.columns),
        "EntityKeyIndexStatus": key.status,
        "IsManaged": not key.custom,
        "DisplayName": label_shape(key.label),
    }


def relationship_shape(metadata: Metadata, child: Table, column: Column, target: str) -> Shape:
    """Write the relationship of a lookup to one of its targets."""
    parent = metadata.tables.get(target)
    return {
        "@odata.type": f"#{NAMESPACE}OneToManyRelationshipMetadata",
        "MetadataId": metadata_id(child.name, column.name, target),
        "SchemaName": column.relationship(child.name, target),
        "RelationshipType": "OneToManyRelationship",
        "IsCustomRelationship": column.custom,
        "IsManaged": not column.custom,
        "ReferencingEntity": child.name,
        "ReferencingAttribute": column.name,
        "ReferencingEntityNavigationPropertyName": column.navigation[target],
        "ReferencedEntity": target,
        "ReferencedAttribute": parent.primary_id if parent else f"{target}id",
        "ReferencedEntityNavigationPropertyName": column.collection(child.name, target),
        "CascadeConfiguration": {
            **dict.fromkeys(("Assign", "Merge", "Reparent", "Share", "Unshare"), "NoCascade"),
            "Delete": column.delete,
        },
    }
