"""Walks over what nests: the expansions of a map, the child drafts of a draft. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from relay.mapping.model import ChildDraft, Draft, ExpansionMap, Target


def walked(expansions: Iterable[ExpansionMap], *above: ExpansionMap) -> Iterator[tuple[ExpansionMap, ...]]:
    """Yield every expansion with those that it stands in, the outermost first."""
    for expansion in expansions:
        path = (*above, expansion)
        yield path
        yield from walked(expansion.expansions, *path)


def descendants(children: Iterable[ChildDraft]) -> Iterator[ChildDraft]:
    """Yield child drafts, each before its own children."""
    for child in children:
        yield child
        yield from descendants(child.children)


def targets_of(draft: Draft) -> list[tuple[str, Target]]:
    """List (column, target) of the draft's lookups and of its descendants'; cleared lookups have none.

    What replaces the resource has to be there too, whether or not a column points to it.
    """
    pairs = list(draft.lookups.items())
    if draft.survivor is not None and not draft.map.merged_into:
        pairs.append(("link", draft.survivor))
    pairs += [pair for child in descendants(draft.children) for pair in child.lookups.items()]
    return [(column, target) for column, target in pairs if target is not None]
