"""Which of two versions of a resource is the newer: by time, else by version where versions are ordered. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from relay.mapping.model import Draft


def compare(draft: Draft, known: Mapping[str, Any], *, ordered: bool) -> int | None:
    """Return -1, 0 or 1 as the draft's version is older, the same or newer than the known one; None if nothing tells.

    `known` has the version and time columns of the draft's map. `ordered` says that versions are integers that grow.
    """
    ours, theirs = draft.columns.get(draft.map.last_updated), known.get(draft.map.last_updated)
    if isinstance(ours, str) and isinstance(theirs, str) and ours and theirs:
        mine, other = datetime.fromisoformat(ours), datetime.fromisoformat(theirs)
        if mine != other:
            return -1 if mine < other else 1
    new, old = draft.columns.get(draft.map.version), known.get(draft.map.version)
    if not isinstance(new, str) or not isinstance(old, str) or not new or not old:
        return None
    if new == old:
        return 0
    if ordered and new.isdecimal() and old.isdecimal():
        return (int(new) > int(old)) - (int(new) < int(old))
    return None
