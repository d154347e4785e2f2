"""A Dataverse that answers some change sets itself, by a rule of the site that the emulator does not have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from relay.dataverse.batch import ChangeSet, Request, Response
from relay.dataverse.errors import read_error
from support.world import World

Items = Sequence[Request | ChangeSet]
Wanted = Callable[[ChangeSet], bool]


def refuses(it: World, wanted: Wanted, status: int, code: str, *, times: int | None = None) -> list[ChangeSet]:
    """Answer such change sets with an error, `times` in all (None: for ever); returns a list of those it struck.

    The other parts of a batch are carried out, in their order, as one batch.
    """
    body = {"error": {"code": code, "message": "no"}}
    struck: list[ChangeSet] = []
    batch = it.relay.dataverse.batch

    def strikes(item: Request | ChangeSet) -> bool:
        if not isinstance(item, ChangeSet) or not wanted(item) or (times is not None and len(struck) >= times):
            return False
        struck.append(item)
        return True

    async def answer(items: Items, **options: Any) -> list[list[Response]]:
        hit = [strikes(item) for item in items]
        rest = [item for item, refused in zip(items, hit, strict=True) if not refused]
        answers = iter(await batch(rest, **options) if rest else [])
        refusal = [Response(status, {}, body, read_error(status, {}, body))]
        return [refusal if refused else next(answers) for refused in hit]

    it.relay.dataverse.batch = answer  # type: ignore[assignment, method-assign]  # in place of the wire
    return struck


def creates(entity_set: str) -> Wanted:
    """Match change sets that begin with a create in this set."""
    return lambda item: item.requests[0].method == "POST" and item.requests[0].url.startswith(f"{entity_set}?")


def holds(text: str) -> Wanted:
    """Match change sets one of whose bodies has this value."""
    return lambda item: any(text in (request.body or {}).values() for request in item.requests)


def closes_a_cycle(item: ChangeSet) -> bool:
    """Match the change sets that are one update of nothing but lookups."""
    (first, *others) = item.requests
    return not others and first.method == "PATCH" and all("@odata.bind" in name for name in first.body or {})
