"""One attribute map → one line of a map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from relay.mapping.document import Place, plain
from relay.mapping.model import Column, Table
from relay.mapping.paths import Path
from relay.mapping.r4 import RESOURCE_TYPES
from relay.mapping.toolkit.columns import folded
from relay.mapping.toolkit.creation import Creation, creation_of
from relay.mapping.toolkit.elements import ElementFault, read_element
from relay.mapping.toolkit.report import Entry
from relay.mapping.toolkit.rows import AttributeRow, ValueRow
from relay.mapping.values import LOOKUP_TYPES, OPTION_TYPES, TEXT_TYPES

_CONCEPT_TABLE = "msemr_codeableconcept"
_WHOLE = frozenset({"Integer", "BigInt"})
_POINT = frozenset({"Decimal", "Double", "Money"})
_YES = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
_TYPE_WORDS = {"optionset": "Picklist", "choice": "Picklist", "twooptions": "Boolean", "yesno": "Boolean"}


class NotSaid(ValueError):
    """A row says nothing that a line could say; the message says why."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a line stands: the facts of its table (None when there are none), the maps around it, what goes out.

    `mapped` are the resource types with a root map and their tables; `writeback` is whether changes of the map's rows
    go to FHIR.
    """

    table: Table | None
    tables: Mapping[str, Table]
    mapped: Mapping[str, str]
    child: bool
    writeback: bool

    def column(self, name: str) -> Column | None:
        """Return the facts of a column; None when there are none."""
        return self.table.columns.get(name) if self.table is not None else None


@dataclass(eq=False, slots=True)
class Built:
    """A line, and the rows it came from; `paths` are those it reads, `bare` says that no `c` stood beside them.

    `below` are the rows that parts of the line came from, by where they stand in it.
    """

    rows: list[AttributeRow]
    action: str
    line: dict[str, Any]
    paths: tuple[Path, ...] = ()
    bare: bool = False
    below: dict[Place, list[Entry]] = field(default_factory=dict)


def origins_of(lines: Sequence[Built], place: Place) -> dict[Place, list[Entry]]:
    """Return the rows that lines came from, by where they stand in the list at `place`."""
    origins: dict[Place, list[Entry]] = {}
    for index, built in enumerate(lines):
        origins[*place, index] = [row.entry for row in built.rows]
        for below, entries in built.below.items():
            origins[*place, index, *below] = entries
    return origins


def line_of(row: AttributeRow, setting: Setting) -> Built:
    """Build the line of a row that writes a column; raises NotSaid."""
    if not row.column:
        raise NotSaid("there is no Attribute Name")
    built = Built([row], row.action, {"column": row.column})
    if row.action == "default":
        built.line["default"] = _default(row, setting)
        if row.match and setting.child:
            row.entry.lose("Used in Record Matching: a constant does not match; the line is carried without it")
    else:
        try:
            element = read_element(row.element_map)
        except ElementFault as fault:
            raise NotSaid(str(fault)) from None
        for key in element.unknown:
            row.entry.lose(f"the key {key} of the FHIR Element Map has no documented meaning")
        made = creation_of(element, row.action)
        built.paths, built.bare = element.paths, element.creates is None
        texts = [path.text for path in element.paths] + ([made.path] if made.path else [])
        if len(element.paths) > 1:
            row.entry.change("a filter with || became several paths: the first that has a value counts")
        built.line[row.action] = texts[0] if len(texts) == 1 else texts
        built.line |= _own_keys(row, made, setting)
        for tell, told in (
            (row.entry.note, made.notes),
            (row.entry.change, made.changes),
            (row.entry.lose, made.losses),
        ):
            for each in told:
                tell(each)
        built.line |= _shared_keys(row, made, setting)
    if row.disabled:
        built.line["disabled"] = True
    _lengths(row, setting)
    return built


def _own_keys(row: AttributeRow, made: Creation, setting: Setting) -> dict[str, Any]:
    """Return what only lines of this action have."""
    if row.action == "map":
        return {"values": _values(row, setting), "unmapped": "keep"}
    if row.action == "reference":
        return {"targets": _targets(row, setting)}
    if row.action == "concept":
        return {"type": _concept_type(row, setting), **({"system": made.system} if made.system else {})}
    return {}


def _shared_keys(row: AttributeRow, made: Creation, setting: Setting) -> dict[str, Any]:
    """Return what every line that reads the resource may have: whether it matches and whether it goes out."""
    keys: dict[str, Any] = {}
    if row.match and row.action in ("reference", "concept") and not setting.child:
        row.entry.lose("Used in Record Matching: a root row is not matched on a lookup; the line is carried without it")
    elif row.match:
        keys["match"] = True
    if row.writeback is False:
        keys["writeback"] = False
    elif setting.writeback:
        keys["writeback"] = made.way
        if not made.way:
            row.entry.lose("Enable Writeback: with [*] and no c, the path does not say where a new value goes")
    if made.block is not None:
        keys["create"] = made.block
    return keys


def _default(row: AttributeRow, setting: Setting) -> Any:
    given = [each for each in row.values if each.active]
    if not given:
        raise NotSaid("its constant, an Attribute Value Map, is not in the export")
    for more in given[1:]:
        more.entry.lose("a line has one constant, and another one came first")
    return _constant(row, given[0], setting)


def _values(row: AttributeRow, setting: Setting) -> dict[str, Any]:
    """Return what each code stands for; a code that stands for two things stands for the first."""
    values: dict[str, Any] = {}
    for each in row.values:
        if not each.active:
            continue
        try:
            value = _constant(row, each, setting)
        except NotSaid as why:
            each.entry.lose(str(why))
            continue
        if not each.fhir:
            each.entry.lose("there is no Azure FHIR Value")
        elif values.setdefault(each.fhir, value) != value:
            each.entry.lose(f"{each.fhir} stands for {values[each.fhir]} already")
    if not values:
        raise NotSaid("its values, Attribute Value Maps, are not in the export")
    return values


def _constant(row: AttributeRow, given: ValueRow, setting: Setting) -> Any:
    """Read a constant as the column's type has it; raises NotSaid."""
    kind = _type_of(row, setting)
    text = given.value
    if kind in TEXT_TYPES or kind == "DateTime":
        return text
    if kind in OPTION_TYPES:
        return _option(text, setting.column(row.column))
    if kind == "Boolean":
        if (truth := _YES.get(text.lower())) is None:
            raise NotSaid(f"{text} is neither yes nor no")
        return truth
    if kind in _WHOLE or kind in _POINT:
        number = plain(text)
        if isinstance(number, bool) or not isinstance(number, int if kind in _WHOLE else (int, Decimal)):
            raise NotSaid(f"{text} is no number")
        return number
    if kind in LOOKUP_TYPES:
        raise NotSaid(f"{row.column} is a lookup, and a constant cannot point to a row")
    meant = plain(text)
    return text if meant is None else meant


