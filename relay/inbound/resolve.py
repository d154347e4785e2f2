"""What the lookups of a bundle's drafts mean, and which drafts can be written because of it. Pure.

A draft is written only if every reference in it means a row: one that is there, or one that this bundle writes. Where
the map says `create: linked`, a draft without a row is written only if it has such a reference at all, or one to a
resource that is known to be linked, or carries a Dynamics identifier. Both are settled together, and the order of the entries means nothing.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from relay.dataverse.keys import concept_keys
from relay.errors import Failed
from relay.inbound.located import Located
from relay.inbound.nesting import targets_of
from relay.mapping.model import ByFhirId, ByIdentifier, Concept, Draft, Issue, Target

CONCEPTS = "msemr_codeableconcept"
NOT_LINKED = Issue(
    "information", "not-linked", "the map creates linked resources only: nothing it refers to is in Dataverse"
)


@dataclass(frozen=True, slots=True)
class Meant:
    """A draft and the row it means: the one it has, or (`is_new`) the key it will get."""

    draft: Draft
    row_id: str
    is_new: bool

    @property
    def must_be_linked(self) -> bool:
        """Whether it is created only if something ties it to Dataverse."""
        return self.is_new and self.draft.map.create == "linked" and not self.draft.claims


class Resolver:
    """The drafts that may still be written, by number, and what their lookups mean."""

    def __init__(self, located: Located, meant: Mapping[int, Meant]) -> None:
        self._located = located
        self._meant = dict(meant)
        self._numbers = {(each.draft.map.resource, each.draft.id): number for number, each in meant.items()}
        self._listed = {number: targets_of(each.draft) for number, each in meant.items()}
        self._dependents = self._edges(meant)
        self._found: dict[int, dict[Target, str]] = {}

    def settle(self) -> dict[int, Failed | Issue]:
        """Drop every draft that cannot or need not be written; returns why, by number: what failed, or why it is skipped."""
        dropped: dict[int, Meant] = {}
        ask: Iterable[int] = list(self._meant)
        while True:
            self._drop_unresolved(ask, dropped)
            unlinked = self._unlinked()
            if not unlinked:
                # Only now is it known what is missing in the end: the order in which drafts were dropped tells nothing.
                return {number: self._reason(number, each) for number, each in dropped.items()}
            for number in unlinked:
                self._drop(number, dropped)
            ask = [other for number in unlinked for other in self._dependents[number]]

    def targets(self, number: int) -> dict[Target, str]:
        """Return the GUID of the row that each lookup of a draft means, one that was not dropped."""
        return self._found[number]

    def needs(self, number: int) -> set[int]:
        """Return the drafts whose new rows must be there before this one's."""
        numbers = {self._number(target) for _, target in self._listed[number]}
        return {other for other in numbers if other is not None and self._meant[other].is_new}

    def concept_key(self, number: int, code: str, at: str) -> str:
        """Return the key of a concept to create; one under which a user made another concept is passed over."""
        for key in concept_keys(number, code):
            if (CONCEPTS, key) not in self._located.guids:
                return key
        raise Failed("every key for this codeable concept is taken by another one", code="identity-conflict", at=at)

    # --- the parts

    def _resolved(self, number: int) -> dict[Target, str]:
        return {target: self._resolve(target, at) for at, target in self._listed[number]}

    def _number(self, target: Target) -> int | None:
        return self._numbers.get((target.type, target.id)) if isinstance(target, ByFhirId) else None

    def _edges(self, numbers: Iterable[int]) -> dict[int, list[int]]:
        """Return for each draft those that refer to it."""
        found: dict[int, list[int]] = defaultdict(list)
        for number in numbers:
            for _, target in self._listed[number]:
                if (other := self._number(target)) is not None:
                    found[other].append(number)
        return found

    def _drop(self, number: int, dropped: dict[int, Meant]) -> None:
        each = dropped[number] = self._meant.pop(number)
        del self._numbers[each.draft.map.resource, each.draft.id]

    def _drop_unresolved(self, ask: Iterable[int], dropped: dict[int, Meant]) -> None:
        asked = deque(ask)
        while asked:
            number = asked.popleft()
            if number not in self._meant:
                continue
            try:
                self._found[number] = self._resolved(number)
            except Failed:
                self._drop(number, dropped)
                asked.extend(self._dependents[number])

    def _unlinked(self) -> list[int]:
        """Return the drafts that must be linked and are not, not even by way of others that are."""
        waiting = {number for number, each in self._meant.items() if each.must_be_linked}
        linked = deque(number for number in waiting if self._is_tied(number, waiting))
        while linked:
            number = linked.popleft()
            if number in waiting:
                waiting.discard(number)
                linked.extend(other for other in self._dependents[number] if other in waiting)
        return sorted(waiting)

    def _is_tied(self, number: int, waiting: set[int]) -> bool:
        """Tell whether a reference of the draft means a row, those aside that only stand if they are linked themselves."""
        for at, target in self._listed[number]:
            if not isinstance(target, Concept) and self._number(target) not in waiting and self._is_there(target, at):
                return True
        return False

    def _is_there(self, target: Target, at: str) -> bool:
        if isinstance(target, ByFhirId) and (target.type, target.id) in self._located.tied:
            return True
        try:
            self._resolve(target, at)
        except Failed as failure:
            return failure.code == "ambiguous-reference"
        return True

    def _reason(self, number: int, each: Meant) -> Failed | Issue:
        try:
            self._resolved(number)
        except Failed as failure:
            return NOT_LINKED if each.must_be_linked and not self._is_tied(number, set()) else failure
        return NOT_LINKED

    def _resolve(self, target: Target, at: str) -> str:
        """Return the GUID of the row that a lookup means; raises Failed `unresolved-reference` when there is none."""
        match target:
            case Concept(type=number, code=code):
                return self._located.concepts.get((number, code)) or self.concept_key(number, code, at)
            case ByFhirId(type=kind, id=fhir_id):
                if (other := self._numbers.get((kind, fhir_id))) is not None:
                    return self._meant[other].row_id
                found = [row.id for row in self._located.by_fhir_id(kind, fhir_id)]
            case ByIdentifier(type=kind, system=system, value=value):
                found = list(self._located.identified.get((kind, system, value), ()))
                if len(found) > 1:  # a merge leaves an identifier with the one that was replaced, too
                    found = list(self._located.in_use.get((kind, system, value), ())) or found
        if len(found) == 1:
            return found[0]
        code = "ambiguous-reference" if found else "unresolved-reference"
        raise Failed(f"{len(found)} rows stand for the {kind} that is referred to", code=code, at=at)
