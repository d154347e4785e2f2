"""A resource as text: its members, and whether it is the whole of itself."""

from __future__ import annotations

from collections.abc import Mapping

from relay.errors import Failed
from relay.fhir.json_text import Span, document, members, value_at
from relay.fhir.subset import is_subset


def resource_members(text: str) -> dict[str, Span]:
    """Find the members of the resource that the whole text is; it has at least one.

    Raises Failed: `not-json`, `duplicate-member`, or `invalid-element` for what is no object or an empty one.
    """
    whole = document(text)
    if not text.startswith("{", whole.start):
        raise Failed("the resource is not a JSON object", code="invalid-element")
    found = members(text, whole.start)
    if not found:
        raise Failed("the resource is an empty object", code="invalid-element")
    return found


def refuse_subset(text: str, top: Mapping[str, Span]) -> None:
    """Raise Failed `subsetted` for a part of a resource, given its members: it must never replace the whole."""
    if "meta" in top and is_subset({"meta": value_at(text, top["meta"])}):
        raise Failed("the resource is tagged SUBSETTED: it is not the whole of it", code="subsetted", at="meta.tag")
