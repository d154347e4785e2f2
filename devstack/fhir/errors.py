"""What the server answers when it does not do what was asked: a status and an OperationOutcome."""

from __future__ import annotations

from typing import Any


class FhirError(Exception):
    """An interaction ends with `status` and an OperationOutcome of issue type `code` (FHIR's issue-type codes)."""

    def __init__(self, status: int, code: str, message: str, *, etag: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.etag = etag

    def outcome(self) -> dict[str, Any]:
        """Return the OperationOutcome."""
        return outcome("error", self.code, str(self))


def outcome(severity: str, code: str, message: str) -> dict[str, Any]:
    """Return an OperationOutcome with one issue."""
    return {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": severity, "code": code, "diagnostics": message}],
    }


def invalid(message: str) -> FhirError:
    """Make the error for input that cannot be taken: 400."""
    return FhirError(400, "invalid", message)


def not_supported(feature: str) -> FhirError:
    """Make the error for a feature that the server does not have: 501, naming it."""
    return FhirError(501, "not-supported", f"{feature} is not supported by this server")


def precondition(message: str) -> FhirError:
    """Make the error for a condition that does not hold: 412."""
    return FhirError(412, "conflict", message)
