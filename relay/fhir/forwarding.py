"""A sender's interactions on their way to a FHIR server: how they are written, and what the answers say. Pure.

A resource goes out as its sender wrote it, to the letter, but for its id and for references that the caller renames.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from relay.errors import Failed, Transient
from relay.fhir import json_text
from relay.fhir.answers import FHIR_ID, MADE, etag_of, instant_of, issue_codes, status_of, version_of
from relay.fhir.edits import Pointer, apply_edits
from relay.fhir.json_text import Span
from relay.fhir.subset import is_subset

OK = 200

# A name is preceded by a brace, a comma or a blank; inside of a string a quote is preceded by a backslash.
_REFERENCE = re.compile(r'(?<=[{,\s])"reference"\s*:\s*("(?:[^"\\]|\\.)*")')
_PLACE = re.compile(r"[A-Z][A-Za-z]{1,63}(?:\.[a-z][A-Za-z]{0,39}(?:\[\d{1,4}\])?){1,10}")
_KEY = re.compile(r"([A-Z]{2,12}-\d{1,6})(?![\w-])")
_MOST_TOLD = 5


@dataclass(frozen=True, slots=True)
class Interaction:
    """One write: `id` is empty where the server decides, by `condition` (the query of a conditional PUT or DELETE) or `if_none_exist`.

    `index` is the entry's in the bundle it came in. `chosen` says that a POST became the PUT of an id that is nobody's.
    """

    index: int
    method: Literal["POST", "PUT", "DELETE"]
    type: str
    id: str = ""
    text: str = ""
    condition: str = ""
    if_none_exist: str = ""
    if_match: str = ""
    if_none_match: str = ""
    full_url: str = ""
    chosen: bool = False

    @property
    def guarded(self) -> bool:
        """Whether it must not be done twice: it names the version it is to meet, or none."""
        return bool(self.if_match or self.if_none_match)


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one: `told` says why it was refused; `id`, `version` and `updated` are empty where the server does not say.

    `body` is the server's resource to the letter, where it may be another one than was sent (a conditional create found it, an answer was lost).
    `whole` says that the refusal was of the whole call, and not about this entry.
    """

    status: int
    id: str = ""
    version: str = ""
    updated: str = ""
    told: str = ""
    body: str = ""
    whole: bool = False

    @property
    def done(self) -> bool:
        """Whether the server did it, or found it done."""
        return 200 <= self.status < 300  # noqa: PLR2004 - success


def entry_text(it: Interaction) -> str:
    """Write an entry of a batch or transaction. Its URL is made of type, id and condition: no host is ever in it."""
    url = it.type + (f"/{it.id}" if it.id else "") + (f"?{it.condition}" if it.condition else "")
    request = {
        "method": it.method,
        "url": url,
        "ifMatch": it.if_match,
        "ifNoneMatch": it.if_none_match,
        "ifNoneExist": it.if_none_exist,
    }
    parts = [f'"fullUrl":{json.dumps(it.full_url)}'] if it.full_url else []
    parts += [f'"resource":{it.text}'] if it.text else []
    parts.append(f'"request":{json.dumps({name: value for name, value in request.items() if value})}')
    return f"{{{','.join(parts)}}}"


def answer_of(text: str, span: Span, it: Interaction) -> Answer:
    """Read one entry of the answer; raises Transient `bad-answer` for what is none, or names another resource."""
    try:
        entry = json_text.members(text, span.start)
        response = json_text.value_at(text, entry["response"]) if "response" in entry else {}
        status = status_of(response)
        resource: Any = json_text.value_at(text, entry["resource"]) if "resource" in entry else None
    except Failed as failure:
        raise Transient("the FHIR server's answer to a bundle cannot be read", code="bad-answer") from failure
    if not 200 <= status < 300:  # noqa: PLR2004 - success
        return Answer(status, told=refusal_of(response.get("outcome") or resource))
    named, version = _named(response, resource, it.type)
    if it.id and named and named != it.id:
        raise Transient("the FHIR server answered a write with another resource", code="bad-answer")
    meta = resource.get("meta") if isinstance(resource, dict) else None
    updated = instant_of(meta.get("lastUpdated") if isinstance(meta, dict) else None) or instant_of(
        response.get("lastModified")
    )
    version = version_of(etag_of(response.get("etag", ""), resource)) or version
    start, end = entry["resource"] if status == OK and it.method == "POST" and _is(resource, it.type, named) else (0, 0)
    return Answer(status, it.id or named, version, updated, body=text[start:end])


