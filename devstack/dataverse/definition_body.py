"""One JSON object of a request about definitions, whose properties are read by type and refused by name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final

from devstack.dataverse.errors import InvalidArgument, InvalidPayload, NotSupported
from devstack.dataverse.metadata import LOGICAL_NAME

NAMESPACE: Final = "Microsoft.Dynamics.CRM."
LANGUAGE: Final = 1033
_SCHEMA_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{1,7}_[A-Za-z0-9_]{1,90}", re.ASCII)
_FLAG: Final = re.compile(r"(?:Is|Has|Can|Auto|Enforce|Sync)[A-Z]\w{1,80}", re.ASCII)
_NOT_HERE: Final = {
    "AutoNumberFormat": "auto-number columns",
    "FormulaDefinition": "formula columns",
    "GlobalOptionSet@odata.bind": "global option sets",
    "GlobalOptionSet": "global option sets",
    "YomiOf": "phonetic columns",
    "ParentPicklistLogicalName": "dependent option sets",
    "DataProviderId": "virtual tables",
    "DataSourceId": "virtual tables",
}
"""Properties with an effect that the emulator does not have; empty ones say nothing."""


class Body:
    """One JSON object of a request; `kind` is its type's name in errors, `path` where it stands."""

    def __init__(self, document: object, kind: str, path: str = "") -> None:
        self.kind, self.path = kind, path
        if not isinstance(document, dict):
            raise self.wrong("", "is not a JSON object")
        self.document: dict[str, Any] = document

    def wrong(self, name: str, what: str) -> InvalidPayload:
        """Make the error for one property."""
        where = ".".join(part for part in (self.path, name) if part)
        return InvalidPayload(self.kind, f"'{where or 'the body'}' {what}.")

    def known(self, names: Iterable[str], *, flags: bool = False) -> dict[str, Any]:
        """Return the flags; raises NotSupported for a property that is neither known nor a flag."""
        found: dict[str, Any] = {}
        known = frozenset(names)
        for name, value in self.document.items():
            if "@" in name and not name.endswith("@odata.bind"):
                continue
            if name in _NOT_HERE:
                if value not in (None, ""):
                    raise NotSupported(f"{_NOT_HERE[name]} ({name} of {self.kind})")
            elif name not in known:
                if not flags or not _FLAG.fullmatch(name):
                    raise NotSupported(f"the property '{name}' of {self.kind}")
                found[name] = value
        return found

    def text(self, name: str, default: str = "") -> str:
        """Return a text; one that is not there, null or empty is the default."""
        value = self.document.get(name)
        if value is None or value == "":
            return default
        if not isinstance(value, str):
            raise self.wrong(name, "is not a string")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise self.wrong(name, "is not Unicode") from None
        return value

    def needed(self, name: str) -> str:
        """Return a text that must be there."""
        text = self.text(name)
        if not text:
            raise InvalidArgument(f"{self.kind}: '{name}' is required.")
        return text

    def choice(self, name: str, valid: Iterable[str], default: str) -> str:
        """Return one of some texts, given bare or as a managed value."""
        value, names = self._bare(name), tuple(valid)
        if value is None:
            return default
        if not isinstance(value, str) or value not in names:
            raise self.wrong(name, f"is not one of {', '.join(names)}")
        return value

    def flag(self, name: str) -> bool | None:
        """Return a yes or no, given bare or as a managed value; None for one that is not there."""
        value = self._bare(name)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(name, "is not true or false")
        return value

    def _bare(self, name: str) -> Any:
        value = self.document.get(name)
        return value.get("Value") if isinstance(value, dict) else value

    def whole(self, name: str, low: int, high: int, default: int | None = None) -> int | None:
        """Return a whole number within limits."""
        value = self.document.get(name)
        if value is None:
            return default
        if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
            value = int(value) if abs(value) < 2**63 else None
        if type(value) is not int or not low <= value <= high:
            raise self.wrong(name, f"is not a whole number from {low} to {high}")
        return value

    def number(self, name: str, limit: int, default: float | None) -> float | None:
        """Return a number of at most this size."""
        value = self.document.get(name)
        if value is None:
            return default
        if type(value) not in (int, Decimal) or not abs(value) <= limit:
            raise self.wrong(name, f"is not a number from -{limit} to {limit}")
        return int(value) if value == int(value) else float(value)

    def items(self, name: str) -> list[Any]:
        """Return an array; an empty one for none."""
        value = self.document.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.wrong(name, "is not an array")
        return value

    def inner(self, name: str, kind: str) -> Body | None:
        """Return an object; None for none."""
        value = self.document.get(name)
        return None if value is None else Body(value, kind, f"{self.path}.{name}".lstrip("."))

    def label(self, name: str, default: str = "") -> str:
        """Return a label in the organization's one language, else its first."""
        label = self.inner(name, "Label")
        if label is None:
            return default
        found = [
            Body(each, "LocalizedLabel", f"{label.path}.LocalizedLabels") for each in label.items("LocalizedLabels")
        ]
        if not found and (user := label.inner("UserLocalizedLabel", "LocalizedLabel")) is not None:
            found = [user]
        ours = [each for each in found if each.document.get("LanguageCode") == LANGUAGE] or found
        return ours[0].text("Label", default) if ours else default

    def schema_name(self) -> str:
        """Return the schema name; raises InvalidArgument for one without a publisher's prefix or with odd characters."""
        name = self.needed("SchemaName")
        if not _SCHEMA_NAME.fullmatch(name) or not LOGICAL_NAME.fullmatch(name.lower()):
            raise InvalidArgument(
                f"The SchemaName '{name}' is not a publisher's prefix of 2 to 8 letters and digits, an underscore, and "
                "letters, digits and underscores."
            )
        return name

    def kind_of(self) -> str:
        """Return the name of the type that @odata.type gives, without its namespace and what complex types add."""
        return self.text("@odata.type").removeprefix("#").removeprefix(NAMESPACE).removeprefix("Complex")
