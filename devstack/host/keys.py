"""Function keys: who may call what, checked as Azure does."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from http import HTTPStatus

from devstack.host.errors import StartError

MASTER = "master"
"""Keys under this name open everything, the admin routes too."""

HOST = "host"
"""Keys under this name open every function of level `function`."""

LEVELS = ("anonymous", "function", "admin")


class Keys:
    """Keys by name: `master`, `host`, or a function's own name; each may have several, so that they can be rotated.

    None switches checking off, as Core Tools does.
    """

    def __init__(self, keys: Mapping[str, list[str]] | None) -> None:
        self._keys = keys
        for name, values in (keys or {}).items():
            if not values or not all(values):
                raise StartError(f"keys: {name} needs a list of keys, none of them empty")

    def check_names(self, functions: list[str]) -> None:
        """Refuse keys for functions that are not there, and functions whose name would take a scope's."""
        if taken := {MASTER, HOST} & set(functions):
            raise StartError(f"a function cannot be called {min(taken)!r} while keys are checked")
        if unknown := set(self._keys or {}) - {MASTER, HOST, *functions}:
            raise StartError(f"keys: no function is called {min(unknown)!r} (valid: {MASTER}, {HOST}, {functions})")

    def refusal(self, level: str, name: str, header: str | None, code: str | None) -> HTTPStatus | None:
        """Answer 401 without a valid key, 403 when a valid one does not reach; None when the call may go on.

        The header `x-functions-key` is read first, `code` of the query only without it.
        """
        if self._keys is None or level == "anonymous":
            return None
        given = header if header is not None else code
        reaches = self._reach(name, given) if given else 0
        if reaches == 0:
            return HTTPStatus.UNAUTHORIZED
        return None if reaches >= LEVELS.index(level) else HTTPStatus.FORBIDDEN

    def _reach(self, name: str, given: str) -> int:
        keys = self._keys or {}
        reach = 0
        for scope, level in ((HOST, 1), (name, 1), (MASTER, 2)):
            for key in keys.get(scope, ()):
                if hmac.compare_digest(key.encode(), given.encode()):
                    reach = max(reach, level)
        return reach
