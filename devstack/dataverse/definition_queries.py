"""Reading along definitions: keys, casts, `$select`, `$expand` and `$filter` over their JSON."""

from __future__ import annotations

import re
from typing import Any, Final

from devstack.dataverse.definition_errors import DefinitionNotFound
from devstack.dataverse.definition_shapes import NAMESPACE, Shape
from devstack.dataverse.errors import BadSyntax, NotSupported, UnknownSegment
from devstack.dataverse.filters import Both, Compare, Condition, Not, parse
from devstack.dataverse.keys import Segment
from devstack.dataverse.query import split

COLLECTIONS: Final = (
    "Attributes",
    "Keys",
    "ManyToOneRelationships",
    "OneToManyRelationships",
    "ManyToManyRelationships",
)
_ENUM: Final = re.compile(r"Microsoft\.Dynamics\.CRM\.\w+(?=')")


def named(shapes: list[Shape], segment: Segment, kind: str, by: str) -> Shape:
    """Return the one that a key names, by id or by `by`; raises DefinitionNotFound or BadSyntax."""
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


def below(shapes: Any, segment: Segment) -> Any:
    """Follow one step of a path: a part, one of its members, or a cast."""
    if segment.name.startswith(NAMESPACE):
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
    return named(value, segment, "a definition", "LogicalName")


def _cast(shapes: Any, name: str) -> Any:
    if isinstance(shapes, list):
        return [shape for shape in shapes if shape.get("@odata.type") == f"#{name}"]
    if shapes.get("@odata.type") != f"#{name}":
        raise DefinitionNotFound("a definition of type", name)
    return shapes


def many(shapes: list[Shape], options: dict[str, str]) -> list[Shape]:
    """Apply query options to a list."""
    if "$filter" in options:
        condition = parse(_ENUM.sub("", options["$filter"]), {})
        shapes = [shape for shape in shapes if _holds(shape, condition)]
    return [one(shape, options) for shape in shapes]


def one(shape: Shape, options: dict[str, str], *, single: bool = False) -> Shape:
    """Apply query options to a definition, which is `single` when the path named it."""
    allowed = {"$select", "$expand"} | (set() if single else {"$filter"})
    if unknown := sorted(options.keys() - allowed):
        raise NotSupported(f"the query option {unknown[0]} on definitions")
    expanded: Shape = {}
    for part in split(options["$expand"], ",") if options.get("$expand") else ():
        name, _, rest = part.strip().partition("(")
        if name not in COLLECTIONS and name != "OptionSet":
            raise BadSyntax(f"Could not find a property named '{name}' to expand.")
        if name not in shape or (rest and not rest.endswith(")")):
            raise BadSyntax(f"'{part}' cannot be expanded here.")
        nested = dict(option.strip().partition("=")[::2] for option in split(rest[:-1], ";")) if rest else {}
        value = shape[name]
        expanded[name] = many(value, nested) if isinstance(value, list) else one(value, nested, single=True)
    if options.get("$select"):
        names = [name.strip() for name in options["$select"].split(",")]
        if unknown := [name for name in names if name not in shape]:
            raise BadSyntax(f"Could not find a property named '{unknown[0]}' on the definition.")
        plain = {name: shape[name] for name in ("@odata.type", *names) if name in shape}
        plain["MetadataId"] = shape.get("MetadataId")
    else:
        plain = {name: value for name, value in shape.items() if name not in (*COLLECTIONS, "OptionSet")}
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
