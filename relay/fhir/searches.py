"""Search by identifier: how tokens are written, and what of the answer is a hit. Pure.

A server that does not know a search parameter may pass over it (hl7.org/fhir/R4/search.html#errors), and would then
answer with resources that nobody asked for: each hit is looked at again here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from relay.errors import Failed, Transient
from relay.fhir import json_text
from relay.fhir.answers import FHIR_ID, etag_of
from relay.fhir.json_text import Span

PAGE = 10  # entries asked for: one is a hit, any more of them are "several"

Token = tuple[str, str]
"""(system, value) of an identifier; the system '' means one that has none."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One resource that a search found: `text` to the letter, `etag` as in `Read`."""

    id: str
    text: str
    etag: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found; `several` is whether there is more than one, on this page or beyond it."""

    hits: tuple[Hit, ...] = ()
    several: bool = False


def search_form(tokens: Sequence[Token]) -> str:
    """Write the form that asks for resources with any of the tokens; raises Failed `invalid-identifier`."""
    return f"identifier={','.join(_token(*each, safe='') for each in tokens)}&_count={PAGE}"


def condition(token: Token) -> str:
    """Write what If-None-Exist says of one token; raises Failed `invalid-identifier`.

    Only what would break the header or the query is percent-encoded: the common URNs stay as FHIR's examples have them.
    """
    return f"identifier={_token(*token, safe=':/|')}"


def found_in(text: str, kind: str, tokens: Sequence[Token]) -> Found:
    """Read a searchset: the matches of the type, each once; outcomes, inclusions and other types are passed over.

    Raises Transient `bad-answer` for what is no such answer, and Failed `search-ignored` when a match carries none of
    the tokens.
    """
    try:
        top = json_text.members(text, json_text.document(text).start)
        listed = json_text.elements(text, top["entry"].start) if "entry" in top else []
        entries = [json_text.members(text, each.start) for each in listed]
    except Failed as failure:
        raise _bad_answer("the FHIR server's answer to a search cannot be read") from failure
    bundle = {name: json_text.value_at(text, span) for name, span in top.items() if name != "entry"}
    if bundle.get("resourceType") != "Bundle":
        raise _bad_answer("the FHIR server answered a search with something else than a Bundle")
    hits: dict[str, Hit] = {}
    for entry in entries:
        if hit := _hit(text, entry, kind, tokens):
            hits.setdefault(hit.id, hit)
    return Found(tuple(hits.values()), len(hits) > 1 or _more(bundle, len(hits)))


def _token(system: str, value: str, *, safe: str) -> str:
    """Write `system|value`, its parts escaped as hl7.org/fhir/R4/search.html#escaping says, percent-encoded."""
    if not value.strip():
        raise Failed("an identifier without a value would find every one", code="invalid-identifier", at="identifier")
    parts = [re.sub(r"([\\,$|])", r"\\\1", each) for each in (system, value)]
    try:
        return quote("|".join(parts), safe=safe)
    except UnicodeEncodeError:
        pass
    # Raised out here because Python's error holds the value.
    raise Failed("an identifier is not Unicode text", code="invalid-identifier", at="identifier")


def _hit(text: str, entry: Mapping[str, Span], kind: str, tokens: Sequence[Token]) -> Hit | None:
    about = json_text.value_at(text, entry["search"]) if "search" in entry else None
    if isinstance(about, dict) and about.get("mode", "match") != "match":
        return None
    if "resource" not in entry:
        raise _bad_answer("the FHIR server answered a search without the resource")
    start, end = entry["resource"]
    resource = json_text.value_at(text, entry["resource"])
    if not isinstance(resource, dict) or resource.get("resourceType") != kind:
        return None
    fhir_id = resource.get("id")
    if not isinstance(fhir_id, str) or not FHIR_ID.fullmatch(fhir_id):
        raise _bad_answer("the FHIR server answered a search with a resource that has no id")
    if not {(system, _plain(value)) for system, value in tokens}.intersection(_identifiers(resource)):
        raise Failed("the FHIR server did not search by identifier", code="search-ignored", at="identifier")
    response = json_text.value_at(text, entry["response"]) if "response" in entry else None
    header = response.get("etag", "") if isinstance(response, dict) else ""
    return Hit(fhir_id, text[start:end], etag_of(header, resource))


def _identifiers(resource: Mapping[str, Any]) -> Iterator[Token]:
    """Read what a search by identifier looks at: `masterIdentifier` of documents too, in R4."""
    for name in ("identifier", "masterIdentifier"):
        entries = resource.get(name)
        for each in entries if isinstance(entries, list) else [entries]:
            if isinstance(each, dict) and isinstance(value := each.get("value"), str):
                system = each.get("system")
                yield system if isinstance(system, str) else "", _plain(value)


def _plain(value: str) -> str:
    return value.strip().casefold()  # servers may match tokens without regard to case


def _more(bundle: Mapping[str, Any], count: int) -> bool:
    """Tell whether the server knows of more matches than it showed."""
    total = bundle.get("total")  # numbers come as their text
    if isinstance(total, str) and re.fullmatch(r"\d{1,18}", total, re.ASCII) and int(total) > count:
        return True
    links = bundle.get("link")
    return isinstance(links, list) and any(isinstance(each, dict) and each.get("relation") == "next" for each in links)


def _bad_answer(message: str) -> Transient:
    return Transient(message, code="bad-answer")
