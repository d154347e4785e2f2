"""What of a bundle goes to the FHIR server first, in which calls, and the bundle as it is once the server has answered. Pure.

A POST becomes the PUT of an id that is chosen from the job and the entry's place: done twice, it makes one resource. One
with `ifNoneExist` stays a POST, which is as safe, and its id is the server's.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID, uuid5

from relay.errors import Failed
from relay.fhir.client import BundleKind
from relay.fhir.forwarding import Answer, Interaction, references, with_id, with_references, with_version
from relay.fhir.subset import is_subset
from relay.inbound.duplicates import settle
from relay.inbound.entries import Entry, Incoming
from relay.inbound.pieces import Piece
from relay.inbound.references import may_name, same_urn
from relay.inbound.sent import SentBodies
from relay.inbound.validate import check
from relay.inbound.windows import in_order

FORWARDED: Final = frozenset({"batch", "collection", "document", "message", "resource", "transaction"})
"""Types of bundles that go to the FHIR server first; the others tell what a server has already."""

_NAMESPACE = UUID("8d8c0a52-6f0f-5c6e-9a43-2f2f5f1c7f0e")  # chosen once: another one would make a retry create again
_NEW = frozenset({"no-id", "invalid-id"})  # of a resource that gets its id from the server, or from us
_CONDITION = re.compile(r"[^\x00-\x1f\x7f#]+")
_UNSENT: Final = frozenset({404, 405})

_Names = dict[str, int]
_SEVERAL: Final = -1


@dataclass(frozen=True, slots=True)
class Forwarding:
    """What goes to the server: interactions by the entry's index, whom each refers to, and the entries that do not go.

    `names` are what References may call the resources of this bundle.
    """

    kind: BundleKind
    interactions: Mapping[int, Interaction]
    edges: Mapping[int, tuple[int, ...]]
    refused: Mapping[int, Entry]
    names: Mapping[str, int]

    def meant(self, reference: str, ids: Mapping[int, str]) -> str | None:
        """Return what a Reference to an entry has to say: `Type/id`, or its fullUrl while nobody knows the id; None if it names none.

        Of a batch, in which the server resolves no fullUrl, None for that too.
        """
        index = self.names.get(same_urn(reference), _SEVERAL)
        if index in ids:
            return f"{self.interactions[index].type}/{ids[index]}"
        return (self.interactions[index].full_url or None) if index in self.interactions else None

    def ids(self, answers: Mapping[int, Answer]) -> dict[int, str]:
        """Return the ids that are known: those we name, and those the server answered."""
        named = {index: each.id for index, each in self.interactions.items() if each.id}
        return named | {index: each.id for index, each in answers.items() if each.id and index in self.interactions}

    def ready(self, index: int, ids: Mapping[int, str]) -> Interaction:
        """Return an interaction as it is sent once these ids are known."""
        each = self.interactions[index]
        if not each.text:
            return each
        text = with_references(each.text, lambda reference: self.meant(reference, ids))
        return replace(each, text=with_id(text, each.id) if each.id else text)

    def lost(self, index: int, ids: Mapping[int, str]) -> bool:
        """Tell whether it refers to an entry whose id nobody knows: no server could resolve that in a batch."""
        return any(other not in ids for other in self.edges[index])


def forwarding(incoming: Incoming, sent: SentBodies, seed: str, *, reject: bool = False) -> Forwarding:
    """Sort the entries of a bundle by what becomes of them; `seed` is what chosen ids are made of, with the entry's index.

    An entry with a problem does not go, nor with `reject` a resource that fhir.resources finds wrong. A transaction that has one does not go at all: `transaction-refused`.
    """
    kind: BundleKind = "transaction" if incoming.type == "transaction" else "batch"
    interactions: dict[int, Interaction] = {}
    refused: dict[int, Entry] = {}
    for entry in incoming.entries:
        if entry.skip:
            continue
        try:
            interactions[entry.index] = _interaction(entry, sent, seed, in_transaction=kind == "transaction")
            if reject and entry.resource is not None:
                _check(entry.resource)
        except Failed as failure:
            interactions.pop(entry.index, None)
            refused[entry.index] = entry.failed(failure.code, str(failure), failure.at)
    if kind == "transaction" and refused:
        message = "another entry of the transaction cannot be carried out, so none was"
        for index in interactions:
            entry = incoming.entries[index]
            refused[index] = entry.failed("transaction-refused", message, _at(index))
        interactions = {}
    names = _named(incoming, interactions)
    edges = {index: tuple(_targets(each, names)) for index, each in interactions.items()}
    return Forwarding(kind, interactions, edges, refused, names)


def chunks(
    work: Forwarding, pending: Sequence[int], ids: Mapping[int, str], most: int
) -> tuple[list[list[int]], set[int]]:
    """Return the entries to be sent by calls, in order, and those of a transaction too large for one call.

    A transaction is cut between resources that do not refer to each other, by way of others neither. A batch is sent in
    the order of its references, and cut before an entry that refers to one whose id only the server's answer will tell.
    """
    waiting = set(pending)
    edges = {index: [other for other in work.edges[index] if other in waiting] for index in pending}
    if work.kind == "transaction":
        together = _connected(pending, edges)
        return _packed([each for each in together if len(each) <= most], most), {
            index for each in together if len(each) > most for index in each
        }
    levels: dict[int, int] = {}
    for component in in_order(pending, edges):
        for index in sorted(component):
            before = (levels[other] + (other not in ids) for other in edges[index] if other in levels)
            levels[index] = max(before, default=0)
    found: list[list[int]] = []
    last = -1
    for index in sorted(levels, key=lambda each: levels[each]):  # stable: what is referred to stays first
        if levels[index] != last or len(found[-1]) == most:
            found.append([])
        found[-1].append(index)
        last = levels[index]
    return found, set()


def forwarded(incoming: Incoming, work: Forwarding, answers: Mapping[int, Answer]) -> Incoming:
    """Return the bundle as the server has it: each entry with its id and version there, or with why it was refused."""
    ids = work.ids(answers)
    entries = []
    for entry in incoming.entries:
        if entry.index in work.refused:
            entries.append(work.refused[entry.index])
        elif entry.index in work.interactions:
            entries.append(_answered(entry, work, answers[entry.index], ids))
        else:
            entries.append(entry)
    return replace(incoming, entries=settle(entries))


def _answered(entry: Entry, work: Forwarding, answer: Answer, ids: Mapping[int, str]) -> Entry:
    each = work.interactions[entry.index]
    at = _at(entry.index)
    if not answer.done:
        return entry.failed(*_refusal(each, answer), at)
    if each.method == "DELETE":
        return entry
    if not answer.id:
        return entry.failed("unknown-id", "the FHIR server does not say which resource it wrote or found", at)
    text = with_references(each.text, lambda reference: work.meant(reference, ids))
    text = with_version(with_id(text, answer.id), answer.version, answer.updated)
    return Entry(
        entry.index,
        Piece(answer.body or text, 0, wrapped=False),
        full_url=entry.full_url,
        method="PUT",
        url=f"{each.type}/{answer.id}",
        key=(each.type, answer.id),
    )


def _refusal(each: Interaction, answer: Answer) -> tuple[str, str]:
    if answer.status == 0:  # it was not sent
        return answer.told, _NOT_SENT[answer.told]
    if each.chosen and answer.status in _UNSENT and not answer.whole:
        message = "the FHIR server makes no resource under an id that its client chooses: give the POST an ifNoneExist"
        return "create-refused", f"{message} ({answer.status})"
    told = f": {answer.told}" if answer.told else ""
    return f"fhir-{answer.status}", f"the FHIR server refused it ({answer.status}{told})"


TOO_LARGE: Final = "transaction-too-large"
LOST: Final = "unforwarded-reference"
CHANGED: Final = "changed-meanwhile"
_NOT_SENT: Final = {
    TOO_LARGE: "the resources of the transaction that refer to each other are more than the FHIR server takes at once",
    LOST: "it refers to an entry that got no id on the FHIR server",
    CHANGED: "the FHIR server's answer was lost, and somebody wrote the resource since: it is not put over that",
}


def _interaction(entry: Entry, sent: SentBodies, seed: str, *, in_transaction: bool) -> Interaction:
    """Return what an entry asks of the server; raises Failed with the entry's problem, or `invalid-element`."""
    at = _at(entry.index)
    if entry.method == "DELETE":
        return _delete(entry)
    url, mark, condition = entry.url.partition("?")
    conditional = bool(mark) and entry.method == "PUT"
    new = entry.method == "POST" or conditional or (not entry.method and entry.key is None)
    resource = entry.resource
    if entry.problem is not None and not (new and entry.problem.code in _NEW and resource is not None):
        # Without a map nobody would say that a resource has no id: here it is why it went nowhere.
        code = "invalid-element" if entry.problem.code in _NEW else entry.problem.code
        raise Failed(entry.problem.message, code=code, at=entry.problem.at)
    if "$" in url.rpartition("/")[2]:
        raise Failed("operations are not carried out", code="unsupported", at=f"{at}.request.url")
    if new and resource is not None and is_subset(resource):
        raise Failed(
            "the resource is tagged SUBSETTED: it is not the whole of it", code="subsetted", at=f"{at}.meta.tag"
        )
    for text in (condition if conditional else "", entry.if_none_exist):
        if text and not _CONDITION.fullmatch(text):
            raise Failed("the condition is not a query as URLs have it", code="invalid-element", at=f"{at}.request")
    if conditional and not condition:
        raise Failed("the condition is empty", code="invalid-element", at=f"{at}.request.url")
    if (entry.method == "POST" or conditional) and url.rstrip("/").rpartition("/")[2] not in (entry.resource_type, ""):
        message = "the URL names another type than the entry holds"
        raise Failed(message, code="invalid-element", at=f"{at}.request.url")
    own = str(uuid5(_NAMESPACE, f"{seed}/{entry.index}"))
    theirs = conditional or bool(entry.if_none_exist and new)
    full_url = _full_url(entry, own if theirs else "") if in_transaction else ""
    each = Interaction(entry.index, "PUT", entry.resource_type, text=sent.text(entry), full_url=full_url)
    if conditional:
        return replace(each, condition=condition, if_match=entry.if_match, if_none_match=entry.if_none_match)
    if not new and entry.key is not None:
        return replace(each, id=entry.key[1], if_match=entry.if_match, if_none_match=entry.if_none_match)
    if entry.if_none_exist:
        return replace(each, method="POST", if_none_exist=entry.if_none_exist)
    return replace(each, id=own, chosen=True)


