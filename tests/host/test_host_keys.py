"""Function keys: 401, 403 or in."""

from __future__ import annotations

from typing import Any

import pytest

from devstack.host import StartError

KEYS = {"master": ["m1"], "host": ["h1", "h2"], "keyed": ["k1"]}


async def test_without_keys_every_door_is_open(hosted: Any) -> None:
    """Keys are off unless given, as with Core Tools."""
    async with hosted("levels") as up:
        for route in ("open", "keyed", "admin-only"):
            assert (await up.client.get(f"/api/{route}", headers={"x-functions-key": "any"})).text == "in"
        assert (await up.client.get("/admin/functions")).status_code == 200


@pytest.mark.parametrize(
    ("route", "key", "status"),
    [
        ("open", None, 200),
        ("open", "wrong", 200),
        ("keyed", None, 401),
        ("keyed", "", 401),
        ("keyed", "wrong", 401),
        ("keyed", "schlüssel", 401),
        ("keyed", "k1", 200),
        ("keyed", "h1", 200),
        ("keyed", "h2", 200),
        ("keyed", "m1", 200),
        ("other", "k1", 401),
        ("other", "h2", 200),
        ("admin-only", None, 401),
        ("admin-only", "wrong", 401),
        ("admin-only", "h1", 403),
        ("admin-only", "m1", 200),
    ],
)
async def test_keys_open_what_azure_lets_them_open(hosted: Any, route: str, key: str | None, status: int) -> None:
    """A function's key opens it, a host key every function, the master key all; by header and by `code` alike."""
    async with hosted("levels", keys=KEYS) as up:
        headers = {} if key is None else {"x-functions-key": key.encode()}
        by_header = await up.client.get(f"/api/{route}", headers=headers)
        by_code = await up.client.get(f"/api/{route}", params={} if key is None else {"code": key})
    assert (by_header.status_code, by_code.status_code) == (status, status)
    if status in {401, 403}:
        assert by_header.content == b""


async def test_the_header_is_read_before_the_query(hosted: Any) -> None:
    """A wrong header is not saved by a right `code`."""
    async with hosted("levels", keys=KEYS) as up:
        answer = await up.client.get("/api/keyed?code=k1", headers={"x-functions-key": "wrong"})
        assert answer.status_code == 401
        assert (await up.client.get("/api/keyed?code=wrong", headers={"x-functions-key": "k1"})).status_code == 200


@pytest.mark.parametrize(("key", "status"), [(None, 401), ("k1", 401), ("h1", 403), ("m1", 200)])
async def test_the_admin_routes_take_the_master_key(hosted: Any, key: str | None, status: int) -> None:
    """Only the master key lists and runs functions."""
    async with hosted("levels", keys=KEYS) as up:
        headers = {} if key is None else {"x-functions-key": key}
        assert (await up.client.get("/admin/functions", headers=headers)).status_code == status


@pytest.mark.parametrize(
    ("keys", "message"),
    [({"keyd": ["x"]}, "no function is called 'keyd'"), ({"keyed": []}, "keyed"), ({"host": [""]}, "host")],
)
async def test_keys_that_open_nothing_are_refused(hosted: Any, keys: Any, message: str) -> None:
    """A misspelt name or an empty key is a start error."""
    with pytest.raises(StartError, match=message):
        async with hosted("levels", keys=keys):
            pass
