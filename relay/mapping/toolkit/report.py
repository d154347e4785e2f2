"""What became of each row of an export: carried, carried with a change, or not carried."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["carried", "carried with change", "not carried"]


@dataclass(eq=False, slots=True)
class Entry:
    """One row of the export; `file` is the map file that it went into."""

    kind: str
    name: str
    source: str
    file: str = ""
    notes: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)

    def note(self, what: str) -> None:
        """Tell what the row became, or why it needs no key, where nothing is otherwise than it was."""
        if what not in self.notes:
            self.notes.append(what)

    def change(self, what: str) -> None:
        """Tell what is otherwise than in the toolkit."""
        if what not in self.changes:
            self.changes.append(what)

    def lose(self, why: str) -> None:
        """Tell what of the row the map does not say, and why."""
        if why not in self.losses:
            self.losses.append(why)

    @property
    def status(self) -> Status:
        """Return the worst of what was told; a note is nothing bad."""
        if self.losses:
            return "not carried"
        return "carried with change" if self.changes else "carried"


@dataclass(slots=True)
class Report:
    """One import: its rows, what the maps as a whole should be read with, and what is wrong with the files."""

    entries: list[Entry] = field(default_factory=list)
    written: list[tuple[str, str, str]] = field(default_factory=list)
    """File, resource type and table of each map."""
    columns_not_found: list[str] = field(default_factory=list)
    columns_not_read: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """What of the input could not be read."""
    faults: list[str] = field(default_factory=list)
    """What the loader says of the written files."""

    def entry(self, kind: str, name: str, source: str) -> Entry:
        """Begin the report of one row."""
        self.entries.append(made := Entry(kind, name, source))
        return made

    @property
    def whole(self) -> bool:
        """Whether everything of the export is in maps that load."""
        return not (self.problems or self.faults or any(entry.losses for entry in self.entries))

    def counts(self) -> dict[Status, int]:
        """Count the rows by what became of them."""
        counted = Counter(entry.status for entry in self.entries)
        return {status: counted[status] for status in ("carried", "carried with change", "not carried")}

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON data."""
        return {
            "written": [{"file": file, "resource": resource, "table": table} for file, resource, table in self.written],
            "counts": self.counts(),
            "rows": [
                {
                    "kind": entry.kind,
                    "name": entry.name,
                    "source": entry.source,
                    "file": entry.file,
                    "status": entry.status,
                    "notes": entry.notes,
                    "changes": entry.changes,
                    "losses": entry.losses,
                }
                for entry in self.entries
            ],
            "columns_not_found": self.columns_not_found,
            "columns_not_read": self.columns_not_read,
            "problems": self.problems,
            "faults": self.faults,
        }

    def to_text(self) -> Iterator[str]:
        """Return the report as lines for people."""
        for file, resource, table in self.written:
            yield f"{file}: {resource} -> {table}"
        for entry in self.entries:
            yield f"{entry.status}: {entry.name} ({entry.kind}, {entry.source})"
            yield from (f"    lost: {each}" for each in entry.losses)
            yield from (f"    changed: {each}" for each in entry.changes)
            yield from (f"    note: {each}" for each in entry.notes)
        for title, each in (
            *(("not found in the export, say --column NAME=LOGICALNAME", name) for name in self.columns_not_found),
            *(("a column that is not read", name) for name in self.columns_not_read),
            *(("input", problem) for problem in self.problems),
            *(("does not load", fault) for fault in self.faults),
        ):
            yield f"{title}: {each}"
        yield ", ".join(f"{count} {status}" for status, count in self.counts().items())
