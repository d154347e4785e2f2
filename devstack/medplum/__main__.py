"""Run Medplum's router until Ctrl-C: `python -m devstack.medplum` prints its FHIR base."""

from __future__ import annotations

import sys

from devstack import medplum
from devstack.child import until_stopped

if __name__ == "__main__":
    sys.exit(until_stopped("devstack.medplum", medplum.running))
