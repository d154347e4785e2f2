"""Drives Microsoft's azure-functions-runtime in process: index an app, invoke a function.

The package is what the platform's own worker loads from Python 3.13 on; it takes its requests and builds its answers
through the `protos` it is handed. That way in is not documented, so only versions that this project's tests ran with
are accepted.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import ModuleType

from devstack.host.errors import FunctionFailed, StartError
from devstack.host.function import Function
from devstack.host.protos import Message, ParameterBinding, Protos, StatusResult

TESTED = ("1.3.0",)
"""Versions of azure-functions-runtime that the tests ran with."""

PACKAGE = "azure_functions_runtime"


@dataclass(frozen=True, slots=True)
class Result:
    """What a function gave back: its `$return` value and its output bindings by name, as TypedData."""

    value: Message | None
    outputs: Mapping[str, Message]


class Runtime:
    """One worker: its own copy of the runtime package, so that two hosts in a process share no registry."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._package = _load_package()
        self._package.start_threadpool_executor()

    async def index(self) -> list[Function]:
        """Import function_app.py inside the running loop, as the platform does, and list its functions.

        StartError carries the runtime's own reason; one bad function takes all of them away, as in Azure.
        """
        init = await self._package.worker_init_request(
            Message(
                request=Message(
                    worker_init_request=Message(
                        capabilities={}, function_app_directory=str(self._root), host_version="4.0.0"
                    )
                ),
                properties={"protos": Protos, "host": "127.0.0.1"},
            )
        )
        if init.result.status != StatusResult.Success:
            raise StartError(f"{self._root / 'function_app.py'} cannot be indexed: {_reason(init.result.exception)}")
        if init.capabilities.get("HttpUri"):
            raise StartError("HTTP streaming (azurefunctions-extensions-http-fastapi) is not served")
        answer = await self._package.functions_metadata_request(Message(request=Message()))
        found = answer.function_metadata_results
        if found is None and not (self._root / "function_app.py").exists():
            raise StartError(f"{self._root} has no function_app.py")
        if not found:
            raise StartError(f"{self._root / 'function_app.py'} declares no functions")
        functions = [Function.of(each) for each in found]
        for function in functions:
            await self._package.function_load_request(
                Message(request=Message(function_load_request=Message(function_id=function.id)))
            )
        return functions

    async def invoke(
        self,
        function: Function,
        data: Message,
        *,
        metadata: Mapping[str, Message] | None = None,
        timeout: timedelta,  # noqa: ASYNC109 - the rule of the platform, not of one caller
        trace_parent: str = "",
    ) -> Result:
        """Run one function on its trigger's value; FunctionFailed when it raises or takes too long.

        A plain `def` runs on the pool and cannot be stopped: its timeout fails the invocation and lets it run.
        """
        request = Message(
            invocation_id=str(uuid.uuid4()),
            function_id=function.id,
            input_data=[ParameterBinding(name=function.trigger["name"], data=data)],
            trigger_metadata=dict(metadata or {}),
            trace_context=Message(trace_parent=trace_parent, trace_state="", attributes={}),
            retry_context=Message(retry_count=0, max_retry_count=0, exception=None),
        )
        token = self._package.invocation_id_cv.set(request.invocation_id)
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                answer = await self._package.invocation_request(Message(request=Message(invocation_request=request)))
        except TimeoutError:
            raise FunctionFailed(f"{function.name}: took longer than functionTimeout {timeout}") from None
        finally:
            self._package.invocation_id_cv.reset(token)
        if answer.result.status != StatusResult.Success:
            error = answer.result.exception
            raise FunctionFailed(f"{function.name}: {error.message}", error.stack_trace or "")
        return Result(answer.return_value, {each.name: each.data for each in answer.output_data or []})

    async def stop(self) -> None:
        """End the pool of plain functions once those that run have ended."""
        await asyncio.to_thread(self._package.stop_threadpool_executor)


def _load_package() -> ModuleType:
    """Import a fresh copy of the runtime; StartError when it is missing or of an untested version."""
    with _without(PACKAGE):
        try:
            package = importlib.import_module(PACKAGE)
            version = importlib.import_module(f"{PACKAGE}.version").VERSION
        except ImportError as error:
            raise StartError(f"azure-functions-runtime=={TESTED[-1]} is not installed: {error}") from error
    if version not in TESTED:
        raise StartError(f"azure-functions-runtime {version} is untested here; install one of {', '.join(TESTED)}")
    return package


@contextmanager
def _without(package: str) -> Iterator[None]:
    """Hide a package's modules for an import, and put back what was there."""
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == package}
    for name in before:
        del sys.modules[name]
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == package]:
            del sys.modules[name]
        sys.modules.update(before)


def _reason(error: Message) -> str:
    """Give the runtime's message without its listing of sys.path, and the app's own line that raised."""
    text = str(error.message).partition(" Please check the requirements.txt")[0]
    frames = [line.strip() for line in str(error.stack_trace or "").splitlines() if line.strip().startswith("File ")]
    own = [
        frame for frame in frames if PACKAGE not in frame and "importlib" not in frame and "site-packages" not in frame
    ]
    return f"{text} ({own[-1]})" if own else text
