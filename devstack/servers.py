"""`python -m devstack.servers` installs the servers that nobody here wrote into the cache, and prints their versions."""

from __future__ import annotations

import json
import sys

from devstack import azurite, hapi, medplum
from relay.errors import Terminal

SERVERS = {"HAPI FHIR JPA": hapi, "@medplum/fhir-router": medplum, "Azurite": azurite}


def main() -> int:
    """Install each and print one line of JSON, version by name; 1 when one of them cannot be."""
    try:
        for each in SERVERS.values():
            each.install()
    except Terminal as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps({name: each.version() for name, each in SERVERS.items()}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
