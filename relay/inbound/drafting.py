"""From entries to drafts of rows: what the maps make of each, and what is said of those of which they make nothing. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from relay.inbound.entries import Entry, Incoming
from relay.inbound.outcome import Report
from relay.inbound.references import References
from relay.inbound.validate import check
from relay.mapping.load import MapSet
from relay.mapping.model import Draft, EntityMap, Issue
from relay.mapping.translate import deleted, translate
from relay.settings import Settings

_NO_MAP = Issue("information", "no-map", "no map speaks for this resource type")


class Drafter:
    """Makes drafts by one set of maps."""

    def __init__(self, settings: Settings, maps: MapSet) -> None:
        self._settings = settings
        self._maps = maps

    def draft(self, incoming: Incoming) -> tuple[dict[int, Report], dict[int, Draft]]:
        """Turn entries into drafts by number; entries without one have their result already."""
        references = References(incoming, fhir_url=self._settings.fhir_url)
        reports: dict[int, Report] = {}
        drafts: dict[int, Draft] = {}
        for entry in incoming.entries:
            report = Report(entry.index, _name(entry), "skipped")
            reports[entry.index] = report
            unmapped = self._maps.for_resource(entry.resource_type) is None and entry.sent is not None
            if entry.problem is not None and entry.problem.code in ("no-id", "invalid-id") and unmapped:
                report.issues.append(self._no_map(entry))
            elif entry.problem is not None:
                report.result = "failed"
                report.issues.append(entry.problem)
            elif entry.skip:
                report.issues.append(Issue("information", entry.skip, "the entry is passed over"))
            elif (draft := self._draft(entry, references, report)) is not None:
                drafts[entry.index] = draft
        return reports, drafts

    def _draft(self, entry: Entry, references: References, report: Report) -> Draft | None:
        entity_map = self._maps.for_resource(entry.resource_type)
        if entity_map is None:
            report.issues.append(self._no_map(entry))
            return None
        report.table = entity_map.table.name
        if entry.method == "DELETE":
            return self._deleted(entity_map, entry, report)
        resource: Mapping[str, Any] = entry.resource or {}
        if self._settings.validate_bundles != "off":
            report.issues += check(resource, self._settings.validate_bundles)
        draft = translate(entity_map, resource, references.resolver(entry))
        report.issues += draft.issues
        if any(issue.severity == "error" for issue in report.issues):
            report.result = "failed"
            return None
        return draft

    @staticmethod
    def _deleted(entity_map: EntityMap, entry: Entry, report: Report) -> Draft | None:
        if entity_map.deletes == "ignore" or entry.key is None:
            report.issues.append(
                Issue("information", "delete-ignored", "the map leaves rows of deleted resources alone")
            )
            return None
        return deleted(entity_map, entry.key[1])

    def _no_map(self, entry: Entry) -> Issue:
        """Say why a type is passed over: there is no map, or somebody disabled it."""
        disabled = self._maps.disabled(entry.resource_type)
        if disabled is None:
            return _NO_MAP
        return Issue("warning", "map-disabled", f"the map in {PurePath(disabled.file).name} is disabled")


def _name(entry: Entry) -> str:
    return "/".join(entry.key) if entry.key else entry.resource_type
