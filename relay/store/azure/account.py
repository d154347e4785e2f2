"""Which storage account is meant: the Functions host's own connection settings, read as the host reads them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from relay.errors import SettingsError

CONNECTION = "AzureWebJobsStorage"

SERVICES = ("blob", "queue", "table")

# learn.microsoft.com, "Connect to Azurite": the account, its key and the ports that every emulator has. No secret.
EMULATOR = {
    "AccountName": "devstoreaccount1",
    "AccountKey": "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
    "BlobEndpoint": "http://127.0.0.1:10000/devstoreaccount1",
    "QueueEndpoint": "http://127.0.0.1:10001/devstoreaccount1",
    "TableEndpoint": "http://127.0.0.1:10002/devstoreaccount1",
}
_DEVELOPMENT = "UseDevelopmentStorage"

_IDENTITY = ("accountName", "blobServiceUri", "queueServiceUri", "tableServiceUri", "credential", "clientId")


@dataclass(frozen=True, slots=True)
class Account:
    """A storage account: the address of each service (no `/` at the end), and what proves who we are.

    Either `key` and `name` (shared key), `sas` (a shared access signature), or neither: then an Entra token is used,
    of the identity `client_id` if it is set; `managed` is whether nothing but a managed identity may be asked.
    """

    addresses: Mapping[str, str]
    name: str = ""
    key: str = field(default="", repr=False)
    sas: str = field(default="", repr=False)
    managed: bool = False
    client_id: str = ""


def read_account(environ: Mapping[str, str], connection: str = CONNECTION) -> Account:
    """Read the connection from settings: `<connection>` (a connection string) or `<connection>__…` (an identity).

    Raises SettingsError naming the setting that is missing, unknown or one too many; never a value.
    """
    text = environ.get(connection, "").strip()
    named = {
        name.removeprefix(f"{connection}__"): value.strip()
        for name, value in environ.items()
        if name.startswith(f"{connection}__") and value.strip()
    }
    if text and named:
        raise SettingsError(
            f"{connection} and {connection}__{min(named)} are both set: a connection string or an identity"
        )
    if text:
        return _of_connection_string(text, connection)
    if named:
        return _of_identity(named, connection)
    valid = f"{connection} (a connection string), {connection}__accountName (an identity)"
    raise SettingsError(f"no storage account is named (valid: {valid}; or RELAY_STORE=file:<folder> on one machine)")


def _of_connection_string(text: str, connection: str) -> Account:
    parts: dict[str, str] = {}
    for part in filter(None, (each.strip() for each in text.split(";"))):
        name, equals, value = part.partition("=")
        if not equals:
            raise SettingsError(f"{connection} is no connection string: a part without `=`")
        parts[name] = value
    if parts.get(_DEVELOPMENT, "").lower() == "true":
        parts = EMULATOR | parts
    name, key, sas = (parts.get(each, "") for each in ("AccountName", "AccountKey", "SharedAccessSignature"))
    if not (name and key) and not sas:
        raise SettingsError(f"{connection} needs AccountName and AccountKey, or SharedAccessSignature")
    try:
        base64.b64decode(key, validate=True)
    except ValueError:
        raise SettingsError(f"{connection}: AccountKey is not base64") from None
    protocol, suffix = parts.get("DefaultEndpointsProtocol", "https"), parts.get("EndpointSuffix", "core.windows.net")
    addresses = {}
    for service in SERVICES:
        address = parts.get(f"{service.title()}Endpoint") or (f"{protocol}://{name}.{service}.{suffix}" if name else "")
        addresses[service] = _address(address, f"{connection}: {service.title()}Endpoint", secure=False)
    return Account(addresses, name, key, "" if key else sas.removeprefix("?"))


def _of_identity(named: Mapping[str, str], connection: str) -> Account:
    if unknown := set(named) - set(_IDENTITY):
        raise SettingsError(f"{connection}__{min(unknown)} is not supported (valid: {', '.join(_IDENTITY)})")
    if (credential := named.get("credential", "")) not in ("", "managedidentity"):
        raise SettingsError(f"{connection}__credential is {credential!r} (valid: managedidentity, or not set)")
    given = {service: named.get(f"{service}ServiceUri", "") for service in SERVICES}
    name = named.get("accountName", "")
    if name and any(given.values()):
        # the host itself takes the one for queues and the other for blobs
        raise SettingsError(f"{connection}__accountName and {connection}__…ServiceUri are both set: choose one form")
    if name and not (name.isascii() and name.isalnum()):
        raise SettingsError(f"{connection}__accountName is not the name of an account")
    if name:
        given = {service: f"https://{name}.{service}.core.windows.net" for service in SERVICES}
    addresses = {each: _address(given[each], f"{connection}__{each}ServiceUri", secure=True) for each in SERVICES}
    return Account(addresses, managed=bool(credential), client_id=named.get("clientId", ""))


def _address(url: str, setting: str, *, secure: bool) -> str:
    """Return the URL without its last slash; a token goes only over https."""
    parts = urlsplit(url)
    schemes = ("https",) if secure else ("http", "https")
    if parts.scheme not in schemes or not parts.hostname or parts.query or parts.fragment:
        raise SettingsError(f"{setting} must be a URL ({' or '.join(schemes)}) without a query")
    return url.rstrip("/")
