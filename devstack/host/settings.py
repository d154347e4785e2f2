"""Reads local.settings.json and host.json, and resolves `%NAME%` and connections, as Core Tools does."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from devstack.host.errors import StartError

LOCAL_SETTINGS = "local.settings.json"
HOST_JSON = "host.json"
STORAGE = "AzureWebJobsStorage"

_TIME_SPAN = re.compile(r"(?:(\d+)\.)?(\d{1,2}):(\d{2}):(\d{2})(?:\.(\d{1,7}))?")
_KNOWN_KEYS = {
    "http": {"routePrefix"},
    "queues": {
        "batchSize",
        "newBatchThreshold",
        "maxDequeueCount",
        "visibilityTimeout",
        "maxPollingInterval",
        "messageEncoding",
    },
    "blobs": {"maxDegreeOfParallelism", "poisonBlobThreshold"},
}
_LONGEST_FUNCTION = timedelta(minutes=10)
_LARGEST_BATCH = 32


@dataclass(frozen=True, slots=True)
class HostJson:
    """What this host reads from host.json; the defaults are the platform's."""

    route_prefix: str = "api"
    batch_size: int = 16
    new_batch_threshold: int = 8
    max_dequeue_count: int = 5
    visibility_timeout: timedelta = timedelta(0)
    max_polling_interval: timedelta = timedelta(seconds=2)
    blob_parallelism: int = 8
    poison_blob_threshold: int = 5
    function_timeout: timedelta = timedelta(minutes=5)


def read_local_settings(root: Path) -> dict[str, str]:
    """Read `Values` of local.settings.json; none when the file is absent. StartError when it cannot be used."""
    content = _read_json(root / LOCAL_SETTINGS)
    if content.get("IsEncrypted"):
        raise StartError(f"{LOCAL_SETTINGS}: IsEncrypted is true; decrypt it with `func settings decrypt`")
    if other := set(content) - {"IsEncrypted", "Values"}:
        raise StartError(f"{LOCAL_SETTINGS}: {', '.join(sorted(other))} is not served (valid: IsEncrypted, Values)")
    values = content.get("Values") or {}
    for name, value in values.items():
        if not isinstance(value, str):
            raise StartError(f"{LOCAL_SETTINGS}: Values.{name} is not a string")
    if values.get("FUNCTIONS_WORKER_RUNTIME", "python") != "python":
        raise StartError(f"{LOCAL_SETTINGS}: FUNCTIONS_WORKER_RUNTIME is not python")
    return dict(values)


def read_host_json(root: Path) -> HostJson:
    """Read host.json; StartError names the key that is unknown or has a value that the platform would refuse."""
    content = _read_json(root / HOST_JSON)
    if "concurrency" in content:
        raise StartError(f"{HOST_JSON}: concurrency (dynamic concurrency) is not served")
    extensions = content.get("extensions") or {}
    for section, known in _KNOWN_KEYS.items():
        if unknown := set(extensions.get(section) or {}) - known:
            raise StartError(
                f"{HOST_JSON}: extensions.{section}.{min(unknown)} is not served (valid: {', '.join(sorted(known))})"
            )
    queues, blobs = extensions.get("queues") or {}, extensions.get("blobs") or {}
    if (encoding := queues.get("messageEncoding", "base64")) not in {"base64", "none"}:
        raise StartError(f"{HOST_JSON}: extensions.queues.messageEncoding is {encoding!r} (valid: base64, none)")
    batch_size = _number("queues.batchSize", queues, 16, most=_LARGEST_BATCH)
    timeout = _time_span("functionTimeout", content.get("functionTimeout", "00:05:00"))
    if not timedelta(0) < timeout < _LONGEST_FUNCTION:
        raise StartError(f"{HOST_JSON}: functionTimeout {timeout} is not served (valid: below {_LONGEST_FUNCTION})")
    return HostJson(
        route_prefix=str((extensions.get("http") or {}).get("routePrefix", "api")).strip("/"),
        batch_size=batch_size,
        new_batch_threshold=_number("queues.newBatchThreshold", queues, batch_size // 2, least=0),
        max_dequeue_count=_number("queues.maxDequeueCount", queues, 5),
        visibility_timeout=_time_span("queues.visibilityTimeout", queues.get("visibilityTimeout", "00:00:00")),
        max_polling_interval=_time_span("queues.maxPollingInterval", queues.get("maxPollingInterval", "00:00:02")),
        blob_parallelism=_number("blobs.maxDegreeOfParallelism", blobs, 8),
        poison_blob_threshold=_number("blobs.poisonBlobThreshold", blobs, 5),
        function_timeout=timeout,
    )


def resolve(text: str, environ: Mapping[str, str], where: str) -> str:
    """Replace each `%NAME%` by that setting; StartError names a setting that is missing."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in environ:
            raise StartError(f"{where}: the setting {match[1]} (in {text!r}) is not set")
        return environ[match[1]]

    return re.sub(r"%([^%]+)%", value, text)


def connection_settings(name: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Find what Azure would read for a connection: NAME, and the identity form NAME__*; empty values are not set."""
    return {
        setting: value.strip()
        for setting, value in environ.items()
        if value.strip() and (setting == name or setting.startswith(f"{name}__"))
    }


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise StartError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise StartError(f"{path}: not a JSON object")
    return content


def _number(key: str, section: Mapping[str, Any], default: int, *, least: int = 1, most: int = 10_000) -> int:
    value = section.get(key.rpartition(".")[2], default)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise StartError(f"{HOST_JSON}: extensions.{key} is {value!r} (valid: {least} to {most})")
    return value


def _time_span(key: str, value: object) -> timedelta:
    if not isinstance(value, str) or not (match := _TIME_SPAN.fullmatch(value)):
        raise StartError(f"{HOST_JSON}: {key} is {value!r} (valid: hh:mm:ss)")
    days, hours, minutes, seconds, fraction = match.groups()
    return timedelta(
        days=int(days or 0),
        hours=int(hours),
        minutes=int(minutes),
        seconds=int(seconds),
        microseconds=int((fraction or "0").ljust(7, "0")[:6]),
    )
