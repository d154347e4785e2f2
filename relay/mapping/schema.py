"""The JSON Schema (2020-12) of a map file, for editors: generated from the shapes that loading checks.

It knows what a map file may look like; which tables, columns and options there are only loading knows.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import Any

from relay.mapping.actions import ACTIONS
from relay.mapping.expansions import IDENTIFIER
from relay.mapping.lookups import CONCEPT_TABLE
from relay.mapping.r4 import RESOURCE_TYPES
from relay.mapping.shape import CreateShape, ExpansionShape, IdentifierShape, MapShape, Shape

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Json = dict[str, Any]

KEYS: Mapping[str, str] = {
    "resource": "The FHIR R4 resource type; one map per type.",
    "table": "The logical name of the table.",
    "key": "The text column that holds the FHIR id.",
    "where": "Columns with fixed values: written with every row, part of every look-up, and what tells maps on one table apart.",
    "version": "The text column for meta.versionId.",
    "last_updated": "The column for meta.lastUpdated.",
    "disabled": "Checked, and not carried out.",
    "deletes": "What becomes of the row of a resource that was deleted on the FHIR server; default deactivate.",
    "merges": "What becomes of the row of a resource that another one replaces; default deactivate.",
    "merged_into": "The lookup that points from the row of a replaced resource to the row of the one that replaces it.",
    "null": "What an absent value does: keep the column or clear it.",
    "writeback": "What may go from Dataverse to FHIR: the events of a map, the column of a line, the GUID of the identifier block.",
    "create_in_fhir": "Whether a row without a FHIR id becomes a resource.",
    "writeback_when": "Only rows with these values go to FHIR.",
    "unfilled": "Required columns that are left empty on purpose: FHIR has nothing for them.",
    "search": "Systems whose identifiers name one resource alone: by these a row's resource is looked for. Default: all.",
    "conflict": "Who wins when both sides changed a column.",
    "identifier": "Where identifiers live, and the Dynamics identifier that is written back.",
    "expansions": "Named expansions, for lines that say `using`.",
    "attributes": "The lines.",
    "system": "The system: of the Dynamics identifier, or of the codes of a concept on their way out.",
    "lookup": "The column that holds the parent row.",
    "system_column": "The column for identifier.system.",
    "value_column": "The column for identifier.value.",
    "vanished": "What becomes of rows that the relay wrote and whose item is gone.",
    "column": "The logical name of the column to write.",
    "at": "The element that is created; [*] at the end appends to an array.",
    "set": "What is put there: % stands for the value, %% for the type a reference points to, %%% for Type/id.",
    "match": "The column helps to find a row that has no FHIR id yet; in an expansion, it tells the rows of one parent apart.",
    "required": "An absent value is a warning; in an expansion the item is left out.",
    "beside": "Columns that get fixed values when this line writes: which alternative of a choice it was.",
    "copy": "The element to copy; of several paths the first that has a value counts.",
    "length": "What happens to text that is too long.",
    "partial": "What happens to a date without a day.",
    "default": "The constant to write.",
    "map": "The code to map; of several codes the first that is listed counts.",
    "values": "What each code becomes.",
    "unmapped": "What a code that is not listed does: fail, keep, clear, or default:<value>.",
    "reference": "The Reference to follow; of several the first of an accepted type counts.",
    "targets": "Resource type → the table that the lookup points to.",
    "concept": "The CodeableConcept, Coding or code.",
    "type": f"The type of the codeable concept: the label or number of an option of {CONCEPT_TABLE}.msemr_type.",
    "expand": "The array whose items become rows.",
    "using": "The named expansion to use.",
}
"""What editors show for a key; `create` says something else on a map than on a line."""
_CREATE = {
    "MapShape": "Whether rows may be created: linked is only for resources with a Dynamics identifier, or that refer to one.",
    "": "What a write-back adds where the path finds nothing and says no place.",
}
_LINES = {"type": "array", "items": {"$ref": "#/$defs/Line"}}


def schema() -> Json:
    """Return the schema of a map file."""
    shapes: list[type[Shape]] = [IdentifierShape, CreateShape, ExpansionShape]
    shapes += [kind.shape for kind in ACTIONS.values()]
    definitions = {shape.__name__.removesuffix("Shape"): _object(shape) for shape in shapes}
    lines = [f"#/$defs/{kind.shape.__name__.removesuffix('Shape')}" for kind in ACTIONS.values()]
    definitions["Line"] = {
        "description": "One line of a map; the key of its action says which kind it is.",
        "oneOf": [{"$ref": line} for line in lines],
    }
    top = _object(MapShape)
    top["properties"]["resource"]["enum"] = sorted(RESOURCE_TYPES)
    return {
        "$schema": DIALECT,
        "title": "Entity map",
        **top,
        "$defs": dict(sorted(definitions.items())),
    }


def schema_text() -> str:
    """Return the schema as it stands in `maps/schema.json`."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def _object(shape: type[Shape]) -> Json:
    """Return the schema of one object of a map file, its objects within by reference."""
    made = shape.model_json_schema(by_alias=True)
    properties: dict[str, Json] = {}
    for name, each in made["properties"].items():
        properties[name] = {"description": _described(shape, name), **_plain(each)}
        if name in _PARTS:
            properties[name] |= _PARTS[name]
            properties[name].pop("anyOf", None)
    if shape is not MapShape and "create" in properties:
        properties["create"] = {"description": _CREATE[""], "$ref": "#/$defs/Create"}
    return {
        "description": inspect.cleandoc(shape.__doc__ or "").partition("\n\n")[0],
        "type": "object",
        "properties": properties,
        "required": made.get("required", []),
        "additionalProperties": False,
    }


_PARTS: Mapping[str, Json] = {
    "attributes": _LINES,
    "expansions": {"type": "object", "additionalProperties": {"$ref": "#/$defs/Expansion"}},
    IDENTIFIER: {"$ref": "#/$defs/Identifier"},
}


def _described(shape: type[Shape], name: str) -> str:
    return _CREATE.get(shape.__name__, _CREATE[""]) if name == "create" else KEYS[name]


def _plain(value: Any) -> Any:
    """Leave out titles, and null, which stands for a key that is not there."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if not isinstance(value, dict):
        return value
    rest = {key: _plain(each) for key, each in value.items() if key != "title" and (key, each) != ("default", None)}
    choices = [each for each in rest.pop("anyOf", ()) if each != {"type": "null"}]
    if len(choices) == 1:
        return rest | choices[0]
    return rest | {"anyOf": choices} if choices else rest
