from __future__ import annotations

import functools
from collections import Counter
from typing import Any

import pytest
from intake_inputs import limits, references, take, verdict

from relay.errors import Refused
from relay.inbound.intake import Incoming, read_ndjson
from relay.inbound.references import References
from relay.mapping.model import ByFhirId
from support.data import files, need_fhir_data

NOT_JSON = "ahds-samples/V3.1.1_USCoreCompliantResources.json"


@functools.cache
def published() -> dict[str, Incoming]:
    need_fhir_data()
    found = {}
    for name, body in files():
        if name.endswith(".ndjson"):
            found[name] = read_ndjson(body, content_type="", content_encoding="", limits=limits())
        elif name != NOT_JSON:
            found[name] = take(body)
    return found


def test_the_sample_that_is_no_json_is_refused() -> None:
    """A published sample with a trailing comma is refused at the place where the comma misleads."""
    need_fhir_data()
    ((_name, body),) = files(f"{NOT_JSON}.gz")
    with pytest.raises(Refused, match=r"line 827[34] column") as refused:
        take(body)
    assert refused.value.code == "not-json"


def test_every_published_file_is_read() -> None:
    """Every other published file is taken, and every entry is taken or says why not."""
    total = Counter(verdict(entry) for incoming in published().values() for entry in incoming.entries)
    allowed = {"taken", "no-id", "unsupported", "read", "outcome", "duplicate-id", "invalid-element"}
    assert set(total) <= allowed
    assert total["taken"] > 0.99 * sum(total.values())


def test_every_synthea_entry_is_taken() -> None:
    """Real patient bundles, up to 3,177 entries, are taken whole."""
    sizes = []
    for name, incoming in published().items():
        if name.startswith("synthea"):
            assert {verdict(entry) for entry in incoming.entries} == {"taken"}
            sizes.append(len(incoming.entries))
    assert max(sizes) == 3177


def test_every_reference_of_a_synthea_bundle_is_resolved() -> None:
    """Every urn:uuid means an entry of its bundle; what is left is conditional, or contained."""
    for name, incoming in published().items():
        if not name.startswith("synthea"):
            continue
        keys = {entry.key for entry in incoming.entries}
        known = References(incoming, fhir_url="https://fhir.test")
        for entry in incoming.entries:
            resolver = known.resolver(entry)
            for text in references(entry.resource):
                means: Any = resolver({"reference": text})
                if text.startswith("#"):
                    assert means is None
                elif text.startswith("urn:uuid:"):
                    assert isinstance(means, ByFhirId)
                    assert (means.type, means.id) in keys
                else:
                    assert means is not None, text
