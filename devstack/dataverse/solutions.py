"""Publishers, solutions and their components, and the forms of tables with their unpublished state."""

from __future__ import annotations

import uuid
from typing import Any, Final

from devstack.dataverse.columns import now
from devstack.dataverse.errors import InvalidArgument
from devstack.dataverse.facts import table as build
from devstack.dataverse.metadata import Table, metadata_id
from devstack.dataverse.rows import Row, Store

ENTITY, ATTRIBUTE, RELATIONSHIP, ENTITY_KEY, FORM, STEP, ENDPOINT = 1, 2, 10, 14, 60, 92, 95
KINDS: Final = {
    ENTITY: "Entity",
    ATTRIBUTE: "Attribute",
    9: "Option Set",
    RELATIONSHIP: "Entity Relationship",
    ENTITY_KEY: "Entity Key",
    FORM: "System Form",
    STEP: "SDK Message Processing Step",
    ENDPOINT: "Service Endpoint",
}
PUBLISHER: Final = metadata_id("publisher", "default")
SOLUTION: Final = metadata_id("solution", "default")
_COMPONENTS: Final = {"systemform": FORM, "sdkmessageprocessingstep": STEP, "serviceendpoint": ENDPOINT}
_MAIN: Final = 2
UNSETTLED: Final = (
    "A form that is changed shows its old XML until it is published; only RetrieveUnpublishedMultiple shows the new one.",
    "A solution that MSCRM.SolutionUniqueName names and that is not there is 400 (0x80040203).",
)
"""What no page settles, and how it is here."""
_MEMO: Final = {"type": "Memo", "maxLength": 1048576}
_TIME: Final = {"type": "DateTime", "format": "DateAndTime"}
_YES_NO: Final = {"type": "Boolean", "readOnly": True}


def _text(length: int, **more: Any) -> dict[str, Any]:
    return {"type": "String", "maxLength": length, **more}


def _lookup(name: str, target: str, delete: str) -> dict[str, Any]:
    return {"type": "Lookup", "targets": [target], "navigation": {target: name}, "delete": delete}


_TABLES: Final[dict[str, tuple[str, str, dict[str, Any]]]] = {
    "publisher": (
        "publisherid",
        "friendlyname",
        {
            "uniquename": _text(256, unique=True),
            "friendlyname": _text(256),
            "description": _text(2000),
            "customizationprefix": _text(8),
            "customizationoptionvalueprefix": {"type": "Integer", "min": 10000, "max": 99999},
        },
    ),
    "solution": (
        "solutionid",
        "friendlyname",
        {
            "uniquename": _text(65, unique=True),
            "friendlyname": _text(256),
            "description": _text(2000),
            "version": _text(256),
            "installedon": _TIME | {"readOnly": True},
            "ismanaged": _YES_NO,
            "publisherid": _lookup("publisherid", "publisher", "Restrict"),
        },
    ),
    "solutioncomponent": (
        "solutioncomponentid",
        "solutioncomponentid",
        {
            "solutionid": _lookup("solutionid", "solution", "Cascade"),
            "objectid": {"type": "Uniqueidentifier"},
            "componenttype": {"type": "Picklist", "options": [list(each) for each in KINDS.items()]},
        },
    ),
    "systemform": (
        "formid",
        "name",
        {
            "name": _text(100),
            "description": _text(2000),
            "objecttypecode": _text(64),
            "type": {"type": "Picklist", "options": [[_MAIN, "Main"]]},
            "formxml": _MEMO,
            "unpublishedformxml": _MEMO | {"secret": True},
            "isdefault": _YES_NO,
            "ismanaged": _YES_NO,
        },
    ),
}


def tables() -> list[Table]:
    """Build the tables of this part of the organization."""
    found = []
    for name, (primary_id, primary_name, columns) in _TABLES.items():
        standard = {primary_id: {"type": "Uniqueidentifier", "required": "systemrequired"}}
        standard |= {"createdon": _TIME, "modifiedon": _TIME, "versionnumber": {"type": "BigInt"}}
        facts = {
            "schemaName": name,
            "displayName": name,
            "entitySet": f"{name}s",
            "primaryId": primary_id,
            "primaryName": primary_name,
            "ownership": "OrganizationOwned",
            "optimisticConcurrency": False,
            "changeTracking": False,
            "columns": standard | columns,
        }
        found.append(build(name, facts))
    return found


def rows() -> list[tuple[str, Row]]:
    """List what an organization begins with: the default publisher and solution."""
    publisher = {
        "publisherid": PUBLISHER,
        "uniquename": "DefaultPublisheremulator",
        "friendlyname": "Default Publisher",
    }
    solution = {"solutionid": SOLUTION, "uniquename": "Default", "friendlyname": "Default Solution"}
    return [
        ("publisher", publisher | {"customizationprefix": "new", "customizationoptionvalueprefix": 10000}),
        ("solution", solution | {"version": "1.0", "ismanaged": 0, "publisherid": PUBLISHER, "installedon": now()}),
    ]


