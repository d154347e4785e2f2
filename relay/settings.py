"""Every setting of the relay: name, type, default, meaning. Each is the environment variable `RELAY_<NAME>`."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from relay.errors import SettingsError

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_GUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_BYPASS = rf"(?:CustomSync|CustomAsync|{_GUID})"
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, None: 1}


def _duration(value: object) -> object:
    """Read `30`, `30s`, `5m`, `24h` or `7d`; anything else is left to pydantic (ISO 8601)."""
    if isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())):
        return timedelta(seconds=min(float(match[1]) * _UNITS[match[2]], timedelta.max.total_seconds() / 2))
    return value


SCHEDULE = r"\S+(?: \S+){5}"
"""A schedule of a timer: seconds, minutes, hours, days, months, days of the week."""


def read_blob_source(value: str) -> str:
    """Return the source of blobs in its own spelling: `EventGrid`, as bindings have it, is `event-grid`."""
    word = value.strip().lower()
    return "event-grid" if word == "eventgrid" else word


_LONGEST = timedelta(days=36500)
"""Nothing lasts longer: a time that much before now must be one."""

Duration = Annotated[timedelta, BeforeValidator(_duration), Field(ge=timedelta(0), le=_LONGEST)]


class Settings(BaseSettings):
    """What a deployment chooses; read once per process by `load_settings`."""

    model_config = SettingsConfigDict(env_prefix="RELAY_", extra="ignore", frozen=True, populate_by_name=True)

    # the two sides
    dataverse_url: str = Field("", description="Root of the Dataverse org, such as https://org.crm.dynamics.com")
    fhir_url: str = Field("", description="Base of the FHIR server, such as https://x.fhir.azurehealthcareapis.com")
    source_name: str = Field(
        "fhir", min_length=1, description="Names the FHIR source in derived row keys; it survives a move of the server"
    )
    maps: Path = Field(Path("maps"), description="Folder of entity maps and metadata.json")
    maps_container: str = Field(
        "", description="Blob container of the maps, taken up when they change; empty: the folder, read once"
    )
    maps_every: Duration = Field(
        timedelta(seconds=30), description="How often the container is looked at for changed maps"
    )
    store: str = Field(
        "", description="`file:<folder>` for the local store; empty: the storage that AzureWebJobsStorage names"
    )

    # behaviour
    writeback: Literal["inline", "event"] = Field(
        "inline", description="What causes a write-back: the relay itself at once, or the post-create event alone"
    )
    write: Literal["auto", "fewest-calls"] = Field(
        "auto",
        description="How rows are written: in as few calls as the limits allow, or (auto) large plans in bulk and side by side",
    )
    bulk_from: int = Field(
        100, ge=1, description="From how many rows to write on `auto` writes in bulk; below, each resource is atomic"
    )
    bulk_rows: int = Field(
        500, ge=1, le=1000, description="Most rows in one bulk call: it should end within 10 seconds"
    )
    window: int = Field(
        1000,
        ge=500,
        description="Most resources of a bundle that are worked on at once; a larger one is done in parts",
    )
    trust_sent_bodies: bool = Field(
        default=False, description="The sender forwards the server's own bodies: one read less per write-back"
    )
    forward: bool = Field(
        default=False, description="Bundles go to the FHIR server first, then to Dataverse with the ids it answered"
    )
    identifier_rows: Literal["relay", "plugin"] = Field(
        "relay", description="Who creates the identifier row (system, GUID): the relay, or a plug-in of the site"
    )
    row_gone: Literal["fail", "recreate"] = Field(
        "fail", description="A resource names the GUID of a row that is gone: fail it, or create the row again"
    )
    fhir_versions: Literal["auto", "opaque", "ordered"] = Field(
        "auto", description="Whether the server's versionIds are integers that grow; auto: as is known of its kind"
    )
    validate_bundles: Literal["off", "warn", "reject"] = Field(
        "off", alias="RELAY_VALIDATE", description="Check resources with fhir.resources (R4B)"
    )
    retry_for: Duration = Field(timedelta(hours=24), description="How long a transient failure is retried")
    retry_first: Duration = Field(timedelta(seconds=5), description="The first delay between two tries; it doubles")
    retry_longest: Duration = Field(timedelta(minutes=15), description="The longest delay between two tries")
    references_for: Duration = Field(
        timedelta(minutes=15),
        description="How long lines of an NDJSON file are tried again that refer to what has no row yet",
    )
    inline_wait: Duration = Field(
        timedelta(seconds=60), description="How long an event waits for the inline write-back of the same row"
    )
    resume_after: Duration = Field(
        timedelta(minutes=5), description="When a synchronous request that never ended is taken up by the worker"
    )
    retention_days: int = Field(30, ge=1, le=_LONGEST.days, description="Days that outcomes and dead letters are kept")
    blob_source: Annotated[Literal["polling", "event-grid"], BeforeValidator(read_blob_source)] = Field(
        "polling", description="What announces blobs: polling, or Event Grid (Flex Consumption)"
    )

    # how changes are heard of
    pubsub_audience: str = Field("", description="Audience of Google's push tokens, as the subscription has it")
    pubsub_email: str = Field("", description="Service account of Google's push tokens, as the subscription has it")
    poll: str = Field(
        "",
        pattern=rf"^(?:{SCHEDULE})?$",
        description="When the FHIR server is asked for changes, in six fields such as `0 */5 * * * *`; empty: never",
    )
    poll_overlap: Duration = Field(
        timedelta(minutes=5),
        description="How far back from where polling was it asks again, for versions that come late",
    )

    # limits of what is taken in
    max_body_bytes: int = Field(32 * 1024 * 1024, ge=1, description="Largest body, before and after decompression")
    max_ratio: int = Field(100, ge=1, description="Largest decompression ratio")
    max_depth: int = Field(100, ge=1, description="Deepest nesting of JSON")
    max_entries: int = Field(5000, ge=1, description="Most entries in a bundle")
    max_string: int = Field(1024 * 1024, ge=1, description="Longest string in a bundle, in characters")
    max_file_bytes: int = Field(
        512 * 1024 * 1024, ge=1, description="Largest NDJSON file, as it is dropped: the host hands it over whole"
    )
    max_lines: int = Field(5_000_000, ge=1, description="Most lines of an NDJSON file")
    max_line_bytes: int = Field(8 * 1024 * 1024, ge=1, description="Longest line of an NDJSON file")
    file_window_bytes: int = Field(
        4 * 1024 * 1024,
        ge=1,
        description="Most bytes of an NDJSON file that are worked on at once; a longer line goes alone",
    )
    work_bytes: int = Field(
        12 * 1024 * 1024,
        ge=1,
        description="Most bytes of bundles in work at once in a process; a larger one goes alone",
    )
    async_over_bytes: int = Field(
        4 * 1024 * 1024, ge=0, description="Bodies above this are answered 202 and worked on afterwards"
    )
    fhir_batch_entries: int = Field(
        0, ge=0, description="Most entries the FHIR server takes in one batch; 0: as is known of its kind"
    )
    timeout: Duration = Field(timedelta(seconds=100), description="Longest wait for one answer of either side")

    # who the relay is
    dataverse_auth: Literal["none", "managed_identity", "client_secret", "certificate"] = Field(
        "managed_identity", description="How the relay signs in to Dataverse"
    )
    caller_object_id: str = Field(
        "",
        pattern=f"^(?:{_GUID})?$",
        description="Entra object id of the user for whom rows are written (needs prvActOnBehalfOfAnotherUser); empty: the app",
    )
    bypass: str = Field(
        "",
        pattern=rf"^(?:{_BYPASS}(?:\s*,\s*{_BYPASS})*)?$",
        description="Custom logic that the relay's writes leave out: `CustomSync`, `CustomAsync`, ids of steps, with commas",
    )
    dataverse_organization_id: str = Field("", description="If set, events of any other organisation are refused")
    fhir_auth: Literal["none", "entra", "client_credentials", "google", "header"] = Field(
        "entra", description="How the relay signs in to the FHIR server"
    )
    tenant_id: str = Field("", description="Entra tenant of the app registration (client_secret, certificate)")
    client_id: str = Field("", description="Client id of the app registration, or of a user-assigned identity")
    client_secret: SecretStr = Field(SecretStr(""), description="Secret of the app registration")
    client_certificate: str = Field("", description="Path of a PEM file with key and certificate")
    fhir_scope: str = Field(
        "", description="Scope asked for; empty means <fhir_url>/.default, with google its cloud-platform scope"
    )
    fhir_token_url: str = Field("", description="Token endpoint (client_credentials)")
    fhir_client_id: str = Field("", description="Client id at that endpoint (client_credentials)")
    fhir_client_secret: SecretStr = Field(SecretStr(""), description="Its secret (client_credentials)")
    fhir_header: SecretStr = Field(SecretStr(""), description="`Name: value` sent with each request (header)")
    google_credentials: SecretStr = Field(
        SecretStr(""),
        description="JSON of a Google service account or external account, or the path of its file (google); empty: application default credentials",
    )
    log_key: SecretStr = Field(
        SecretStr(""),
        description="Key of the HMACs that stand for ids in logs and tables; empty: a new one per process",
    )


def load_settings(**overrides: object) -> Settings:
    """Read the environment; a keyword wins over it. Raises SettingsError naming the setting, not its value."""
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # pydantic converts each to its field's type
    except ValidationError as error:
        lines = [f"RELAY_{'_'.join(map(str, each['loc'])).upper()}: {each['msg']}" for each in error.errors()]
        raise SettingsError("; ".join(lines).replace("RELAY_RELAY_", "RELAY_")) from None
