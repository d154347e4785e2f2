"""Element paths: compiled paths agree with a slow, plain reading of the same steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from relay.mapping.paths import Equality, Every, Filter, Index, Member, Misfit, PathError, Step, compile_path

NAMES = st.sampled_from(["a", "b", "use", "code"])
TEXTS = st.text(alphabet="ab'\"\\/ &=)]", max_size=4)
LITERALS = st.one_of(TEXTS, st.booleans(), st.integers(-3, 3))
PLAIN_STEPS = st.one_of(NAMES.map(Member), st.integers(-2, 2).map(Index))
EQUALITIES = st.builds(Equality, st.lists(PLAIN_STEPS, min_size=1, max_size=2).map(tuple), LITERALS)
STEPS: st.SearchStrategy[Step] = st.one_of(
    PLAIN_STEPS, st.just(Every()), st.lists(EQUALITIES, min_size=1, max_size=2).map(lambda tests: Filter(tuple(tests)))
)
PATHS = st.lists(STEPS, max_size=4)
JSON = st.recursive(
    st.one_of(st.none(), LITERALS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=12,
)


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _spelled(steps: list[Step] | tuple[Step, ...], root: str) -> str:
    out = root
    for step in steps:
        if isinstance(step, Member):
            out += f".{step.name}"
        elif isinstance(step, Index):
            out += f"[{step.position}]"
        elif isinstance(step, Every):
            out += "[*]"
        else:
            out += f"[?({' && '.join(map(_equality, step.tests))})]"
    return out


def _equality(test: Equality) -> str:
    if isinstance(test.value, bool):
        literal = "true" if test.value else "false"
    else:
        literal = _quoted(test.value) if isinstance(test.value, str) else str(test.value)
    return f"{_spelled(test.steps, '@')}=={literal}"


def _values(value: Any, steps: list[Step]) -> Iterator[Any]:
    """Read steps one at a time; null is absent everywhere."""
    if value is None:
        return
    if not steps:
        yield value
        return
    step, rest = steps[0], steps[1:]
    if isinstance(step, Member):
        if not isinstance(value, dict):
            raise Misfit
        yield from _values(value.get(step.name), rest)
        return
    if not isinstance(value, list):
        raise Misfit
    if isinstance(step, Index):
        items = value[step.position :][:1] if -len(value) <= step.position < len(value) else []
    else:
        items = [item for item in value if isinstance(step, Every) or (item is not None and _accepted(item, step))]
    for item in items:
        yield from _values(item, rest)


def _accepted(item: Any, step: Step) -> bool:
    assert isinstance(step, Filter)
    for test in step.tests:
        try:
            found = next(_values(item, list(test.steps)), None)
        except Misfit:
            return False
        if type(found) is not type(test.value) or found != test.value:
            return False
    return True


@given(PATHS, JSON)
def test_compiled_paths_agree_with_a_plain_reading(steps: list[Step], document: object) -> None:
    """Spelled out, compiled and read, any steps give what reading them one at a time gives."""
    path = compile_path(_spelled(steps, "$"))
    assert list(path.steps) == steps
    try:
        expected = list(_values(document, steps))
    except Misfit:
        assert path.all(document) == []
        return
    assert path.all(document) == expected
    assert path.first(document) == (expected[0] if expected else None)


@given(st.text(alphabet="$.@[]()?*'\"=&|<>! abn0123-\\:,", max_size=24), JSON)
def test_any_text_compiles_or_is_refused(text: str, document: object) -> None:
    """No text raises anything but PathError, and what compiles reads any document."""
    try:
        path = compile_path(text)
    except PathError:
        return
    path.first(document)
    path.all(document)
