"""Maps that no deployment has: small ones that say what a test is about, beside the shipped facts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from relay.mapping.load import MapSet, load_maps
from support.world import ROOT

PATIENT = """
resource: Patient
table: contact
where: {msemr_contacttype: 935000000}
key: msemr_azurefhirid
attributes:
  - {column: lastname, copy: "$.name[0].family"}
"""

PRACTITIONER = """
resource: Practitioner
table: contact
where: {msemr_contacttype: 935000001}
key: msemr_azurefhirid
attributes:
  - {column: lastname, copy: "$.name[0].family"}
"""

CARE_TEAM = """
resource: CareTeam
table: msemr_careteam
key: msemr_azurefhirid
identifier:
  system: urn:oid:org.d365.mc4h.careteam.id
  table: prefix_careteamidentifier
  lookup: prefix_careteam
  system_column: prefix_system
  value_column: prefix_value
attributes:
  - {column: msemr_name, copy: $.name}
  - expand: participant
    table: msemr_careteamparticipant
    lookup: msemr_careteam
    vanished: VANISHED
    attributes:
      - {column: msemr_memberpatient, reference: $.member, targets: {Patient: contact}, match: true}
      - {column: msemr_memberpractioner, reference: $.member, targets: {Practitioner: contact}, match: true}
      - {column: msemr_periodstart, copy: $.period.start}
      - {column: msemr_role, concept: "$.role[0]", type: Participant Role, null: clear}
      - expand: role
        table: msemr_careteamparticipantrole
        lookup: msemr_careteamparticipant
        vanished: VANISHED
        attributes:
          - {column: msemr_code, copy: "$.coding[0].code", match: true}
          - {column: msemr_display, copy: "$.text"}
          - {column: msemr_codeableconceptid, concept: "$", type: Participant Role}
"""

CARE_PLAN = """
resource: CarePlan
table: msemr_careplan
key: msemr_azurefhirid
attributes:
  - {column: msemr_title, copy: $.title}
  - expand: activity
    table: msemr_careplangoal
    lookup: msemr_careplan
    attributes:
      - {column: msemr_name, copy: "$.progress[0].text", match: true}
      - expand: outcomeReference
        table: msemr_careplanactivity
        lookup: msemr_careplangoal
        attributes:
          - {column: msemr_patient, reference: $, targets: {Patient: contact}, match: true}
          - {column: msemr_careplan, reference: $, targets: {CarePlan: msemr_careplan}, match: true}
"""


TWO_WRITERS = """
resource: Patient
table: contact
where: {msemr_contacttype: 935000000}
key: msemr_azurefhirid
version: msemr_azurefhirversion
writeback: [update]
conflict: RULE
null: clear
attributes:
  - {column: nickname, copy: "$.name[0].text", writeback: true}
  - {column: msemr_generalpractioner, reference: "$.generalPractitioner[0]", targets: {Practitioner: contact}, writeback: true}
  - {column: gendercode, map: $.gender, values: {male: 1, female: 2}, writeback: true}
  - {column: birthdate, copy: $.birthDate}
"""


def care_team(vanished: str = "keep") -> str:
    """Return the map of care teams: participants, and below each its roles."""
    return CARE_TEAM.replace("VANISHED", vanished)


def two_writers(rule: str, text: str = TWO_WRITERS) -> tuple[str, str]:
    """Return the texts of the maps of patients, some of whose columns have two writers, and of practitioners."""
    return text.replace("RULE", rule), PRACTITIONER


def maps_folder(folder: Path, *texts: str) -> Path:
    """Write maps beside the shipped facts and return their folder, for the relay's setting."""
    maps = folder / "maps"
    maps.mkdir()
    shutil.copy(ROOT / "maps" / "metadata.json", maps / "metadata.json")
    for number, text in enumerate(texts):
        (maps / f"map{number}.yaml").write_text(text, encoding="utf-8")
    return maps


def wider_maps(folder: Path) -> Path:
    """Return the shipped maps with facts that believe that a last name may have 100 characters; Dataverse takes 50."""
    maps = folder / "maps"
    maps.mkdir()
    for each in (ROOT / "maps").glob("*.yaml"):
        shutil.copy(each, maps / each.name)
    facts = json.loads((ROOT / "maps" / "metadata.json").read_text())
    assert facts["tables"]["contact"]["columns"]["lastname"]["maxLength"] == 50
    facts["tables"]["contact"]["columns"]["lastname"]["maxLength"] = 100
    (maps / "metadata.json").write_text(json.dumps(facts))
    return maps


def made_up(folder: Path, *texts: str) -> MapSet:
    """Load maps without a world around them."""
    return load_maps(maps_folder(folder, *texts))