def _option(text: str, column: Column | None) -> int:
    if text.lstrip("-").isdecimal():
        return int(text)
    options = column.options if column is not None else {}
    number = next((number for number, label in options.items() if label.casefold() == text.casefold()), None)
    if number is None:
        raise NotSaid(f"{text} is no option")
    return number


def _type_of(row: AttributeRow, setting: Setting) -> str:
    """Return the type of the column: from the facts, else as the row has it."""
    column = setting.column(row.column)
    if column is not None:
        return column.type
    word = folded(row.type.removesuffix("Type"))
    known = (*TEXT_TYPES, *OPTION_TYPES, *_WHOLE, *_POINT, *LOOKUP_TYPES, "Boolean", "DateTime")
    return _TYPE_WORDS.get(word) or next((each for each in known if each.lower() == word), "")


def _targets(row: AttributeRow, setting: Setting) -> dict[str, str]:
    """Return the FHIR type a reference may have and its table; what the row leaves out is taken from maps and facts."""
    column = setting.column(row.column)
    table, kind = row.reference_table, row.reference_type
    if kind and kind not in RESOURCE_TYPES:
        raise NotSaid(f"the FHIR Resource Reference {kind} is no R4 type")
    if not table and kind in setting.mapped:
        table = setting.mapped[kind]
        row.entry.change(f"there is no Entity Reference: {table}, the table of {kind}")
    if not table and column is not None and len(column.targets) == 1:
        table = column.targets[0]
        row.entry.change(f"there is no Entity Reference: {table}, the one table that {row.column} points to")
    if not table:
        raise NotSaid("there is no Entity Reference")
    _navigation(row, table, column)
    if kind:
        return {kind: table}
    kinds = [each for each, mapped in setting.mapped.items() if mapped == table]
    if not kinds:
        raise NotSaid(f"there is no FHIR Resource Reference, and no map of the export writes {table}")
    row.entry.change(f"there is no FHIR Resource Reference: {' and '.join(kinds)}, which {table} holds")
    return dict.fromkeys(kinds, table)


