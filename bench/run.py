"""Runs the benches and prints one JSON line per figure, the machine's size last.

Usage: run.py [--only NAME]… [--write FILE] [--figures]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import by_map
import calls
import cpu
import expressions
import flow
import imports
import memory
import throughput
import told
import webhook
from figures import Figure, machine
from page import MEANINGS, render

BENCHES: dict[str, Callable[[], Iterator[Figure]]] = {
    "calls": calls.run,
    "cpu": cpu.run,
    "by_map": by_map.run,
    "expressions": expressions.run,
    "flow": flow.run,
    "throughput": throughput.run,
    "told": told.run,
    "memory": memory.run,
    "webhook": webhook.run,
    "imports": imports.run,
}


def main() -> int:
    """Run what is asked for; 0 unless a bench breaks."""
    parser = argparse.ArgumentParser(prog="bench/run.py", description="Measures the relay on this machine.")
    parser.add_argument("--only", action="append", choices=BENCHES, help="run this one only; may be repeated")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the figures as a page of Markdown, too")
    parser.add_argument("--figures", action="store_true", help="print what is measured and stop")
    options = parser.parse_args()
    if options.figures:
        print("\n".join(what for what, _ in MEANINGS.values()))
        return 0
    found: list[Figure] = []
    for name, bench in BENCHES.items():
        if options.only and name not in options.only:
            continue
        for figure in bench():
            found.append(figure)
            print(figure.line(), flush=True)
    found.append(machine())
    print(found[-1].line())
    if options.write:
        options.write.write_text(render(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
