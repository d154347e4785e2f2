"""Check a resource against FHIR's structure with fhir.resources, if a deployment wants that.

The package has R5 and R4B but not R4; R4B is the nearest, and the types it lacks are said not to be checked. It judges
elements, cardinality and formats, not codes, profiles or reference targets. The relay carries on with the parsed JSON,
never with the models, which rewrite numbers and instants.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from typing import Any, Literal

from relay.errors import SettingsError
from relay.fhir.answers import FHIR_TYPE
from relay.mapping.model import Issue

_PACKAGE = "fhir.resources.R4B"
_MOST = 50  # issues about one resource; a wrong one is not wrong in a better way by having thousands


def check(resource: Mapping[str, Any], mode: Literal["off", "warn", "reject"]) -> tuple[Issue, ...]:
    """Return what is wrong with a resource: warnings (`warn`), errors (`reject`) or nothing at all (`off`).

    An issue holds the element's path and the kind of error, never a value, and no name that FHIR does not have. Raises
    SettingsError when the package is not there.
    """
    if mode == "off":
        return ()
    kind = resource.get("resourceType")
    model = _model(kind) if isinstance(kind, str) and FHIR_TYPE.fullmatch(kind) else None
    if model is None:
        message = "not checked: FHIR R4B has no such resource type, or the package lacks it"
        return (Issue("information", "not-validated", message, "resourceType"),)
    from pydantic import ValidationError  # with the models, only when they are used

    severity: Literal["warning", "error"] = "error" if mode == "reject" else "warning"
    try:
        model.model_validate(dict(resource))
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
    except Exception:  # noqa: BLE001  # the models break in many ways on what is no FHIR at all, such as unknown types
        return (Issue(severity, "structure", "a part of it is not FHIR R4B", str(kind)),)
    else:
        return ()
    return tuple(_issue(str(kind), severity, each["type"], each["loc"]) for each in found[:_MOST])


def _issue(kind: str, severity: Literal["warning", "error"], error: str, where: tuple[int | str, ...]) -> Issue:
    if error == "extra_forbidden":  # the last part is the sender's own word
        return Issue(severity, "structure", "an element that FHIR R4B does not have", _path(kind, where[:-1]))
    return Issue(severity, "structure", error.replace("_", " "), _path(kind, where))


def _path(kind: str, where: tuple[int | str, ...]) -> str:
    return kind + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where)


@lru_cache(maxsize=256)
def _model(kind: str) -> Any:
    """Import the model of a resource type; None for a type that R4B lacks."""
    try:
        package = import_module(_PACKAGE)
    except ModuleNotFoundError as error:
        message = "RELAY_VALIDATE needs the package fhir.resources: pip install fhir.resources, or set it to off"
        raise SettingsError(message) from error
    try:
        model = getattr(import_module(f"{package.__name__}.{kind.lower()}"), kind, None)
    except ModuleNotFoundError:
        return None
    resource = import_module(f"{package.__name__}.resource").Resource
    return model if isinstance(model, type) and issubclass(model, resource) else None
