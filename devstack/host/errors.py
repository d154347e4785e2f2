"""What can go wrong in the host itself.

HostError
├── StartError      the app cannot be indexed or served: names the function or the setting
├── FunctionFailed  a function raised: carries its error's text and stack trace
└── NotServed       the function needs something that this host does not have: names it
"""

from __future__ import annotations


class HostError(Exception):
    """The root of the host's own errors."""


class StartError(HostError):
    """The app cannot be indexed or served; the message names the function or the setting."""


class FunctionFailed(HostError):
    """A function raised; `stack_trace` is the worker's text."""

    def __init__(self, message: str, stack_trace: str = "") -> None:
        super().__init__(message)
        self.stack_trace = stack_trace


class NotServed(HostError):
    """The function needs something that this host does not have; the message names both."""
