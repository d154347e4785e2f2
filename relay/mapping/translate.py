"""Turns one FHIR resource into one draft: the row as its map says it should be. Pure; never raises for what it reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relay.guid import canonical_guid, is_guid
from relay.mapping.building import Building
from relay.mapping.expansions import IDENTIFIER
from relay.mapping.model import ByFhirId, ByIdentifier, Draft, EntityMap, Issue, Resolve, Resource, Source
from relay.mapping.values import Unfit, to_column

_NEVER_MAPPED = frozenset({"resourceType", "id", "meta"})
_SUBSETTED = "SUBSETTED"


def translate(entity_map: EntityMap, resource: Resource, resolve: Resolve, *, concepts: bool = True) -> Draft:
    """Carry a map out for one resource.

    `resolve` says what a Reference means. `concepts=False` leaves out lookups to codeable concepts, for an organization
    without that table. An issue of severity error means that the draft must not be written.
    """
    into = Building(resolve, concepts=concepts)
    into.columns.update(entity_map.where)
    identity = _identity(entity_map, resource, into)
    _meta(entity_map, resource, into)
    claims, resource = _claims(entity_map, resource, into)
    for line in entity_map.lines:
        line.write(resource, into)
    into.settle(entity_map.choices)
    survivor = _survivor(entity_map, resource, into)
    if entity_map.merged_into:
        into.lookups[entity_map.merged_into] = survivor
    known = entity_map.elements
    return Draft(
        map=entity_map,
        id=identity,
        columns=into.columns,
        lookups=into.lookups,
        children=tuple(into.children),
        claims=claims,
        issues=tuple(into.issues),
        sources=into.sources,
        unmapped=tuple(
            name for name in resource if name not in known and name not in _NEVER_MAPPED and not name.startswith("_")
        ),
        end="merged" if survivor is not None else "",
        survivor=survivor,
    )


def deleted(entity_map: EntityMap, fhir_id: str) -> Draft:
    """Return the draft of a resource that was deleted: it says which one, and nothing else."""
    return Draft(entity_map, fhir_id, {}, {}, (), (), (), end="deleted")


def is_replaced(resource: Resource) -> bool:
    """Tell whether a resource is not active and says that another one replaces it."""
    return resource.get("active") is False and bool(_replacing(resource))


def _replacing(resource: Resource) -> list[Mapping[str, Any]]:
    links = resource.get("link")
    listed = links if isinstance(links, list) else []
    return [each for each in listed if isinstance(each, Mapping) and each.get("type") == "replaced-by"]


def _survivor(entity_map: EntityMap, resource: Resource, into: Building) -> ByFhirId | ByIdentifier | None:
    """Return what replaces the resource: it is not active, and its one link `replaced-by` means another of its type."""
    if entity_map.merges == "ignore" or not is_replaced(resource):
        return None
    replacing = [each.get("other") for each in _replacing(resource)]
    found = {into.resolve(each) if isinstance(each, Mapping) else None for each in replacing}
    (survivor, *others) = found
    itself = ByFhirId(entity_map.resource, str(resource.get("id")))
    if others or survivor is None or survivor.type != entity_map.resource or survivor == itself:
        message = f"what replaces the resource is not one other {entity_map.resource}, so its row stays in use"
        into.issues.append(Issue("warning", "survivor-unknown", message, "$.link"))
        return None
    return survivor


def _identity(entity_map: EntityMap, resource: Resource, into: Building) -> str:
    identity = resource.get("id")
    if not isinstance(identity, str) or not identity:
        into.issues.append(Issue("error", "no-id", "the resource has no id, so it has no row", "id"))
        return ""
    try:
        to_column(entity_map.table.columns[entity_map.key], identity)
    except Unfit as unfit:
        code = "id-too-long" if unfit.code == "too-long" else unfit.code
        into.issues.append(Issue("error", code, str(unfit), entity_map.key))
        return identity
    into.columns[entity_map.key] = identity
    into.sources[entity_map.key] = Source(entity_map.file, 1, "$.id")
    return identity


def _meta(entity_map: EntityMap, resource: Resource, into: Building) -> None:
    """Write version and time; a version or time that does not fit costs the guard against old input, not the row."""
    meta = resource.get("meta")
    if meta is None:
        return
    if not isinstance(meta, Mapping):
        into.issues.append(Issue("error", "invalid-element", "meta must be an object", "$.meta"))
        return
    for column, element in ((entity_map.version, "versionId"), (entity_map.last_updated, "lastUpdated")):
        value = meta.get(element)
        if not column or value is None:
            continue
        try:
            into.columns[column] = to_column(entity_map.table.columns[column], value)
            into.sources[column] = Source(entity_map.file, 1, f"$.meta.{element}")
        except Unfit as unfit:
            into.issues.append(Issue("warning", unfit.code, str(unfit), f"$.meta.{element}"))
    tags = meta.get("tag")
    if isinstance(tags, list) and any(isinstance(tag, Mapping) and tag.get("code") == _SUBSETTED for tag in tags):
        message = "the resource is tagged SUBSETTED: elements are left out, so absence means nothing"
        into.issues.append(Issue("error", "subsetted", message, "$.meta.tag"))


def _claims(entity_map: EntityMap, resource: Resource, into: Building) -> tuple[tuple[str, ...], Resource]:
    """Take the Dynamics identifiers out: the GUIDs they name, and the resource without them.

    No line and no expansion sees them: the GUID in a resource is a claim to check, not data.
    """
    array = resource.get(IDENTIFIER)
    if entity_map.identifier is None or not isinstance(array, list):
        return (), resource
    system = entity_map.identifier.system
    own = [item for item in array if isinstance(item, Mapping) and item.get("system") == system]
    if not own:
        return (), resource
    claims: dict[str, None] = {}
    for item in own:
        value = item.get("value")
        if value is None or item.get("use") == "old":
            continue
        guid = canonical_guid(value) if isinstance(value, str) else ""
        if is_guid(guid):
            claims[guid] = None
        else:
            message = "the value of a Dynamics identifier is not a GUID"
            into.issues.append(Issue("warning", "invalid-claim", message, "$.identifier"))
    others: list[Any] = [item for item in array if not (isinstance(item, Mapping) and item.get("system") == system)]
    return tuple(claims), {**resource, IDENTIFIER: others}
