"""An NDJSON file window by window, each carried out as a bundle; what is done is noted after each, and stays done.

A line that refers to what has no row yet is tried again later: the files of one bulk export come in any order.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from relay.errors import Refused, RelayError, StoreUnavailable
from relay.inbound.entries import Incoming
from relay.inbound.intake import read_lines
from relay.inbound.lines import Bounds, Line, Place, Window, windows_from
from relay.inbound.outcome import Report, render_outcome
from relay.settings import Settings
from relay.store import Store
from relay.store.work import Backoff
from relay.telemetry import Meter

OUTCOMES: Final = "bundles-outcome"
TOLD: Final = 100
"""Failed lines that the outcome itself tells; all of them are in the parts beside it."""

RUN: Final = timedelta(seconds=60)
"""How long one message is worked on before another one goes on: well below the functionTimeout in host.json."""

_UNRESOLVED = "unresolved-reference"

Carry = Callable[[int, Incoming, Meter], Awaitable[list[Report]]]
"""Carries a window (by its number) out as a bundle."""


def is_lines(name: str) -> bool:
    """Tell whether a dropped file is NDJSON, gzipped or not, by its name."""
    return name.removesuffix(".gz").endswith(".ndjson")


@dataclass(slots=True)
class FileProgress:
    """What is done of a file, as it is kept between windows.

    `parts` are the blobs that tell the failed lines of a window, by the line before its first; `waiting` the windows of
    which lines wait for what they refer to. From pass 1 on only those are read. `ended` is when pass 0 was over.
    """

    bounds: tuple[int, int, int]
    place: tuple[int, int] = (0, 0)
    round: int = 0
    windows: int = 0
    ended: str = ""
    parts: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)
    results: dict[str, int] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)
    spent: dict[str, int] = field(default_factory=dict)

    def add(self, entry: Mapping[str, Any], times: int = 1) -> None:
        """Count an entry of an outcome; -1 takes it back."""
        for counts, keys in ((self.results, [entry["result"]]), (self.codes, {i["code"] for i in entry["issues"]})):
            for key in keys:
                counts[key] = counts.get(key, 0) + times

    def spend(self, **numbers: int) -> None:
        """Add to what the file has cost."""
        self.spent = dict(Counter(self.spent) + Counter(numbers))


class FileRun:
    """One file, for as long as one message is worked on. `moved` is whether a window was finished meanwhile."""

    def __init__(
        self,
        identifier: str,
        name: str,
        container: str,
        *,
        settings: Settings,
        store: Store,
        carry: Carry,
        now: Callable[[], datetime],
        backoff: Backoff,
    ) -> None:
        """Take up a file: `identifier` names its bytes in `container`, `name` is what it was dropped as."""
        self.moved = False
        self._id = identifier
        self._name = name
        self._container = container
        self._settings = settings
        self._store = store
        self._carry = carry
        self._now = now
        self._backoff = backoff
        self._progress = FileProgress((settings.window, settings.file_window_bytes, settings.max_line_bytes))

    async def load(self) -> bool:
        """Take up what is noted of the file; False when nothing is, so that it has not begun."""
        kept = await self._store.get_blob(self._container, self._note)
        if kept is not None:
            self._progress = FileProgress(**json.loads(kept))
        return kept is not None

    async def go(self) -> timedelta | None:
        """Carry out windows until all are done (None), or say when to go on.

        Raises Refused when the rest cannot be read, and what carrying out raises; what is done stays done.
        """
        progress = self._progress
        if not await self._pass(self._now() + RUN):
            return timedelta(0)
        if not progress.waiting or self._over():
            return None
        progress.place = (0, 0)
        progress.round += 1
        await self._save()
        return self._backoff.delay(progress.round)

    async def outcome(self, tag: str, error: RelayError | None = None) -> dict[str, Any]:
        """Return the outcome as it stands; `error` is why the rest of the file is left."""
        progress = self._progress
        told: list[dict[str, Any]] = []
        parts = [progress.parts[key] for key in sorted(progress.parts, key=int)]
        for part in parts:
            if len(told) < TOLD:
                told += await self._told(part)
        results = {
            key: progress.results.get(key, 0) for key in ("created", "updated", "unchanged", "skipped", "parked")
        }
        lines = {"total": sum(results.values()) + progress.results.get("failed", 0), **results}
        lines["failed"] = lines["total"] - sum(results.values())
        bad = lines["failed"] + lines["parked"] + (error is not None)
        status = "succeeded" if not bad else "failed" if lines["failed"] == lines["total"] else "partial"
        spent = Counter(progress.spent)
        issues = [{"severity": "error", "code": error.code, "message": str(error), "at": ""}] if error else None
        return {
            "id": self._id,
            "status": status,
            "tag": tag,
            "entries": told[:TOLD],
            "receipt": {
                "calls": {"dataverse": spent["dataverse"], "fhir": spent["fhir"]},
                "rows": {"created": spent["rows_created"], "updated": spent["rows_updated"]},
                "waits_ms": spent["waits_ms"],
                "reference_calls": 2 * lines["created"] + 2,
            },
            "lines": lines,
            "codes": dict(sorted((code, count) for code, count in progress.codes.items() if count)),
            "failed_lines": [f"{OUTCOMES}/{part}" for part in parts],
            **({"issues": issues} if issues else {}),
        }

    async def close(self) -> None:
        """Forget the progress."""
        await self._store.delete_blob(self._container, self._note)

    # --- passes and windows

    async def _pass(self, until: datetime) -> bool:
        """Go through the windows that are left of this pass; False when the time was over before."""
        progress = self._progress
        first = progress.place
        if progress.round:
            wanted = [int(line) for line in progress.waiting if int(line) >= first[1]]
            if not wanted:
                return True
            first = (progress.waiting[str(min(wanted))], min(wanted))
        bounds = Bounds(*progress.bounds)
        limits = {"max_ratio": self._settings.max_ratio, "max_lines": self._settings.max_lines}
        async for window in windows_from(self._read, Place(*first), bounds, **limits):
            if self.moved and self._now() >= until:
                return False
            if not progress.round:
                await self._first(window)
            elif str(window.start.line) in progress.waiting:
                await self._again(window)
            else:
                continue
            progress.place = (window.end.offset, window.end.line)
            await self._save()
            self.moved = True
        if not progress.round:
            progress.ended = self._now().isoformat()
        return True

    def _over(self) -> bool:
        return self._now() - datetime.fromisoformat(self._progress.ended) >= self._settings.references_for

    async def _first(self, window: Window) -> None:
        entries = await self._carried(window.lines)
        for entry in entries:
            self._progress.add(entry)
        await self._tell(window, [each for each in entries if each["result"] == "failed"])

    async def _again(self, window: Window) -> None:
        """Try the lines of a window again that wait, and tell of the window anew if that helped any of them."""
        before = self._progress.parts[str(window.start.line)]
        failed = {entry["line"]: entry for entry in await self._told(before)}
        tried = [line for line in window.lines if line.number in failed and _waits(failed[line.number])]
        entries = {entry["line"]: entry for entry in await self._carried(tried)}
        for number, entry in entries.items():
            self._progress.add(failed[number], -1)
            self._progress.add(entry)
        left = [entries.get(number, entry) for number, entry in failed.items()]
        left = [entry for entry in left if entry["result"] == "failed"]
        if left != list(failed.values()):
            await self._tell(window, left)
            await self._save()
            if (
                before not in self._progress.parts.values()
            ):  # of a pass that was cut off here it is what tells of it now
                await self._store.delete_blob(OUTCOMES, before)

    async def _carried(self, lines: Iterable[Line]) -> list[dict[str, Any]]:
        """Carry lines out as a bundle; return each as an outcome has it, `line` for `index`."""
        progress, meter = self._progress, Meter()
        lines = tuple(lines)
        try:
            reports = await self._carry(progress.windows, read_lines(lines, self._settings), meter)
        except StoreUnavailable:
            raise
        except RelayError:
            progress.spend(dataverse=meter.dataverse, fhir=meter.fhir, waits_ms=meter.waits_ms)
            await self._save()
            raise
        progress.windows += 1
        rows = render_outcome(self._id, "", reports, meter)["receipt"]["rows"]
        progress.spend(
            dataverse=meter.dataverse,
            fhir=meter.fhir,
            waits_ms=meter.waits_ms,
            rows_created=rows["created"],
            rows_updated=rows["updated"],
        )
        rendered = zip(lines, (report.render() for report in reports), strict=True)
        return [{"line": line.number} | {k: v for k, v in each.items() if k != "index"} for line, each in rendered]

    # --- what is kept

    @property
    def _note(self) -> str:
        return f"{self._id}.progress"

    async def _save(self) -> None:
        data = json.dumps(asdict(self._progress), separators=(",", ":")).encode()
        await self._store.put_blob(self._container, self._note, data)

    async def _read(self, start: int, length: int) -> bytes:
        data = await self._store.read_blob(self._container, self._id, start, length)
        if data is None:
            raise Refused("the file is gone", code="gone")
        return data

    async def _tell(self, window: Window, failed: list[dict[str, Any]]) -> None:
        """Keep the failed lines of a window beside the outcome, one a line; a name that cannot be so is the file's id."""
        key = str(window.start.line)
        self._progress.waiting.pop(key, None)
        self._progress.parts.pop(key, None)
        if not failed:
            return
        data = b"".join(json.dumps(entry, separators=(",", ":")).encode() + b"\n" for entry in failed)
        turn = f"-{self._progress.round}" if self._progress.round else ""
        part = f"failed/{window.lines[0].number:09}{turn}.ndjson"
        try:
            await self._store.put_blob(OUTCOMES, name := f"{self._name}.{part}", data)
        except ValueError:  # the longest of names
            await self._store.put_blob(OUTCOMES, name := f"{self._id}.{part}", data)
        self._progress.parts[key] = name
        if any(map(_waits, failed)):
            self._progress.waiting[key] = window.start.offset

    async def _told(self, part: str) -> list[dict[str, Any]]:
        data = await self._store.get_blob(OUTCOMES, part) or b""
        return [json.loads(line) for line in data.splitlines()]


def _waits(entry: Mapping[str, Any]) -> bool:
    return entry["result"] == "failed" and any(issue["code"] == _UNRESOLVED for issue in entry["issues"])