def refusal_of(outcome: Any) -> str:
    """Say why a server refused: issue codes, element paths and the server's own message keys (`HAPI-0450`).

    Never its sentences: they may repeat what the resource says of a patient.
    """
    issues = outcome.get("issue") if isinstance(outcome, dict) else None
    told: dict[str, None] = {}
    for issue in issues if isinstance(issues, list) else ():
        if not isinstance(issue, dict) or issue.get("severity") in ("information", "warning"):
            continue
        (code, *_) = issue_codes({"issue": [issue]}) or ("",)
        said = issue.get("diagnostics")
        key = _KEY.match(said) if isinstance(said, str) else None
        places = [*_places(issue.get("expression")), *_places(issue.get("location"))]
        words = [code, *([key[1]] if key else ()), *([f"at {places[0]}"] if places else ())]
        told[" ".join(word for word in words if word)] = None
    return ", ".join([each for each in told if each][:_MOST_TOLD])


def references(text: str) -> Iterator[str]:
    """Yield what the References in a resource name."""
    return (str(json.loads(match[1])) for match in _REFERENCE.finditer(text))


def with_references(text: str, renamed: Callable[[str], str | None]) -> str:
    """Return the resource with its References renamed; None leaves one as it is, to the letter."""

    def written(match: re.Match[str]) -> str:
        new = renamed(json.loads(match[1]))
        return match[0] if new is None else f"{match[0][: -len(match[1])]}{json.dumps(new)}"

    return _REFERENCE.sub(written, text)


def with_id(text: str, fhir_id: str) -> str:
    """Return the resource under an id; raises Failed as `apply_edits` does."""
    return text if _top(text).get("id") == fhir_id else apply_edits(text, [(("id",), fhir_id)])


def with_version(text: str, version: str, updated: str) -> str:
    """Return the resource with the server's version and time in `meta`; those that it does not tell are taken out."""
    meta = _top(text).get("meta")
    said = {name: value for name, value in (("versionId", version), ("lastUpdated", updated)) if value}
    if not isinstance(meta, dict):
        return apply_edits(text, [(("meta",), said)]) if said else text
    edits: list[tuple[Pointer, Any]] = [(("meta", name), value) for name, value in said.items()]
    edits += [(("meta", name), None) for name in ("versionId", "lastUpdated") if name in meta and name not in said]
    return apply_edits(text, edits)


def same_content(sent: str, read: str, *, ours: Collection[str] = ()) -> bool:
    """Tell whether two texts are one resource but for `meta`, which servers write themselves, and the spelling of numbers.

    Identifiers of the systems in `ours` do not count either: the relay may have written them since.
    """
    one, other = (json.loads(text, parse_float=Decimal, parse_int=Decimal) for text in (sent, read))
    return _plain(one, ours) == _plain(other, ours)


def _plain(resource: dict[str, Any], ours: Collection[str]) -> dict[str, Any]:
    plain = {name: value for name, value in resource.items() if name != "meta"}
    listed = plain.get("identifier")
    if ours and isinstance(listed, list):
        plain["identifier"] = [each for each in listed if not (isinstance(each, dict) and each.get("system") in ours)]
        if not plain["identifier"]:
            del plain["identifier"]
    return plain


def _top(text: str) -> dict[str, Any]:
    found = json_text.value_at(text, json_text.document(text))
    if not isinstance(found, dict):
        raise Failed("the resource is not a JSON object", code="invalid-element")
    return found


def _named(response: dict[str, Any], resource: Any, kind: str) -> tuple[str, str]:
    """Return (id, version) of what was written, by its Location or its body; the host of a Location is not asked."""
    location = response.get("location")
    match = MADE.fullmatch(location.partition("?")[0].strip()) if isinstance(location, str) else None
    if match and match[1] == kind and FHIR_ID.fullmatch(match[2]):
        return match[2], match[3] or ""
    given = resource.get("id") if isinstance(resource, dict) and resource.get("resourceType") == kind else None
    return (given, "") if isinstance(given, str) and FHIR_ID.fullmatch(given) else ("", "")


def _is(resource: Any, kind: str, fhir_id: str) -> bool:
    """Tell whether this is that resource, and the whole of it."""
    named = isinstance(resource, dict) and (resource.get("resourceType"), resource.get("id")) == (kind, fhir_id)
    return named and not is_subset(resource)


def _places(listed: Any) -> list[str]:
    texts = listed if isinstance(listed, list) else [listed]
    return [each for each in texts if isinstance(each, str) and _PLACE.fullmatch(each)]
