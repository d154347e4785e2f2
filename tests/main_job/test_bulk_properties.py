"""Whichever rows of a bulk call are bad, each row is told of exactly once, as it deserves, in a bounded number of calls."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid5

from hypothesis import given
from hypothesis import strategies as st

from relay.dataverse.batch import Request, Response
from relay.dataverse.client import DataverseClient
from relay.dataverse.errors import DataverseBusy, DataverseError, DataverseRefusal
from relay.dataverse.keys import NAMESPACE
from relay.inbound.bulk import ALONE, BulkWriter
from relay.inbound.judge import Judge
from relay.inbound.levels import Piece
from relay.inbound.operations import Operation
from support.world import shipped_maps

REFUSED = DataverseRefusal(400, "0x80044331")
TOO_LONG = DataverseBusy(500, "0x80044151", sql="timeout")
CONTACT = shipped_maps().tables["contact"]


class Dataverse:
    """Takes rows, all of a bulk call or none, unless it is too large or one of them is bad."""

    def __init__(self, bad: set[str], most: int) -> None:
        self.bad, self.most = bad, most
        self.made: list[str] = []
        self.calls = 0
        self.governor = SimpleNamespace()

    async def send(self, request: Request) -> None:
        """Carry out a bulk call; raises what Dataverse answers."""
        self.calls += 1
        keys = [row["contactid"] for row in (request.body or {})["Targets"]]
        if len(keys) > self.most:
            raise TOO_LONG
        if self.bad.intersection(keys):
            raise REFUSED
        self.made += keys

    async def batch(self, items: Sequence[Request]) -> list[list[Response]]:
        """Carry out creates, each for itself."""
        self.calls += 1
        answers: list[list[Response]] = []
        for item in items:
            key = (item.body or {})["contactid"]
            if key in self.bad:
                answers.append([Response(400, {}, None, REFUSED)])
            else:
                self.made.append(key)
                answers.append([Response(204, {}, None)])
        return answers


class Told(Judge):
    """Keeps what it is told, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[str, DataverseError | None]] = []

    def take(self, piece: Piece, error: DataverseError | None) -> None:
        """Note what became of a piece."""
        self.heard.append((piece.operations[0].id, error))


@given(st.integers(1, 120), st.sets(st.integers(0, 119), max_size=6), st.sampled_from([20, 50, 1000]))
def test_every_row_is_told_of_once(count: int, numbers: set[int], most: int) -> None:
    """The bad rows are refused and all others written, in at most so many calls."""
    keys = [str(uuid5(NAMESPACE, str(number))) for number in range(count)]
    bad = {keys[number] for number in numbers if number < count}
    rows = [Piece((Operation("create", CONTACT, key, {}, "new"),), None, bulk=True) for key in keys]
    server, judge = Dataverse(bad, most), Told()
    asyncio.run(BulkWriter(cast("DataverseClient", cast("Any", server)), "t", judge).create(rows))
    assert sorted(key for key, _ in judge.heard) == sorted(keys)
    assert {key for key, error in judge.heard if error is not None} == bad
    assert sorted(server.made) == sorted(set(keys) - bad)
    depth = math.ceil(math.log2(count / ALONE)) if count > ALONE else 0
    halves = 2 ** math.ceil(math.log2(count / most)) * 2 if count > most else 0
    assert server.calls <= 1 + halves + len(bad) * (2 * depth + 1)
