"""Which of two versions is the newer: time decides, then the version where versions are ordered."""

from __future__ import annotations

import pytest

from relay.inbound.versions import compare
from relay.mapping.model import Draft
from support.world import shipped_maps

EARLY, LATE = "2026-05-01T10:00:00Z", "2026-05-01T10:00:01Z"


@pytest.mark.parametrize(
    ("ours", "theirs", "ordered", "expected"),
    [
        (("9", EARLY), ("1", LATE), True, -1),
        (("1", LATE), ("9", EARLY), True, 1),
        (("2", EARLY), ("10", EARLY), True, -1),
        (("10", EARLY), ("9", EARLY), True, 1),
        (("10", ""), ("9", EARLY), True, 1),
        (("2", EARLY), ("3", EARLY), False, None),
        (("3", EARLY), ("3", EARLY), False, 0),
        (("a", EARLY), ("b", EARLY), True, None),
        (("", EARLY), ("3", EARLY), True, None),
        (("", ""), ("", ""), True, None),
    ],
)
def test_which_is_newer(ours: tuple[str, str], theirs: tuple[str, str], ordered: bool, expected: int | None) -> None:
    """-1 for an older one, 0 for the same, 1 for a newer one, None where nothing tells."""
    entity_map = shipped_maps().for_resource("Patient")
    assert entity_map is not None
    names = (entity_map.version, entity_map.last_updated)
    mine = {name: value for name, value in zip(names, ours, strict=True) if value}
    known = dict(zip(names, theirs, strict=True))
    assert compare(Draft(entity_map, "p1", mine, {}, (), (), ()), known, ordered=ordered) == expected
