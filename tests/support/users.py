"""What people do in Dataverse while the relay is not looking: they make rows, correct them, move them and delete them."""

from __future__ import annotations

from typing import Any

from support.world import API, World

CHILDREN = "prefix_patientidentifiers"


async def makes(it: World, entity_set: str, **columns: Any) -> str:
    """Create a row and return its GUID; the events it causes are delivered by then."""
    answer = await it.http.post(f"{API}/{entity_set}", json=columns)
    assert answer.is_success, answer.text
    await it.dataverse.webhooks.idle()
    return str(answer.headers["OData-EntityId"]).rpartition("(")[2].rstrip(")").lower()


async def saves(it: World, entity_set: str, key: str, **columns: Any) -> None:
    """Save columns of a row."""
    answer = await it.http.patch(f"{API}/{entity_set}({key})", json=columns)
    assert answer.is_success, answer.text


async def deletes(it: World, entity_set: str, key: str) -> None:
    """Delete a row; its children stay, without a parent."""
    answer = await it.http.delete(f"{API}/{entity_set}({key})")
    assert answer.is_success, answer.text


async def identifier(it: World, value: str) -> dict[str, Any]:
    """Return the one patient identifier row with this value, times, version and ETag included."""
    (row,) = await it.rows(CHILDREN, f"prefix_value eq '{value}'")
    return row


async def corrects(it: World, value: str, to: str) -> dict[str, Any]:
    """Correct the value of a patient identifier row and return the row as it is then."""
    row = await identifier(it, value)
    await saves(it, CHILDREN, row["prefix_patientidentifierid"], prefix_value=to)
    return await identifier(it, to)


async def moves(it: World, value: str, contact: str) -> dict[str, Any]:
    """Move a patient identifier row to another contact, as a merge does, and return the row as it is then."""
    row = await identifier(it, value)
    bind = {"prefix_Patient@odata.bind": f"/contacts({contact})"}
    await saves(it, CHILDREN, row["prefix_patientidentifierid"], **bind)
    return await identifier(it, value)
