"""A made-up export of the Data integration toolkit: rows as the Web API returns them, and what an import makes of them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from mapping_kit import MAPS

from relay.cli import main
from relay.mapping.load import MapSet, load_maps

ACTIONS = {
    "Copy Data": 440670000,
    "Set Default Value": 440670001,
    "Mapped Value": 440670002,
    "FK Reference": 440670003,
    "Codeable Concept": 440670004,
    "Expand": 440670005,
}
FORMATTED = "@OData.Community.Display.V1.FormattedValue"
EXPAND = {"action": "Expand", "column": "Not Applicable"}
X = "x"


def guid(*parts: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, "/".join(parts)))


def lookup(name: str, text: str, *kind: str) -> dict[str, Any]:
    """Return a lookup column as the Web API has it: the id, and the name as its formatted value."""
    return {f"_{name}_value": guid(*kind, text), f"_{name}_value{FORMATTED}": text}


@dataclass
class Export:
    """An export that grows row by row."""

    entities: list[dict[str, Any]] = field(default_factory=list)
    attributes: list[dict[str, Any]] = field(default_factory=list)
    values: list[dict[str, Any]] = field(default_factory=list)

    def entity(self, name: str, **columns: Any) -> None:
        """Add an entity map called `table <-> Resource`."""
        table, _, resource = name.partition(" <-> ")
        row: dict[str, Any] = {
            "@odata.etag": 'W/"1"',
            "msind_updateserviceentitymapid": guid("entity", name),
            "msind_name": name,
            "msind_entityname": table,
            **lookup("msind_azurefhirresource", resource, "resource"),
            "msind_disabled": False,
            "msind_writeback": False,
            "msind_supportedmessages": None,
            "msind_isexpand": False,
            "msind_parentlinkattribute": None,
            "msind_tag": None,
            "msind_sdkmessagestepidforcreate": None,
            "statecode": 0,
            "statuscode": 1,
            "createdon": "2022-10-03T00:00:00Z",
        }
        self.entities.append(row | columns)

    def attribute(
        self,
        entity: str,
        column: str,
        action: str,
        element: str | Mapping[str, Any],
        *,
        values: Mapping[str, Any] | None = None,
        constant: object = None,
        reference: tuple[str, str] = ("", ""),
        concept: tuple[str, int | None] = ("", None),
        expansion: str = "",
        match: bool = False,
        **columns: Any,
    ) -> None:
        """Add an attribute map, and its value maps."""
        name = f"{entity} {column} {len(self.attributes)}"
        kind, table = reference
        row: dict[str, Any] = {
            "msind_updateserviceattributemapid": guid("attribute", name),
            "msind_name": name,
            **lookup("msind_updateserviceentitymap", entity, "entity"),
            "msind_entityname": entity.partition(" ")[0],
            "msind_cdsattributename": column,
            "msind_actiontype": ACTIONS[action],
            f"msind_actiontype{FORMATTED}": action,
            "msind_fhirelementmap": element if isinstance(element, str) else json.dumps(element),
            "msind_cdsentityreference": table or None,
            **(lookup("msind_fhirresourcereference", kind, "resource") if kind else {}),
            "msind_codeableconcepttype": concept[0] or None,
            "msind_codeableconcepttypevalue": None if concept[1] is None else str(concept[1]),
            **(lookup("msind_expansionentitymap", expansion, "entity") if expansion else {}),
            "msind_usedinrecordmatching": match,
            "msind_enablewriteback": True,
            "msind_fhirrequiredattribute": False,
            "msind_disabled": False,
            "_msind_fhirattributemetadata_value": None,
            "statecode": 0,
        }
        self.attributes.append(row | columns)
        given = dict(values or {}) if constant is None else {"-": constant}
        for fhir, value in given.items():
            self.values.append(
                {
                    "msind_attributevaluemapid": guid("value", name, fhir),
                    **lookup("msind_updateserviceattributemap", name, "attribute"),
                    "msind_azurefhirvalue": fhir,
                    "msind_cdsvalue": str(value),
                    "msind_optionsetlabel": None,
                    "statecode": 0,
                }
            )

    def document(self) -> dict[str, Any]:
        """Return all rows as one file, by entity set."""
        resources = {
            row[f"_{name}_value{FORMATTED}"]: row[f"_{name}_value"]
            for rows, name in (
                (self.entities, "msind_azurefhirresource"),
                (self.attributes, "msind_fhirresourcereference"),
            )
            for row in rows
            if f"_{name}_value" in row
        }
        codes = [{"msind_azurefhirresourceid": key, "msind_code": code} for code, key in resources.items()]
        return {
            "msind_updateserviceentitymaps": {"value": self.entities},
            "msind_updateserviceattributemaps": {"value": self.attributes},
            "msind_attributevaluemaps": {"value": self.values},
            "msind_azurefhirresources": {"value": codes},
        }


@dataclass
class Imported:
    """What one run of the command made."""

    code: int
    report: dict[str, Any]
    folder: Path

    def text(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8")

    def maps(self) -> MapSet:
        return load_maps(self.folder)

    def row(self, name: str) -> dict[str, Any]:
        """Return what became of the one row of this name."""
        (found,) = [row for row in self.report["rows"] if row["name"] == name]
        assert isinstance(found, dict)
        return found

    def losses(self) -> dict[str, list[str]]:
        return {row["name"]: row["losses"] for row in self.report["rows"] if row["losses"]}


def run_import(
    capsys: pytest.CaptureFixture[str], folder: Path, *documents: Any, arguments: tuple[str, ...] = ()
) -> Imported:
    """Import these files into a new folder, with the facts of the default pack."""
    files = []
    for number, document in enumerate(documents):
        files.append(folder / f"export{number}.json")
        files[-1].write_text(json.dumps(document), encoding="utf-8")
    out = folder / "maps"
    code = main(["maps", "import", *map(str, files), "--out", str(out), "--maps", str(MAPS), "--json", *arguments])
    return Imported(code, json.loads(capsys.readouterr().out), out)


def made(parent: str, *properties: dict[str, Any]) -> dict[str, Any]:
    """Return the `c` of an element map."""
    return {"c": {"p": parent, "a": list(properties)}}


def address(part: str, **value: Any) -> dict[str, Any]:
    """Return the element map of an address part, with the fillers that the toolkit's own have."""
    parts: dict[str, Any] = {"line": [X], "city": X, "state": X, "postalCode": X, "country": X} | value
    return {"s": f"$.address[0].{part}", **made("address[0]", *({name: each} for name, each in parts.items()))}


