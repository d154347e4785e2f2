"""Bodies of definitions, as clients send them, and a clock that stands still until it is moved."""

from __future__ import annotations

from typing import Any

import httpx

CRM = "Microsoft.Dynamics.CRM."


class Clock:
    """Tells a time in seconds that only a test moves."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def label(text: str) -> dict[str, Any]:
    """Make a label with one text."""
    one = {"@odata.type": f"{CRM}LocalizedLabel", "Label": text, "LanguageCode": 1033}
    return {"@odata.type": f"{CRM}Label", "LocalizedLabels": [one]}


def column(kind: str, schema_name: str, **more: Any) -> dict[str, Any]:
    """Make an attribute of a type."""
    return {
        "@odata.type": f"{CRM}{kind}AttributeMetadata",
        "SchemaName": schema_name,
        "DisplayName": label(schema_name),
        "RequiredLevel": {"Value": "None"},
        **more,
    }


def name_column(schema_name: str = "new_Name") -> dict[str, Any]:
    """Make the primary name attribute."""
    return column("String", schema_name, IsPrimaryName=True, MaxLength=100, FormatName={"Value": "Text"})


def table(schema_name: str, *columns: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Make a table with its primary name and further attributes."""
    return {
        "@odata.type": f"{CRM}EntityMetadata",
        "SchemaName": schema_name,
        "DisplayName": label(schema_name),
        "DisplayCollectionName": label(f"{schema_name}s"),
        "Description": label("made by a test"),
        "OwnershipType": "UserOwned",
        "HasActivities": False,
        "HasNotes": True,
        "IsActivity": False,
        "Attributes": [name_column(), *columns],
        **more,
    }


def relationship(schema_name: str, parent: str, child: str, lookup: str, **more: Any) -> dict[str, Any]:
    """Make a one-to-many relationship with its lookup."""
    return {
        "@odata.type": f"{CRM}OneToManyRelationshipMetadata",
        "SchemaName": schema_name,
        "ReferencedEntity": parent,
        "ReferencedAttribute": f"{parent}id",
        "ReferencingEntity": child,
        "CascadeConfiguration": {"Assign": "NoCascade", "Delete": "RemoveLink", "Merge": "NoCascade"},
        "Lookup": {
            "@odata.type": f"{CRM}LookupAttributeMetadata",
            "SchemaName": lookup,
            "AttributeType": "Lookup",
            "AttributeTypeName": {"Value": "LookupType"},
            "DisplayName": label(lookup),
            "RequiredLevel": {"Value": "None"},
        },
        **more,
    }


async def made(api: httpx.AsyncClient, path: str, body: dict[str, Any], **headers: str) -> str:
    """Post a definition and return what OData-EntityId says."""
    answer = await api.post(path, json=body, headers=headers)
    assert answer.status_code == 204, answer.text
    return str(answer.headers["odata-entityid"])


def refusal(answer: httpx.Response) -> tuple[int, str]:
    """Return the status and the code of an error answer."""
    return answer.status_code, str(answer.json()["error"]["code"])
