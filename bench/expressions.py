"""The same element expressions over published Patients: the relay's paths and three libraries, in one run.

Each library is asked for every value, with the expression compiled before; all must agree on each resource, or nothing
is timed. What is measured is reading alone, with each library's own way to hand out values.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import time
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

from figures import Figure, skipped
from material import folder

from relay.mapping.paths import compile_path

Values = Callable[[Any], Sequence[Any]]

FILE = "Patient.even.ndjson.gz"
LIBRARIES = ("relay", "jsonpath_rfc9535", "python_jsonpath", "fhirpathpy")
PACKAGES = {"jsonpath_rfc9535": "jsonpath_rfc9535", "python_jsonpath": "jsonpath", "fhirpathpy": "fhirpathpy"}
ROUNDS = 3

_US_CORE = "http://hl7.org/fhir/us/core/StructureDefinition"
_R4 = "http://hl7.org/fhir/StructureDefinition"
EXPRESSIONS = (
    # members
    ("$.id", "id"),
    ("$.gender", "gender"),
    ("$.birthDate", "birthDate"),
    ("$.deceasedDateTime", "deceased"),
    ("$.text.status", "text.status"),
    ("$.maritalStatus.text", "maritalStatus.text"),
    ("$.contact", "contact"),
    # indexes
    ("$.name[0].family", "name[0].family"),
    ("$.name[0].given[0]", "name[0].given[0]"),
    ("$.name[0].given[1]", "name[0].given[1]"),
    ("$.name[0].prefix[0]", "name[0].prefix[0]"),
    ("$.name[0].suffix[0]", "name[0].suffix[0]"),
    ("$.meta.profile[0]", "meta.profile[0]"),
    ("$.address[0].line[0]", "address[0].line[0]"),
    ("$.address[0].line[1]", "address[0].line[1]"),
    ("$.address[0].city", "address[0].city"),
    ("$.address[0].state", "address[0].state"),
    ("$.address[0].postalCode", "address[0].postalCode"),
    ("$.address[0].country", "address[0].country"),
    ("$.telecom[0].value", "telecom[0].value"),
    ("$.maritalStatus.coding[0].code", "maritalStatus.coding[0].code"),
    ("$.communication[0].language.coding[0].code", "communication[0].language.coding[0].code"),
    ("$.communication[0].language.text", "communication[0].language.text"),
    # every item
    ("$.name[*].given[*]", "name.given"),
    ("$.identifier[*].value", "identifier.value"),
    ("$.identifier[*].type.coding[*].code", "identifier.type.coding.code"),
    ("$.telecom[*].system", "telecom.system"),
    ("$.extension[*].url", "extension.url"),
    # filters
    ("$.name[?(@.use=='official')].family", "name.where(use='official').family"),
    ("$.name[?(@.use=='official')].given[0]", "name.where(use='official').select(given[0])"),
    ("$.name[?(@.use=='maiden')].family", "name.where(use='maiden').family"),
    ("$.telecom[?(@.system=='phone')].value", "telecom.where(system='phone').value"),
    ("$.telecom[?(@.system=='email')].value", "telecom.where(system='email').value"),
    (
        "$.telecom[?(@.system=='phone' && @.use=='home')].value",
        "telecom.where(system='phone' and use='home').value",
    ),
    (
        "$.identifier[?(@.system=='http://hl7.org/fhir/sid/us-ssn')].value",
        "identifier.where(system='http://hl7.org/fhir/sid/us-ssn').value",
    ),
    (
        "$.identifier[?(@.type.coding[0].code=='MR')].value",
        "identifier.where(type.coding[0].code='MR').value",
    ),
    (
        "$.identifier[?(@.type.coding[0].code=='DL')].system",
        "identifier.where(type.coding[0].code='DL').system",
    ),
    (
        f"$.extension[?(@.url=='{_US_CORE}/us-core-birthsex')].valueCode",
        f"extension.where(url='{_US_CORE}/us-core-birthsex').value",
    ),
    (
        f"$.extension[?(@.url=='{_R4}/patient-birthPlace')].valueAddress.city",
        f"extension.where(url='{_R4}/patient-birthPlace').value.city",
    ),
    (
        f"$.extension[?(@.url=='{_US_CORE}/us-core-race')].extension[?(@.url=='ombCategory')].valueCoding.code",
        f"extension.where(url='{_US_CORE}/us-core-race').extension.where(url='ombCategory').value.code",
    ),
)
"""Each in JSONPath and in FHIRPath."""


def run() -> Iterator[Figure]:
    """Measure every library that is installed, or tell why it cannot be."""
    data = folder()
    path = data / "bulk-1000-patients" / FILE if data else None
    if path is None or not path.is_file():
        for library in LIBRARIES:
            yield skipped(f"expressions_{library}", "us", "the published Patients are not here: set RELAY_TEST_DATA")
        return
    patients = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    readers = {library: _compiled(library) for library in LIBRARIES if _installed(library)}
    expected = _results(readers["relay"], patients)
    for library, compiled in readers.items():
        if _results(compiled, patients) != expected:
            raise RuntimeError(f"{library} finds other values than the relay")
    rounds = [{name: _time(compiled, patients) for name, compiled in readers.items()} for _ in range(ROUNDS)]
    spent = {library: min(each[library] for each in rounds) for library in readers}
    for library in LIBRARIES:
        if library not in spent:
            yield skipped(f"expressions_{library}", "us", f"{PACKAGES[library]} is not installed")
            continue
        more = {
            "times_relay": round(spent[library] / spent["relay"], 1),
            "expressions": len(EXPRESSIONS),
            "resources": len(patients),
        }
        yield Figure(f"expressions_{library}", round(spent[library] * 1e6, 2), "us/expression", more)


def _installed(library: str) -> bool:
    return library not in PACKAGES or importlib.util.find_spec(PACKAGES[library]) is not None


def _compiled(library: str) -> list[Values]:
    """Return what reads each expression."""
    if library == "relay":
        return [compile_path(text).all for text, _ in EXPRESSIONS]
    if library == "jsonpath_rfc9535":
        import jsonpath_rfc9535

        queries = [jsonpath_rfc9535.compile(text) for text, _ in EXPRESSIONS]
        return [lambda resource, find=query.find: find(resource).values() for query in queries]
    if library == "python_jsonpath":
        import jsonpath

        return [jsonpath.compile(text).findall for text, _ in EXPRESSIONS]
    import fhirpathpy
    from fhirpathpy.models import models

    # with the model, choice elements such as deceased[x] and value[x] are found
    return [fhirpathpy.compile(text, models["r4"]) for _, text in EXPRESSIONS]


def _results(readers: Sequence[Values], resources: Sequence[Any]) -> list[list[list[str]]]:
    """Return every value as text: fhirpathpy has dates and decimals of its own."""
    return [[[_text(value) for value in read(resource)] for read in readers] for resource in resources]


def _text(value: Any) -> str:
    if isinstance(value, (float, Decimal)):
        return repr(float(value))
    return json.dumps(value, sort_keys=True) if isinstance(value, (dict, list)) else str(value)


def _time(readers: Sequence[Values], resources: Sequence[Any]) -> float:
    """Return the CPU seconds of one expression over one resource."""
    began = time.process_time()
    for resource in resources:
        for read in readers:
            read(resource)
    return (time.process_time() - began) / len(resources) / len(readers)