PATIENT = "contact <-> Patient"
IDENTIFIERS = "msemr_medicalidentifier <-> Patient"
LINKS = "msemr_contactlink <-> Patient"
TEAM = "msemr_careteam <-> CareTeam"
PARTICIPANTS = "msemr_careteamparticipant <-> CareTeam"
ROLES = "msemr_careteamparticipantrole <-> Participant"
OFFICIAL = "$.name[?(@use=='official')]"


def small() -> Export:
    """Make one map with a key, a default and a mapped line."""
    export = Export()
    export.entity(PATIENT)
    export.attribute(PATIENT, "msemr_contacttype", "Set Default Value", "", constant=935000000)
    export.attribute(PATIENT, "msemr_azurefhirid", "Copy Data", {"s": "$.id"})
    export.attribute(PATIENT, "gendercode", "Mapped Value", {"s": "$.gender"}, values={"male": 1, "female": 2})
    return export


def patients() -> Export:
    """Make the map contact <-> Patient with its two expansions, as far as it is known."""
    export = Export()
    export.entity(PATIENT)
    export.entity(IDENTIFIERS, msind_isexpand=True, msind_parentlinkattribute="msemr_assignee")
    export.entity(LINKS, msind_isexpand=True, msind_parentlinkattribute="msemr_patient")
    patient_lines(export)
    export.attribute(IDENTIFIERS, "msemr_identifiersystem", "Copy Data", {"s": "$.system"}, match=True)
    export.attribute(IDENTIFIERS, "msemr_value", "Copy Data", {"s": "$.value"}, match=True)
    export.attribute(
        IDENTIFIERS,
        "msemr_type",
        "Mapped Value",
        {"s": "$.type.coding[0].code"},
        values={"DL": 935000000, "PPN": 935000001, "MR": 935000003},
    )
    link = {"reference": ("Patient", "contact"), "match": True}
    export.attribute(LINKS, "msemr_link", "FK Reference", {"s": "$.other.reference"}, **link)
    export.attribute(LINKS, "msemr_linktype", "Codeable Concept", {"s": "$.type"}, concept=("Link Type", 935000071))
    export.attribute(LINKS, "msemr_name", "Copy Data", {"s": "$.type"})
    return export


