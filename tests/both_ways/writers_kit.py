"""A patient whose columns have two writers, and events that are handled when a test says so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

from support.world import World

ANA: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "ana",
    "name": [{"use": "official", "family": "Lindqvist", "given": ["Ana", "Maria"]}],
    "telecom": [
        {"system": "email", "use": "home", "value": "ana@example.org"},
        {"system": "email", "use": "work", "value": "ana@example.com"},
    ],
    "gender": "female",
    "managingOrganization": {"reference": "Organization/one"},
}
ONE = {"resourceType": "Organization", "id": "one", "name": "One", "identifier": [{"system": "urn:orgs", "value": "1"}]}
TWO = {"resourceType": "Organization", "id": "two", "name": "Two"}

_COPIES = (
    """  - {column: lastname, copy: ["$.name[?(@.use=='official')].family", "$.name[0].family"], required: true""",
    """  - {column: firstname, copy: ["$.name[?(@.use=='official')].given[0]", "$.name[0].given[0]"]""",
    """  - {column: middlename, copy: ["$.name[?(@.use=='official')].given[1]", "$.name[0].given[1]"]""",
    "  - {column: msemr_managingorganization, reference: $.managingOrganization, targets: {Organization: account}",
)
_EMAIL = """    copy: ["$.telecom[?(@.system=='email' && @.use=='home')].value", "$.telecom[?(@.system=='email')].value"]\n"""
_GENDER = "  - column: gendercode\n    map: $.gender\n"


def two_writers(conflict: str = "park", more: str = "", **changes: str) -> dict[str, dict[str, str]]:
    """Return the changes of the shipped patient map after which these columns have two writers."""
    top = f"create: always\nwriteback: [create, update]\nconflict: {conflict}\n{more}"
    lines = {line: line + ", writeback: true" for line in _COPIES}
    blocks = {block: block + "    writeback: true\n" for block in (_EMAIL, _GENDER)}
    return {"patient.yaml": {"create: always\n": top, **lines, **blocks, **changes}}


async def linked(w: World, ana: Mapping[str, Any] = ANA) -> str:
    """Let the relay know the patient and two organizations; returns the contact's GUID."""
    await w.put(ONE, TWO, ana)
    for each in (ONE, TWO, await w.read("Patient", "ana")):
        await w.post(each)
    await w.settle()
    return str((await row_of(w))["contactid"])


async def row_of(w: World, fhir_id: str = "ana") -> dict[str, Any]:
    """Return the row that carries a FHIR id."""
    (row,) = await w.rows("contacts", f"msemr_azurefhirid eq '{fhir_id}'")
    return row


async def both(w: World) -> tuple[str, str]:
    """Return the family name that each side has: FHIR's, then Dataverse's."""
    return (await w.read("Patient", "ana"))["name"][0]["family"], (await row_of(w))["lastname"]


async def pointed(w: World, name: str) -> dict[str, str]:
    """Return what makes a contact's managing organization the one of this name."""
    (row,) = await w.rows("accounts", f"name eq '{name}'")
    (navigation,) = w.relay.maps.tables["contact"].columns["msemr_managingorganization"].navigation.values()
    return {f"{navigation}@odata.bind": f"/accounts({row['accountid']})"}


async def kept_back(w: World, *changes: Callable[[], Awaitable[object]]) -> list[str]:
    """Let users make changes, and return the messages of their events, which nobody has handled."""
    first, w.hold_events = len(w.events), True
    for change in changes:
        await change()
    await w.dataverse.webhooks.idle()
    w.hold_events = False
    for body in w.events[first:]:
        await w.relay.take_event(body)
    taken = await w.store.receive("writeback", most=32, visibility=timedelta(seconds=30))
    for message in taken:
        await w.store.delete(message)
    return [message.text for message in taken]
