"""Preview: what maps make of resources, as plain JSON data. Offline and pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from relay.mapping.load import MapSet
from relay.mapping.model import (
    ByFhirId,
    ByIdentifier,
    ChildDraft,
    Draft,
    Issue,
    Resolve,
    Resource,
    Scalar,
    Target,
)
from relay.mapping.translate import translate


def preview(maps: MapSet, resources: Iterable[Resource], resolve: Resolve, *, sources: bool = False) -> dict[str, Any]:
    """Show the draft of every resource: `{"resources": [{resource, table, columns, children, unmapped, issues}]}`.

    Lookups stand among the columns as `Type/id`. A type without a map has table null and the issue `not-mapped`.
    Rows that hang on a child are its own `children`. `sources` adds to each row what file, line and path a column came
    from.
    """
    return {"resources": [_one(maps, resource, resolve, sources=sources) for resource in resources]}


def _one(maps: MapSet, resource: Resource, resolve: Resolve, *, sources: bool) -> dict[str, Any]:
    kind, identity = resource.get("resourceType"), resource.get("id")
    name = f"{kind}/{identity}" if isinstance(identity, str) else str(kind)
    entity = maps.for_resource(kind) if isinstance(kind, str) else None
    if entity is None:
        issue = Issue("information", "no-map", "no map for this type")
        return {
            "resource": name,
            "table": None,
            "columns": {},
            "children": [],
            "unmapped": [],
            "issues": [_issue(issue)],
        }
    draft = translate(entity, resource, resolve)
    shown: dict[str, Any] = {
        "resource": name,
        "table": entity.table.name,
        "columns": _columns(draft),
        "children": [_child(child, sources=sources) for child in draft.children],
        "unmapped": list(draft.unmapped),
        "issues": [_issue(issue) for issue in draft.issues],
    }
    if sources:
        shown["sources"] = _sources(draft, entity.file, entity.where)
    return shown


def _child(child: ChildDraft, *, sources: bool) -> dict[str, Any]:
    """Show a child row; `children` are there only where rows hang on it."""
    shown: dict[str, Any] = {"table": child.expansion.table.name, "columns": _columns(child)}
    if child.children:
        shown["children"] = [_child(each, sources=sources) for each in child.children]
    if sources:
        shown["sources"] = _sources(child, child.expansion.file, {})
    return shown


def _columns(draft: Draft | ChildDraft) -> dict[str, Any]:
    plain = {column: json_value(value) for column, value in draft.columns.items()}
    return plain | {column: lookup_text(target) for column, target in draft.lookups.items()}


def lookup_text(target: Target | None) -> str | None:
    """Write a lookup as people read it: `Type/id`, `Type?identifier=system|value`, or the concept's type and code."""
    if target is None:
        return None
    if isinstance(target, ByFhirId):
        return f"{target.type}/{target.id}"
    if isinstance(target, ByIdentifier):
        return f"{target.type}?identifier={target.system}|{target.value}"
    return f"msemr_codeableconcept/{target.type}/{target.code}"


def json_value(value: Scalar) -> Any:
    """Write a column value for JSON: a Decimal is a number where a double holds it exactly, else text."""
    if not isinstance(value, Decimal):
        return value
    return float(value) if Decimal(repr(float(value))) == value else str(value)


def _issue(issue: Issue) -> dict[str, str]:
    return {"severity": issue.severity, "code": issue.code, "message": issue.message, "at": issue.at}


def _sources(draft: Draft | ChildDraft, file: str, where: Mapping[str, Scalar]) -> dict[str, str]:
    """Say where each column came from: a line and its path, the `where` of the map, or nothing (it is cleared)."""
    shown: dict[str, str] = {}
    for column in (*draft.columns, *draft.lookups):
        source = draft.sources.get(column)
        if source is not None:
            shown[column] = f"{Path(source.file).name}:{source.line} {source.path}".strip()
        else:
            shown[column] = f"{Path(file).name} {'where' if column in where else 'cleared'}"
    return shown