def patient_lines(export: Export) -> None:
    """Add the attribute maps of contact <-> Patient, in the order of its screen."""

    def copy(column: str, element: str | Mapping[str, Any]) -> None:
        export.attribute(PATIENT, column, "Copy Data", element)

    copy("mobilephone", {"s": "$.telecom[?(@use=='mobile')].value"})
    export.attribute(PATIENT, "Not Applicable", "Expand", "identifier", expansion=IDENTIFIERS)
    export.attribute(PATIENT, "Not Applicable", "Expand", "link", expansion=LINKS)
    copy("emailaddress1", {"s": "$.telecom[?(@system=='email')].value"})
    copy("telephone1", {"s": "$.telecom[?(@system=='phone' && @use=='work')].value"})
    export.attribute(
        PATIENT,
        "msemr_GeneralPractioner",
        "FK Reference",
        {
            "s": "$.generalPractitioner[0].reference",
            **made("generalPractitioner[0]", {"reference": "%%%"}, {"type": "%%"}),
        },
        reference=("Practitioner", "contact"),
    )
    export.attribute(PATIENT, "msemr_contacttype", "Set Default Value", "", constant=935000000)
    name = made("name[0]", {"use": "official"}, {"family": X}, {"given[0]": "%"})
    copy("firstname", {"s": f"{OFFICIAL}.given[0]", **name})
    copy("lastname", {"s": f"{OFFICIAL}.family", **made("name[0]", {"use": "official"}, {"family": "%"})})
    copy("msemr_azurefhirid", {"s": "$.id"})
    copy("telephone2", {"s": "$.telecom[?(@system=='phone' && @use=='home')].value"})
    genders = {"male": 1, "female": 2, "other": 935000000, "unknown": 935000001}
    export.attribute(PATIENT, "gendercode", "Mapped Value", {"s": "$.gender"}, values=genders)
    copy("birthdate", {"s": "$.birthDate"})
    copy("address1_city", address("city", city="%"))
    copy("address1_line1", address("line[0]", line=["%"]))
    copy("address1_postalcode", address("postalCode", postalCode="%"))
    copy("address1_stateorprovince", address("state", state="%"))
    copy("address1_country", address("country", country="%"))
    marital = {"s": "$.maritalStatus.coding[0].code"}
    export.attribute(PATIENT, "familystatuscode", "Mapped Value", marital, values={"S": 935000007, "M": 2})
    copy("msemr_azurefhirversion", {"s": "$.meta.versionId"})
    copy("msemr_azurefhirlastupdatedon", {"s": "$.meta.lastUpdated"})


def care_teams() -> Export:
    """Make the map of care teams: participants by the type of their member, and the roles of each."""
    export = Export()
    export.entity(PATIENT)
    export.attribute(PATIENT, "msemr_contacttype", "Set Default Value", "", constant=935000000)
    export.attribute(PATIENT, "msemr_azurefhirid", "Copy Data", {"s": "$.id"})
    export.entity("contact <-> Practitioner")
    export.attribute("contact <-> Practitioner", "msemr_contacttype", "Set Default Value", "", constant=935000001)
    export.attribute("contact <-> Practitioner", "msemr_azurefhirid", "Copy Data", {"s": "$.id"})
    export.entity("account <-> Organization")
    export.attribute("account <-> Organization", "name", "Copy Data", {"s": "$.name"})
    export.entity(TEAM)
    export.entity(PARTICIPANTS, msind_isexpand=True, msind_parentlinkattribute="msemr_careteam")
    export.entity(ROLES, msind_isexpand=True, msind_parentlinkattribute="msemr_careteamparticipant")
    export.attribute(TEAM, "msemr_name", "Copy Data", {"s": "$.name"})
    export.attribute(TEAM, "msemr_azurefhirid", "Copy Data", {"s": "$.id"})
    subject = {"s": "$.subject.reference"}
    export.attribute(TEAM, "msemr_subjectpatient", "FK Reference", subject, reference=("Patient", "contact"))
    export.attribute(TEAM, "Not Applicable", "Expand", "participant", expansion=PARTICIPANTS)
    member = {"s": "$.member.reference"}
    for column, kind, table in (
        ("msemr_memberpractioner", "Practitioner", "contact"),
        ("msemr_memberpatient", "Patient", "contact"),
        ("msemr_memberorganization", "Organization", "account"),
        ("msemr_membercareteam", "CareTeam", "msemr_careteam"),
    ):
        export.attribute(PARTICIPANTS, column, "FK Reference", member, reference=(kind, table), match=True)
    onbehalf = {"s": "$.onBehalfOf.reference"}
    export.attribute(PARTICIPANTS, "msemr_onbehalfof", "FK Reference", onbehalf, reference=("Organization", "account"))
    export.attribute(PARTICIPANTS, "msemr_periodstart", "Copy Data", {"s": "$.period.start"})
    export.attribute(PARTICIPANTS, "Not Applicable", "Expand", "role", expansion=ROLES)
    export.attribute(ROLES, "msemr_code", "Copy Data", {"s": "$.coding[0].code"}, match=True)
    export.attribute(ROLES, "msemr_display", "Copy Data", {"s": "$.coding[0].display"})
    return export
