"""Run HAPI until Ctrl-C: `python -m devstack.hapi` prints its FHIR base."""

from __future__ import annotations

import sys

from devstack import hapi
from devstack.child import until_stopped

if __name__ == "__main__":
    sys.exit(until_stopped("devstack.hapi", hapi.running))
