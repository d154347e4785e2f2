"""How a GUID is spelled: as Dataverse does, in lower case and without braces."""

from __future__ import annotations

import re

_GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def canonical_guid(value: str) -> str:
    """Spell a GUID as Dataverse does; anything else is lower-cased and stripped alike."""
    return value.strip().removeprefix("{").removesuffix("}").lower()


def is_guid(value: str) -> bool:
    """Tell whether a text is a GUID as Dataverse spells it."""
    return _GUID.fullmatch(value) is not None