def form(table: str) -> tuple[str, Row]:
    """Make the main form of a table."""
    cell = metadata_id("cell", table)
    xml = (
        '<form><tabs><tab name="general" showlabel="true"><labels><label description="General" languagecode="1033"/>'
        '</labels><columns><column width="100%"><sections><section name="general" showlabel="false"><rows><row>'
        f'<cell id="{{{cell}}}"/></row></rows></section></sections></column></columns></tab></tabs></form>'
    )
    row = {"formid": metadata_id("systemform", table), "name": "Information", "objecttypecode": table, "type": _MAIN}
    return "systemform", row | {"formxml": xml, "unpublishedformxml": xml, "isdefault": 1, "ismanaged": 0}


def complete(name: str, values: Row, *, creating: bool) -> None:
    """Add the server's own values; a form's new XML is unpublished until it is published."""
    if name == "solution" and creating:
        values |= {"installedon": now(), "ismanaged": 0}
    if name == "systemform" and "formxml" in values:
        values["unpublishedformxml"] = values["formxml"]
        if not creating:
            del values["formxml"]


def check_row(name: str, row: Row) -> None:
    """Refuse rows without what they need; raises InvalidArgument."""
    needed = {
        "publisher": ("uniquename", "friendlyname", "customizationprefix", "customizationoptionvalueprefix"),
        "solution": ("uniquename", "friendlyname", "version", "publisherid"),
        "systemform": ("objecttypecode", "type", "unpublishedformxml"),
    }.get(name, ())
    for column in needed:
        if row.get(column) is None:
            raise InvalidArgument(f"{name}: '{column}' is required.")
    if name == "solutioncomponent":
        raise InvalidArgument(
            "solutioncomponent: a component is added by MSCRM.SolutionUniqueName with its own request."
        )
    if name == "publisher":
        prefix = str(row["customizationprefix"])
        if not prefix.isascii() or not prefix.isalnum() or not prefix[0].isalpha() or len(prefix) < 2:  # noqa: PLR2004 - at least two
            raise InvalidArgument("publisher: 'customizationprefix' is 2 to 8 letters and digits, a letter first.")


class Solutions:
    """Keeps what belongs to which solution; every method runs inside the caller's transaction."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def _find(self, name: str) -> Row:
        found = self._store.find(self._store.metadata.tables["solution"], {"uniquename": name})
        if found is None:
            raise InvalidArgument(f"The solution '{name}' that MSCRM.SolutionUniqueName names does not exist.")
        return found

    def check_prefix(self, solution: str, *schema_names: str) -> None:
        """Refuse names that do not begin with the prefix of the solution's publisher; raises InvalidArgument."""
        if not solution:
            return
        tables = self._store.metadata.tables
        publisher = self._store.get(tables["publisher"], self._find(solution)["publisherid"])
        prefix = f"{publisher['customizationprefix'] if publisher else ''}_"
        for name in schema_names:
            if not name.lower().startswith(prefix.lower()):
                raise InvalidArgument(f"The SchemaName '{name}' does not begin with the publisher's prefix '{prefix}'.")

    def add(self, solution: str, kind: int, component: str) -> None:
        """Add a component to a solution, once; no solution named adds nothing."""
        if not solution:
            return
        table = self._store.metadata.tables["solutioncomponent"]
        values = {"solutionid": self._find(solution)["solutionid"], "objectid": component, "componenttype": kind}
        if self._store.find(table, values) is None:
            stamps = {"createdon": now(), "modifiedon": now(), "versionnumber": self._store.next_version()}
            self._store.insert(table, values | stamps | {"solutioncomponentid": str(uuid.uuid4())})

    def add_row(self, solution: str | None, table: Table, row: Row) -> None:
        """Add a row that is a component of its own, such as a form or a step; others belong to no solution."""
        if solution:
            self._find(solution)
            if table.name in _COMPONENTS:
                self.add(solution, _COMPONENTS[table.name], row[table.primary_id])

    def forget(self, component: str) -> None:
        """Take a component that is gone out of every solution."""
        table = self._store.metadata.tables["solutioncomponent"]
        for row in self._store.query(f'SELECT * FROM "{table.name}" WHERE "objectid" = ?', [component]):
            self._store.delete(table, row[table.primary_id])

    def publish(self, table: str | None) -> None:
        """Make what is unpublished of a table's forms what everyone sees; None is every table."""
        forms = self._store.metadata.tables["systemform"]
        for row in self._store.query('SELECT * FROM "systemform" WHERE "formxml" IS NOT "unpublishedformxml"', []):
            if table in (None, row["objecttypecode"]):
                changed = {"formxml": row["unpublishedformxml"], "versionnumber": self._store.next_version()}
                self._store.update(forms, row["formid"], changed)
