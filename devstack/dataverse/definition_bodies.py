"""Reading what a client sends to make or change a table or a column.

A property that is not known here is refused with 501 naming it: nothing is taken and then forgotten.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from devstack.dataverse.definition_body import NAMESPACE, Body
from devstack.dataverse.definition_errors import SecondPrimaryName
from devstack.dataverse.errors import InvalidArgument, InvalidPayload, NotSupported
from devstack.dataverse.metadata import Column, Table
from devstack.dataverse.standard_columns import standard_columns

_ENTITY_SET: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)
LEVELS: Final = {"None": "", "Recommended": "recommended", "ApplicationRequired": "required"}
_TEXT_FORMATS: Final = ("Text", "TextArea", "Email", "Url", "TickerSymbol", "Phone", "Json", "RichText")
_WHOLE_FORMATS: Final = ("None", "Duration", "TimeZone", "Language", "Locale")
_WIDEST: Final = {
    "Integer": 2**31 - 1,
    "Decimal": 100_000_000_000,
    "Double": 100_000_000_000,
    "Money": 922_337_203_685_477,
}
_PRECISIONS: Final = {"Decimal": (2, 10), "Double": (2, 5), "Money": (2, 4)}
_TABLE: Final = frozenset(
    {
        *("MetadataId", "LogicalName", "SchemaName", "EntitySetName", "LogicalCollectionName", "CollectionSchemaName"),
        *("PrimaryIdAttribute", "PrimaryNameAttribute", "OwnershipType", "DisplayName", "DisplayCollectionName"),
        *("Description", "Attributes", "TableType", "ObjectTypeCode", "ChangeTrackingEnabled", "HasChanged"),
        *("Keys", "ManyToOneRelationships", "OneToManyRelationships", "ManyToManyRelationships"),
    }
)
COLUMN: Final = frozenset(
    {
        *("MetadataId", "LogicalName", "SchemaName", "EntityLogicalName", "AttributeType", "AttributeTypeName"),
        *("DisplayName", "Description", "RequiredLevel", "AttributeOf", "HasChanged", "ImeMode", "LinkedAttributeId"),
        *("ColumnNumber", "DeprecatedVersion", "IntroducedVersion", "InheritsFrom", "ExternalName"),
        *("MaxLength", "DatabaseLength", "FormatName", "Format", "MinValue", "MaxValue", "Precision"),
        *("PrecisionSource", "DateTimeBehavior", "OptionSet", "DefaultFormValue", "DefaultValue", "Targets"),
    }
)
UNSETTLED: Final = (
    "An organization has one language, 1033: of a label in several languages that text is kept, else the first.",
    "A yes/no column without DefaultValue is no, and a choice its DefaultFormValue, where a create says nothing.",
    "The Precision of a number is kept and told; values are not rounded to it.",
    "A date with Format DateOnly and the behavior UserLocal is a date and time on the wire.",
    "Labels and limits that change are in effect at once, before they are published.",
    "A schema name needs a publisher's prefix, and with MSCRM.SolutionUniqueName that of the solution's publisher.",
)
"""What no page settles, and how it is here."""


def plural(name: str) -> str:
    """Make the entity set's name of a logical name as Dataverse does."""
    if re.search(r"[^aeiou]y$", name):
        return f"{name[:-1]}ies"
    return f"{name}es" if re.search(r"(?:s|x|z|ch|sh)$", name) else f"{name}s"


def table(document: object, kind: str = "EntityMetadata") -> Table:
    """Read a table with its columns; raises the errors of Dataverse, or NotSupported naming what is not emulated."""
    body = Body(document, kind)
    flags = body.known(_TABLE, flags=True)
    schema_name = body.schema_name()
    name = schema_name.lower()
    label = body.label("DisplayName")
    if not label:
        raise InvalidArgument("EntityMetadata: 'DisplayName' is required.")
    entity_set = body.text("EntitySetName", plural(name))
    if not _ENTITY_SET.fullmatch(entity_set):
        raise body.wrong("EntitySetName", "is not a name")
    if body.flag("IsActivity"):
        raise NotSupported("making activity tables (IsActivity)")
    if body.text("TableType", "Standard") != "Standard":
        raise NotSupported(f"tables of type {body.text('TableType')}")
    ownership = body.choice("OwnershipType", ("UserOwned", "OrganizationOwned"), "UserOwned")
    columns = standard_columns(name, schema_name, label, ownership)
    primary = ""
    for each in body.items("Attributes"):
        made = column(each)
        if made.name in columns:
            raise InvalidArgument(f"The attribute {made.name} is given twice, or is one that every table has.")
        if Body(each, "AttributeMetadata").flag("IsPrimaryName"):
            if primary:
                raise SecondPrimaryName(primary, made.name, name)
            if made.type != "String":
                raise InvalidArgument("The primary name attribute is a StringAttributeMetadata.")
            primary = made.name
        columns[made.name] = made
    if not primary:
        raise InvalidArgument("EntityMetadata: one of 'Attributes' must have IsPrimaryName true.")
    return Table(
        name=name,
        schema_name=schema_name,
        display_name=label,
        entity_set=entity_set,
        primary_id=f"{name}id",
        primary_name=primary,
        ownership=ownership,
        optimistic_concurrency=True,
        columns=columns,
        keys=[],
        collection_name=body.label("DisplayCollectionName", label),
        description=body.label("Description"),
        custom=True,
        change_tracking=bool(body.flag("ChangeTrackingEnabled")),
        flags=_json(flags),
    )


