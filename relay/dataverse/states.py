"""What the state columns of a child row say; these pairs are those of the identifier tables, other tables have more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

ACTIVE: Final[Mapping[str, int]] = {"statecode": 0, "statuscode": 1}
INACTIVE: Final[Mapping[str, int]] = {"statecode": 1, "statuscode": 2}
