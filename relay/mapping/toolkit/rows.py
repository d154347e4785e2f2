"""The rows of an export as the toolkit means them: entity maps with their attribute maps, and those with their values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from relay.guid import canonical_guid
from relay.mapping.toolkit.columns import TABLES, Found, Kind, find, folded
from relay.mapping.toolkit.records import Cell, Record, Records
from relay.mapping.toolkit.report import Entry, Report

ACTIONS = ("copy", "default", "map", "reference", "concept", "expand")
_ACTION_NUMBERS = {440670000 + number: action for number, action in enumerate(ACTIONS[:5])}
_ACTION_LABELS = {
    "copydata": "copy",
    "setdefaultvalue": "default",
    "mappedvalue": "map",
    "fkreference": "reference",
    "lookup": "reference",
    "lookupcodeableconcept": "concept",
    "codeableconcept": "concept",
    "expand": "expand",
}
MESSAGES = {"440670000": "create", "440670001": "update", "create": "create", "update": "update"}
NOT_APPLICABLE = "notapplicable"
_YES = frozenset({"yes", "true", "1"})
_NO = frozenset({"no", "false", "0", ""})
_INACTIVE = frozenset({"1", "inactive"})
_ARROW = re.compile(r"\s*<\s*-+\s*>\s*|\s*[↔⇔]\s*")


@dataclass(eq=False, slots=True)
class ValueRow:
    """One Attribute Value Map: a FHIR code and the column value it stands for, or the constant of a default line."""

    entry: Entry
    fhir: str
    value: str
    label: str
    active: bool


@dataclass(eq=False, slots=True)
class AttributeRow:
    """One Update Service Attribute Map; `action` is our word for the Action Type, "" when it is unknown."""

    entry: Entry
    id: str
    name: str
    action: str
    column: str
    type: str
    max_length: int | None
    element_map: str
    disabled: bool
    writeback: bool | None
    match: bool | None
    reference_table: str
    navigation: str
    reference_type: str
    concept_label: str
    concept_type: str
    expansion: Cell
    values: list[ValueRow] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class EntityRow:
    """One Update Service Entity Map; `expand` is None when the export does not say."""

    entry: Entry
    id: str
    name: str
    tag: str
    table: str
    resource: str
    disabled: bool
    active: bool
    writeback: bool
    messages: tuple[str, ...]
    expand: bool | None
    parent_link: str
    attributes: list[AttributeRow] = field(default_factory=list)

    @property
    def goes_out(self) -> bool:
        """Whether some event of its rows goes to FHIR."""
        return self.writeback and bool(self.messages)


R = TypeVar("R", EntityRow, AttributeRow)


class Reader:
    """Turns records into entity maps, and tells in the report what it could not read."""

    def __init__(self, records: Records, named: Mapping[str, str], report: Report) -> None:
        self.report = report
        self._rows: dict[Kind, list[Record]] = {kind: [] for kind in TABLES}
        for record in _distinct(records.rows):
            self._rows[record.kind].append(record)
        self._found: dict[Kind, Found] = {}
        for kind, rows in self._rows.items():
            present = dict.fromkeys(name for row in rows for name in row.cells)
            self._found[kind] = find(kind, present, named)
        for kind, found in self._found.items():
            if not self._rows[kind]:
                continue
            label = TABLES[kind].label
            report.columns_not_found += [f"{label}: {each}" for each in found.missing]
            unread = [name for name in found.unread if any(_says(row, name) for row in self._rows[kind])]
            report.columns_not_read += [f"{label}: {name}" for name in unread]
        report.problems += records.problems
        self._resources = {row.id: self._text(row, "code") for row in self._rows["resource"]}

    def entities(self) -> list[EntityRow]:
        """Return the entity maps, each with its attribute maps and their values, in the order of the export."""
        entities = [self._entity(record) for record in self._rows["entity"]]
        attributes = self._with_parents(entities)
        self._values(attributes)
        hung = {row for entity in entities for row in entity.attributes}
        for value in (value for row in attributes if row not in hung for value in row.values):
            value.entry.lose("its attribute map is not carried")
        return entities

    def _entity(self, record: Record) -> EntityRow:
        name = self._text(record, "name")
        entry = self.report.entry("entity map", name or record.id or "(no name)", record.source)
        left, right = _sides(name)
        steps = [key for key in ("create_step", "update_step") if self._text(record, key)]
        if steps:
            entry.change("its plug-in steps stay registered in Dataverse until write-back is turned off in the toolkit")
        if self._yes(record, "update_record", entry):
            entry.change("Update Record: its effect is not documented")
        return EntityRow(
            entry=entry,
            id=record.id,
            name=name,
            tag=self._text(record, "tag"),
            table=(self._text(record, "table") or left).lower(),
            resource=self._resource(record, "resource") or right,
            disabled=self._yes(record, "disabled", entry) or False,
            active=self._active(record),
            writeback=self._yes(record, "writeback", entry) or False,
            messages=self._messages(record, entry),
            expand=self._yes(record, "expand", entry),
            parent_link=self._text(record, "parent_link").lower(),
        )

    def _messages(self, record: Record, entry: Entry) -> tuple[str, ...]:
        cell = self._cell(record, "messages")
        stored = ",".join(map(str, cell.value)) if isinstance(cell.value, list) else str(cell.value or "")
        found: list[str] = []
        for text in filter(None, re.split(r"[,;\s]+", stored)):
            if (message := MESSAGES.get(text.lower())) is None:
                entry.lose(f"Supported Messages has {text}, which is neither Create nor Update")
            else:
                found.append(message)
        return tuple(dict.fromkeys(found))

    def _with_parents(self, entities: list[EntityRow]) -> list[AttributeRow]:
        """Hang each attribute map on its entity map, found by id, else by name; one that is absent is made of its name."""
        rows: list[AttributeRow] = []
        for record in self._rows["attribute"]:
            parent = self._cell(record, "entity")
            row = self._attribute(record, parent.shown or self._text(record, "table"))
            rows.append(row)
            fitting = named(entities, parent)
            if not fitting and (made := self._made_up(parent)) is not None:
                entities.append(made)
                fitting = [made]
            if len(fitting) == 1:
                fitting[0].attributes.append(row)
                row.entry.name = f"{fitting[0].name} / {_called(row)}"
            elif fitting:
                row.entry.lose(f"{len(fitting)} entity maps are called {parent.shown}: which one is meant is not known")
            else:
                row.entry.lose("its entity map is not in the export")
        return rows

    def _made_up(self, parent: Cell) -> EntityRow | None:
        """Make the entity map of a name like `contact <-> Patient`, for exports that hold attribute maps alone."""
        table, resource = _sides(parent.text or str(parent.value or ""))
        if not (table and resource):
            return None
        entry = self.report.entry("entity map", parent.shown, "no row of its own")
        entry.lose("the export has no row of this entity map: taken from its name, enabled and without write-back")
        guid = canonical_guid(str(parent.value or "")) if parent.text else ""
        return EntityRow(
            entry=entry,
            id=guid,
            name=parent.shown,
            tag="",
            table=table.lower(),
            resource=resource,
            disabled=False,
            active=True,
            writeback=False,
            messages=(),
            expand=None,
            parent_link="",
        )

    def _attribute(self, record: Record, parent: str) -> AttributeRow:
        column, name = self._text(record, "column").lower(), self._text(record, "name")
        entry = self.report.entry("attribute map", f"{parent} / {column or name}", record.source)
        expansion = self._cell(record, "expansion")
        action = self._action(record, column, expansion)
        if not action:
            shown = self._cell(record, "action").shown
            entry.lose(f"the Action Type {shown} is not known" if shown else "there is no Action Type")
        if folded(column) == NOT_APPLICABLE:
            column = ""
        if self._yes(record, "required", entry):
            entry.note("FHIR Required Attribute needs no key: a write-back sends the whole resource")
        if self._text(record, "metadata"):
            entry.note("FHIR Attribute Metadata needs no key: the whole resource is read")
        for key, label in (("template", "Is Template"), ("update_record", "Update Record")):
            if self._yes(record, key, entry):
                entry.change(f"{label}: its effect is not documented")
        disabled = self._yes(record, "disabled", entry) or False
        if not self._active(record):
            entry.change("is inactive: disabled")
            disabled = True
        length = self._text(record, "max_length").replace(",", "")
        return AttributeRow(
            entry=entry,
            id=record.id,
            name=name,
            action=action,
            column=column,
            type=self._text(record, "type"),
            max_length=int(length) if length.isdecimal() else None,
            element_map=str(self._cell(record, "element_map").value or ""),
            disabled=disabled,
            writeback=self._yes(record, "writeback", entry),
            match=self._yes(record, "match", entry),
            reference_table=self._text(record, "reference_table").lower(),
            navigation=self._text(record, "navigation"),
            reference_type=self._resource(record, "reference_type"),
            concept_label=self._text(record, "concept_label"),
            concept_type=self._text(record, "concept_type"),
            expansion=expansion,
        )

    def _action(self, record: Record, column: str, expansion: Cell) -> str:
        """Return our word for the Action Type; Expand has no published number, so it is known by what it has."""
        cell = self._cell(record, "action")
        label = _ACTION_LABELS.get(folded(cell.shown), "")
        number = str(cell.value)
        if not label and number.isdecimal():
            label = _ACTION_NUMBERS.get(int(number), "")
            if not label and (expansion.shown or folded(column) == NOT_APPLICABLE):
                label = "expand"
        return label

    def _values(self, attributes: list[AttributeRow]) -> None:
        """Hang each value on its attribute map, found by id, else by name and column."""
        for record in self._rows["value"]:
            parent = self._cell(record, "attribute")
            fhir, value = self._text(record, "fhir"), self._cell(record, "value")
            entry = self.report.entry("value map", f"{parent.shown} / {fhir}", record.source)
            column, table = self._text(record, "column").lower(), self._text(record, "table").lower()
            fitting = named(attributes, parent)
            if len(fitting) > 1:
                fitting = [each for each in fitting if each.column == column] or fitting
            if len(fitting) != 1:
                what = "is not in the export" if not fitting else f"could be {len(fitting)} rows"
                entry.lose(f"its attribute map {parent.shown or f'{table} {column}'.strip()} {what}")
                continue
            active = self._active(record)
            if not active:
                entry.change("is inactive: left out")
            entry.name = f"{fitting[0].entry.name} / {fhir}"
            text = "" if value.value is None else str(value.value).strip()
            static = self._text(record, "static")
            if static and folded(static) not in _YES | _NO and static != text:
                entry.lose("Static Value differs from Value, and its meaning is not documented")
            fitting[0].values.append(ValueRow(entry, fhir, text, self._text(record, "label"), active))

    def _cell(self, record: Record, key: str) -> Cell:
        return record.cells.get(self._found[record.kind].columns.get(key, ""), Cell())

    def _text(self, record: Record, key: str) -> str:
        cell = self._cell(record, key)
        return cell.value.strip() if isinstance(cell.value, str) and cell.value else cell.shown

    def _resource(self, record: Record, key: str) -> str:
        """Return the FHIR type that a lookup to Azure FHIR Resource means: by the row it points to, else by its name."""
        cell = self._cell(record, key)
        inside = cell.row or {}
        code = inside.get("msind_code", Cell()).shown or self._resources.get(canonical_guid(str(cell.value or "")), "")
        text = code or cell.text or ("" if cell.value is None else str(cell.value).strip())
        return re.sub(r"\s+resource$", "", text, flags=re.IGNORECASE)

    def _active(self, record: Record) -> bool:
        cell = self._cell(record, "state")
        return folded(str(cell.value if cell.value is not None else cell.text)) not in _INACTIVE

    def _yes(self, record: Record, key: str, entry: Entry) -> bool | None:
        """Read a yes/no column; None when it is empty or not in the export."""
        value = self._cell(record, key).value
        if value is None or isinstance(value, bool):
            return value
        text = folded(str(value))
        if text in _YES:
            return True
        if text not in _NO:
            label = next(each.label for each in TABLES[record.kind].fields if each.key == key)
            entry.lose(f"{label} is {value}, which is neither Yes nor No")
        return False if text else None


def named(rows: Sequence[R], lookup: Cell) -> list[R]:
    """Return the rows that a lookup means: the one of that id, else those of that name."""
    guid = canonical_guid(str(lookup.value or ""))
    by_id = [row for row in rows if guid and row.id == guid]
    name = lookup.shown.casefold()
    return by_id or [row for row in rows if name and row.name.casefold() == name]


def _called(row: AttributeRow) -> str:
    expand = f"expand {row.element_map}".strip() if row.action == "expand" else ""
    return expand or row.column or row.name


def lose_all(entity: EntityRow, why: str) -> None:
    """Tell an entity map, its attribute maps and their values that none of them is carried."""
    entity.entry.lose(why)
    for row in entity.attributes:
        for entry in (row.entry, *(value.entry for value in row.values)):
            entry.lose(f"its entity map is not carried: {why}")


def _sides(name: str) -> tuple[str, str]:
    """Return table and resource of a name like `contact <-> Patient`."""
    parts = _ARROW.split(name.strip())
    return (parts[0], parts[1]) if len(parts) == 2 else ("", "")  # noqa: PLR2004 - two sides


def _says(record: Record, column: str) -> bool:
    cell = record.cells.get(column)
    return cell is not None and cell.row is None and cell.value not in (None, "", False, 0)


def _distinct(rows: list[Record]) -> list[Record]:
    """Leave out rows that stand in two files."""
    seen: set[tuple[Kind, str]] = set()
    kept: list[Record] = []
    for row in rows:
        if not row.id or (row.kind, row.id) not in seen:
            kept.append(row)
            seen.add((row.kind, row.id))
    return kept
