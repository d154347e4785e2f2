"""What there is to tell about maps: one finding a place, with the words to print and the fields for programs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from relay.errors import MapError

Severity = Literal["error", "warning", "information"]

_FAULT = re.compile(r"(?P<file>.+?)(?::(?P<line>[0-9]+))?: (?P<message>.*)", re.DOTALL)
_CONTINUED = "    "
"""How the lines of a message after its first begin: a path, and the caret under it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to tell; `line` is 0 where the file as a whole is meant, `at` is `table.column` where there is one."""

    severity: Severity
    code: str
    message: str
    file: str
    line: int = 0
    at: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.severity}: {self.code}: {self.message}"

    def as_json(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)


def faults(error: MapError) -> Iterator[Finding]:
    """Take the message of a refused folder apart: one finding for each fault."""
    lines: list[str] = []
    for line in str(error).splitlines():
        if line.startswith(_CONTINUED) and lines:
            lines[-1] += f"\n{line}"
        else:
            lines.append(line)
    for text in lines:
        found = _FAULT.fullmatch(text)
        if found is None:
            yield Finding("error", "fault", text, "")
        else:
            yield Finding("error", "fault", found["message"], found["file"], int(found["line"] or 0))