def _navigation(row: AttributeRow, table: str, column: Column | None) -> None:
    """Tell where the export and the facts disagree on the property that a write binds."""
    known = column.navigation.get(table) if column is not None else None
    if row.navigation and known and row.navigation != known:
        row.entry.change(
            f"Ref Entity Navigation is {row.navigation}, metadata.json has {known}: the relay uses metadata.json"
        )


def _concept_type(row: AttributeRow, setting: Setting) -> str | int:
    """Return the concept type: its label where the facts know it for that number, else the number."""
    number = int(row.concept_type) if row.concept_type.isdecimal() else None
    facts = setting.tables.get(_CONCEPT_TABLE)
    options = facts.columns["msemr_type"].options if facts is not None and "msemr_type" in facts.columns else {}
    if number is None and not row.concept_label:
        raise NotSaid("there is no Codeable Concept Type")
    if number is None:
        return row.concept_label
    label = options.get(number)
    if label is None:
        return number
    if row.concept_label and row.concept_label.casefold() != label.casefold():
        row.entry.change(f"Codeable Concept Type is {row.concept_label}, but {number} is {label}: the number counts")
    return label if list(options.values()).count(label) == 1 else number


def _lengths(row: AttributeRow, setting: Setting) -> None:
    """Tell where the export and the facts disagree on how long a text may be."""
    column = setting.column(row.column)
    if row.max_length and column is not None and column.max_length and row.max_length != column.max_length:
        row.entry.change(
            f"Attribute Max Length is {row.max_length}, metadata.json has {column.max_length}: the column's length counts"
        )


def merged(lines: Sequence[Built]) -> list[Built]:
    """Make one line of those that write one column, where a line can say as much; the others are lost and told."""
    kept: list[Built] = []
    by_column: dict[str, Built] = {}
    for built in lines:
        column = built.line["column"]
        first = by_column.get(column)
        if built.line.get("disabled") or first is None:
            kept.append(built)
            if not built.line.get("disabled"):
                by_column[column] = built
            continue
        if why := _join(first, built):
            for row in built.rows:
                row.entry.lose(f"{column} is written by {first.rows[0].entry.name} already: {why}")
        else:
            first.rows += built.rows
    return kept


def _join(first: Built, other: Built) -> str:
    """Add to a line what another one of its column says; return why it cannot be, "" when it was."""
    one, more, action = first.line, other.line, first.action
    if action != other.action:
        return "two actions cannot share a column"
    if action == "default":
        return "" if one["default"] == more["default"] else "two constants cannot share a column"
    if action == "concept" and one["type"] != more["type"]:
        return "two concept types cannot share a column"
    for key in ("targets", "values"):
        if any(one.get(key, {}).get(name, value) != value for name, value in more.get(key, {}).items()):
            return f"their {key} disagree"
    one |= {key: {**one[key], **more[key]} for key in ("targets", "values") if key in more}
    one |= {key: more[key] for key in ("match", "writeback") if key in more and (more[key] or key not in one)}
    one |= {key: more[key] for key in ("create", "system") if key in more and key not in one}
    paths = _listed(one[action])
    added = [path for path in _listed(more[action]) if path not in paths]
    first.paths += other.paths
    if added:
        one[action] = [*paths, *added]
        for row in (*first.rows, *other.rows):
            row.entry.change(f"lines of {one['column']} became one: the first path that has a value counts")
    return ""


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
