"""A Dataverse Web API emulator: tables and rows, `$batch`, metadata reads and webhooks over real HTTP."""

from devstack.dataverse.app import Emulator, create_app

__all__ = ["Emulator", "create_app"]
