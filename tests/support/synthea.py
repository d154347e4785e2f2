"""One whole synthetic record as Synthea wrote it, and of the practitioners and hospitals those that it refers to."""

from __future__ import annotations

import json
import re
from typing import Any

from support.data import files, need_fhir_data

_CONDITIONAL = re.compile(r'"reference":\s*"[A-Za-z]+\?identifier=[^|"]+\|([^"]+)"')


def smallest_record() -> list[bytes]:
    """Return bundles in the order in which they are to be loaded: hospitals, practitioners, the patient's transaction."""
    need_fhir_data()
    found = dict(files("synthea-data-pipes/*.json.gz"))
    informed = sorted(name for name in found if "nformation" in name)
    record = min((content for name, content in found.items() if name not in informed), key=len)
    named = set(_CONDITIONAL.findall(record.decode()))
    return [*(_only(json.loads(found[name]), named) for name in informed), record]


def _only(bundle: dict[str, Any], named: set[str]) -> bytes:
    """Leave the entries that carry one of these identifiers."""
    carried = [
        entry
        for entry in bundle["entry"]
        if any(each.get("value") in named for each in entry["resource"].get("identifier", ()))
    ]
    return json.dumps({**bundle, "entry": carried}).encode()
