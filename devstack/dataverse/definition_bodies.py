"""Reading what a client sends to make or change a table, column, relationship or key.

A property that is not known here is refused with 501 naming it: nothing is taken and then forgotten.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final

from devstack.dataverse.definition_errors import SecondPrimaryName
from devstack.dataverse.errors import InvalidArgument, InvalidPayload, NotSupported
from devstack.dataverse.metadata import LOGICAL_NAME, Column, Table
from devstack.dataverse.standard_columns import standard_columns

NAMESPACE: Final = "Microsoft.Dynamics.CRM."
LANGUAGE: Final = 1033
_SCHEMA_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{1,7}_[A-Za-z0-9_]{1,90}", re.ASCII)
_ENTITY_SET: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)
_FLAG: Final = re.compile(r"(?:Is|Has|Can|Auto|Enforce|Sync)[A-Z]\w{1,80}", re.ASCII)
_LEVELS: Final = {"None": "", "Recommended": "recommended", "ApplicationRequired": "required"}
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
_COLUMN: Final = frozenset(
    {
        *("MetadataId", "LogicalName", "SchemaName", "EntityLogicalName", "AttributeType", "AttributeTypeName"),
        *("DisplayName", "Description", "RequiredLevel", "AttributeOf", "HasChanged", "ImeMode", "LinkedAttributeId"),
        *("ColumnNumber", "DeprecatedVersion", "IntroducedVersion", "InheritsFrom", "ExternalName"),
        *("MaxLength", "DatabaseLength", "FormatName", "Format", "MinValue", "MaxValue", "Precision"),
        *("PrecisionSource", "DateTimeBehavior", "OptionSet", "DefaultFormValue", "DefaultValue", "Targets"),
    }
)
_NOT_HERE: Final = {
    "AutoNumberFormat": "auto-number columns",
    "FormulaDefinition": "formula columns",
    "GlobalOptionSet@odata.bind": "global option sets",
    "GlobalOptionSet": "global option sets",
    "YomiOf": "phonetic columns",
    "ParentPicklistLogicalName": "dependent option sets",
    "DataProviderId": "virtual tables",
    "DataSourceId": "virtual tables",
}
"""Properties with an effect that the emulator does not have; empty ones say nothing."""
UNSETTLED: Final = (
    "An organization has one language, 1033: of a label in several languages that text is kept, else the first.",
    "A yes/no column without DefaultValue is no, and a choice its DefaultFormValue, where a create says nothing.",
    "The Precision of a number is kept and told; values are not rounded to it.",
    "A date with Format DateOnly and the behavior UserLocal is a date and time on the wire.",
    "Labels and limits that change are in effect at once, before they are published.",
    "A schema name needs a publisher's prefix, and with MSCRM.SolutionUniqueName that of the solution's publisher.",
)
"""What no page settles, and how it is here."""


class Body:
    """One JSON object of a request; `kind` is its type's name in errors, `path` where it stands."""

    def __init__(self, document: object, kind: str, path: str = "") -> None:
        self.kind, self.path = kind, path
        if not isinstance(document, dict):
            raise self.wrong("", "is not a JSON object")
        self.document: dict[str, Any] = document

    def wrong(self, name: str, what: str) -> InvalidPayload:
        """Make the error for one property."""
        where = ".".join(part for part in (self.path, name) if part)
        return InvalidPayload(self.kind, f"'{where or 'the body'}' {what}.")

    def known(self, names: Iterable[str], *, flags: bool = False) -> dict[str, Any]:
        """Return the flags; raises NotSupported for a property that is neither known nor a flag."""
        found: dict[str, Any] = {}
        known = frozenset(names)
        for name, value in self.document.items():
            if "@" in name and not name.endswith("@odata.bind"):
                continue
            if name in _NOT_HERE:
                if value not in (None, ""):
                    raise NotSupported(f"{_NOT_HERE[name]} ({name} of {self.kind})")
            elif name not in known:
                if not flags or not _FLAG.fullmatch(name):
                    raise NotSupported(f"the property '{name}' of {self.kind}")
                found[name] = value
        return found

    def text(self, name: str, default: str = "") -> str:
        """Return a text; one that is not there, null or empty is the default."""
        value = self.document.get(name)
        if value is None or value == "":
            return default
        if not isinstance(value, str):
            raise self.wrong(name, "is not a string")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise self.wrong(name, "is not Unicode") from None
        return value

    def needed(self, name: str) -> str:
        """Return a text that must be there."""
        text = self.text(name)
        if not text:
            raise InvalidArgument(f"{self.kind}: '{name}' is required.")
        return text

    def choice(self, name: str, valid: Iterable[str], default: str) -> str:
        """Return one of some texts, given bare or as a managed value."""
        value = self.document.get(name)
        if isinstance(value, dict):
            value = value.get("Value")
        if value is None:
            return default
        if not isinstance(value, str) or value not in (names := tuple(valid)):
            raise self.wrong(name, f"is not one of {', '.join(valid)}")
        return str(value if value in names else default)

    def flag(self, name: str) -> bool | None:
        """Return a yes or no, given bare or as a managed value; None for one that is not there."""
        value = self.document.get(name)
        if isinstance(value, dict):
            value = value.get("Value")
        if value is not None and not isinstance(value, bool):
            raise self.wrong(name, "is not true or false")
        return value

    def whole(self, name: str, low: int, high: int, default: int | None = None) -> int | None:
        """Return a whole number within limits."""
        value = self.document.get(name)
        if value is None:
            return default
        if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
            value = int(value) if abs(value) < 2**63 else None
        if type(value) is not int or not low <= value <= high:
            raise self.wrong(name, f"is not a whole number from {low} to {high}")
        return value

    def number(self, name: str, limit: int, default: float | None) -> float | None:
        """Return a number of at most this size."""
        value = self.document.get(name)
        if value is None:
            return default
        if type(value) not in (int, Decimal) or not abs(value) <= limit:
            raise self.wrong(name, f"is not a number from -{limit} to {limit}")
        return int(value) if value == int(value) else float(value)

    def items(self, name: str) -> list[Any]:
        """Return an array; an empty one for none."""
        value = self.document.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.wrong(name, "is not an array")
        return value

    def inner(self, name: str, kind: str) -> Body | None:
        """Return an object; None for none."""
        value = self.document.get(name)
        return None if value is None else Body(value, kind, f"{self.path}.{name}".lstrip("."))

    def label(self, name: str, default: str = "") -> str:
        """Return a label in the organization's one language, else its first."""
        label = self.inner(name, "Label")
        if label is None:
            return default
        found = [
            Body(each, "LocalizedLabel", f"{label.path}.LocalizedLabels") for each in label.items("LocalizedLabels")
        ]
        if not found and (user := label.inner("UserLocalizedLabel", "LocalizedLabel")) is not None:
            found = [user]
        ours = [each for each in found if each.document.get("LanguageCode") == LANGUAGE] or found
        return ours[0].text("Label", default) if ours else default

    def schema_name(self) -> str:
        """Return the schema name; raises InvalidArgument for one without a publisher's prefix or with odd characters."""
        name = self.needed("SchemaName")
        if not _SCHEMA_NAME.fullmatch(name) or not LOGICAL_NAME.fullmatch(name.lower()):
            raise InvalidArgument(
                f"The SchemaName '{name}' is not a publisher's prefix of 2 to 8 letters and digits, an underscore, and "
                "letters, digits and underscores."
            )
        return name


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
    body.known(_COLUMN, flags=True)
    kind = _kind(body)
    schema_name = body.schema_name()
    return _typed(
        Column(
            schema_name.lower(),
            kind,
            schema_name,
            label=body.label("DisplayName", schema_name),
            custom=True,
            required=_LEVELS[body.choice("RequiredLevel", _LEVELS, "None")],
            description=body.label("Description"),
        ),
        body,
    )


