from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import Any

import fhir_texts
from fhir_texts import exactly
from hypothesis import given
from hypothesis import strategies as st

from relay.fhir.edits import Pointer, apply_edits
from relay.fhir.json_text import Span, document, elements, members
from relay.fhir.subset import is_subset
from support.data import need_fhir_data, resources

SPACE = " \t\r\n"

names = st.sampled_from(["id", "name", "value", "é", '"', "\\", "", "😀", "\ud800"]) | st.text(max_size=4)
decimals = st.decimals(allow_nan=False, allow_infinity=False) | st.sampled_from(["1.10", "1E+3", "-0.0"]).map(Decimal)
plain = st.booleans() | st.integers() | decimals | st.text(max_size=5)
values = st.recursive(
    plain,
    lambda inner: st.lists(inner | st.none(), max_size=3) | st.dictionaries(names, inner | st.none(), max_size=3),
    max_leaves=5,
)


@dataclass(frozen=True)
class Number:
    """A number as its text."""

    text: str


def parsed(text: str) -> Any:
    """Parse JSON with the text of every number."""
    return json.loads(text, parse_float=Number, parse_int=Number)


def as_parsed(value: Any) -> Any:
    """Return a value of an edit as `parsed` reads it."""
    if isinstance(value, dict):
        return {name: as_parsed(each) for name, each in value.items()}
    if isinstance(value, list):
        return [as_parsed(each) for each in value]
    return Number(str(value)) if isinstance(value, int | Decimal) and not isinstance(value, bool) else value


def in_order(tree: Any) -> Any:
    """Return what `exactly` would have read: members as pairs in their order."""
    if isinstance(tree, dict):
        return ("object", [(name, in_order(each)) for name, each in tree.items()])
    if isinstance(tree, list):
        return [in_order(each) for each in tree]
    return ("number", tree.text) if isinstance(tree, Number) else tree


def containers(tree: Any, pointer: Pointer = ()) -> Iterator[tuple[Pointer, Any]]:
    """Yield every object and array with its pointer."""
    if isinstance(tree, dict | list):
        yield pointer, tree
        for part, each in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from containers(each, (*pointer, part))


def edit(tree: Any, pointer: Pointer, value: Any) -> None:
    """Carry an edit out on a parsed document."""
    *above, last = pointer
    for part in above:
        tree = tree[part]
    if value is None:
        del tree[last]
    elif isinstance(tree, list) and last == len(tree):
        tree.append(as_parsed(value))
    else:
        tree[last] = as_parsed(value)


def parts_at(text: str, pointer: Pointer) -> tuple[int, dict[Any, Span]]:
    """Find where a container begins, and its parts by name or position."""
    span = document(text)
    for part in pointer:
        span = members(text, span.start)[part] if isinstance(part, str) else elements(text, span.start)[part]
    if text.startswith("{", span.start):
        return span.start, {**members(text, span.start)}
    return span.start, dict(enumerate(elements(text, span.start)))


def check_one(old: str, new: str, pointer: Pointer, value: Any) -> None:
    """Check that one piece came or went between its neighbours, and that every byte before and behind it stayed."""
    start, parts = parts_at(old, pointer[:-1])
    keys, last = list(parts), pointer[-1]
    if value is not None and last in parts:
        before, behind = old[: parts[last].start], old[parts[last].end :]
    elif value is not None:
        at = parts[keys[-1]].end if parts else start + 1
        before, behind = old[:at], old[at:]
    else:
        where = keys.index(last)
        before, behind = old[: parts[keys[where - 1]].end if where else start + 1], old[parts[last].end :]
        if not where and len(keys) > 1:
            behind = behind.lstrip(SPACE).removeprefix(",").lstrip(SPACE)
    assert new.startswith(before)
    assert new.endswith(behind)
    between = new[len(before) : len(new) - len(behind)]
    if value is None:
        assert not between.strip(SPACE)
    elif last in parts:
        assert parsed(between) == as_parsed(value)
    else:
        piece = between.removeprefix(",")
        assert (between == piece) == (not parts)
        held = parsed(f"{{{piece}}}" if isinstance(last, str) else f"[{piece}]")
        assert held == ({last: as_parsed(value)} if isinstance(last, str) else [as_parsed(value)])


@given(fhir_texts.resources(fhir_texts.arrays(fhir_texts.identifiers()) | st.none()), st.data())
def test_edits_are_what_they_are_on_the_parsed_document(text: str, data: st.DataObject) -> None:
    """Any edits, one after the other, give the parsed document they should, and nothing outside them moves."""
    tree = parsed(text)
    if is_subset(tree):
        return
    edits: list[tuple[Pointer, Any]] = []
    now = text
    for _ in range(data.draw(st.integers(1, 5))):
        above, container = data.draw(st.sampled_from(list(containers(tree))))
        there = list(container) if isinstance(container, dict) else list(range(len(container)))
        new = names if isinstance(container, dict) else st.just(len(container))
        last = data.draw(st.sampled_from(there) | new if there else new)
        value = data.draw(values | st.none() if last in there else values)
        pointer = (*above, last)
        edits.append((pointer, value))
        after = apply_edits(text, edits)
        check_one(now, after, pointer, value)
        edit(tree, pointer, value)
        assert exactly(after) == in_order(tree)
        now = after
        if not tree:
            break


def some_edits(tree: dict[str, Any]) -> list[tuple[Pointer, Any]]:
    """Return edits of a real resource: of its ends, of a value deep inside, and of what is not there yet."""
    last = list(tree)[-1]
    deepest, container = max(containers(tree), key=lambda each: len(each[0]))
    inside = list(container)[-1] if isinstance(container, dict) else len(container) - 1
    edits: list[tuple[Pointer, Any]] = [((*deepest, inside), Decimal("1.10"))] if container else []
    if deepest and isinstance(container, dict):
        edits += [((*deepest, "_x"), {"extension": [{"url": "urn:é"}]}), ((*deepest, inside), None)]
    edits += [(("id",), "edited"), (("_new",), [True])]
    edits += [(("_new", 1), Decimal("-0.0")), (("_new", 0), None)]
    if last not in ("id", "resourceType"):
        edits.append(((last,), None))
    return edits


def test_edits_of_published_resources() -> None:
    """Real resources come out as the edits say, with every other byte as it was published."""
    need_fhir_data()
    kinds: set[str] = set()
    total = 0
    for name, body in islice(resources(), 0, None, 16):
        text = body.decode()
        tree = parsed(text)
        if is_subset(tree):
            continue
        now = text
        edits = some_edits(tree)
        for number, (pointer, value) in enumerate(edits):
            after = apply_edits(now, edits[number : number + 1])
            check_one(now, after, pointer, value)
            edit(tree, pointer, value)
            now = after
        assert exactly(now) == in_order(tree), name
        assert apply_edits(text, edits) == now, name
        kinds.add(tree["resourceType"])
        total += 1
    assert total > 2_000
    assert len(kinds) > 30
