"""Actions and functions that stand alone: making tables, publishing, keys, deleting in bulk, reading changes of metadata."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Final
from xml.etree import ElementTree as ET

from devstack.dataverse import system
from devstack.dataverse.columns import guid, now
from devstack.dataverse.customizing import Customizing, Lock
from devstack.dataverse.definition_body import Body
from devstack.dataverse.definition_errors import BadXml, WrongXml
from devstack.dataverse.definition_shapes import NAMESPACE, Shape, column_shape, plain_shape, table_shape
from devstack.dataverse.definitions import Definitions
from devstack.dataverse.errors import BadSyntax, MethodNotAllowed, NotSupported
from devstack.dataverse.keys import Segment
from devstack.dataverse.metadata import Table
from devstack.dataverse.records import Origin, Records
from devstack.dataverse.solutions import Solutions
from devstack.dataverse.wire import Answer, Call, answer

_PUBLISHED: Final = ("entities", "ribbons", "dashboards", "optionsets", "sitemaps", "webresources")
UNSETTLED: Final = (
    "CreateEntities answers 204; its tables are made together or not at all.",
    "BulkDelete is over when it answers: its job is there as succeeded, its rows are gone.",
)
"""What no page settles, and how it is here."""


class Actions:
    """Carries out unbound actions and functions; every method runs inside the caller's transaction."""

    def __init__(
        self, records: Records, definitions: Definitions, customizing: Customizing, solutions: Solutions, lock: Lock
    ) -> None:
        self._records = records
        self._store = records.store
        self._definitions = definitions
        self._customizing = customizing
        self._solutions = solutions
        self._lock = lock
        self._actions: dict[str, tuple[str, Callable[[Call, list[Segment]], Answer]]] = {
            "CreateEntities": ("POST", self._create_entities),
            "PublishXml": ("POST", self._publish),
            "PublishAllXml": ("POST", self._publish_all),
            "ReactivateEntityKey": ("POST", self._reactivate),
            "BulkDelete": ("POST", self._bulk_delete),
            "RetrieveMetadataChanges": ("GET", self._metadata_changes),
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The actions and functions that there are."""
        return tuple(self._actions)

    def answer(self, call: Call, path: list[Segment]) -> Answer:
        """Carry out the one that a path names; raises MethodNotAllowed, BadSyntax or its own errors."""
        method, carry_out = self._actions[path[0].name]
        if call.method != method:
            raise MethodNotAllowed(call.method)
        if len(path) > 1:
            raise BadSyntax(f"Nothing follows the operation {path[0].name} in a path.")
        return carry_out(call, path)

    def _create_entities(self, call: Call, _: list[Segment]) -> Answer:
        _options(call, "SolutionUniqueName")
        self._definitions.create_many(call, Body(call.json("CreateEntities"), "CreateEntities"))
        return _nothing()

    def _reactivate(self, call: Call, _: list[Segment]) -> Answer:
        _options(call)
        self._definitions.build_key_again(Body(call.json("ReactivateEntityKey"), "ReactivateEntityKey"))
        return _nothing()

    def _publish(self, call: Call, _: list[Segment]) -> Answer:
        _options(call)
        self._lock.enter("Publish")
        text = Body(call.json("PublishXml"), "PublishXml").needed("ParameterXml")
        try:
            root = ET.fromstring(text)  # noqa: S314 - entities are not expanded outside the document; a bomb costs its sender's own emulator
        except ET.ParseError as error:
            raise BadXml(str(error)) from None
        if root.tag != "importexportxml":
            raise WrongXml(f"<{root.tag}> is not <importexportxml>")
        for part in root:
            if part.tag not in _PUBLISHED:
                raise WrongXml(f"<{part.tag}> is not one of {', '.join(_PUBLISHED)}")
            for each in part if part.tag == "entities" else ():
                if each.tag != "entity":
                    raise WrongXml(f"<{each.tag}> is not <entity>")
                self._solutions.publish(self._customizing.table((each.text or "").strip()).name)
        return _nothing()

    def _publish_all(self, call: Call, _: list[Segment]) -> Answer:
        _options(call)
        self._lock.enter("PublishAll")
        self._solutions.publish(None)
        return _nothing()

    def _bulk_delete(self, call: Call, _: list[Segment]) -> Answer:
        """Delete the rows that a query by primary keys names; the job is over when the answer comes."""
        _options(call)
        body = Body(call.json("BulkDelete"), "BulkDelete")
        body.known(
            {
                *("JobName", "SendEmailNotification", "ToRecipients", "CCRecipients", "RecurrencePattern"),
                *("StartDateTime", "QuerySet", "RunNow"),
            }
        )
        if body.text("RecurrencePattern") or body.flag("SendEmailNotification"):
            raise NotSupported("a bulk deletion that recurs or sends mail")
        queries = [Body(each, "QueryExpression", "QuerySet") for each in body.items("QuerySet")]
        if len(queries) != 1:
            raise NotSupported(f"a bulk deletion of {len(queries)} queries (valid: 1)")
        table, ids = self._rows_to_delete(queries[0])
        for row_id in ids:
            if (row := self._store.get(table, row_id)) is not None:
                self._records.delete(table, row, Origin(correlation=call.correlation))
        job = str(uuid.uuid4())
        values = {"asyncoperationid": job, "name": body.text("JobName", "Bulk delete"), "operationtype": 13}
        values |= {"startedon": now(), "completedon": now(), "statecode": 3, "statuscode": 30}
        values |= {"createdon": now(), "modifiedon": now(), "versionnumber": self._store.next_version()}
        self._store.insert(self._store.metadata.tables["asyncoperation"], values)
        context = f"{call.root}$metadata#{NAMESPACE}BulkDeleteResponse"
        return answer(200, {"@odata.context": context, "JobId": job})

    def _rows_to_delete(self, query: Body) -> tuple[Table, list[str]]:
        query.known(("EntityName", "ColumnSet", "Criteria"))
        table = self._customizing.table(query.needed("EntityName"))
        if table.name in system.NAMES:
            raise NotSupported(f"a bulk deletion of rows of {table.name}")
        criteria = query.inner("Criteria", "FilterExpression")
        conditions = criteria.items("Conditions") if criteria else []
        if criteria is None or len(conditions) != 1:
            raise NotSupported("a bulk deletion by anything but one condition")
        criteria.known(("FilterOperator", "Conditions"))
        condition = Body(conditions[0], "ConditionExpression", "Conditions")
        condition.known(("AttributeName", "Operator", "Values"))
        if condition.text("AttributeName") != table.primary_id or condition.text("Operator") not in ("In", "Equal"):
            raise NotSupported(f"a bulk deletion by anything but In or Equal on {table.primary_id}")
        ids = []
        for each in condition.items("Values"):
            found = guid(each.get("Value") if isinstance(each, dict) else each)
            if found is None:
                raise condition.wrong("Values", "holds something that is no GUID")
            ids.append(found)
        return table, ids

    def _metadata_changes(self, call: Call, path: list[Segment]) -> Answer:
        """Read definitions by name, with the properties that are asked for."""
        words = path[0].words or ()
        if len(words) != 3 or words[0].text != "Query" or not words[2].text.startswith("@"):  # noqa: PLR2004 - name, =, alias
            raise BadSyntax("RetrieveMetadataChanges takes (Query=@alias).")
        _options(call, words[2].text)
        try:
            document = json.loads(call.options.get(words[2].text, ""))
        except (ValueError, RecursionError):
            raise BadSyntax(f"The value of the parameter alias '{words[2].text}' is not JSON.") from None
        query = Body(document, "EntityQueryExpression")
        query.known(("Properties", "Criteria", "AttributeQuery"))
        attributes = query.inner("AttributeQuery", "AttributeQueryExpression")
        found = []
        for table in self._store.metadata.tables.values():
            if not _meets(query.inner("Criteria", "MetadataFilterExpression"), plain_shape(table)):
                continue
            kept = _properties(query, table_shape(self._store.metadata, table))
            if "Attributes" in kept:
                columns = [column_shape(table, column) for column in table.columns.values()]
                if attributes is not None:
                    attributes.known(("Properties", "Criteria"))
                    wanted = attributes.inner("Criteria", "MetadataFilterExpression")
                    columns = [_properties(attributes, each) for each in columns if _meets(wanted, each)]
                kept["Attributes"] = columns
            found.append(kept)
        return answer(
            200,
            {
                "@odata.context": f"{call.root}$metadata#{NAMESPACE}RetrieveMetadataChangesResponse",
                "ServerVersionStamp": "1!00000000",
                "DeletedMetadata": None,
                "EntityMetadata": found,
            },
        )


def _meets(criteria: Body | None, shape: Shape) -> bool:
    if criteria is None:
        return True
    criteria.known(("Conditions", "FilterOperator"))
    if criteria.text("FilterOperator", "And") != "And":
        raise NotSupported("RetrieveMetadataChanges with a FilterOperator other than And")
    for each in criteria.items("Conditions"):
        condition = Body(each, "MetadataConditionExpression", "Conditions")
        condition.known(("PropertyName", "ConditionOperator", "Value"))
        name, operator = condition.needed("PropertyName"), condition.needed("ConditionOperator")
        value = condition.inner("Value", "Object")
        if operator != "Equals" or value is None or name not in shape or not isinstance(shape[name], str):
            raise NotSupported(f"RetrieveMetadataChanges by '{name}' {operator} (valid: Equals on texts)")
        if shape[name] != value.text("Value"):
            return False
    return True


def _properties(query: Body, shape: Shape) -> Shape:
    """Keep the properties that are asked for, those that this shape has; without a list all."""
    properties = query.inner("Properties", "MetadataPropertiesExpression")
    if properties is None or properties.flag("AllProperties"):
        return dict(shape)
    names = properties.items("PropertyNames")
    if not all(isinstance(name, str) for name in names):
        raise properties.wrong("PropertyNames", "is not an array of strings")
    return {name: shape[name] for name in ("@odata.type", "MetadataId", *names) if name in shape}


def _options(call: Call, *valid: str) -> None:
    for name in call.options:
        if name not in valid:
            raise NotSupported(f"the query option {name} on {call.path.partition('(')[0]}")


def _nothing() -> Answer:
    return Answer(204, {"OData-Version": "4.0"})
