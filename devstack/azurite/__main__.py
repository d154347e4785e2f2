"""Run Azurite until Ctrl-C: `python -m devstack.azurite` prints the connection string for AzureWebJobsStorage."""

from __future__ import annotations

import sys

from devstack import azurite
from devstack.child import until_stopped

if __name__ == "__main__":
    sys.exit(until_stopped("devstack.azurite", azurite.running))
