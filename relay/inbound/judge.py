"""What became of a plan: each answer judged by its code, and in the end one verdict per resource. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from relay.dataverse.errors import DataverseError, DataverseMissing
from relay.inbound.levels import Piece
from relay.inbound.operations import Operation, Planned

_NOT_WRITTEN: Final = DataverseMissing(404, "0x80040217")


@dataclass(frozen=True, slots=True)
class Raced:
    """A resource that lost against another writer, and the answer that said so.

    `written` is whether its row is there: only the update that closes a cycle, or child rows, were lost.
    """

    planned: Planned
    error: DataverseError
    written: bool


@dataclass(slots=True)
class Applied:
    """What became of a plan: `raced` resources are to be located and planned again, `busy` ones later.

    Both are by the number of the entry.
    """

    raced: dict[int, Raced] = field(default_factory=dict)
    busy: dict[int, Planned] = field(default_factory=dict)
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class _Loss:
    planned: Planned
    error: DataverseError
    closes: bool


class Judge:
    """Takes what became of each piece, and says which pieces may still be sent."""

    def __init__(self) -> None:
        self._losses: dict[int, _Loss] = {}
        self._done: defaultdict[int, list[Operation]] = defaultdict(list)
        self._absent: dict[str, DataverseError] = {}

    @property
    def done(self) -> list[Operation]:
        """The operations of resources that were carried out so far."""
        return [each for done in self._done.values() for each in done]

    def take(self, piece: Piece, error: DataverseError | None) -> None:
        """Note that a piece was carried out, or why it was not."""
        planned = piece.planned
        if error is None:
            if planned is not None:
                self._done[planned.number] += piece.operations
            return
        if planned is None:
            if error.kind != "race" or piece.bulk:  # else somebody made the concept first: it is there
                self._miss(piece, error)
            return
        error = self._lost(piece) or error
        self._miss(piece, error if _gravity(error) == _BUSY else _NOT_WRITTEN)
        known = self._losses.get(planned.number)
        if known is None:
            self._losses[planned.number] = _Loss(planned, error, piece.closes)
        elif not piece.closes and _gravity(error) < _gravity(known.error):
            # An update that closes a cycle cannot go through without what went before it: that says nothing more.
            self._losses[planned.number] = _Loss(planned, error, closes=False)

    def ready(self, level: Sequence[Piece]) -> list[Piece]:
        """Return what may be sent: not what points to a row that was not written, nor what its resource has lost already."""
        for piece in level:
            if (error := self._lost(piece)) is not None:
                self.take(piece, error)
        kept = []
        for piece in level:
            if piece.planned is None or piece.planned.number not in self._losses:
                kept.append(piece)
            else:
                self._miss(piece, _NOT_WRITTEN)
        return kept

    def verdict(self) -> Applied:
        """Return what became of the plan; a resource that Dataverse refused is `failed` from here on.

        It keeps its row and the children that were written, if any were.
        """
        applied = Applied()
        for number, loss in self._losses.items():
            planned, error = loss.planned, loss.error
            done = {each.id for each in self._done[number]}
            if done and not loss.closes:
                planned.children = [each for each in planned.children if each.result == "unchanged" or each.id in done]
            if error.kind in ("race", "missing"):
                # `missing`: a row we meant to change or to point to is not there (any more); reading again tells.
                applied.raced[number] = Raced(planned, error, written=loss.closes or bool(done))
            elif _gravity(error) == _BUSY:
                applied.busy[number] = planned
                applied.retry_after = max(applied.retry_after or 0, error.retry_after or 0) or None
            elif loss.closes or done:
                planned.fail_after_write(f"dataverse-{error.code}", str(error), error.column)
            else:
                planned.fail(f"dataverse-{error.code}", str(error), error.column)
        return applied

    def _lost(self, piece: Piece) -> DataverseError | None:
        """Return why a row or codeable concept that this piece binds is not there: that is the reason for the piece too."""
        return (
            next((self._absent[bind] for bind in piece.binds if bind in self._absent), None) if self._absent else None
        )

    def _miss(self, piece: Piece, error: DataverseError) -> None:
        for bind in piece.makes:
            self._absent.setdefault(bind, error)


_BUSY: Final = 1


def _gravity(error: DataverseError) -> int:
    """Order errors of one resource: what is refused for good comes first, then what has to wait, then a race."""
    match error.kind:
        case "terminal":
            return 0
        case "transient" | "not-reached":
            return _BUSY
        case "race" | "missing":
            return 2
