"""What one map file says and that has no effect: paths never reached, expansions never used, switches never turned on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from relay.mapping.document import Place
from relay.mapping.findings import Finding, Severity
from relay.mapping.outline import LineOutline, MapOutline
from relay.mapping.paths import Every, Filter, Index, PathError, Step, compile_path

_FIRST_VALUE_COUNTS = frozenset({"copy", "map", "reference"})
"""Actions that pass to the next path only when a path has found nothing; a concept also passes over what has no code."""


def lint(outline: MapOutline) -> Iterator[Finding]:
    """List what is allowed in a map and does nothing, as warnings, and what is disabled, as informations."""
    yield from _disabled(outline)
    for name in outline.unused:
        yield _finding(
            outline, ("expansions", name), "warning", "unused-expansion", f"no line uses the expansion {name}"
        )
    for line in outline.lines:
        yield from _paths(outline, line)
    yield from _outward(outline)


def _disabled(outline: MapOutline) -> Iterator[Finding]:
    if outline.disabled:
        message = f"the map is disabled: resources of type {outline.resource} are passed over"
        yield _finding(outline, ("disabled",), "information", "disabled-map", message)
        return
    for each in outline.expansions:
        if each.disabled:
            message = f"the expansion of {'.'.join(each.under)} is disabled: its items make no rows"
            yield _finding(outline, each.place, "information", "disabled-expansion", message)
    for line in outline.lines:
        if line.disabled and line.data.get("disabled") is True:
            message = f"the line of {line.column} is disabled"
            yield _finding(
                outline, line.place, "information", "disabled-line", message, at=f"{line.table}.{line.column}"
            )


def _paths(outline: MapOutline, line: LineOutline) -> Iterator[Finding]:
    texts = line.data.get(line.action)
    if line.action == "default" or not isinstance(texts, list):
        return
    earlier: list[tuple[str, Sequence[Step]]] = []
    for text in texts:
        try:
            steps = compile_path(str(text)).steps
        except PathError:
            continue  # loading tells it
        covers = _covers if line.action in _FIRST_VALUE_COUNTS else _equals
        before = next((other for other, found in earlier if covers(found, steps)), None)
        if before is not None:
            message = f"the path {text} is never reached: {before} before it finds whatever it would find"
            at = f"{line.table}.{line.column}"
            yield _finding(outline, (*line.place, line.action), "warning", "unreachable-path", message, at=at)
        earlier.append((str(text), steps))


def _equals(one: Sequence[Step], other: Sequence[Step]) -> bool:
    return tuple(one) == tuple(other)


def _covers(wide: Sequence[Step], narrow: Sequence[Step]) -> bool:
    """Tell whether a path that finds nothing means that the other finds nothing either."""
    return len(wide) == len(narrow) and all(map(_step_covers, wide, narrow))


def _step_covers(wide: Step, narrow: Step) -> bool:
    if isinstance(wide, Every):
        return isinstance(narrow, (Every, Filter, Index))
    if isinstance(wide, Filter) and isinstance(narrow, Filter):
        return all(test in narrow.tests for test in wide.tests)
    return wide == narrow


def _outward(outline: MapOutline) -> Iterator[Finding]:
    """Tell which keys of the way out wait for another key."""
    data = outline.data
    events, creates = data.get("writeback") or [], data.get("create_in_fhir") is True
    lines = [line for line in outline.lines if line.data.get("writeback") is True and not line.disabled]
    if not events and not creates:
        for line in lines:
            message = "nothing goes to FHIR by this line: the map's writeback names no event, and create_in_fhir is off"
            at = f"{line.table}.{line.column}"
            yield _finding(outline, (*line.place, "writeback"), "warning", "writeback-off", message, at=at)
        if data.get("writeback_when"):
            message = "the condition has no effect: the map's writeback names no event, and create_in_fhir is off"
            yield _finding(outline, ("writeback_when",), "warning", "writeback-off", message)
    if events and not lines:
        message = "no line says writeback: true, so no change of a column goes to FHIR"
        yield _finding(outline, ("writeback",), "warning", "writeback-empty", message)


def _finding(
    outline: MapOutline, place: Place, severity: Severity, code: str, message: str, *, at: str = ""
) -> Finding:
    document = outline.document
    return Finding(severity, code, message, document.file, document.line(place), at)