def _full_url(entry: Entry, own: str) -> str:
    """Return what references within a transaction name an entry by; made of `own` where its id is the server's to give.

    By the id that the sender wrote they would name whoever has that id on the server.
    """
    made = f"urn:uuid:{own}" if own else ""
    return entry.full_url if entry.full_url[:4].lower() == "urn:" else made


def _check(resource: Mapping[str, Any]) -> None:
    for issue in check(resource, "reject"):
        if issue.severity == "error":
            raise Failed(issue.message, code=issue.code, at=issue.at)


def _delete(entry: Entry) -> Interaction:
    """Return a DELETE of one resource; raises Failed with the entry's problem, or `unsupported` for one by condition."""
    if entry.problem is not None:
        raise Failed(entry.problem.message, code=entry.problem.code, at=entry.problem.at)
    if entry.key is None:
        message = "a DELETE that does not name its resource is not forwarded"
        raise Failed(message, code="unsupported", at=f"{_at(entry.index)}.request.url")
    return Interaction(entry.index, "DELETE", *entry.key, if_match=entry.if_match)


def _named(incoming: Incoming, interactions: Mapping[int, Interaction]) -> _Names:
    """Return what References may call each resource: its fullUrl, and the type and id that its sender gave it."""
    names: _Names = {}
    for index, each in interactions.items():
        entry = incoming.entries[index]
        key = entry.key or (each.type, entry.full_url.rpartition("/")[2])
        called = {same_urn(entry.full_url)} if may_name(entry.full_url, key) else set()
        called |= {"/".join(entry.key)} if entry.key else set()
        if not each.chosen and each.id:
            called.add(f"{each.type}/{each.id}")
        for name in called:
            names[name] = _SEVERAL if name in names else index
    return {name: index for name, index in names.items() if index != _SEVERAL}


def _targets(each: Interaction, names: _Names) -> Iterator[int]:
    found = (names.get(same_urn(reference)) for reference in references(each.text))
    yield from dict.fromkeys(other for other in found if other is not None)


def _connected(pending: Sequence[int], edges: Mapping[int, Iterable[int]]) -> list[list[int]]:
    """Return what is tied by references in either direction, in the order of the entries."""
    both: dict[int, set[int]] = {index: set() for index in pending}
    for index in pending:
        for other in edges[index]:
            both[index].add(other)
            both[other].add(index)
    return [sorted(each) for each in in_order(pending, both)]


def _packed(together: Collection[list[int]], most: int) -> list[list[int]]:
    found: list[list[int]] = []
    for each in sorted(together):
        if not found or len(found[-1]) + len(each) > most:
            found.append([])
        found[-1] += each
    return [sorted(each) for each in found]


def _at(index: int) -> str:
    return f"Bundle.entry[{index}]"
