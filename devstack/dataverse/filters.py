"""The grammar of `$filter`: text in, a tree of conditions out. Names are checked where the tree is used."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

from devstack.dataverse.errors import BadSyntax, NotSupported, TooManyConditions
from devstack.dataverse.lexer import Word, word_at

MAX_CONDITIONS: Final = 500
MAX_IN_TEXT: Final = 850
_MAX_DEPTH: Final = 60
_COMPARISONS: Final = ("eq", "ne", "gt", "ge", "lt", "le")
_TEXT_FUNCTIONS: Final = ("contains", "startswith", "endswith")
_NAMESPACE: Final = "Microsoft.Dynamics.CRM."
_FLIPPED: Final = {"eq": "eq", "ne": "ne", "gt": "lt", "ge": "le", "lt": "gt", "le": "ge"}
_ELEMENT: Final = re.compile(r"""\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")\s*""", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Path:
    """A property, after the navigation properties that lead to it."""

    navigations: tuple[str, ...]
    name: str


@dataclass(frozen=True, slots=True)
class Compare:
    """A property compared with a literal or another property; the literal `null` is a name word."""

    path: Path
    operator: str
    value: Word | Path


@dataclass(frozen=True, slots=True)
class Like:
    """contains, startswith or endswith."""

    path: Path
    function: str
    text: str


@dataclass(frozen=True, slots=True)
class In:
    """The query functions In and NotIn; `name` is a logical name."""

    name: str
    values: tuple[str, ...]
    negated: bool


@dataclass(frozen=True, slots=True)
class Not:
    """Everything that the inner condition does not say."""

    inner: Condition


@dataclass(frozen=True, slots=True)
class Both:
    """`and` or `or` over two or more conditions."""

    operator: str
    parts: tuple[Condition, ...]


Condition = Compare | Like | In | Not | Both


def parse(text: str, aliases: Mapping[str, str]) -> Condition:
    """Read a filter; raises BadSyntax, TooManyConditions, or NotSupported naming the operator or function."""
    parser = _Parser(text, aliases)
    condition = parser.either(0)
    parser.expect("end", "")
    return condition