def changed_column(old: Column, document: object) -> Column:
    """Read a definition that takes the place of another; the type, the names and the options stay."""
    body = Body(document, "AttributeMetadata")
    body.known(_COLUMN, flags=True)
    if body.text("@odata.type") and _kind(body) != old.type:
        raise InvalidArgument(f"The type of the attribute {old.name} cannot be changed from {old.type}.")
    for name, value in (("LogicalName", old.name), ("SchemaName", old.schema_name)):
        if body.text(name, value).lower() != value.lower():
            raise InvalidArgument(f"AttributeMetadata: '{name}' of {old.name} cannot be changed.")
    level = (
        body.choice("RequiredLevel", (*_LEVELS, "SystemRequired"), "None") if "RequiredLevel" in body.document else None
    )
    renamed = replace(
        old,
        label=body.label("DisplayName", old.label),
        description=body.label("Description", old.description),
        required=old.required if level in (None, "SystemRequired") else _LEVELS[str(level)],
    )
    made = _typed(renamed, body)
    if made.options != old.options:
        raise NotSupported("changing the options of a column with PUT")
    return made


def _kind(body: Body) -> str:
    name = body.text("@odata.type").removeprefix("#").removeprefix(NAMESPACE).removeprefix("Complex")
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


@dataclass(frozen=True, slots=True)
class Relationship:
    """A one-to-many relationship as it is asked for; `parent` is the referenced table, `child` the one that refers."""

    name: str
    parent: str
    child: str
    lookup: Column


