"""Every version of every resource, in memory, with an index of identifiers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from devstack.fhir.errors import FhirError
from devstack.fhir.text import dump, parse, rewrite_references, same_content, stamp
from devstack.fhir.types import R4_TYPES

_METHODS: Final = ("POST", "PUT", "DELETE")

Token = tuple[str | None, str | None]
"""(system, value); in the index (system, None) and (None, value) stand for any value and any system."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a resource; `body` None: this version is its deletion. `updated` is in UTC, milliseconds."""

    type: str
    id: str
    number: int
    updated: datetime
    method: str
    body: bytes | None
    tokens: frozenset[Token] = frozenset()

    @property
    def etag(self) -> str:
        """The version as an HTTP entity tag."""
        return f'W/"{self.number}"'

    @property
    def op(self) -> str:
        """What made this version: create, update or delete."""
        return "delete" if self.body is None else "create" if self.number == 1 else "update"


class Store:
    """Versions by type and id; `log` has them in the order of their commit, and undoes them from its end.

    `check` sees each resource before it is stored, and raises FhirError for one that cannot be served.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], datetime] | None = None,
        keep_identical: bool = False,
        check: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> None:
        self.log: list[Version] = []
        self._versions: dict[tuple[str, str], list[Version]] = {}
        self._live: dict[str, dict[str, Version]] = {}
        self._index: dict[tuple[str, Token], dict[str, None]] = {}
        self._clock = clock or (lambda: datetime.now(UTC))
        self._keep_identical = keep_identical
        self._check = check

    def versions(self, type_: str, id_: str) -> list[Version]:
        """Return all versions, oldest first; empty when there never was one."""
        return self._versions.get((type_, id_), [])

    def current(self, type_: str, id_: str) -> Version | None:
        """Return the newest version, a deletion too; None when there never was one."""
        versions = self._versions.get((type_, id_))
        return versions[-1] if versions else None

    def live(self, type_: str) -> dict[str, Version]:
        """Return the resources of a type that are not deleted, by id, in the order of their creation."""
        return self._live.get(type_, {})

    def with_token(self, type_: str, token: Token) -> list[str]:
        """Return the ids of the type whose identifiers hold the token."""
        return list(self._index.get((type_, token), ()))

    def write(self, resource: dict[str, Any], id_: str, method: str) -> Version:
        """Store a new version; raises FhirError before anything is changed.

        With `keep_identical` a resource equal to its current version makes no new one.
        """
        self._check(resource)
        type_ = resource["resourceType"]
        before = self.current(type_, id_)
        number = before.number + 1 if before else 1
        updated = self._now()
        body = dump(stamp(resource, id_=id_, version=str(number), updated=instant(updated)))
        if self._keep_identical and before and before.body is not None and same_content(before.body, body):
            return before
        version = Version(type_, id_, number, updated, method, body, identifier_tokens(resource))
        self._append(version)
        return version

    def delete(self, current: Version) -> Version:
        """Store a deletion after the version given."""
        version = Version(current.type, current.id, current.number + 1, self._now(), "DELETE", None)
        self._append(version)
        return version

    def resolve_references(self, since: int, resolve: Callable[[str], str | None]) -> dict[Version, Version]:
        """Rewrite the references of every version logged from `since` on; return what took whose place."""
        changed: dict[Version, Version] = {}
        for position in range(since, len(self.log)):
            old = self.log[position]
            body = None if old.body is None else rewrite_references(old.body, resolve)
            if body != old.body:
                changed[old] = self.log[position] = replace(old, body=body)
                self._versions[old.type, old.id][old.number - 1] = self.log[position]
                self._live[old.type][old.id] = self.log[position]
        if self._keep_identical:
            self._drop_identical(since, changed)
        return changed

    def undo(self, since: int) -> None:
        """Take back every version logged from `since` on."""
        while len(self.log) > since:
            version = self.log.pop()
            key = (version.type, version.id)
            self._versions[key].pop()
            before = self._versions[key][-1] if self._versions[key] else None
            if before is None:
                del self._versions[key]
            self._show(version, before)

    def clear(self) -> None:
        """Forget everything."""
        self.log.clear()
        self._versions.clear()
        self._live.clear()
        self._index.clear()

    def snapshot(self) -> dict[str, Any]:
        """Return everything as JSON; bodies are strings, so that no reader can change their number text."""
        return {
            "versions": [
                {
                    "type": each.type,
                    "id": each.id,
                    "versionId": str(each.number),
                    "lastUpdated": instant(each.updated),
                    "method": each.method,
                    "body": each.body.decode() if each.body is not None else None,
                }
                for each in self.log
            ]
        }

    def restore(self, document: Any) -> None:
        """Take a snapshot back; raises ValueError naming what is wrong, and nothing is changed then."""
        versions = list(_read_snapshot(document, self._check))
        self.clear()
        for version in versions:
            self._append(version)

    def _now(self) -> datetime:
        now = self._clock().astimezone(UTC)
        now = now.replace(microsecond=now.microsecond // 1000 * 1000)
        return max(now, self.log[-1].updated) if self.log else now

    def _append(self, version: Version) -> None:
        versions = self._versions.setdefault((version.type, version.id), [])
        before = versions[-1] if versions else None
        versions.append(version)
        self.log.append(version)
        self._show(before, version)

    def _show(self, before: Version | None, after: Version | None) -> None:
        """Make `after` what reads and searches see in place of `before`."""
        if before is not None and before.body is not None:
            for token in before.tokens:
                del self._index[before.type, token][before.id]
        if after is not None and after.body is not None:
            for token in after.tokens:
                self._index.setdefault((after.type, token), {})[after.id] = None
            self._live.setdefault(after.type, {})[after.id] = after
        elif before is not None:
            self._live.get(before.type, {}).pop(before.id, None)

    def _drop_identical(self, since: int, changed: dict[Version, Version]) -> None:
        """Take back versions that became equal to the one before them only when their references were resolved."""
        for original, version in list(changed.items()):
            versions = self.versions(version.type, version.id)
            before = versions[-2] if len(versions) > 1 and versions[-1] is version else None
            if before and before.body is not None and version.body and same_content(before.body, version.body):
                versions.pop()
                self.log.pop(self.log.index(version, since))
                self._show(version, before)
                changed[original] = before


def instant(when: datetime) -> str:
    """Write a time as a FHIR instant with milliseconds."""
    return when.isoformat(timespec="milliseconds")


def identifier_tokens(resource: dict[str, Any]) -> frozenset[Token]:
    """Return the index entries of a resource's identifiers; one without a system has the system ''."""
    tokens: set[Token] = set()
    for name in ("identifier", "masterIdentifier"):  # R4 searches both where a document has both
        found = resource.get(name)
        for each in found if isinstance(found, list) else [found]:
            if not isinstance(each, dict):
                continue
            system, value = each.get("system"), each.get("value")
            if isinstance(system, str):
                tokens.add((system, None))
            if isinstance(value, str):
                tokens |= {(system if isinstance(system, str) else "", value), (None, value)}
    return frozenset(tokens)


