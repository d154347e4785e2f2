"""How the Web API refuses changes of definitions; codes are those of Microsoft's list of service errors.

Where that list names no code for a mistake the emulator uses 0x80040203 (InvalidArgument).
"""

from __future__ import annotations

from devstack.dataverse.errors import DataverseError


class DefinitionNotFound(DataverseError):
    """No definition has this name."""

    status = 404
    code = "0x80060888"

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"Could not find {kind} with the specified name: {name}")


class DuplicateName(DataverseError):
    """A table of this name is there."""

    code = "0x80047010"

    def __init__(self, name: str) -> None:
        super().__init__(f"An object with the specified name already exists: {name}")


class DuplicateAttribute(DataverseError):
    """A column of this name is there."""

    code = "0x80047013"

    def __init__(self, name: str, table: str) -> None:
        super().__init__(f"An attribute with the specified name {name} already exists for entity {table}.")


class DuplicateRelationship(DataverseError):
    """A relationship of this name is there."""

    code = "0x8004432B"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"A relationship with the specified name already exists. Please specify a unique name. ({name})"
        )


class DuplicateNavigation(DataverseError):
    """A table has a navigation property, or a column, of this name."""

    code = "0x80072551"

    def __init__(self, name: str) -> None:
        super().__init__(f"NavigationPropertyName {name} is not unique within an entity")


class DuplicateKey(DataverseError):
    """A key of this name is there."""

    code = "0x80060893"

    def __init__(self, name: str, table: str) -> None:
        super().__init__(f"An entity key with the name {name} already exists on entity {table}.")


class DuplicateKeyColumns(DataverseError):
    """A key of these columns is there."""

    code = "0x80060894"

    def __init__(self) -> None:
        super().__init__("An entity key with the selected attributes already exists on entity.")


class SecondPrimaryName(DataverseError):
    """A table has one primary name column."""

    code = "0x8004701E"

    def __init__(self, first: str, second: str, table: str) -> None:
        super().__init__(
            f"The new {second} attribute is set as the primary name attribute for the {table} entity. The {table} "
            f"entity already has the {first} attribute set as the primary name attribute. An entity can only have one "
            "primary name attribute."
        )


class NotCustomizable(DataverseError):
    """The table is not one that the API made, so that it cannot be removed."""

    code = "0x80047008"

    def __init__(self, name: str) -> None:
        super().__init__(f"The specified entity is not customizable: {name}")


class NotCustomAttribute(DataverseError):
    """The column is not one that the API made, so that it cannot be removed."""

    code = "0x80047009"

    def __init__(self, name: str) -> None:
        super().__init__(f"The specified attribute is not a custom attribute: {name}")


class StillNeeded(DataverseError):
    """Another component depends on the one to be deleted."""

    code = "0x8004F01F"

    def __init__(self, kind: str, name: str, by: str) -> None:
        super().__init__(
            f"The {kind}({name}) component cannot be deleted because it is referenced by 1 other components ({by}). "
            "For a list of referenced components, use the RetrieveDependenciesForDeleteRequest."
        )


class BadXml(DataverseError):
    """An XML text is not well-formed."""

    code = "0x80048426"

    def __init__(self, detail: str) -> None:
        super().__init__(f"The input XML is not well-formed XML. ({detail})")


class WrongXml(DataverseError):
    """An XML text is well-formed and says something that is not known."""

    code = "0x80048425"

    def __init__(self, detail: str) -> None:
        super().__init__(f"The input XML does not comply with the XML schema. ({detail})")