_RELATIONSHIP: Final = frozenset(
    {
        *("MetadataId", "SchemaName", "RelationshipType", "SecurityTypes", "IntroducedVersion", "HasChanged"),
        *("ReferencedEntity", "ReferencedAttribute", "ReferencingEntity", "ReferencingAttribute", "Lookup"),
        *("ReferencedEntityNavigationPropertyName", "ReferencingEntityNavigationPropertyName"),
        *("AssociatedMenuConfiguration", "CascadeConfiguration", "EntityKey", "RelationshipAttributes"),
    }
)
_CASCADES: Final = ("Cascade", "NoCascade", "RemoveLink", "Restrict", "Active", "UserOwned")
_ON_DELETE: Final = ("RemoveLink", "Cascade", "Restrict")
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,127}", re.ASCII)


def relationship(document: object) -> Relationship:
    """Read a one-to-many relationship with its lookup; raises NotSupported for many-to-many."""
    body = Body(document, "OneToManyRelationshipMetadata")
    kind = body.text("@odata.type").removeprefix("#").removeprefix(NAMESPACE).removeprefix("Complex")
    if kind == "ManyToManyRelationshipMetadata":
        raise NotSupported("many-to-many relationships")
    if kind != body.kind:
        raise body.wrong("@odata.type", f"is not '{NAMESPACE}{body.kind}'")
    body.known(_RELATIONSHIP, flags=True)
    if body.flag("IsHierarchical"):
        raise NotSupported("hierarchical relationships (IsHierarchical)")
    name = body.needed("SchemaName")
    if not _NAME.fullmatch(name) or "_" not in name:
        raise InvalidArgument(f"The SchemaName '{name}' of the relationship has no publisher's prefix.")
    parent, child = body.needed("ReferencedEntity"), body.needed("ReferencingEntity")
    lookup = body.inner("Lookup", "LookupAttributeMetadata")
    if lookup is None:
        raise InvalidArgument("OneToManyRelationshipMetadata: 'Lookup' is required.")
    lookup.known(_COLUMN, flags=True)
    if lookup.text("@odata.type").removeprefix("#").removeprefix(NAMESPACE).removeprefix("Complex") != lookup.kind:
        raise lookup.wrong("@odata.type", f"is not '{NAMESPACE}{lookup.kind}'")
    schema_name = lookup.schema_name()
    navigation = body.text("ReferencingEntityNavigationPropertyName", schema_name)
    collection = body.text("ReferencedEntityNavigationPropertyName", name)
    for property_name in (navigation, collection):
        if not _NAME.fullmatch(property_name):
            raise InvalidArgument(f"'{property_name}' is no name of a navigation property.")
    return Relationship(
        name,
        parent,
        child,
        Column(
            schema_name.lower(),
            "Lookup",
            schema_name,
            label=lookup.label("DisplayName", schema_name),
            required=_LEVELS[lookup.choice("RequiredLevel", _LEVELS, "None")],
            description=lookup.label("Description"),
            targets=(parent,),
            navigation={parent: navigation},
            collections={parent: collection},
            relationships={parent: name},
            delete=on_delete(body),
            custom=True,
        ),
    )


def on_delete(body: Body) -> str:
    """Read what a relationship does to the child's row when the parent's goes; the other cascades change nothing here."""
    cascade = body.inner("CascadeConfiguration", "CascadeConfiguration")
    if cascade is None:
        return "RemoveLink"
    for name in ("Assign", "Merge", "Reparent", "Share", "Unshare", "RollupView", "Archive"):
        cascade.choice(name, _CASCADES, "NoCascade")
    return cascade.choice("Delete", _ON_DELETE, "RemoveLink")


def _json(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Keep flags as they came: yes or no, or a managed property; anything else is refused."""
    kept = {}
    for name, value in flags.items():
        bare = value.get("Value") if isinstance(value, dict) else value
        if bare is not None and not isinstance(bare, bool):
            raise InvalidPayload("EntityMetadata", f"'{name}' is not true or false.")
        kept[name] = value if not isinstance(value, dict) else {"Value": bare, "CanBeChanged": True}
    return kept
