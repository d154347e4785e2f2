"""Whether a resource is only a part of itself: what a server answers to `_summary` and `_elements`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def is_subset(resource: Mapping[str, Any]) -> bool:
    """Tell whether `meta.tag` has the code SUBSETTED; the system is not asked, since nobody else uses that code.

    Such a resource lacks elements that the server has: taking it would clear columns, putting it back would lose data.
    """
    meta = resource.get("meta")
    tags = meta.get("tag") if isinstance(meta, Mapping) else None
    return isinstance(tags, list) and any(isinstance(tag, Mapping) and tag.get("code") == "SUBSETTED" for tag in tags)
