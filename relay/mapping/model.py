"""The nouns of the maps: column facts, entity maps, drafts. Plain frozen data; no I/O, no clock.

A map is loaded by `relay.mapping.load`, carried out by `relay.mapping.translate`, which turns one FHIR resource into
one Draft: the row as the map says it should be, before Dataverse was asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

Scalar = str | int | bool | Decimal | None
"""A column's value on the Dataverse wire; None clears it. Dates are text (`2020-01-31`, `2020-01-31T09:30:00Z`)."""

Resource = Mapping[str, Any]
"""A FHIR resource as parsed JSON."""


@dataclass(frozen=True, slots=True)
class Column:
    """The facts of one column; `type` is the AttributeTypeName without `Type` (String, Picklist, Lookup, …)."""

    name: str
    type: str
    max_length: int | None = None
    minimum: float | None = None
    maximum: float | None = None
    format: str = ""
    required: str = ""
    options: Mapping[int, str] = field(default_factory=dict)
    targets: tuple[str, ...] = ()
    navigation: Mapping[str, str] = field(default_factory=dict)
    """Lookup target table → single-valued navigation property (case-sensitive)."""
    precision: int | None = None
    """Digits after the point that a Decimal, Double or Money column keeps; None when metadata does not say."""
    states: Mapping[int, int] = field(default_factory=dict)
    """Of a Status column: status reason → the state that it belongs to, as far as metadata says."""


@dataclass(frozen=True, slots=True)
class Table:
    """The facts of one Dataverse table; `columns` by logical name."""

    name: str
    entity_set: str
    primary_id: str
    primary_name: str
    columns: Mapping[str, Column]
    optimistic_concurrency: bool = True


@dataclass(frozen=True, slots=True)
class Issue:
    """One thing to tell about a resource; `at` is a FHIR element path or a column. Never holds patient data."""

    severity: Literal["error", "warning", "information"]
    code: str
    message: str
    at: str = ""


@dataclass(frozen=True, slots=True)
class ByFhirId:
    """The row that stands for the resource `type`/`id`."""

    type: str
    id: str


@dataclass(frozen=True, slots=True)
class ByIdentifier:
    """The row that stands for the one resource of `type` with this identifier."""

    type: str
    system: str
    value: str


@dataclass(frozen=True, slots=True)
class Concept:
    """The codeable concept row (type, code); `name` is used only to create it."""

    type: int
    code: str
    name: str = ""


Target = ByFhirId | ByIdentifier | Concept
"""What a lookup column means before Dataverse was asked."""

Resolve = Callable[[Mapping[str, Any]], ByFhirId | ByIdentifier | None]
"""Turns a FHIR Reference element into what it means; None if it cannot mean a row (contained, another server)."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a column's value came from, for preview and explain."""

    file: str
    line: int
    path: str


@dataclass(frozen=True, slots=True)
class IdentifierMap:
    """Where a resource's identifiers live: child table, lookup to the parent, and the Dynamics identifier's URN."""

    system: str
    table: Table
    lookup: str
    system_column: str
    value_column: str
    writeback: bool = True
    search: frozenset[str] | None = None
    """Systems whose identifiers name one resource alone, by which a row's resource is looked for; None: all."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A column that says which alternative of a choice was taken, and the columns of each alternative.

    When one alternative is written, the columns of the others are cleared: a row never holds two.
    """

    column: str
    alternatives: Mapping[Scalar, tuple[str, ...]]
    lookups: frozenset[str]
    """Those of the columns that are lookups."""


@dataclass(frozen=True, slots=True)
class Outward:
    """Which Dataverse changes of a map's rows go to FHIR, besides the Dynamics identifier.

    `messages` are the events that carry write-back columns (`columns`) to a linked resource; `create` is whether a row
    without a FHIR id becomes a resource; both only for rows that fit `when`. `conflict` decides when both sides changed.
    """

    messages: frozenset[Literal["create", "update"]] = frozenset()
    create: bool = False
    when: Mapping[str, Scalar] = field(default_factory=dict)
    conflict: Literal["fhir", "dataverse", "park"] = "park"
    columns: tuple[str, ...] = ()

    @property
    def tracked(self) -> tuple[str, ...]:
        """The columns with two writers, whose last agreed value the relay remembers; empty unless updates flow."""
        return self.columns if "update" in self.messages else ()


