"""Routes as ASP.NET matches them: `{id}`, `{id?}`, `{id:int}`, `{*path}`, literals without regard to case."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from devstack.host.errors import StartError
from devstack.host.function import Function

_CONSTRAINTS = {
    "int": r"-?\d{1,10}",
    "long": r"-?\d{1,19}",
    "guid": r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}",
    "alpha": r"[A-Za-z]+",
    "bool": r"(?i:true|false)",
}
_PARAMETER = re.compile(r"\{(?P<star>\*{0,2})(?P<name>[A-Za-z_]\w*)(?P<constraints>(?::[^{}:?=]+)*)(?P<optional>\?)?\}")


@dataclass(frozen=True, slots=True)
class Route:
    """One function's address below the host's root."""

    function: Function
    pattern: re.Pattern[str]
    rank: tuple[int, ...]

    def match(self, method: str, path: str) -> dict[str, str] | None:
        """Give the route parameters, decoded; None when this is another address. Absent ones are left out."""
        if self.function.methods and method not in self.function.methods:
            return None
        found = self.pattern.fullmatch(path)
        return {k: v for k, v in found.groupdict().items() if v} if found else None


def build_routes(functions: Sequence[Function], prefix: str) -> list[Route]:
    """Make the routes of all HTTP functions, the most specific first; StartError names a bad or doubled route."""
    routes = []
    seen: dict[tuple[str, str], str] = {}
    for function in functions:
        if function.kind != "httpTrigger":
            continue
        template = (function.route if function.route is not None else function.name).strip("/")
        route = _compile(function, "/".join(part for part in (prefix, template) if part))
        for method in function.methods or ("every method",):
            other = seen.setdefault((route.pattern.pattern, method), function.name)
            if other != function.name:
                raise StartError(f"{function.name} and {other} have the same route {template!r} for {method}")
        routes.append(route)
    return sorted(routes, key=lambda route: route.rank)


def find(routes: Sequence[Route], method: str, raw_path: str) -> tuple[Function, dict[str, str]] | None:
    """Find the function for a request; None when no route takes it, whatever the reason (Azure answers 404)."""
    path = _decode(raw_path).strip("/")
    for route in routes:
        parameters = route.match(method, path)
        if parameters is not None:
            return route.function, parameters
    return None


def _decode(raw_path: str) -> str:
    """Decode a path as Kestrel does: everything but %2F, which would change where the segments are."""
    return "%2F".join(unquote(part) for part in re.split("%2[Ff]", raw_path))


def _compile(function: Function, template: str) -> Route:
    pattern, rank = "", []
    parts = template.split("/") if template else []
    for position, part in enumerate(parts):
        last = position == len(parts) - 1
        text, specific, may_lack = _segment(function, template, part, last=last)
        slash = "/" if position else ""
        pattern += f"(?:{slash}{text})?" if may_lack else f"{slash}{text}"
        rank.append(specific)
    return Route(function, re.compile(pattern), tuple(rank))


def _segment(function: Function, template: str, part: str, *, last: bool) -> tuple[str, int, bool]:
    """Compile one segment: its pattern, how specific it is (1 is a literal, 5 takes all), whether it may be absent."""
    if not (found := _PARAMETER.search(part)):
        _refuse_braces(function, template, part)
        return f"(?i:{re.escape(part)})", 1, False
    whole = found.group() == part
    star, optional = bool(found["star"]), bool(found["optional"])
    if (star or optional) and not (whole and last):
        raise StartError(f"{function.name}: route {template!r}: {part!r} can only stand at the end")
    value = _constraint(function, template, found["constraints"])
    if star:
        return f"(?P<{found['name']}>.*)", 5, True
    if whole:
        return f"(?P<{found['name']}>{value or '[^/]+'})", 2 if value else 3, optional
    return _mixed(function, template, part), 2, False


def _mixed(function: Function, template: str, part: str) -> str:
    """Compile a segment of literals and parameters, such as `{name}.{ext}`."""
    text, at = "", 0
    for found in _PARAMETER.finditer(part):
        literal = part[at : found.start()]
        _refuse_braces(function, template, literal)
        value = _constraint(function, template, found["constraints"])
        text += f"(?i:{re.escape(literal)})(?P<{found['name']}>{value or '[^/]+'})"
        at = found.end()
    _refuse_braces(function, template, part[at:])
    return f"{text}(?i:{re.escape(part[at:])})"


def _constraint(function: Function, template: str, text: str) -> str:
    names = [name for name in text.split(":") if name]
    for name in names:
        if name not in _CONSTRAINTS:
            raise StartError(
                f"{function.name}: route {template!r}: constraint {name!r} is not served (valid: {', '.join(_CONSTRAINTS)})"
            )
    if len(names) > 1:
        raise StartError(f"{function.name}: route {template!r}: only one constraint a parameter is served")
    return _CONSTRAINTS[names[0]] if names else ""


def _refuse_braces(function: Function, template: str, literal: str) -> None:
    if "{" in literal or "}" in literal:
        raise StartError(f"{function.name}: route {template!r}: cannot read {literal!r}")
