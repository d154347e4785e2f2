"""Plain stand-ins for the worker's protobuf messages; the runtime reads and builds them by name only.

The names are those of azure-functions-language-worker-protobuf (FunctionRpc.proto). A field that was not given is
None, as an unset one; `WhichOneof` answers the field that was given.
"""

# ruff: noqa: N802 - the names are the protocol's

from __future__ import annotations

from typing import Any


class Message:
    """A message of any kind: its fields are what it was built with."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)

    def __getattr__(self, name: str) -> Any:
        """Answer None for a field that was not given, but not for what the runtime probes for."""
        if name.startswith("__") or name == "TypedData":
            raise AttributeError(name)
        return None

    def WhichOneof(self, _group: str) -> str | None:
        """Name the one field that was given."""
        return next((name for name, value in self.__dict__.items() if value is not None), None)


class ParameterBinding(Message):
    """One named input or output; its value is always `data`, never shared memory."""

    def WhichOneof(self, _group: str) -> str:
        """Name the only kind of value there is."""
        return "data"


class StatusResult(Message):
    """How a request ended."""

    Failure = 0
    Success = 1
    Cancelled = 2


class BindingInfo(Message):
    """One binding of a function; the runtime compares directions with these numbers."""

    out = 1
    inout = 2
    undefined = 0


class _SameSite:
    Lax = 1
    Strict = 2
    ExplicitNone = 3


setattr(_SameSite, "None", 0)  # the protocol's own name is a keyword here


class RpcHttpCookie(Message):
    """One cookie of an answer."""

    SameSite = _SameSite


class Protos:
    """The module that the runtime is handed as `protos`."""

    BindingInfo = BindingInfo
    ParameterBinding = ParameterBinding
    RpcHttpCookie = RpcHttpCookie
    StatusResult = StatusResult
    FunctionEnvironmentReloadResponse = Message
    FunctionLoadResponse = Message
    FunctionMetadataResponse = Message
    InvocationResponse = Message
    NullableBool = Message
    NullableDouble = Message
    NullableString = Message
    NullableTimestamp = Message
    RpcException = Message
    RpcFunctionMetadata = Message
    RpcHttp = Message
    RpcRetryOptions = Message
    Timestamp = Message
    TypedData = Message
    WorkerInitResponse = Message
    WorkerMetadata = Message
