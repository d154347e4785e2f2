"""Which store is opened: a folder, or the storage account that the Functions host uses too."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from relay.errors import SettingsError, StoreUnavailable
from relay.store.azure.account import Account, read_account
from relay.store.azure.store import AzureStore
from relay.store.local import LocalStore
from relay.store.open import open_store

STORAGE = "AzureWebJobsStorage"
KEY = "c2VjcmV0"
STRING = f"DefaultEndpointsProtocol=https;AccountName=x;AccountKey={KEY};EndpointSuffix=core.windows.net"


def addresses(name: str, suffix: str = "core.windows.net") -> dict[str, str]:
    return {each: f"https://{name}.{each}.{suffix}" for each in ("blob", "queue", "table")}


ACCOUNTS: dict[str, tuple[Mapping[str, str], Account]] = {
    "connection string": ({STORAGE: STRING}, Account(addresses("x"), "x", KEY)),
    "sovereign cloud": (
        {STORAGE: f"AccountName=x;AccountKey={KEY};EndpointSuffix=core.chinacloudapi.cn;"},
        Account(addresses("x", "core.chinacloudapi.cn"), "x", KEY),
    ),
    "Azurite": (
        {STORAGE: "UseDevelopmentStorage=true"},
        Account(
            {
                s: f"http://127.0.0.1:{p}/devstoreaccount1"
                for s, p in (("blob", 10000), ("queue", 10001), ("table", 10002))
            },
            "devstoreaccount1",
            "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
        ),
    ),
    "shared access signature": (
        {
            STORAGE: "BlobEndpoint=https://b/;QueueEndpoint=https://q;TableEndpoint=https://t;SharedAccessSignature=?sv=1&sig=2%3D"
        },
        Account({"blob": "https://b", "queue": "https://q", "table": "https://t"}, sas="sv=1&sig=2%3D"),
    ),
    "account name": (
        {f"{STORAGE}__accountName": "x", f"{STORAGE}__credential": "managedidentity", f"{STORAGE}__clientId": "id"},
        Account(addresses("x"), managed=True, client_id="id"),
    ),
    "service addresses": (
        {f"{STORAGE}__{each}ServiceUri": f"https://{each}.example/" for each in ("blob", "queue", "table")},
        Account({each: f"https://{each}.example" for each in ("blob", "queue", "table")}),
    ),
}


@pytest.mark.parametrize(("environ", "account"), ACCOUNTS.values(), ids=ACCOUNTS)
def test_the_hosts_connection_is_read_as_the_host_reads_it(environ: Mapping[str, str], account: Account) -> None:
    """Every form that the Functions host takes names the same account to the relay."""
    assert read_account({"PATH": "x", **environ}) == account
    assert KEY not in repr(read_account(environ))


REFUSED: dict[str, tuple[Mapping[str, str], str]] = {
    "nothing": ({}, "no storage account is named"),
    "no pairs": ({STORAGE: KEY}, "AzureWebJobsStorage is no connection string"),
    "no key": ({STORAGE: "AccountName=x"}, "needs AccountName and AccountKey, or SharedAccessSignature"),
    "key": ({STORAGE: f"AccountName=x;AccountKey={KEY}?"}, "AccountKey is not base64"),
    "address": ({STORAGE: f"{STRING};BlobEndpoint=ftp://x"}, "BlobEndpoint must be a URL"),
    "half a signature": ({STORAGE: "SharedAccessSignature=sig;BlobEndpoint=https://b"}, "QueueEndpoint must be a URL"),
    "both": ({STORAGE: STRING, f"{STORAGE}__accountName": "x"}, "AzureWebJobsStorage__accountName are both set"),
    "unknown": (
        {f"{STORAGE}__clientSecret": KEY},
        "__clientSecret is not supported .valid: accountName, blobServiceUri",
    ),
    "credential": ({f"{STORAGE}__accountName": "x", f"{STORAGE}__credential": "secret"}, "valid: managedidentity"),
    "two forms": (
        {f"{STORAGE}__accountName": "x", f"{STORAGE}__queueServiceUri": "https://q"},
        "__accountName and AzureWebJobsStorage__…ServiceUri are both set",
    ),
    "two of three": (
        {f"{STORAGE}__blobServiceUri": "https://b", f"{STORAGE}__queueServiceUri": "https://q"},
        "__tableServiceUri must be a URL",
    ),
    "a token in clear": (
        {f"{STORAGE}__{s}ServiceUri": "http://b" for s in ("blob", "queue", "table")},
        "must be a URL .https",
    ),
    "a name of a host": ({f"{STORAGE}__accountName": "evil.example/x"}, "is not the name of an account"),
}


@pytest.mark.parametrize(("environ", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_connection_that_cannot_be_meant_is_refused(environ: Mapping[str, str], reason: str) -> None:
    """The error names the setting and never repeats a key."""
    with pytest.raises(SettingsError, match=reason) as error:
        read_account(environ)
    assert KEY not in str(error.value)


async def test_the_setting_file_opens_the_local_store(tmp_path: Path) -> None:
    """`file:<folder>` names the local store, in either setting."""
    for text, environ in ((f" file:{tmp_path}/x ", {}), ("", {STORAGE: f"file:{tmp_path}/x"})):
        store = open_store(text, environ)
        assert isinstance(store, LocalStore)
        assert store.folder == tmp_path / "x"
        await store.close()


async def test_without_the_setting_the_apps_own_account_is_the_store() -> None:
    """An empty RELAY_STORE means the account of AzureWebJobsStorage; nothing is asked of it yet."""
    store = open_store("", {STORAGE: STRING})
    assert isinstance(store, AzureStore)
    assert store.account.addresses == addresses("x")
    await store.close()
    for call in (store.get_blob("bundles", "a"), store.send("inbound", "x"), store.get_row("Outcomes", "p", "r")):
        with pytest.raises(StoreUnavailable, match="closed"):
            await call


@pytest.mark.parametrize("text", ["UseDevelopmentStorage=true", STRING, "https://x.blob.core.windows.net", "x"])
def test_a_connection_string_in_the_wrong_setting_is_refused(text: str) -> None:
    """RELAY_STORE takes a folder only, says where an account is named, and does not repeat a key."""
    with pytest.raises(SettingsError, match=r"RELAY_STORE is not file:<folder>: .* AzureWebJobsStorage") as error:
        open_store(text, {})
    assert KEY not in str(error.value)


@pytest.mark.parametrize("environ", [{STORAGE: STRING}, {f"{STORAGE}__accountName": "x"}], ids=["string", "identity"])
def test_a_folder_beside_an_account_is_refused(environ: Mapping[str, str]) -> None:
    """The host listens on its account: what the relay queued in a folder nobody would ever work on."""
    with pytest.raises(SettingsError, match="RELAY_STORE and AzureWebJobsStorage name two stores"):
        open_store("file:.relay", environ)


@pytest.mark.parametrize("text", ["file:", "file://host/share"])
def test_a_setting_without_a_folder_is_refused(text: str) -> None:
    """A URL with a host is no folder."""
    with pytest.raises(SettingsError, match="names no folder"):
        open_store(text, {})


@pytest.mark.parametrize(
    ("setting", "absent"),
    [("", ["azure.core", "requests", "sqlite3", "httpx"]), ("file:x", ["azure.core", "requests", "httpx"])],
    ids=["account", "folder"],
)
def test_opening_a_store_imports_no_client(setting: str, absent: list[str]) -> None:
    """A cold start pays for the store it uses, when it uses it: nothing of the SDK until the first call, and never on a folder."""
    program = (
        "import sys; before = set(sys.modules)\n"
        "import relay.store.open as it\n"
        f"it.open_store({setting!r}, {{{STORAGE!r}: 'UseDevelopmentStorage=true'}} if not {setting!r} else {{}})\n"
        f"print([name for name in {absent!r} if name in sys.modules and name not in before])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)  # noqa: S603 - this interpreter
    assert done.stdout.strip() == "[]"
