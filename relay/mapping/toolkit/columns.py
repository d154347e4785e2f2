"""The columns of the toolkit's tables: by logical name (Web API), by display name (Excel), or by likeness.

The tables are those of the Common Data Model's SyncAgentCommon. Columns that came later are known by their name on the
form only, so they are found by what their logical name must contain, unless the caller names them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["entity", "attribute", "value", "resource"]


@dataclass(frozen=True, slots=True)
class Field:
    """One column of a toolkit table: our word for it, its name on the form, and how to know it in an export.

    `likeness` is what a logical name without publisher prefix looks like where the real one is not published.
    """

    key: str
    label: str
    names: tuple[str, ...] = ()
    likeness: str = ""

    def known_as(self) -> frozenset[str]:
        """Every folded spelling that can only mean this column."""
        return frozenset(folded(each) for each in (self.label, *self.names))


@dataclass(frozen=True, slots=True)
class ToolkitTable:
    """One table of the toolkit."""

    kind: Kind
    label: str
    logical: str
    fields: tuple[Field, ...]

    @property
    def entity_set(self) -> str:
        """Return the name of its collection in the Web API."""
        return f"{self.logical}s"


_STATE = Field("state", "Status", ("statecode",))

TABLES: Mapping[Kind, ToolkitTable] = {
    "entity": ToolkitTable(
        "entity",
        "Update Service Entity Map",
        "msind_updateserviceentitymap",
        (
            Field("name", "Name", ("msind_name",)),
            Field("tag", "Tag", ("msind_tag",), r"(map)?tag"),
            Field("disabled", "Disable", ("msind_disabled", "Is Disabled", "Disabled")),
            Field("writeback", "Enable Write Back to FHIR", ("msind_writeback", "Write Back", "Enable Writeback")),
            Field("table", "EntityName", ("msind_entityname",)),
            Field("resource", "Azure FHIR Resource", ("msind_azurefhirresource",)),
            Field("messages", "Supported Messages", ("msind_supportedmessages",)),
            Field("expand", "Expand", ("msind_expand", "msind_isexpand"), r"(is)?expan(d|ded|sion)(map|entitymap)?"),
            Field(
                "parent_link",
                "Parent Link Attribute",
                ("msind_parentlinkattribute",),
                r"parent\w*(link|attribute|lookup)\w*",
            ),
            Field("create_step", "SDK Message Step ID for Create", ("msind_sdkmessagestepidforcreate",)),
            Field("update_step", "SDK Message Step ID for Update", ("msind_sdkmessagestepidforupdate",)),
            Field("update_record", "Update Record", ("msind_updaterecord",)),
            _STATE,
        ),
    ),
    "attribute": ToolkitTable(
        "attribute",
        "Update Service Attribute Map",
        "msind_updateserviceattributemap",
        (
            Field("name", "Name", ("msind_name",)),
            Field("disabled", "Disable", ("msind_disabled", "Is Disabled", "Disabled")),
            Field(
                "writeback",
                "Enable Writeback to FHIR",
                ("msind_writeback", "msind_enablewriteback", "Enable Write Back", "Enable Writeback"),
                r"\w*writeback\w*",
            ),
            Field("required", "FHIR Required Attribute", ("msind_fhirrequiredattribute",)),
            Field("entity", "Update Service Entity Map", ("msind_updateserviceentitymap",)),
            Field("table", "Entity Name", ("msind_entityname",)),
            Field("column", "Attribute Name", ("msind_cdsattributename",)),
            Field("type", "Attribute Type", ("msind_cdsattributetype",)),
            Field("max_length", "Attribute Max Length", ("msind_cdsmaxlength",)),
            Field("action", "Action Type", ("msind_actiontype",)),
            Field("element_map", "FHIR Element Map", ("msind_fhirelementmap",)),
            Field("element_name", "FHIR Element Name", ("msind_fhirelementname",)),
            Field("element_type", "FHIR Element Type", ("msind_fhirelementtype",)),
            Field("reference_table", "Entity Reference", ("msind_cdsentityreference",)),
            Field("navigation", "Ref Entity Navigation", ("msind_refentitynavigation",)),
            Field("reference_type", "FHIR Resource Reference", ("msind_fhirresourcereference",)),
            Field("concept_label", "Codeable Concept Type", ("msind_codeableconcepttype",)),
            Field("concept_type", "Codeable Concept Type Value", ("msind_codeableconcepttypevalue",)),
            Field(
                "expansion",
                "Expansion Entity Map",
                ("msind_expansionentitymap",),
                r"expan\w*(map|entity)\w*|\w*expansionmap",
            ),
            Field(
                "match",
                "Used in Record Matching",
                ("msind_usedinrecordmatching",),
                r"\w*match(ing|key)?\w*",
            ),
            Field(
                "metadata",
                "FHIR Attribute Metadata",
                ("msind_fhirattributemetadata",),
                r"\w*attributemetadata\w*|fhirmetadata",
            ),
            Field("template", "Is Template", ("msind_istemplate",)),
            Field("update_record", "Update Record", ("msind_updaterecord",)),
            _STATE,
        ),
    ),
    "value": ToolkitTable(
        "value",
        "Attribute Value Map",
        "msind_attributevaluemap",
        (
            Field("name", "Name", ("msind_name",)),
            Field("attribute", "Update Service Attribute Map", ("msind_updateserviceattributemap",)),
            Field("fhir", "Azure FHIR Value", ("msind_azurefhirvalue",)),
            Field("value", "Value", ("msind_cdsvalue", "CDS Value")),
            Field("label", "Option Set Label", ("msind_optionsetlabel", "OptionSet Label")),
            Field("static", "Static Value", ("msind_staticvalue",)),
            Field("action", "Action Type", ("msind_actiontype",)),
            Field("column", "Attribute Name", ("msind_cdsattributename",)),
            Field("type", "Attribute Type", ("msind_cdsattributetype",)),
            Field("table", "Entity Name", ("msind_entityname",)),
            _STATE,
        ),
    ),
    "resource": ToolkitTable(
        "resource",
        "Azure FHIR Resource",
        "msind_azurefhirresource",
        (
            Field("code", "Code", ("msind_code",)),
            Field("description", "Description", ("msind_description",)),
            _STATE,
        ),
    ),
}
"""The tables that are read, by what a row of each is."""

_SYSTEM = frozenset(
    [
        "createdby",
        "createdon",
        "createdonbehalfby",
        "modifiedby",
        "modifiedon",
        "modifiedonbehalfby",
        "ownerid",
        "owner",
        "owningbusinessunit",
        "owningteam",
        "owninguser",
        "statuscode",
        "statusreason",
        "timezoneruleversionnumber",
        "utcconversiontimezonecode",
        "versionnumber",
        "importsequencenumber",
        "overriddencreatedon",
        "recordcreatedon",
        "componentstate",
        "componentidunique",
        "overwritetime",
        "solutionid",
        "supportingsolutionid",
        "ismanaged",
        "iscustomizable",
        "organizationid",
    ]
)
"""Columns that every Dataverse table has: nothing of a map is in them."""

_EXCEL_OWN = "donotmodify"
"""What the hidden columns of an Excel export begin with: row id, checksum, time."""


def folded(name: str) -> str:
    """Return a name without case, blanks and signs, so that spellings can be compared."""
    return re.sub(r"[\W_]+", "", name.casefold())


@dataclass(frozen=True)
class Found:
    """Where the fields of one table are in an export."""

    columns: Mapping[str, str]
    """Field key → the export's own name of the column."""
    missing: tuple[str, ...]
    """Names on the form of the fields that no column stands for."""
    unread: tuple[str, ...]
    """Columns of the export that stand for no field."""


