"""Tables of further facts files stand beside the shipped ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from devstack.dataverse import create_app


def facts(name: str, **more: Any) -> dict[str, Any]:
    return {
        "schemaName": name,
        "displayName": name,
        "entitySet": f"{name}s",
        "primaryId": f"{name}id",
        "primaryName": "new_name",
        "ownership": "UserOwned",
        "columns": {
            f"{name}id": {"type": "Uniqueidentifier"},
            "new_name": {"type": "String", "maxLength": 100},
            "versionnumber": {"type": "BigInt"},
            "createdon": {"type": "DateTime", "format": "DateAndTime"},
            "modifiedon": {"type": "DateTime", "format": "DateAndTime"},
        },
        **more,
    }


def file(path: Path, *tables: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"tables": {each["schemaName"]: each for each in tables}}), "utf-8")
    return path


async def test_several_files_are_added(tmp_path: Path) -> None:
    """Every file's tables are there, with their keys, beside the shipped ones."""
    key = [{"name": "new_key", "columns": ["new_name"]}]
    extra = [file(tmp_path / "a.json", facts("new_a", keys=key)), file(tmp_path / "b.json", facts("new_b"))]
    async with create_app(extra=extra) as app:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://org/api/data/v9.2/") as api:
            assert (await api.patch("new_as(new_name='x')", json={})).status_code == 204
            assert (await api.post("new_bs", json={"new_name": "x"})).status_code == 204
            assert (await api.get("contacts")).status_code == 200


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ([facts("contact")], r"b\.json: table contact: a table of this name is in another file too"),
        ([facts("new_b", entitySet="contacts")], r"b\.json: table new_b: the entity set contacts is that of contact"),
        ([facts("new_b", keys=[{"name": "k", "columns": ["x"]}])], r"b\.json: table new_b: .*key k: unknown columns x"),
        ([facts("new_b", columns={"x": {}})], r"b\.json: table new_b: KeyError: 'type'"),
    ],
)
def test_errors_name_file_table_and_key(tmp_path: Path, tables: list[dict[str, Any]], message: str) -> None:
    """Facts that are wrong, or there twice, are refused by name."""
    with pytest.raises(ValueError, match=message):
        create_app(extra=[file(tmp_path / "b.json", *tables)])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"tables": []}'])
def test_a_file_of_something_else(tmp_path: Path, text: str) -> None:
    """A file that holds no tables is refused by name."""
    path = tmp_path / "b.json"
    path.write_text(text, "utf-8")
    with pytest.raises(ValueError, match=r"b\.json: not"):
        create_app(extra=[path])
