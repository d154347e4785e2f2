"""A map file as text: YAML or JSON read safely, with the line of every key.

The language is the data part of YAML 1.2: plain `true`, `false`, `null` and numbers have their meaning, everything else
is text (`no` and `2020-01-01` too). Refused: tags, aliases, duplicate keys, several documents.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path, PurePath
from typing import Any

import yaml

from relay.errors import MapError

Place = tuple[str | int, ...]
"""Where in a document something stands, such as `("attributes", 3, "copy")`."""

_INTEGER = re.compile(r"[+-]?(?:0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}
_TEXT_TAG = "tag:yaml.org,2002:str"
_PLAIN_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}" for name in ["str", "int", "float", "bool", "null", "timestamp", "merge", "value"]
)
_FEW = 18


@dataclass(frozen=True, slots=True)
class Document:
    """One map file: `data` as plain dicts, lists and scalars (numbers with a point are Decimal), `lines` 1-based."""

    file: str
    data: Any
    lines: dict[Place, int]

    def line(self, place: Place) -> int:
        """Return the line of `place`, or of the nearest thing around it."""
        while place not in self.lines and place:
            place = place[:-1]
        return self.lines.get(place, 1)

    def error(self, place: Place, message: str, valid: Iterable[str] = ()) -> MapError:
        """Say what is wrong at `place`, as `file:line: key: message (valid: …)`."""
        named = [index for index, part in enumerate(place) if isinstance(part, str)]
        key = "".join(f"[{part}]" if isinstance(part, int) else part for part in place[named[-1] :]) if named else ""
        return MapError(f"{self.file}:{self.line(place)}: {key + ': ' if key else ''}{message}{choices(valid)}")


def choices(valid: Iterable[str]) -> str:
    """Write the valid choices as the end of a message; a long list is cut."""
    listed = list(valid)
    more = f", … {len(listed) - _FEW} more" if len(listed) > _FEW else ""
    return f" (valid: {', '.join(listed[:_FEW])}{more})" if listed else ""


def plain(text: str) -> str | int | bool | Decimal | None:
    """Return what unquoted text means: true, false, null, a number, or itself."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return Decimal(text) if _DECIMAL.fullmatch(text) else text


def read_document(path: Path) -> Document:
    """Read one YAML or JSON file; raises MapError naming file and line."""
    try:
        return parse_document(path, path.read_bytes())
    except OSError as error:
        raise MapError(f"{path}: cannot be read: {error.strerror}") from None


def parse_document(path: PurePath, data: bytes) -> Document:
    """Read the content of a file of this name; raises MapError naming file and line."""
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise MapError(f"{path}: is not UTF-8") from None
    if path.suffix == ".json":
        try:
            json.loads(text)
        except ValueError as error:
            raise MapError(f"{path}: is not JSON: {error}") from None
        text = text.replace("\t", "    ")  # between JSON tokens a tab is a blank; YAML forbids it there
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        at = f":{mark.line + 1}" if mark else ""
        raise MapError(f"{path}{at}: is not YAML: {getattr(error, 'problem', None) or error}") from None
    builder = _Builder(str(path))
    return Document(str(path), builder.build(root, ()), builder.lines)


class _Builder:
    """Turns the node tree of one file into plain data."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[Place, int] = {}
        self._seen: set[int] = set()

    def build(self, node: yaml.Node | None, place: Place) -> Any:
        if node is None:
            return None
        self.lines.setdefault(place, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if id(node) in self._seen:
            raise self._error(node, "aliases (*name) are not supported: write the value out")
        self._seen.add(id(node))
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return [self.build(item, (*place, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self._mapping(node, place)
        raise self._error(node, f"the tag {node.tag} is not supported")

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        built: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self._error(key, "a key must be plain text")
            if key.value in built:
                raise self._error(key, f"the key {key.value} stands here twice")
            self.lines[(*place, key.value)] = key.start_mark.line + 1
            built[key.value] = self.build(value, (*place, key.value))
        return built

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        if node.tag not in _PLAIN_TAGS:
            raise self._error(node, f"the tag {node.tag} is not supported")
        text: str = node.value
        return text if node.style is not None or node.tag == _TEXT_TAG else plain(text)

    def _error(self, node: yaml.Node, message: str) -> MapError:
        return MapError(f"{self.file}:{node.start_mark.line + 1}: {message}")