@dataclass(frozen=True, slots=True)
class EntityMap:
    """One FHIR resource type → one table.

    `columns` are all columns the lines may write (locate selects them), `match` those that identify a row without a
    FHIR id, `version`/`last_updated` the columns for meta.versionId and meta.lastUpdated ("" if unmapped).
    `lines` belongs to the mapping package alone.
    """

    resource: str
    table: Table
    where: Mapping[str, Scalar]
    key: str
    create: Literal["always", "linked", "never"]
    identifier: IdentifierMap | None
    columns: tuple[str, ...]
    match: tuple[str, ...]
    expansions: tuple[ExpansionMap, ...]
    version: str
    last_updated: str
    file: str
    lines: tuple[Any, ...] = ()
    elements: frozenset[str] = frozenset()
    """Elements of the resource that some line reads."""
    disabled: bool = False
    """A disabled map is checked and carries nothing: its resources are passed over, its rows somebody else's."""
    choices: tuple[Choice, ...] = ()
    outward: Outward = field(default_factory=Outward)
    """What Dataverse changes go to FHIR; by default none."""
    unfilled: frozenset[str] = frozenset()
    """Required columns that are left empty on purpose: FHIR has nothing for them."""
    deletes: Literal["ignore", "deactivate", "delete"] = "ignore"
    """What becomes of the row of a resource that was deleted on the FHIR server."""
    merges: Literal["ignore", "deactivate"] = "ignore"
    """What becomes of the row of a resource that another one replaces."""
    merged_into: str = ""
    """The lookup that then points to the other one's row, empty where the map names none."""


@dataclass(frozen=True, slots=True)
class ExpansionMap:
    """An array of the resource → rows of a child table tied by the parent link `lookup`.

    `match` are the columns that tell children of one parent apart; `vanished` says what happens to rows that the relay
    wrote and whose item is gone.
    """

    name: str
    element: str
    table: Table
    lookup: str
    columns: tuple[str, ...]
    match: tuple[str, ...]
    vanished: Literal["keep", "deactivate", "delete"]
    file: str
    lines: tuple[Any, ...] = ()
    choices: tuple[Choice, ...] = ()
    expansions: tuple[ExpansionMap, ...] = ()
    """Expansions of the item itself: their rows hang on this expansion's row."""
    unfilled: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ChildDraft:
    """One child row as the map says it should be; the parent link is implied, a lookup to None is cleared."""

    expansion: ExpansionMap
    columns: Mapping[str, Scalar]
    lookups: Mapping[str, Target | None]
    sources: Mapping[str, Source] = field(default_factory=dict)
    children: tuple[ChildDraft, ...] = ()


@dataclass(frozen=True, slots=True)
class Draft:
    """One row as the map says it should be, before Dataverse was asked.

    `columns` and `lookups` leave out what is kept; a None in `columns` clears. `where` and `key` are in `columns`.
    `claims` are the GUIDs that the resource's own Dynamics identifiers (not `use: old`) name, lower case.
    `issues` of severity error mean that the resource must not be written. `end` is set for a resource that is no more:
    `deleted` (then the draft holds nothing but map and id), or `merged` into the one that `survivor` means.
    """

    map: EntityMap
    id: str
    columns: Mapping[str, Scalar]
    lookups: Mapping[str, Target | None]
    children: tuple[ChildDraft, ...]
    claims: tuple[str, ...]
    issues: tuple[Issue, ...]
    sources: Mapping[str, Source] = field(default_factory=dict)
    unmapped: tuple[str, ...] = ()
    end: Literal["", "deleted", "merged"] = ""
    survivor: ByFhirId | ByIdentifier | None = None

    @property
    def key(self) -> tuple[str, str]:
        """The resource's type and id."""
        return self.map.resource, self.id
