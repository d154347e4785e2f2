"""One function as the runtime indexed it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TRIGGERS = ("httpTrigger", "queueTrigger", "blobTrigger", "timerTrigger", "eventGridTrigger")
"""Triggers that this host serves."""

OUTPUTS = ("http", "queue")
"""Output bindings that this host serves."""


@dataclass(frozen=True, slots=True)
class Function:
    """Name, bindings (as the worker reports them) and what was read from them.

    `route` is None when it was not given (Azure then uses the name); empty `methods` means every method;
    `auth_level` is `anonymous`, `function` or `admin`.
    """

    name: str
    id: str
    bindings: tuple[Mapping[str, Any], ...]
    retries: bool = False

    @classmethod
    def of(cls, metadata: Any) -> Function:
        """Read the runtime's RpcFunctionMetadata."""
        bindings = tuple(json.loads(each) for each in metadata.raw_bindings)
        return cls(metadata.name, metadata.function_id, bindings, metadata.retry_options is not None)

    @property
    def trigger(self) -> Mapping[str, Any]:
        """The one binding that causes the function to run."""
        return next(each for each in self.bindings if each["type"].lower().endswith("trigger"))

    @property
    def kind(self) -> str:
        """The trigger's type, such as `queueTrigger`."""
        return str(self.trigger["type"])

    @property
    def route(self) -> str | None:
        """The route below the prefix, as the app wrote it."""
        return self.trigger.get("route")

    @property
    def methods(self) -> tuple[str, ...]:
        """The HTTP methods it answers, upper case."""
        return tuple(each.upper() for each in self.trigger.get("methods") or ())

    @property
    def auth_level(self) -> str:
        """Who may call it over HTTP."""
        return str(self.trigger.get("authLevel") or "function").lower()

    @property
    def outputs(self) -> dict[str, Mapping[str, Any]]:
        """The output bindings by parameter name; `$return` is one."""
        return {each["name"]: each for each in self.bindings if each["direction"].upper() == "OUT"}

    @property
    def announced(self) -> bool:
        """Whether Event Grid tells a blob function of its blobs, so that nobody looks for them."""
        return str(self.trigger.get("source", "")).lower() == "eventgrid"

    @property
    def unserved(self) -> str:
        """Name what this host cannot do for the function; empty when it can run it."""
        if self.kind not in TRIGGERS:
            return f"{self.kind} is not served by the development host (served: {', '.join(TRIGGERS)})"
        for each in self.bindings:
            if each is self.trigger:
                continue
            if each["direction"].upper() != "OUT":
                return f"input binding {each['type']} is not served by the development host"
            if each["type"] not in OUTPUTS:
                return f"output binding {each['type']} is not served by the development host (served: {', '.join(OUTPUTS)})"
        if self.retries and self.kind == "timerTrigger":
            return "a retry policy on a timer is not served by the development host"
        return ""