def changed_table(old: Table, document: object) -> Table:
    """Read a definition that takes the place of another; labels and flags may differ, names and kinds may not."""
    body = Body(document, "EntityMetadata")
    flags = body.known(_TABLE, flags=True)
    for name, value in (("LogicalName", old.name), ("SchemaName", old.schema_name), ("OwnershipType", old.ownership)):
        if body.text(name, value) != value:
            raise InvalidArgument(f"EntityMetadata: '{name}' of {old.name} cannot be changed.")
    if old.change_tracking and body.flag("ChangeTrackingEnabled") is False:
        raise InvalidArgument(f"EntityMetadata: 'ChangeTrackingEnabled' of {old.name} cannot be switched off.")
    told = {"IsActivity", "IsCustomEntity", "IsManaged", "IsOptimisticConcurrencyEnabled", "IsPrivate", "IsIntersect"}
    return replace(
        old,
        display_name=body.label("DisplayName", old.display_name),
        collection_name=body.label("DisplayCollectionName", old.collection_name),
        description=body.label("Description", old.description),
        change_tracking=old.change_tracking or bool(body.flag("ChangeTrackingEnabled")),
        flags=old.flags | {name: value for name, value in _json(flags).items() if name not in told},
    )


def column(document: object) -> Column:
    """Read a column of a type that the API makes; raises NotSupported naming another type."""
    body = Body(document, "AttributeMetadata")
    body.known(COLUMN, flags=True)
    kind = _kind(body)
    schema_name = body.schema_name()
    return _typed(
        Column(
            schema_name.lower(),
            kind,
            schema_name,
            label=body.label("DisplayName", schema_name),
            custom=True,
            required=LEVELS[body.choice("RequiredLevel", LEVELS, "None")],
            description=body.label("Description"),
        ),
        body,
    )


def changed_column(old: Column, document: object) -> Column:
    """Read a definition that takes the place of another; the type, the names and the options stay."""
    body = Body(document, "AttributeMetadata")
    body.known(COLUMN, flags=True)
    if body.text("@odata.type") and _kind(body) != old.type:
        raise InvalidArgument(f"The type of the attribute {old.name} cannot be changed from {old.type}.")
    for name, value in (("LogicalName", old.name), ("SchemaName", old.schema_name)):
        if body.text(name, value).lower() != value.lower():
            raise InvalidArgument(f"AttributeMetadata: '{name}' of {old.name} cannot be changed.")
    level = (
        body.choice("RequiredLevel", (*LEVELS, "SystemRequired"), "None") if "RequiredLevel" in body.document else None
    )
    renamed = replace(
        old,
        label=body.label("DisplayName", old.label),
        description=body.label("Description", old.description),
        required=old.required if level in (None, "SystemRequired") else LEVELS[str(level)],
    )
    made = _typed(renamed, body)
    if made.options != old.options:
        raise NotSupported("changing the options of a column with PUT")
    return made


def _kind(body: Body) -> str:
    name = body.kind_of()
    kind = name.removesuffix("AttributeMetadata")
    if not name.endswith("AttributeMetadata") or not kind:
        raise body.wrong("@odata.type", f"is not '{NAMESPACE}<type>AttributeMetadata'")
    if kind == "Lookup":
        raise InvalidArgument("A lookup is made with its relationship: POST RelationshipDefinitions.")
    if kind not in _READERS:
        raise NotSupported(f"making columns of type {kind} (valid: {', '.join(_READERS)})")
    if body.flag("IsSecured"):
        raise NotSupported("column security (IsSecured)")
    return kind


def _typed(made: Column, body: Body) -> Column:
    """Add what belongs to the column's type: lengths, limits, formats, options."""
    return _READERS[made.type](made, body)


def _string(made: Column, body: Body) -> Column:
    return replace(
        made,
        max_length=body.whole("MaxLength", 1, 4000, made.max_length or 100),
        format=body.choice("FormatName", _TEXT_FORMATS, made.format or "Text"),
    )


