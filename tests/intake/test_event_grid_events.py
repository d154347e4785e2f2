"""Events of Azure Health Data Services: which resource they tell of, and which are not for this FHIR server."""

from __future__ import annotations

from typing import Any

import pytest

from relay.errors import Refused
from relay.inbound.change import Change
from relay.inbound.event_grid import read_event

HOST = "ws-fhir.fhir.azurehealthcareapis.com"
DATA = {"resourceType": "Patient", "resourceFhirAccount": HOST, "resourceFhirId": "p1", "resourceVersionId": 3}
KIND = "Microsoft.HealthcareApis.FhirResource"


@pytest.mark.parametrize(("word", "op"), [("Created", "create"), ("Updated", "update"), ("Deleted", "delete")])
def test_an_event_is_a_change_without_a_body(word: str, op: Any) -> None:
    """The three types of events; the version's number is a text like every version."""
    assert read_event(KIND + word, DATA, HOST) == Change("event-grid", "Patient", "p1", "3", op, None)


@pytest.mark.parametrize(("version", "read"), [("4", "4"), (None, None), (True, None), ([4], None)])
def test_a_version_is_a_hint(version: Any, read: str | None) -> None:
    """What is no version is left out: the server is asked for the resource anyway."""
    change = read_event(KIND + "Updated", DATA | {"resourceVersionId": version}, HOST)
    assert change is not None
    assert change.version == read


def test_what_is_of_another_account_or_kind_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    """Another FHIR service of the workspace, images, and tables of the platform: logged, without an id."""
    caplog.set_level("INFO")
    assert (
        read_event(KIND + "Updated", DATA | {"resourceFhirAccount": "other.fhir.azurehealthcareapis.com"}, HOST) is None
    )
    assert read_event("Microsoft.HealthcareApis.DicomImageCreated", DATA, HOST) is None
    assert read_event(None, DATA, HOST) is None
    assert [each.levelname for each in caplog.records] == ["WARNING", "INFO", "INFO"]
    assert "p1" not in caplog.text
    assert read_event(KIND + "Updated", DATA | {"resourceFhirAccount": HOST.upper()}, HOST) is not None


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (None, "not-an-event"),
        ([], "not-an-event"),
        ({**DATA, "resourceFhirId": 7}, "not-an-event"),
        ({**DATA, "resourceFhirId": "../Practitioner/1"}, "invalid-id"),
        ({**DATA, "resourceType": "patient"}, "invalid-id"),
    ],
)
def test_what_names_no_resource_is_refused(data: Any, code: str) -> None:
    """A name becomes part of a URL, so it must be a FHIR type and id."""
    with pytest.raises(Refused) as refused:
        read_event(KIND + "Updated", data, HOST)
    assert refused.value.code == code
