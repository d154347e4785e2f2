"""How a GUID is spelled: as Dataverse does, in lower case and without braces."""

from __future__ import annotations


def canonical_guid(value: str) -> str:
    """Spell a GUID as Dataverse does; anything else is lower-cased and stripped alike."""
    return value.strip().removeprefix("{").removesuffix("}").lower()
