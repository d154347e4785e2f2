"""The host: indexes an app in the real runtime and feeds its functions from HTTP, queues, blobs and timers."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from devstack.host.blobs import BlobPath, BlobWatcher
from devstack.host.errors import FunctionFailed, HostError, NotServed, StartError
from devstack.host.function import Function
from devstack.host.http import Http
from devstack.host.isolation import Isolation
from devstack.host.keys import Keys
from devstack.host.protos import Message as Proto
from devstack.host.queues import Policy, QueueListener, texts_of, trigger_data
from devstack.host.routes import build_routes
from devstack.host.runtime import Result, Runtime
from devstack.host.settings import HostJson, read_host_json, read_local_settings, resolve
from devstack.host.storage import HostStore, check_connection
from devstack.host.timers import Timer
from relay.errors import StoreUnavailable
from relay.store.local import Message
from relay.store.names import check_queue

FRESH = ("relay.app", "relay.triggers")
"""Modules that keep an app's state; each host imports them anew, as a new worker process would."""

_GRACE = 10.0  # seconds that running functions get when the host stops
_TURN = 0.01  # seconds between two looks of `idle`

_log = logging.getLogger(__name__)


class Host:
    """Serves the function app in `root` on one store, local or a storage account; its clock is the store's.

    With `polling` it works by itself; without, `step` and `run_due` drive queues, blobs and timers, so that a test
    can move the clock. `keys` None switches key checks off. `settings` win over the environment, which wins over
    local.settings.json. StartError says why an app cannot be started.
    """

    def __init__(
        self,
        root: Path,
        *,
        store: HostStore,
        keys: Mapping[str, list[str]] | None = None,
        settings: Mapping[str, str] | None = None,
        polling: bool = True,
        fresh: Sequence[str] = FRESH,
    ) -> None:
        self.root = root.absolute()
        self.store = store
        self.functions: list[Function] = []
        self._keys = Keys(keys)
        self._settings = dict(settings or {})
        self._polling = polling
        self._isolation = Isolation(self.root, fresh=fresh)
        self._stop = asyncio.Event()
        self._runtime: Runtime | None = None
        self._config = HostJson()
        self._http: Http | None = None
        self._queues: list[QueueListener] = []
        self._watchers: dict[str, BlobWatcher] = {}
        self._timers: dict[str, Timer] = {}
        self._loops: list[asyncio.Task[None]] = []
        self._by_name: set[asyncio.Task[None]] = set()
        self._running = 0
        self._invocations = 0

    @property
    def asgi(self) -> Http:
        """The ASGI app of a started host."""
        if self._http is None:
            raise HostError("the host is not started")
        return self._http

    async def start(self) -> None:
        """Read the settings, index the app and begin to work; StartError leaves nothing behind."""
        if self._runtime is not None:
            raise HostError("the host is started already")
        try:
            self._config = read_host_json(self.root)
            local = {k: v for k, v in read_local_settings(self.root).items() if k not in os.environ}
            self._isolation.enter(local | self._settings)
            self._runtime = Runtime(self.root)
            self.functions = await self._runtime.index()
            self._keys.check_names([each.name for each in self.functions])
            self._http = Http(self, build_routes(self.functions, self._config.route_prefix), self._keys)
            for function in self.functions:
                self._wire(function)
        except BaseException:
            await self.stop()
            raise
        if self._polling:
            self._loops = [asyncio.create_task(each.run(self._stop)) for each in self._works]

    async def stop(self) -> None:
        """Stop receiving, let running functions end, and put the process back as it was; the store stays open."""
        self._stop.set()
        await _end([*self._loops, *self._by_name])
        await asyncio.gather(*(each.drain(_GRACE) for each in self._queues))
        self._loops, self._queues = [], []
        self._watchers, self._timers = {}, {}
        self._http = None
        if self._runtime is not None:
            await self._runtime.stop()
            self._runtime = None
        self._isolation.leave()
        self._stop = asyncio.Event()

    async def run(self, function: Function, data: Proto, **options: Any) -> Result:
        """Invoke a function on its trigger's value and carry out its output bindings."""
        if function.unserved:
            raise NotServed(f"{function.name}: {function.unserved}")
        if self._runtime is None:
            raise HostError("the host is not started")
        self._running += 1
        self._invocations += 1
        try:
            result = await self._runtime.invoke(function, data, timeout=self._config.function_timeout, **options)
            await self._send_outputs(function, result)
        finally:
            self._running -= 1
        return result

    async def invoke(self, name: str, text: str = "") -> None:
        """Run a function by name: a queue function on the text, a blob function on the blob `container/name`.

        An Event Grid function runs on the text as one event (JSON); a timer function takes no text. FunctionFailed when it raises, NotServed or HostError when it cannot run.
        """
        function = next((each for each in self.functions if each.name == name), None)
        if function is None:
            raise HostError(f"no function is called {name!r} (valid: {', '.join(f.name for f in self.functions)})")
        if function.unserved:
            raise NotServed(f"{name}: {function.unserved}")
        if function.kind == "httpTrigger":
            raise HostError(f"{name} is an HTTP function: call its route")
        if function.kind == "timerTrigger":
            await self._timers[name].invoke()
        elif function.kind == "queueTrigger":
            await self.run(function, Proto(string=text), metadata={"QueueTrigger": Proto(string=text)})
        elif function.kind == "eventGridTrigger":
            try:
                json.loads(text)
            except ValueError:
                raise HostError(f"{name}: the input is no event in JSON") from None
            await self.run(function, Proto(json=text))
        else:
            blob = text.removeprefix(function.trigger["path"].partition("/")[0] + "/")
            found = await self._watchers[name].read(blob)
            if found is None:
                raise HostError(f"{name}: no blob {text!r}")
            await self.run(function, Proto(bytes=found[0]), metadata=found[1])

    async def announce(self, function: Function, container: str, name: str) -> None:
        """Queue a blob that Event Grid tells of; one of another container is passed over."""
        watcher = self._watchers[function.name]
        if watcher.owns(container):
            await watcher.announce(name)

    def start_by_name(self, function: Function, text: str) -> None:
        """Run a function by name in the background; its failure is logged."""
        task = asyncio.create_task(self._logged(function.name, text))
        self._by_name.add(task)
        task.add_done_callback(self._by_name.discard)

    async def step(self) -> int:
        """Do one round by hand: look at blobs, run timers that are due, receive one batch of each queue."""
        if self._polling:
            raise HostError("a polling host works by itself; make it with polling=False to step it")
        count = 0
        for watcher in self._watchers.values():
            await watcher.look()
        for timer in self._timers.values():
            count += await timer.step()
        for queue in self._queues:
            count += await queue.step()
        return count

    async def run_due(self) -> int:
        """Step until nothing is due at the store's present time; return how often a function ran."""
        count = 0
        while (ran := await self.step()) or any(each.busy for each in self._watchers.values()) or self._by_name:
            await asyncio.gather(*self._by_name)
            count += ran
        return count

    async def next_due(self) -> datetime | None:
        """Tell when a message becomes visible or a timer is due; None when neither is to come."""
        times = [await each.next_visible() for each in self._queues]
        times += [await each.next_due() for each in self._timers.values()]
        return min((each for each in times if each is not None), default=None)

    async def idle(self, *, delayed: bool = False) -> None:
        """Return once nothing is visible, new or being worked on; with `delayed` also nothing that is to come.

        Timers that wait for their time do not count. A host that does not poll is stepped.
        """
        if not self._polling:
            if delayed:
                raise HostError("a stepped host cannot wait for delayed messages: move the clock and run_due")
            await self.run_due()
            return
        while True:
            before = self._invocations, self._received
            if not self._busy and not await self._waiting(delayed=delayed):
                if not self._busy and before == (self._invocations, self._received):
                    return
            else:
                await asyncio.sleep(_TURN)

    @property
    def _busy(self) -> bool:
        return bool(self._running or self._by_name or any(each.busy for each in self._works))

    @property
    def _works(self) -> list[QueueListener | BlobWatcher | Timer]:
        return [*self._queues, *self._watchers.values(), *self._timers.values()]

    @property
    def _received(self) -> int:
        return sum(each.rounds for each in self._queues)

    async def _waiting(self, *, delayed: bool) -> bool:
        if any([await each.pending() for each in self._watchers.values()]):
            return True
        times = [each for queue in self._queues if (each := await queue.next_visible()) is not None]
        return any(delayed or each <= self.store.now() for each in times)

    async def _logged(self, name: str, text: str) -> None:
        try:
            await self.invoke(name, text)
        except FunctionFailed as error:
            _log.error("%s\n%s", error, error.stack_trace)
        except Exception:  # noqa: BLE001 - nobody waits for this run
            _log.exception("%s could not be run by name", name)

    def _wire(self, function: Function) -> None:
        """Make what feeds a function; one that cannot be served is left out, loudly."""
        if function.unserved:
            _log.warning("%s is indexed but will not run: %s", function.name, function.unserved)
            return
        for name, binding in function.outputs.items():
            if binding["type"] == "queue":
                self._queue_name(function, name, binding)
        if function.kind == "queueTrigger":
            queue = self._queue_name(function, function.trigger["name"], function.trigger)

            async def on_message(message: Message) -> None:
                data, metadata = trigger_data(message)
                await self.run(function, data, metadata=metadata)

            self._queues.append(QueueListener(queue, self.store, self._queue_policy(), on_message))
        elif function.kind == "blobTrigger":
            check_connection(function.trigger.get("connection", ""), os.environ, self.store, function.name)
            path = BlobPath.of(function.name, resolve(function.trigger["path"], os.environ, function.name))

            async def on_blob(data: bytes, metadata: dict[str, Proto]) -> None:
                await self.run(function, Proto(bytes=data), metadata=metadata)

            watcher = BlobWatcher(function, path, self.store, self._blob_policy(), on_blob)
            self._watchers[function.name] = watcher
            self._queues.append(watcher.listener)
        elif function.kind == "timerTrigger":
            schedule = resolve(function.trigger["schedule"], os.environ, function.name)

            async def on_time(data: Proto) -> None:
                await self.run(function, data)

            self._timers[function.name] = Timer(function, schedule, self.store, on_time)

    def _queue_name(self, function: Function, name: str, binding: Mapping[str, Any]) -> str:
        where = f"{function.name}: {name}"
        check_connection(binding.get("connection", ""), os.environ, self.store, where)
        try:
            return check_queue(resolve(binding["queueName"], os.environ, where))
        except ValueError as error:
            raise StartError(f"{where}: {error}") from None

    def _queue_policy(self) -> Policy:
        config = self._config
        return Policy(
            config.batch_size,
            config.new_batch_threshold,
            config.max_dequeue_count,
            config.visibility_timeout,
            config.max_polling_interval,
        )

    def _blob_policy(self) -> Policy:
        config = self._config
        return Policy(
            config.blob_parallelism,
            0,
            config.poison_blob_threshold,
            config.visibility_timeout,
            config.max_polling_interval,
        )

    async def _send_outputs(self, function: Function, result: Result) -> None:
        values = dict(result.outputs)
        if result.value is not None:
            values["$return"] = result.value
        for name, binding in function.outputs.items():
            value = values.get(name)
            if binding["type"] != "queue" or value is None:
                continue
            queue = self._queue_name(function, name, binding)
            try:
                texts = texts_of(value)
            except ValueError as error:
                raise FunctionFailed(f"{function.name}: output {name}: {error}") from None
            for text in texts:
                try:
                    await self.store.send(queue, text)
                except (ValueError, StoreUnavailable) as error:
                    raise FunctionFailed(f"{function.name}: output {name}: {error}") from None


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    """Wait for tasks that were told to stop; those that do not within the grace are cancelled."""
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=_GRACE)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
