"""Blob functions: seen once whole, tried five times, then poison."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from devstack.host import HostError, StartError
from devstack.host.blobs import BlobPath

HOST_JSON = '{"extensions": {"queues": {"visibilityTimeout": "00:00:30"}}}'


async def test_a_blob_counts_once_it_stays_the_same(hosted: Any) -> None:
    """A file that grows between two looks is still being written; once it stays, it runs once."""
    async with hosted("blob", host_json=HOST_JSON) as up:
        folder = up.store.folder / "bundles" / "ward"
        folder.mkdir(parents=True)
        (folder / "a.json").write_bytes(b"on")
        assert await up.host.step() == 0
        (folder / "a.json").write_bytes(b"one")
        assert await up.host.step() == 0
        assert await up.host.step() == 1
        assert up.app.seen == [("bundles/ward/a.json", b"one", 3)]
        assert await up.host.run_due() == 0


async def test_a_replaced_blob_runs_again(hosted: Any) -> None:
    """A blob is known by its etag, not by its name."""
    async with hosted("blob") as up:
        for data in (b"1", b"2"):
            await up.store.put_blob("bundles", "a.json", data)
            await up.host.run_due()
        assert [data for _, data, _ in up.app.seen] == [b"1", b"2"]


async def test_a_blob_that_ran_does_not_run_after_a_restart(hosted: Any) -> None:
    """Receipts outlive the host."""
    async with hosted("blob") as up:
        await up.store.put_blob("bundles", "a.json", b"1")
        await up.host.run_due()
    async with hosted("blob") as up:
        assert await up.host.run_due() == 0
        assert up.app.seen == []


async def test_other_blobs_are_left_alone(hosted: Any) -> None:
    """Only names that fit the path count."""
    async with hosted("blob") as up:
        await up.store.put_blob("bundles", "a.txt", b"1")
        await up.store.put_blob("others", "a.json", b"1")
        assert await up.host.run_due() == 0


async def test_a_failing_blob_is_tried_five_times(hosted: Any, clock: Any) -> None:
    """After the fifth try the blob's particulars go to the poison queue, and its function takes them."""
    async with hosted("blob", host_json=HOST_JSON) as up:
        await up.store.put_blob("bundles", "bad.json", b"fail")
        etag = (await up.store.list_blobs("bundles"))[0].etag
        for tries in range(1, 6):
            await up.host.run_due()
            assert len(up.app.seen) == tries
            clock.advance(seconds=30)
        assert [json.loads(each) for each in up.app.poison] == [
            {
                "FunctionId": "Host.Functions.bundle_blob",
                "BlobType": "BlockBlob",
                "ContainerName": "bundles",
                "BlobName": "bad.json",
                "ETag": etag,
            }
        ]
        assert await up.host.next_due() is None


async def test_a_blob_that_vanished_or_changed_is_not_run_stale(hosted: Any, clock: Any) -> None:
    """A try of a blob that is gone ends quietly; one that was replaced leaves it to the new one."""
    async with hosted("blob", host_json=HOST_JSON) as up:
        await up.store.put_blob("bundles", "gone.json", b"fail")
        await up.store.put_blob("bundles", "new.json", b"fail")
        await up.host.run_due()
        assert len(up.app.seen) == 2
        await up.store.delete_blob("bundles", "gone.json")
        await up.store.put_blob("bundles", "new.json", b"good")
        clock.advance(seconds=30)
        await up.host.run_due()
        assert up.app.seen[2:] == [("bundles/new.json", b"good", 4)]
        assert await up.host.next_due() is None


async def test_a_polling_host_finds_a_dropped_file(hosted: Any) -> None:
    """A file that a person drops into the folder runs by itself, and idle waits for it."""
    async with hosted("blob", real_clock=True) as up:
        folder = up.store.folder / "bundles"
        folder.mkdir(parents=True)
        (folder / "a.json").write_bytes(b"dropped")
        os.utime(folder / "a.json", (1, 1))
        await up.host.idle()
        assert up.app.seen == [("bundles/a.json", b"dropped", 7)]


async def test_a_blob_function_runs_by_name_on_a_blob(hosted: Any) -> None:
    """The input names the blob, with its container."""
    async with hosted("blob") as up:
        await up.store.put_blob("bundles", "a.json", b"1")
        await up.host.invoke("bundle_blob", "bundles/a.json")
        assert up.app.seen == [("bundles/a.json", b"1", 1)]
        with pytest.raises(HostError, match="no blob"):
            await up.host.invoke("bundle_blob", "bundles/none.json")


@pytest.mark.parametrize(
    ("path", "name", "tokens"),
    [
        ("bundles/{name}", "a/b.json", {"name": "a/b.json"}),
        ("bundles/in/{name}.{ext}", "in/a.b.json", {"name": "a.b", "ext": "json"}),
        ("bundles/in/{name}", "out/a", None),
        ("bundles/fixed.json", "fixed.json", {}),
    ],
)
def test_tokens_of_a_path_take_what_fits(path: str, name: str, tokens: dict[str, str] | None) -> None:
    """A token takes any characters, slashes too; the rest has to be as written."""
    assert BlobPath.of("f", path).match(name) == tokens


@pytest.mark.parametrize("path", ["bundles", "bundles/", "{container}/a", "bundles/{na me}", "Bundles/{name}"])
def test_a_path_that_cannot_be_watched_is_a_start_error(path: str) -> None:
    """The error names the function and the path."""
    with pytest.raises(StartError, match="f: blob path"):
        BlobPath.of("f", path)
