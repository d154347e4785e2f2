r"""The FHIR Element Map of an attribute map: `{"s": path, "c": {"p": parent, "a": [properties]}}`.

`s` is a path of Json.NET; it stays as written where an element path may be so. `c` says what is created where `s` finds
nothing. Both may hold what Markdown leaves behind (`\$`) and what word processors make of quotes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from relay.mapping.paths import Filter, Index, Member, Path, PathError, Step, compile_path

VALUE, KIND, REFERENCE = "%", "%%", "%%%"
"""What stands in `c` for the value, for the type that a reference points to, and for its `Type/id`."""

_QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u00a0": " "})
_QUOTED = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"")


class ElementFault(ValueError):
    """An element map cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One property that `c` sets: where, as seen from the resource, and to what."""

    steps: tuple[Step, ...]
    value: Any

    @property
    def names(self) -> tuple[str, ...]:
        """Return the members on the way, without positions."""
        return names_of(self.steps)

    @property
    def text(self) -> str:
        """Return where it stands as people read it."""
        return text_of(self.steps)


@dataclass(frozen=True, slots=True)
class Element:
    """One element map: alternative paths (several where `s` has `||`), what `c` sets, and keys of no known meaning."""

    paths: tuple[Path, ...]
    creates: tuple[Leaf, ...] | None
    unknown: tuple[str, ...]


def read_element(text: str) -> Element:
    """Read an element map: its JSON, or a bare path; raises ElementFault."""
    cleaned = re.sub(r"\\+\$", "$", text.translate(_QUOTES)).strip()
    if not cleaned:
        raise ElementFault("there is no FHIR Element Map")
    data = _parsed(cleaned)
    if isinstance(data, str):
        return Element(_paths(data), None, ())
    if not isinstance(data, Mapping):
        raise ElementFault("the FHIR Element Map is neither an object nor a path")
    given = {str(key).lower(): value for key, value in data.items()}
    select = given.pop("s", None)
    if not isinstance(select, str) or not select.strip():
        raise ElementFault("the FHIR Element Map has no s")
    create = given.pop("c", None)
    return Element(_paths(select), _creates(create) if create else None, tuple(given))


def element_name(text: str) -> str:
    """Return the array that an Expand line names: `identifier`, `$.identifier` or `{"s": "identifier"}`."""
    element = read_element(text)
    steps = element.paths[0].steps
    if len(element.paths) != 1 or len(steps) != 1 or not isinstance(steps[0], Member):
        raise ElementFault(
            f"{element.paths[0].text} is not the bare name of an element: only arrays of the item expand"
        )
    return steps[0].name


def names_of(steps: Sequence[Step]) -> tuple[str, ...]:
    """Return the member names of a path, without positions and filters."""
    return tuple(step.name for step in steps if isinstance(step, Member))


def text_of(steps: Sequence[Step], start: str = "$") -> str:
    """Write steps as an element path."""
    written = start
    for step in steps:
        if isinstance(step, Member):
            written += f".{step.name}"
        elif isinstance(step, Index):
            written += f"[{step.position}]"
        elif isinstance(step, Filter):
            tests = (f"{text_of(test.steps, '@')}=={_literal(test.value)}" for test in step.tests)
            written += f"[?({' && '.join(tests)})]"
        else:
            written += "[*]"
    return written


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'" if isinstance(value, str) else str(value)


def _parsed(text: str) -> Any:
    """Parse JSON, also as Json.NET forgives it: single quotes, bare keys, a comma too many."""
    if not text.startswith("{"):
        return text
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return yaml.safe_load(re.sub(r"\s+", " ", text))
    except (yaml.YAMLError, ValueError):
        raise ElementFault("the FHIR Element Map is not JSON") from None


def _paths(text: str) -> tuple[Path, ...]:
    """Compile a path; a filter with `||` is as many paths. Raises ElementFault with the reason of the first."""
    text = text.translate(_QUOTES).strip().lstrip("\\")
    try:
        return (compile_path(text),)
    except PathError as error:
        strict = re.sub(r"={3}", "==", text)
        if strict != text:
            return _paths(strict)
        if (parts := _disjoined(text)) is not None:
            return tuple(path for part in parts for path in _paths(part))
        choices = f" (valid: {', '.join(error.valid)})" if error.valid else ""
        raise ElementFault(f"the path {text}: {error.reason}{choices}") from None


def _disjoined(text: str) -> list[str] | None:
    """Split the first filter that has `||` into one path for each side; None when there is none, or one in brackets."""
    masked = _QUOTED.sub(lambda found: "'" + "_" * (len(found[0]) - 2) + "'", text)
    for found in re.finditer(r"\[\?\s*(\(?)([^\[\]()]*\|\|[^\[\]()]*)\)?\s*\]", masked):
        start, end = found.span(2)
        sides = [(part.start() + start, part.end() + start) for part in re.finditer(r"(?:[^|]|\|(?!\|))+", found[2])]
        return [f"{text[:start]}{text[at:to].strip(' |')}{text[end:]}" for at, to in sides]
    return None


def _creates(create: Any) -> tuple[Leaf, ...]:
    """Read `c`: the properties it sets, seen from the resource; raises ElementFault."""
    if not isinstance(create, Mapping):
        raise ElementFault("c of the FHIR Element Map is no object")
    given = {str(key).lower(): value for key, value in create.items()}
    parent, properties = given.get("p", ""), given.get("a", [])
    if not isinstance(parent, str) or not isinstance(properties, (list, Mapping)):
        raise ElementFault("c of the FHIR Element Map has no p and a")
    steps = _place(parent)
    listed = properties if isinstance(properties, list) else [properties]
    return tuple(leaf for each in listed for leaf in _leaves(each, steps))


def _leaves(value: Any, steps: tuple[Step, ...]) -> Iterator[Leaf]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, (*steps, *_place(str(key))))
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from _leaves(inner, (*steps, Index(position)))
    else:
        yield Leaf(steps, value)


def _place(text: str) -> tuple[Step, ...]:
    text = text.strip().lstrip("\\")
    if text in {"", "$"}:
        return ()
    try:
        return compile_path(text).steps
    except PathError as error:
        raise ElementFault(f"c of the FHIR Element Map names {text}: {error.reason}") from None
