"""Run Azurite until Ctrl-C: `python -m devstack.azurite` prints the connection string for AzureWebJobsStorage."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress

from devstack import azurite
from relay.errors import Terminal


def main() -> int:
    """Print the connection string once all three services listen, and stop on SIGINT or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with suppress(KeyboardInterrupt), azurite.running() as connection:
            print(connection, flush=True)  # noqa: T201 - a command prints
            signal.pause()
    except Terminal as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - a command prints
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
