from __future__ import annotations

import copy
import subprocess
import sys
from decimal import Decimal
from typing import Any

import pytest

from relay.errors import SettingsError
from relay.inbound import validate
from relay.inbound.validate import check

WRONG: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "p1",
    "birthDate": "Canary",
    "gender": ["Canary"],
    "name": [{"family": 5, "Canary": "Canary"}],
}


def test_a_right_resource_has_no_issues() -> None:
    """A resource that R4B takes has no issues, exact numbers included, and is not changed."""
    resource = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
    resource["valueQuantity"] = {"value": Decimal("1.10")}
    before = copy.deepcopy(resource)
    assert check(resource, "reject") == ()
    assert resource == before


@pytest.mark.parametrize(("mode", "severity"), [("warn", "warning"), ("reject", "error")])
def test_the_mode_decides_how_bad_it_is(mode: Any, severity: str) -> None:
    """What is wrong is a warning or an error, with the element's path; `off` looks at nothing."""
    issues = check(WRONG, mode)
    assert {issue.severity for issue in issues} == {severity}
    assert {issue.at for issue in issues} == {
        "Patient.birthDate",
        "Patient.gender",
        "Patient.name[0].family",
        "Patient.name[0]",
    }
    assert check(WRONG, "off") == ()


@pytest.mark.parametrize(
    "resource",
    [
        WRONG,
        {"resourceType": "Patient", "contained": [{"resourceType": "Canary"}]},
        {"resourceType": "Patient", "Canary": {"Canary": "Canary"}},
        {"resourceType": "Patient", "extension": [{"url": "u", "valueString": "Canary", "valueCode": "Canary"}]},
        {"resourceType": "Canary"},
    ],
)
def test_issues_hold_no_values_and_no_foreign_names(resource: dict[str, Any]) -> None:
    """Neither values nor names that FHIR does not have reach an issue."""
    issues = check(resource, "reject")
    assert issues
    assert "Canary" not in repr(issues)


@pytest.mark.parametrize(
    "kind",
    ["SubstanceSpecification", "Element", "Os", "PATIENT", "../x", "os.path", "", None, ["Patient"], "Fhirtypes"],
)
def test_a_type_that_is_not_there_is_said_not_to_be_checked(kind: object) -> None:
    """R4 types that R4B lacks, and names that are no resource types, are an information, never an error."""
    (issue,) = check({"resourceType": kind}, "reject")
    assert (issue.severity, issue.code, issue.at) == ("information", "not-validated", "resourceType")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without fhir.resources the error says what to install and what to set."""

    def missing(_name: str) -> None:
        raise ModuleNotFoundError

    monkeypatch.setattr(validate, "import_module", missing)
    validate._model.cache_clear()
    with pytest.raises(SettingsError, match=r"pip install fhir\.resources.*off"):
        check(WRONG, "warn")


def test_the_package_is_loaded_only_when_used() -> None:
    """Importing the relay's check, or asking it for `off`, loads neither fhir.resources nor its models."""
    program = (
        "import sys; from relay.inbound.validate import check; check({'resourceType': 'Patient'}, 'off');"
        "sys.exit(any(name.startswith('fhir') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0  # noqa: S603  # our own interpreter
