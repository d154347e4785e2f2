"""Table definitions, as an org's Web API tells them → the column facts of `metadata.json`. Pure; nothing is read here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

Json = Mapping[str, Any]

KINDS_WITH_OPTIONS = ("Picklist", "MultiSelectPicklist", "State", "Status")
"""Column types whose options stand in an `OptionSet` of their own."""

_LOOKUPS = frozenset({"Lookup", "Customer", "Owner"})
_LEVELS = {"SystemRequired": "systemrequired", "ApplicationRequired": "required", "Recommended": "recommended"}
_NOT_COLUMNS = frozenset({"CalendarRules", "EntityName", "ManagedProperty", "Virtual"})
_FIXED_PRECISION = 0  # PrecisionSource: the column's own; 1 and 2 are the organization's and the currency's


def table_facts(definition: Json, attributes: Iterable[Json], options: Mapping[str, Iterable[Json]]) -> dict[str, Any]:
    """Return what `metadata.json` says of one table.

    `definition` is the EntityDefinition with its ManyToOneRelationships and Keys, `attributes` are its columns whole,
    `options` the options by column. Raises KeyError, TypeError or AttributeError for another shape.
    """
    navigation = navigation_names(definition)
    columns = {
        each["LogicalName"]: _column(each, navigation.get(each["LogicalName"], {}), options.get(each["LogicalName"]))
        for each in sorted(attributes, key=lambda attribute: str(attribute["LogicalName"]))
        # a column that is part of another, such as the name of a lookup's row, is no column of its own
        if each.get("AttributeOf") is None and column_type(each) not in _NOT_COLUMNS
    }
    return {
        "schemaName": definition["SchemaName"],
        "displayName": _label(definition["DisplayName"]) or definition["LogicalName"],
        "entitySet": definition["EntitySetName"],
        "primaryId": definition["PrimaryIdAttribute"],
        "primaryName": definition["PrimaryNameAttribute"] or "",
        "ownership": definition["OwnershipType"],
        "optimisticConcurrency": definition["IsOptimisticConcurrencyEnabled"],
        "columns": columns,
        "keys": [
            {"name": each["SchemaName"], "columns": list(each["KeyAttributes"]), "label": _label(each["DisplayName"])}
            for each in definition["Keys"]
        ],
    }


def navigation_names(definition: Json) -> dict[str, dict[str, str]]:
    """Return lookup column → table it may point to → navigation property, of a definition with ManyToOneRelationships."""
    names: dict[str, dict[str, str]] = {}
    for each in definition["ManyToOneRelationships"]:
        if name := each["ReferencingEntityNavigationPropertyName"]:
            names.setdefault(each["ReferencingAttribute"], {})[each["ReferencedEntity"]] = name
    return names


def column_type(attribute: Json) -> str:
    """Return the column's type as `metadata.json` names it: AttributeTypeName without `Type`."""
    return str(attribute["AttributeTypeName"]["Value"]).removesuffix("Type")


def _column(attribute: Json, navigation: Mapping[str, str], options: Iterable[Json] | None) -> dict[str, Any]:
    kind = column_type(attribute)
    facts: dict[str, Any] = {"type": kind}
    if shown := _format(kind, attribute):
        facts["format"] = shown
    for key, name in (("maxLength", "MaxLength"), ("min", "MinValue"), ("max", "MaxValue")):
        if attribute.get(name) is not None:
            facts[key] = _number(attribute[name])
    if attribute.get("Precision") is not None and attribute.get("PrecisionSource") in {None, _FIXED_PRECISION}:
        facts["precision"] = attribute["Precision"]
    if level := _LEVELS.get(attribute["RequiredLevel"]["Value"]):
        facts["required"] = level
    if kind in KINDS_WITH_OPTIONS:
        facts["options"] = [_option(each) for each in options or ()]
    if kind in _LOOKUPS:
        targets = attribute.get("Targets") or list(navigation)
        # an owner may be a user or a team, by one property that leads to the table of both
        shared = next(iter(navigation.values()), None) if kind == "Owner" else None
        facts["targets"] = [each for each in targets if each in navigation or shared]
        facts["navigation"] = {each: navigation.get(each, shared) for each in facts["targets"]}
    facts["schemaName"] = attribute["SchemaName"]
    facts["label"] = _label(attribute["DisplayName"]) or attribute["LogicalName"]
    return facts


def _format(kind: str, attribute: Json) -> str:
    """Return how the wire writes the column, where the type does not say it.

    A date's behaviour decides over its format: with the behaviour UserLocal, a column that shows only dates still
    travels with a time.
    """
    if kind == "DateTime":
        behaviour = (attribute.get("DateTimeBehavior") or {}).get("Value")
        return "DateOnly" if (behaviour or attribute.get("Format")) == "DateOnly" else "DateAndTime"
    name = str((attribute.get("FormatName") or {}).get("Value") or "") if kind == "String" else ""
    return "" if name == "Text" else name


def _option(option: Json) -> list[Any]:
    state = [option["State"]] if option.get("State") is not None else []
    return [option["Value"], _label(option["Label"]), *state]


def _label(label: Json | None) -> str:
    shown = (label or {}).get("UserLocalizedLabel") or {}
    return str(shown.get("Label") or "")


def _number(value: Any) -> int | float:
    return int(value) if value == int(value) else float(value)


def facts_text(document: Json) -> str:
    """Write the document of `metadata.json`: one line for each column, so that a change of facts reads as one."""
    tables = ",\n".join(_table_text(name, facts) for name, facts in document["tables"].items())
    return f'{{\n"source": {_lines(document["source"])},\n"tables": {{\n{tables}\n}}\n}}\n'


def _table_text(name: str, facts: Json) -> str:
    parts = []
    for key, value in facts.items():
        if key == "columns":
            columns = ",\n".join(f"  {_text(each)}: {_text(column)}" for each, column in value.items())
            parts.append(f' "columns": {{\n{columns}\n }}')
        else:
            parts.append(f" {_text(key)}: {_text(value)}")
    return f"{_text(name)}: {{\n" + ",\n".join(parts) + "\n}"


def _lines(value: Json) -> str:
    return "{\n" + ",\n".join(f" {_text(key)}: {_text(each)}" for key, each in value.items()) + "\n}"


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
