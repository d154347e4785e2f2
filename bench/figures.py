"""One measured figure, and the size of the machine it was measured on."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

_QUEUES = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))["extensions"]["queues"]
HANDED_OVER: int = _QUEUES["batchSize"] + _QUEUES["newBatchThreshold"]
"""Messages of a queue that a host works on at once."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One result; `more` are further fields of its JSON line, `target` among them where there is one."""

    bench: str
    value: float | str | None
    unit: str
    more: dict[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        """Return the figure as one JSON line."""
        return json.dumps({"bench": self.bench, "value": self.value, "unit": self.unit, **self.more})


def skipped(bench: str, unit: str, reason: str) -> Figure:
    """Return the figure of a bench that could not run here."""
    return Figure(bench, None, unit, {"not_run": reason})


def best_of(rounds: int, repeats: int, work: Callable[[], object], clock: Callable[[], float]) -> tuple[float, float]:
    """Return the best and the median seconds of one call of `work`, over rounds of so many repeats.

    The best is what the work costs; what lies above it is what else the machine did meanwhile.
    """
    work()
    seconds: list[float] = []
    for _ in range(rounds):
        began = clock()
        for _ in range(repeats):
            work()
        seconds.append((clock() - began) / repeats)
    return min(seconds), statistics.median(seconds)


def percentile(samples: Sequence[float], share: float) -> float:
    """Return the smallest sample that at least this share of the samples does not exceed."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered) + 0.5) - 1))]


def machine() -> Figure:
    """Return the machine's size: cores this process may use, memory, Python."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0
    more = {"memory_gb": round(pages / 2**30, 1), "python": platform.python_version(), "system": sys.platform}
    return Figure("machine", usable, "cores", {**more, "processor": _processor()})


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