class _Parser:
    def __init__(self, text: str, aliases: Mapping[str, str]) -> None:
        self._text = text
        self._aliases = aliases
        self._conditions = 0
        self._word = word_at(text, 0)

    def _next(self) -> Word:
        word = self._word
        self._word = word_at(self._text, word.end)
        return word

    def _at(self, kind: str, text: str) -> bool:
        return self._word.kind == kind and self._word.text == text

    def _fail(self) -> NoReturn:
        raise BadSyntax(f"Syntax error at position {self._word.start} in '{self._text}'.")

    def expect(self, kind: str, text: str) -> Word:
        """Take the next word if it is this one; raises BadSyntax."""
        if not self._at(kind, text):
            self._fail()
        return self._next()

    def either(self, depth: int) -> Condition:
        """Read conditions joined by `or`."""
        parts = [self._all(depth)]
        while self._at("name", "or"):
            self._next()
            parts.append(self._all(depth))
        return parts[0] if len(parts) == 1 else Both("or", tuple(parts))

    def _all(self, depth: int) -> Condition:
        parts = [self._one(depth)]
        while self._at("name", "and"):
            self._next()
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else Both("and", tuple(parts))

    def _one(self, depth: int) -> Condition:
        if depth > _MAX_DEPTH:
            raise BadSyntax("The node count limit is exceeded: the filter is nested too deeply.")
        if self._at("name", "not"):
            self._next()
            return Not(self._one(depth + 1))
        if self._at("punctuation", "("):
            self._next()
            inner = self.either(depth + 1)
            self.expect("punctuation", ")")
            return inner
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            raise TooManyConditions
        word = self._next()
        if word.kind == "name" and self._at("punctuation", "("):
            return self._function(word.text)
        return self._comparison(word)

    def _comparison(self, word: Word) -> Condition:
        left = self._operand(word)
        operator = self._next()
        if operator.kind != "name" or operator.text not in _COMPARISONS:
            if operator.text in ("in", "has", "add", "sub", "mul", "div", "mod"):
                raise NotSupported(f"the operator {operator.text} in $filter")
            raise BadSyntax(f"Syntax error at position {operator.start} in '{self._text}'.")
        right = self._operand(self._next())
        if isinstance(left, Path):
            return Compare(left, operator.text, right)
        if isinstance(right, Path):
            return Compare(right, _FLIPPED[operator.text], left)
        raise NotSupported("comparing two literals in $filter")

    def _operand(self, word: Word) -> Word | Path:
        if word.kind != "name":
            if word.kind in ("end", "punctuation"):
                raise BadSyntax(f"Syntax error at position {word.start} in '{self._text}'.")
            return word
        if word.text in ("null", "true", "false"):
            return word
        if word.text.startswith("@"):
            return self._alias(word.text)
        if self._at("punctuation", "("):
            raise NotSupported(f"the function {word.text} in $filter")
        names = [word.text]
        while self._at("punctuation", "/"):
            self._next()
            names.append(self._name())
        if names[-1] in ("any", "all") and self._at("punctuation", "("):
            raise NotSupported(f"the lambda operator {names[-1]} in $filter")
        if any(name.startswith(_NAMESPACE) for name in names):
            raise BadSyntax(f"Query functions stand alone: '{'/'.join(names)}' is no property.")
        return Path(tuple(names[:-1]), names[-1])

    def _name(self) -> str:
        if self._word.kind != "name":
            self._fail()
        return self._next().text

    def _alias(self, name: str) -> Word:
        if name not in self._aliases:
            raise BadSyntax(f"The parameter alias '{name}' has no value.")
        word = word_at(self._aliases[name], 0)
        rest = word_at(self._aliases[name], word.end)
        if rest.kind != "end" or word.kind in ("end", "punctuation"):
            raise BadSyntax(f"The value of the parameter alias '{name}' is not a literal.")
        return word

    def _function(self, name: str) -> Condition:
        if name in _TEXT_FUNCTIONS:
            return self._like(name)
        if name in (f"{_NAMESPACE}In", f"{_NAMESPACE}NotIn"):
            return self._in(negated=name.endswith("NotIn"))
        raise NotSupported(f"the function {name} in $filter")

    def _like(self, function: str) -> Condition:
        self.expect("punctuation", "(")
        path = self._operand(self._next())
        self.expect("punctuation", ",")
        value = self._operand(self._next())
        self.expect("punctuation", ")")
        if not isinstance(path, Path) or isinstance(value, Path) or value.kind != "string":
            raise BadSyntax(f"{function} takes a property and a text: '{self._text}'.")
        return Like(path, function, value.text)

    def _in(self, *, negated: bool) -> Condition:
        self.expect("punctuation", "(")
        self.expect("name", "PropertyName")
        self.expect("punctuation", "=")
        word = self._next()
        name = self._alias(word.text) if word.kind == "name" and word.text.startswith("@") else word
        if name.kind != "string":
            raise BadSyntax("PropertyName of a query function is a text in single quotes.")
        self.expect("punctuation", ",")
        self.expect("name", "PropertyValues")
        if self._word.text != "=":
            self._fail()
        values = self._values()
        self.expect("punctuation", ")")
        return In(name.text, values, negated)

    def _values(self) -> tuple[str, ...]:
        start = self._word.end
        word = word_at(self._text, start)
        if word.kind == "name" and word.text.startswith("@"):
            if word.text not in self._aliases:
                raise BadSyntax(f"The parameter alias '{word.text}' has no value.")
            alias = self._aliases[word.text]
            values, end = _array(alias, 0)
            if alias[end:].strip():
                raise BadSyntax(f"The value of the parameter alias '{word.text}' is not an array.")
            self._word = word_at(self._text, word.end)
            return values
        values, end = _array(self._text, start)
        self._word = word_at(self._text, end)
        return values


def _array(text: str, position: int) -> tuple[tuple[str, ...], int]:
    """Read a JSON array of texts, in single or double quotes; a single quote inside needs double quotes around."""
    match = re.compile(r"\s*\[\s*").match(text, position)
    if match is None:
        raise BadSyntax(f"PropertyValues is not an array at position {position} in '{text}'.")
    position, values = match.end(), []
    while True:
        element = _ELEMENT.match(text, position)
        if element is None:
            raise BadSyntax(f"Invalid JSON. PropertyValues is an array of texts: position {position} in '{text}'.")
        values.append(_unescaped(element[1] if element[1] is not None else element[2]))
        position = element.end() + 1
        if text.startswith("]", position - 1):
            return tuple(values), position
        if not text.startswith(",", position - 1):
            raise BadSyntax(
                "Invalid JSON. A comma character ',' was expected in scope 'Array'. Every two elements in an array and "
                "properties of an object must be separated by commas."
            )


def _unescaped(text: str) -> str:
    try:
        value = json.loads('"' + re.sub(r'(?<!\\)"', r"\"", text.replace("\\'", "'")) + '"', strict=False)
        value.encode()
    except ValueError:
        raise BadSyntax(f"Invalid JSON. '{text}' is not a JSON text.") from None
    if len(value) > MAX_IN_TEXT:
        raise BadSyntax(f"A text of more than {MAX_IN_TEXT} characters cannot be used with In or NotIn.")
    return str(value)