def _memo(made: Column, body: Body) -> Column:
    return replace(made, max_length=body.whole("MaxLength", 1, 1_048_576, made.max_length or 2000))


def _whole(made: Column, body: Body) -> Column:
    widest = _WIDEST["Integer"]
    low = made.minimum if made.minimum is not None else -widest - 1
    high = made.maximum if made.maximum is not None else widest
    return _ordered(
        replace(
            made,
            minimum=body.whole("MinValue", -widest - 1, widest, int(low)),
            maximum=body.whole("MaxValue", -widest - 1, widest, int(high)),
            format=body.choice("Format", _WHOLE_FORMATS, made.format or "None"),
        ),
        body,
    )


def _exact(made: Column, body: Body) -> Column:
    widest = _WIDEST[made.type]
    usual, most = _PRECISIONS[made.type]
    return _ordered(
        replace(
            made,
            minimum=body.number("MinValue", widest, made.minimum if made.minimum is not None else -widest),
            maximum=body.number("MaxValue", widest, made.maximum if made.maximum is not None else widest),
            precision=body.whole("Precision", 0, most, usual if made.precision is None else made.precision),
        ),
        body,
    )


def _ordered(made: Column, body: Body) -> Column:
    if made.minimum is not None and made.maximum is not None and made.minimum > made.maximum:
        raise body.wrong("MinValue", "is larger than MaxValue")
    return made


def _big(made: Column, _: Body) -> Column:
    return made


def _date(made: Column, body: Body) -> Column:
    shown = body.choice("Format", ("DateOnly", "DateAndTime"), made.shown or "DateAndTime")
    behavior = body.choice(
        "DateTimeBehavior", ("UserLocal", "DateOnly", "TimeZoneIndependent"), made.behavior or "UserLocal"
    )
    if behavior == "TimeZoneIndependent":
        raise NotSupported("DateTimeBehavior TimeZoneIndependent")
    if made.behavior and behavior != made.behavior:
        raise NotSupported("changing DateTimeBehavior")
    kept = "DateOnly" if behavior == "DateOnly" else "DateAndTime"
    return replace(made, format=kept, behavior=behavior, shown="DateOnly" if kept == "DateOnly" else shown)


def _yes_no(made: Column, body: Body) -> Column:
    options = body.inner("OptionSet", "BooleanOptionSetMetadata")
    labels = dict(made.options) or {1: "Yes", 0: "No"}
    if options is not None:
        for name, value in (("TrueOption", 1), ("FalseOption", 0)):
            if (option := options.inner(name, "OptionMetadata")) is not None:
                labels[value] = option.label("Label", labels[value])
    chosen = body.flag("DefaultValue")
    return replace(made, options=labels, default=int(chosen) if chosen is not None else made.default or 0)


def _picklist(made: Column, body: Body) -> Column:
    described = body.inner("OptionSet", "OptionSetMetadata")
    options = dict(made.options)
    if described is not None:
        if described.flag("IsGlobal"):
            raise NotSupported("global option sets")
        read = _options(described)
        options = read if read or not options else options
    if not options and not made.options and described is None:
        raise InvalidArgument("PicklistAttributeMetadata: 'OptionSet' is required.")
    default = body.whole("DefaultFormValue", -1, 2**31 - 1, made.default)
    if default is not None and default not in (-1, *options):
        raise body.wrong("DefaultFormValue", "is none of the options")
    return replace(made, options=options, default=None if default == -1 else default)


_FIRST_OPTION: Final = 100_000_000


def _options(described: Body) -> dict[int, str]:
    """Read options; those without a value get the next ones from the default publisher's prefix on."""
    options: dict[int, str] = {}
    for each in described.items("Options"):
        option = Body(each, "OptionMetadata", f"{described.path}.Options")
        value = option.whole("Value", 0, 2**31 - 1, max([_FIRST_OPTION - 1, *options]) + 1)
        if value is None or value in options:
            raise option.wrong("Value", "is there twice")
        options[value] = option.label("Label", str(value))
    return options


_READERS: Final = {
    "String": _string,
    "Memo": _memo,
    "Integer": _whole,
    "BigInt": _big,
    "Decimal": _exact,
    "Double": _exact,
    "Money": _exact,
    "Boolean": _yes_no,
    "DateTime": _date,
    "Picklist": _picklist,
}


def _json(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Keep flags as they came: yes or no, or a managed property; anything else is refused."""
    kept = {}
    for name, value in flags.items():
        bare = value.get("Value") if isinstance(value, dict) else value
        if bare is not None and not isinstance(bare, bool):
            raise InvalidPayload("EntityMetadata", f"'{name}' is not true or false.")
        kept[name] = value if not isinstance(value, dict) else {"Value": bare, "CanBeChanged": True}
    return kept
