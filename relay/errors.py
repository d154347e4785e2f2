"""Every error the relay raises; a class says what the caller must do, `code` says what happened.

RelayError
├── Terminal             the same input gives the same answer: report it, do not retry
│   ├── Refused          the input cannot be taken: answer `status` with an OperationOutcome
│   ├── SettingsError    a setting is missing or wrong: the app does not start
│   ├── MapError         a map is wrong: names file, line, key and the valid choices
│   ├── Failed           one resource cannot be carried out: report it in the outcome
│   └── Unsupported      a feature that is not there (yet): names the feature
├── Race                 somebody else wrote first: read again, plan again, write again
└── Transient            the other side is away or busy: try again after `retry_after` seconds
    └── StoreUnavailable nothing was accepted: answer 503 so that the sender retries
"""

from __future__ import annotations


class RelayError(Exception):
    """The root of every error the relay raises.

    `code` is a stable kebab-case word for outcomes, logs and dead letters. Neither `code` nor the message
    carries patient data.
    """

    def __init__(self, message: str, *, code: str = "error") -> None:
        super().__init__(message)
        self.code = code


class Terminal(RelayError):
    """The same input gives the same answer: report it, do not retry."""


class Refused(Terminal):
    """The input cannot be taken; `status` is the HTTP status to answer (400, 413 or 415)."""

    def __init__(self, message: str, *, code: str = "invalid", status: int = 400) -> None:
        super().__init__(message, code=code)
        self.status = status


class SettingsError(Terminal):
    """A setting is missing or wrong; the message names it and its valid choices."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="settings")


class MapError(Terminal):
    """A map is wrong; the message reads `file:line: key: what is wrong (valid: …)`."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="map")


class Failed(Terminal):
    """One resource cannot be carried out; nothing of it was written. `at` is a FHIR element path or a column."""

    def __init__(self, message: str, *, code: str, at: str = "") -> None:
        super().__init__(message, code=code)
        self.at = at


class Unsupported(Terminal):
    """A feature that is not there (yet); the message names the feature."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="unsupported")


class Race(RelayError):
    """Somebody else wrote first: read again, plan again, write again."""

    def __init__(self, message: str, *, code: str = "race") -> None:
        super().__init__(message, code=code)


class Transient(RelayError):
    """The other side is away or busy; `retry_after` is seconds, None when it did not say."""

    def __init__(self, message: str, *, code: str = "unavailable", retry_after: float | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after


class StoreUnavailable(Transient):
    """The store took nothing: answer 503, the sender keeps the payload and retries."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="store-unavailable")
