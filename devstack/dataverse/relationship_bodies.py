"""Reading what a client sends to make a relationship with its lookup."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from devstack.dataverse.definition_bodies import COLUMN, LEVELS
from devstack.dataverse.definition_body import NAMESPACE, Body
from devstack.dataverse.errors import InvalidArgument, NotSupported
from devstack.dataverse.metadata import Column


@dataclass(frozen=True, slots=True)
class Relationship:
    """A one-to-many relationship as it is asked for; `parent` is the referenced table, `child` the one that refers."""

    name: str
    parent: str
    child: str
    lookup: Column


_RELATIONSHIP: Final = frozenset(
    {
        *("MetadataId", "SchemaName", "RelationshipType", "SecurityTypes", "IntroducedVersion", "HasChanged"),
        *("ReferencedEntity", "ReferencedAttribute", "ReferencingEntity", "ReferencingAttribute", "Lookup"),
        *("ReferencedEntityNavigationPropertyName", "ReferencingEntityNavigationPropertyName"),
        *("AssociatedMenuConfiguration", "CascadeConfiguration", "EntityKey", "RelationshipAttributes"),
    }
)
_CASCADES: Final = ("Cascade", "NoCascade", "RemoveLink", "Restrict", "Active", "UserOwned")
_ON_DELETE: Final = ("RemoveLink", "Cascade", "Restrict")
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,127}", re.ASCII)


def relationship(document: object) -> Relationship:
    """Read a one-to-many relationship with its lookup; raises NotSupported for many-to-many."""
    body = Body(document, "OneToManyRelationshipMetadata")
    kind = body.kind_of()
    if kind == "ManyToManyRelationshipMetadata":
        raise NotSupported("many-to-many relationships")
    if kind != body.kind:
        raise body.wrong("@odata.type", f"is not '{NAMESPACE}{body.kind}'")
    body.known(_RELATIONSHIP, flags=True)
    if body.flag("IsHierarchical"):
        raise NotSupported("hierarchical relationships (IsHierarchical)")
    name = body.needed("SchemaName")
    if not _NAME.fullmatch(name) or "_" not in name:
        raise InvalidArgument(f"The SchemaName '{name}' of the relationship has no publisher's prefix.")
    parent, child = body.needed("ReferencedEntity"), body.needed("ReferencingEntity")
    lookup = body.inner("Lookup", "LookupAttributeMetadata")
    if lookup is None:
        raise InvalidArgument("OneToManyRelationshipMetadata: 'Lookup' is required.")
    lookup.known(COLUMN, flags=True)
    if lookup.kind_of() != lookup.kind:
        raise lookup.wrong("@odata.type", f"is not '{NAMESPACE}{lookup.kind}'")
    schema_name = lookup.schema_name()
    navigation = body.text("ReferencingEntityNavigationPropertyName", schema_name)
    collection = body.text("ReferencedEntityNavigationPropertyName", name)
    for property_name in (navigation, collection):
        if not _NAME.fullmatch(property_name):
            raise InvalidArgument(f"'{property_name}' is no name of a navigation property.")
    return Relationship(
        name,
        parent,
        child,
        Column(
            schema_name.lower(),
            "Lookup",
            schema_name,
            label=lookup.label("DisplayName", schema_name),
            required=LEVELS[lookup.choice("RequiredLevel", LEVELS, "None")],
            description=lookup.label("Description"),
            targets=(parent,),
            navigation={parent: navigation},
            collections={parent: collection},
            relationships={parent: name},
            delete=on_delete(body),
            custom=True,
        ),
    )


def on_delete(body: Body) -> str:
    """Read what a relationship does to the child's row when the parent's goes; the other cascades change nothing here."""
    cascade = body.inner("CascadeConfiguration", "CascadeConfiguration")
    if cascade is None:
        return "RemoveLink"
    for name in ("Assign", "Merge", "Reparent", "Share", "Unshare", "RollupView", "Archive"):
        cascade.choice(name, _CASCADES, "NoCascade")
    return cascade.choice("Delete", _ON_DELETE, "RemoveLink")
