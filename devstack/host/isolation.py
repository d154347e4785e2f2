"""Gives an app the process it expects (folder, import path, settings, fresh modules) and takes it back."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType


class Isolation:
    """What one host changes in its process; `leave` undoes it, so that hosts can follow one another."""

    def __init__(self, root: Path, *, fresh: Sequence[str]) -> None:
        self._root = root
        self._fresh = ("function_app", *fresh)
        self._hidden: dict[str, ModuleType] = {}
        self._settings: dict[str, str | None] = {}
        self._folder: Path | None = None
        self._entered = False

    def enter(self, settings: Mapping[str, str]) -> None:
        """Change to the root, make it importable, set the settings, hide modules that keep an app's state."""
        self._entered = True
        for name, value in settings.items():
            self._settings[name] = os.environ.get(name)
            os.environ[name] = value
        self._folder = Path.cwd()
        os.chdir(self._root)
        sys.path.insert(0, str(self._root))
        importlib.invalidate_caches()
        self._hidden = self._take_out()

    def leave(self) -> None:
        """Undo it all; a second call does nothing."""
        if not self._entered:
            return
        self._entered = False
        self._take_out()
        for name, module in self._hidden.items():
            sys.modules[name] = module
            _bind(name, module)
        sys.path.remove(str(self._root))
        if self._folder is not None:
            os.chdir(self._folder)
        for name, value in self._settings.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    def _take_out(self) -> dict[str, ModuleType]:
        names = [n for n in sys.modules if any(n == each or n.startswith(f"{each}.") for each in self._fresh)]
        taken = {name: sys.modules.pop(name) for name in names}
        for name, module in taken.items():
            _unbind(name, module)
        return taken


def _unbind(name: str, module: ModuleType) -> None:
    """Let the parent package forget this module, or `from parent import child` would still find it."""
    parent, _, child = name.rpartition(".")
    if getattr(sys.modules.get(parent), child, None) is module:
        delattr(sys.modules[parent], child)


def _bind(name: str, module: ModuleType) -> None:
    """Let the parent package name this module again."""
    parent, _, child = name.rpartition(".")
    if parent in sys.modules:
        setattr(sys.modules[parent], child, module)