def find(kind: Kind, present: Iterable[str], named: Mapping[str, str]) -> Found:
    """Say which column of an export holds which field; `named` are the caller's own answers, key → column.

    A name that is known decides, then one that looks like it; a column stands for one field.
    """
    table = TABLES[kind]
    left = {folded(name): name for name in present}
    columns: dict[str, str] = {}
    for each in table.fields:
        if (name := left.pop(folded(named.get(each.key, "")), None)) is not None:
            columns[each.key] = name
    for each in table.fields:
        spelling = next((name for name in left if name in each.known_as()), None)
        if each.key not in columns and spelling is not None:
            columns[each.key] = left.pop(spelling)
    for each in table.fields:
        if each.key in columns or not each.likeness:
            continue
        alike = [
            name for name in left if re.fullmatch(each.likeness, folded(left[name].partition("_")[2] or left[name]))
        ]
        if len(alike) == 1:
            columns[each.key] = left.pop(alike[0])
    own = {*_SYSTEM, folded(f"{table.logical}id")}
    unread = [name for spelling, name in left.items() if spelling not in own and not spelling.startswith(_EXCEL_OWN)]
    missing = [each.label for each in table.fields if each.likeness and each.key not in columns]
    return Found(columns, tuple(missing), tuple(unread))


def field_named(name: str) -> str | None:
    """Return the key of the field that a person means by its name on the form; None when there is none."""
    spelling = folded(name)
    fields = [each for table in TABLES.values() for each in table.fields]
    return next((each.key for each in fields if spelling in each.known_as()), None)
