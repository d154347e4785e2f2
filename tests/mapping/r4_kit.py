"""Helpers for tests against R4: the models of fhir.resources (R4B, of which no type mapped here differs)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, get_args

from relay.inbound.validate import check


def model_of(kind: str) -> Any:
    """Return the model of a resource type."""
    return getattr(import_module(f"fhir.resources.R4B.{kind.lower()}"), kind)


def required(model: Any) -> set[str]:
    """Return the elements that an object must have; a choice of types is one element with [x]."""
    names: set[str] = set()
    for name, field in model.model_fields.items():
        facts = field.json_schema_extra or {}
        if facts.get("one_of_many_required"):
            names.add(f"{facts['one_of_many']}[x]")
        elif field.is_required() or facts.get("element_required"):
            names.add(field.alias or name)
    return names


def member(model: Any, name: str) -> Any:
    """Return the model of an element, None for one that is a plain value; raises KeyError for one that R4 does not have."""
    field = {field.alias or name: field for name, field in model.model_fields.items()}[name]
    return next((each.get_model_klass() for each in _parts(field.annotation) if hasattr(each, "get_model_klass")), None)


def choice_of(model: Any, name: str) -> str:
    """Return the name of the choice of types that an element is one of; empty when it is none."""
    for each, field in model.model_fields.items():
        if (field.alias or each) == name:
            return str((field.json_schema_extra or {}).get("one_of_many", ""))
    raise KeyError(name)


def _parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    for each in get_args(annotation):
        yield from _parts(each)


def faults(resource: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Return where a resource is no R4, and why."""
    return {(issue.at, issue.message) for issue in check(resource, "reject")}
