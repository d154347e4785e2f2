"""The shape of a map file: pydantic models, one per kind of object; what they mean is checked by `relay.mapping.load`."""

from __future__ import annotations

from decimal import Decimal
from inspect import isclass
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from relay.errors import MapError
from relay.mapping.document import Document, Place

Nothing = Literal["keep", "clear"]
Paths = str | Annotated[list[str], Field(min_length=1)]
Plain = str | int | bool | Decimal


class Shape(BaseModel):
    """One object of a map file; a key that is not a field is refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class MapShape(Shape):
    """The top of a map file: one FHIR resource type → one table."""

    resource: str
    table: str
    key: str
    where: dict[str, Plain] = {}
    version: str = ""
    last_updated: str = ""
    disabled: bool = False
    create: Literal["always", "linked", "never"] = "always"
    deletes: Literal["ignore", "deactivate", "delete"] | None = None
    merges: Literal["ignore", "deactivate"] | None = None
    merged_into: str = ""
    null: Nothing = "keep"
    writeback: list[Literal["create", "update"]] = []
    create_in_fhir: bool = False
    writeback_when: dict[str, Plain] = {}
    conflict: Literal["fhir", "dataverse", "park"] = "park"
    identifier: dict[str, Any] | None = None
    unfilled: list[str] = []
    expansions: dict[str, dict[str, Any]] = {}
    attributes: list[dict[str, Any]] = []


class IdentifierShape(Shape):
    """The `identifier` block: where identifiers live, and the URN of the Dynamics identifier."""

    system: Annotated[str, Field(min_length=1)]
    table: str
    lookup: str
    system_column: str
    value_column: str
    writeback: bool = True
    search: Annotated[list[str], Field(min_length=1)] | None = None


class ExpansionShape(Shape):
    """One named expansion: the rows that the items of an array become."""

    table: str
    lookup: str
    vanished: Literal["keep", "deactivate", "delete"] | None = None
    disabled: bool = False
    unfilled: list[str] = []
    attributes: Annotated[list[dict[str, Any]], Field(min_length=1)]


class LineShape(Shape):
    """What every line that writes a column has in common."""

    column: str
    disabled: bool = False


class CreateShape(Shape):
    """The `create` block of a line: what a write-back adds where the path finds nothing.

    `set` is the object put at `at` (merged into an object that is there, appended where `at` ends in `[*]`). A text in
    it that is `%` stands for the value, `%%` for the type a reference points to, `%%%` for `Type/id`.
    """

    at: str
    set: Annotated[dict[str, Any], Field(min_length=1)]


class SourcedShape(LineShape):
    """A line that reads the resource.

    `match` makes the column part of what identifies the row. `beside` are columns that get fixed values when this line
    writes: which kind of a choice it was. `writeback` is whether the line may write the resource: None leaves it out of
    updates and lets it take part when a resource is made from a row.
    """

    match: bool = False
    required: bool = False
    null: Nothing | None = None
    beside: dict[str, Plain] = {}
    writeback: bool | None = None
    create: CreateShape | None = None


class CopyShape(SourcedShape):
    """`copy`: the value as it is, converted to the column's type."""

    copy_: Paths = Field(alias="copy")
    length: Literal["error", "truncate"] = "error"
    partial: Literal["skip", "first-day"] = "skip"


class DefaultShape(LineShape):
    """`default`: always this constant."""

    default: Plain


class MappedShape(SourcedShape):
    """`map`: a FHIR code → an option, a yes/no, a number or a text."""

    map: Paths
    values: Annotated[dict[str, Plain], Field(min_length=1)]
    unmapped: Annotated[str, Field(pattern=r"^(fail|keep|clear|default:.+)$")] = "fail"


class ReferenceShape(SourcedShape):
    """`reference`: a FHIR Reference → a lookup."""

    reference: Paths
    targets: Annotated[dict[str, str], Field(min_length=1)]


class ConceptShape(SourcedShape):
    """`concept`: a Coding or CodeableConcept → a lookup to the codeable concept of that type and code."""

    concept: Paths
    type: str | int
    system: str = ""


class ExpandShape(Shape):
    """`expand`: an array → child rows, by a named expansion or one written here."""

    expand: str
    using: str | None = None
    table: str | None = None
    lookup: str | None = None
    vanished: Literal["keep", "deactivate", "delete"] | None = None
    unfilled: list[str] | None = None
    attributes: list[dict[str, Any]] | None = None
    disabled: bool = False


S = TypeVar("S", bound=Shape)


def shaped(model: type[S], document: Document, place: Place, data: Any, errors: list[MapError]) -> S | None:
    """Read `data`, which stands at `place`, as `model`; None, and every fault in `errors`, when it is not."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        for each in error.errors():
            at = place
            for part in each["loc"]:
                at = (*at, part) if (*at, part) in document.lines else at
            errors.append(_fault(_innermost(model, each["loc"]), document, at, dict(each)))
        return None


def _innermost(model: type[Shape], loc: tuple[int | str, ...]) -> type[Shape]:
    """Return the shape of the object in which a fault lies."""
    for part in loc[:-1]:
        named = [field for name, field in model.model_fields.items() if part in {name, field.alias}]
        inner = [
            each for field in named for each in get_args(field.annotation) if isclass(each) and issubclass(each, Shape)
        ]
        model = inner[0] if inner else model
    return model


def _fault(model: type[Shape], document: Document, at: Place, each: dict[str, Any]) -> MapError:
    keys = [field.alias or name for name, field in model.model_fields.items()]
    kind, context = each["type"], each.get("ctx", {})
    if kind == "extra_forbidden":
        return document.error(at, "unknown key", keys)
    if kind == "missing":
        return document.error(at, f"the key {each['loc'][-1]} is missing", keys)
    if kind == "literal_error":
        return document.error(at, "not one of the choices", [str(context["expected"]).replace("'", "")])
    if kind == "string_pattern_mismatch":
        return document.error(at, "not one of the choices", ["fail", "keep", "clear", "default:<value>"])
    return document.error(at, str(each["msg"]).lower().replace("input ", ""))