def _read_snapshot(document: Any, check: Callable[[dict[str, Any]], None]) -> Iterator[Version]:
    versions = document.get("versions") if isinstance(document, dict) else None
    if not isinstance(versions, list):
        raise ValueError('not a snapshot: {"versions": [...]} is wanted')  # noqa: TRY004 - what restore promises
    counts: dict[tuple[str, str], int] = {}
    for index, each in enumerate(versions):
        try:
            number = counts[each["type"], each["id"]] = counts.get((each["type"], each["id"]), 0) + 1
            version = _read_version(each, number, check)
        except (KeyError, TypeError, AttributeError, ValueError, FhirError) as error:
            raise ValueError(f"versions[{index}]: {error!r}") from error
        yield version


def _read_version(each: dict[str, Any], number: int, check: Callable[[dict[str, Any]], None]) -> Version:
    type_, id_, body = each["type"], each["id"], each["body"]
    resource = {"resourceType": type_} if body is None else parse(body.encode())
    if type_ not in R4_TYPES or resource["resourceType"] != type_:
        raise ValueError("type is wrong")
    if each["method"] not in _METHODS or each["versionId"] != str(number):
        raise ValueError("method or versionId is wrong")
    if body is not None:
        check(resource)
    updated = datetime.fromisoformat(each["lastUpdated"]).astimezone(UTC)
    tokens = identifier_tokens(resource)
    return Version(type_, id_, number, updated, each["method"], body and body.encode(), tokens)
