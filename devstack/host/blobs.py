"""Watches a container for one function: a blob counts once it was the same in two looks."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from devstack.host.errors import StartError
from devstack.host.function import Function
from devstack.host.protos import Message as Proto
from devstack.host.queues import Policy, QueueListener
from devstack.host.storage import HostStore
from relay.errors import StoreUnavailable
from relay.store.local import Message
from relay.store.names import check_container

POISON_QUEUE = "webjobs-blobtrigger-poison"
RECEIPTS = "blobreceipts"

_LOOK = 0.2  # seconds between two looks at the container
_TOKEN = re.compile(r"\{([A-Za-z_]\w*)\}")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BlobPath:
    """A trigger's path, such as `bundles/{name}.json`; a token takes any characters, slashes too."""

    container: str
    pattern: re.Pattern[str]

    @classmethod
    def of(cls, function: str, path: str) -> BlobPath:
        """Read the path; StartError names the function."""
        container, _, rest = path.partition("/")
        text, at = "", 0
        for found in _TOKEN.finditer(rest):
            text += f"{re.escape(rest[at : found.start()])}(?P<{found[1]}>.+)"
            at = found.end()
        literal = _TOKEN.sub("", rest)
        if not rest or "{" in container + literal or "}" in container + literal:
            raise StartError(f"{function}: blob path {path!r} is not served (valid: container/{{name}})")
        try:
            check_container(container)
        except ValueError as error:
            raise StartError(f"{function}: blob path {path!r}: {error}") from None
        return cls(container, re.compile(text + re.escape(rest[at:]), re.DOTALL))

    def match(self, name: str) -> dict[str, str] | None:
        """Give the tokens' values; None when the blob is somebody else's."""
        found = self.pattern.fullmatch(name)
        return found.groupdict() if found else None


class BlobWatcher:
    """Looks, remembers by etag what it announced, and has a queue do the tries, as the platform does."""

    def __init__(
        self,
        function: Function,
        path: BlobPath,
        store: HostStore,
        policy: Policy,
        work: Callable[[bytes, dict[str, Proto]], Awaitable[None]],
    ) -> None:
        """Make one; where Event Grid announces the function's blobs it never looks, and `announce` is the only way in."""
        self._function = function
        self._path = path
        self._store = store
        self._work = work
        self._last: dict[str, str] = {}
        self._announced: dict[str, str] | None = None
        self._settled = False
        queue = f"azure-webjobs-blobtrigger-{function.id.partition('-')[0]}"
        self.listener = QueueListener(queue, store, policy, self._process, poison=self._poison)

    @property
    def busy(self) -> bool:
        """Whether the last look saw a blob that it has yet to announce, or there was no look yet."""
        return not self._settled and not self._function.announced

    async def pending(self) -> bool:
        """Tell whether the container holds a blob that was not announced yet."""
        return not self._function.announced and bool(await self._fresh())

    async def look(self) -> int:
        """Look once; announce what is as it was at the last look, and return how many blobs that were."""
        fresh = {} if self._function.announced else await self._fresh()
        count = 0
        for name, etag in fresh.items():
            if self._last.get(name) == etag:
                await self._announce(name, etag)
                count += 1
        self._last = fresh
        self._settled = count == len(fresh)
        return count

    async def run(self, stop: asyncio.Event) -> None:
        """Look until told to stop."""
        while not stop.is_set():
            try:
                await self.look()
            except StoreUnavailable as error:
                _log.warning("container %s: %s", self._path.container, error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await stop.wait()

    async def read(self, name: str) -> tuple[bytes, dict[str, Proto]] | None:
        """Read one blob and what the platform hands over with it; None when it is gone."""
        info = await self._store.find_blob(self._path.container, name)
        data = await self._store.get_blob(self._path.container, name) if info else None
        if info is None or data is None:
            return None
        address = f"{self._path.container}/{name}"
        properties = {"Length": len(data), "ETag": info.etag, "LastModified": info.modified.isoformat()}
        metadata = {key: Proto(string=value) for key, value in (self._path.match(name) or {}).items()}
        return data, metadata | {
            "BlobTrigger": Proto(string=address),
            "Uri": Proto(json=json.dumps(self._store.blob_url(self._path.container, name))),
            "Properties": Proto(json=json.dumps(properties)),
            "Metadata": Proto(json="{}"),
        }

    async def announce(self, name: str) -> None:
        """Queue a blob that somebody tells of, if it is there and the path is its own; one told of twice is queued twice."""
        info = await self._store.find_blob(self._path.container, name)
        if info is not None and self._path.match(name) is not None:
            await self._announce(name, info.etag)

    def owns(self, container: str) -> bool:
        """Tell whether the path is of this container."""
        return container == self._path.container

    async def _fresh(self) -> dict[str, str]:
        """List the blobs that are ours and new, or changed since they were announced."""
        announced = await self._receipts()
        blobs = await self._store.list_blobs(self._path.container)
        return {
            each.name: each.etag
            for each in blobs
            if announced.get(each.name) != each.etag and self._path.match(each.name) is not None
        }

    async def _receipts(self) -> dict[str, str]:
        if self._announced is None:
            rows = await self._store.list_rows(RECEIPTS, self._function.name)
            self._announced = {str(values["name"]): str(values["etag"]) for _, _, values in rows}
        return self._announced

    async def _announce(self, name: str, etag: str) -> None:
        """Queue a blob, then note it: a crash between the two announces it twice rather than never."""
        text = {
            "Type": "BlobTrigger",
            "FunctionId": f"Host.Functions.{self._function.name}",
            "BlobType": "BlockBlob",
            "ContainerName": self._path.container,
            "BlobName": name,
            "ETag": etag,
        }
        await self._store.send(self.listener.queue, json.dumps(text))
        key = hashlib.sha256(name.encode()).hexdigest()  # a name can be longer than a table's key
        await self._store.put_row(RECEIPTS, self._function.name, key, {"name": name, "etag": etag})
        (await self._receipts())[name] = etag

    async def _process(self, message: Message) -> None:
        announced: dict[str, Any] = json.loads(message.text)
        found = await self.read(announced["BlobName"])
        if found is None:
            return
        data, metadata = found
        if json.loads(metadata["Properties"].json)["ETag"] != announced["ETag"]:
            return  # replaced meanwhile: the new one is announced by itself
        await self._work(data, metadata)

    async def _poison(self, message: Message) -> None:
        announced: dict[str, Any] = json.loads(message.text)
        announced.pop("Type")
        _log.error("blob %s/%s goes to %s", announced["ContainerName"], announced["BlobName"], POISON_QUEUE)
        await self._store.send(POISON_QUEUE, json.dumps(announced))
