"""An event is read from whatever Dataverse sends of it, and anything else is refused."""

import json
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.dataverse.events import IdentifierEvent, parse_event
from relay.errors import Refused

ROW = "0F8FAD5B-D9CB-469F-A165-70867728950E"
ORG = "7C9E6679-7425-40DE-944B-E07FC1F90AE7"
XRM = "http://schemas.microsoft.com/xrm/2011/Contracts"


def context(**changes: Any) -> dict[str, Any]:
    """Return an asynchronous Create as captured from a real org; a change to None takes a member out."""
    target = {
        "__type": f"Entity:{XRM}",
        "Attributes": [
            {"key": "prefix_value", "value": "123\n4"},
            {
                "key": "prefix_patient",
                "value": {"__type": f"EntityReference:{XRM}", "Id": ROW, "LogicalName": "contact", "Name": None},
            },
            {"key": "statuscode", "value": {"__type": f"OptionSetValue:{XRM}", "Value": 935000001}},
            {"key": "amount", "value": {"__type": f"Money:{XRM}", "Value": 12.50}},
            {"key": "many", "value": [{"Value": 1}, {"Value": 2}]},
            {"key": "parties", "value": {"Entities": [{"Attributes": [{"key": "a", "value": 1}]}]}},
            {"key": "odd", "value": {"x": {"Value": 3}, "y": None}},
            {"key": "createdon", "value": "/Date(1608007658000)/"},
            {"key": "modifiedonbehalfby", "value": None},
        ],
        "Id": ROW,
        "LogicalName": "prefix_patientidentifier",
    }
    document = {
        "Depth": 1,
        "InputParameters": [{"key": "Target", "value": target}],
        "MessageName": "Create",
        "OperationCreatedOn": "/Date(1608007658123+0200)/",
        "OperationId": ORG,
        "OrganizationId": ORG,
        "OutputParameters": [{"key": "id", "value": ROW}],
        "ParentContext": None,
        "PrimaryEntityId": ROW,
        "PrimaryEntityName": "prefix_patientidentifier",
        "SharedVariables": [{"key": "IsAutoTransact", "value": True}, {"key": "tag", "value": "relay"}],
        "SomethingNew": {"x": [1]},
        "Stage": 40,
    }
    return {name: value for name, value in {**document, **changes}.items() if value is not None}


def test_a_whole_event() -> None:
    """Every member that the relay uses is read, ids in lower case."""
    event = parse_event(json.dumps(context()).encode())
    assert event == IdentifierEvent(
        message="Create",
        table="prefix_patientidentifier",
        id=ROW.lower(),
        organization_id=ORG.lower(),
        operation_id=ORG.lower(),
        tag="relay",
        stage=40,
        depth=1,
        occurred=datetime(2020, 12, 15, 4, 47, 38, 123000, UTC),
        attributes={
            "prefix_value": "123\n4",
            "prefix_patient": ROW.lower(),
            "statuscode": 935000001,
            "amount": Decimal("12.5"),
            "many": (1, 2),
            "parties": ({"a": 1},),
            "odd": {"x": 3, "y": None},
            "createdon": datetime(2020, 12, 15, 4, 47, 38, tzinfo=UTC),
            "modifiedonbehalfby": None,
        },
        stripped=False,
        tables={"prefix_patient": "contact"},
    )


def test_no_attribute_is_in_the_repr() -> None:
    """What an event shows of itself in logs is no patient data."""
    assert "123" not in repr(parse_event(context())).replace(ROW.lower(), "").replace("123000", "")


@pytest.mark.parametrize("body", [json.dumps(context()), b"\xef\xbb\xbf" + json.dumps(context()).encode(), context()])
def test_text_bytes_and_mappings_are_read_alike(body: str | bytes | dict[str, Any]) -> None:
    """A byte order mark, text or an already parsed body make no difference."""
    assert parse_event(body).id == ROW.lower()


def test_a_stripped_event() -> None:
    """Above 256 KB Dataverse leaves the parameters out: the event says so and still names its row."""
    event = parse_event(context(InputParameters=None, ParentContext=None))
    assert event.stripped
    assert event.attributes == {}
    assert event.tag == "relay"


def test_a_delete_is_not_stripped() -> None:
    """The Target of a Delete is a reference: no attributes, but nothing was stripped."""
    target = {"Id": ROW, "LogicalName": "contact"}
    event = parse_event(context(MessageName="Delete", InputParameters=[{"key": "Target", "value": target}]))
    assert (event.stripped, event.attributes) == (False, {})


def test_the_tag_is_found_in_parents() -> None:
    """A tag that was set on the outer operation counts for what it caused."""
    parent = {"SharedVariables": [], "ParentContext": {"SharedVariables": [{"Key": "tag", "Value": "outer"}]}}
    assert parse_event(context(SharedVariables=[], ParentContext=parent)).tag == "outer"
    assert parse_event(context(SharedVariables=None)).tag == ""
    assert parse_event(context(SharedVariables={"tag": "plain"})).tag == "plain"


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("/Date(0)/", datetime(1970, 1, 1, tzinfo=UTC)),
        ("/Date(-1000)/", datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("/Date(1000-0500)/", datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
        ("2025-02-03T04:05:06Z", datetime(2025, 2, 3, 4, 5, 6, tzinfo=UTC)),
        ("2025-02-03T04:05:06.1234567Z", datetime(2025, 2, 3, 4, 5, 6, 123456, UTC)),
        ("2025-02-03T04:05:06+02:00", datetime(2025, 2, 3, 2, 5, 6, tzinfo=UTC)),
        ("2025-02-03T04:05:06", datetime(2025, 2, 3, 4, 5, 6, tzinfo=UTC)),
        ("2025-02-03T04:61:06", None),
        ("/Date(99999999999999999)/", None),
        ("yesterday", None),
        (17, None),
    ],
)
def test_dates(text: str, moment: datetime | None) -> None:
    """Both spellings of a date are read as UTC; nonsense is no date."""
    assert parse_event(context(OperationCreatedOn=text)).occurred == moment


def test_the_id_may_stand_elsewhere() -> None:
    """The id is taken from the output or the target if the context itself lacks it."""
    empty = "00000000-0000-0000-0000-000000000000"
    assert parse_event(context(PrimaryEntityId=None)).id == ROW.lower()
    assert parse_event(context(PrimaryEntityId=empty, OutputParameters=None)).id == ROW.lower()
    assert parse_event(context(PrimaryEntityId="{" + ROW + "}")).id == ROW.lower()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"17", "not a JSON object"),
        (b"[" * 100_000, "JSON|deep"),
        (b'{"a":' * 20_000 + b"1" + b"}" * 20_000, "deep"),
        (b"{}", "MessageName"),
        (context(MessageName=7), "MessageName"),
        (context(PrimaryEntityName="a/b"), "PrimaryEntityName"),
        (context(PrimaryEntityName=None), "PrimaryEntityName"),
        (context(PrimaryEntityId=None, OutputParameters=None, InputParameters=None), "PrimaryEntityId"),
        (context(PrimaryEntityId="x", OutputParameters=[7], InputParameters=7), "PrimaryEntityId"),
    ],
)
def test_anything_else_is_refused(body: bytes | dict[str, Any], words: str) -> None:
    """What is no event is answered 400 and names the member that is wrong."""
    with pytest.raises(Refused, match=words) as caught:
        parse_event(body)
    assert caught.value.status == 400


def test_deep_attributes_are_refused() -> None:
    """A value nested beyond all measure is refused, not a crash."""
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    target = {"Attributes": [{"key": "a", "value": deep}]}
    with pytest.raises(Refused, match="deep"):
        parse_event(context(InputParameters=[{"key": "Target", "value": target}]))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["key", "value", "Entities", "Attributes", "Id", "LogicalName", "Value"]), inner
        )
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(context())), json_values))
def test_odd_members_never_crash(changes: dict[str, Any]) -> None:
    """Whatever the members hold, the event is read or refused."""
    with suppress(Refused):
        assert parse_event({**context(), **changes}).id


def test_it_needs_only_the_standard_library() -> None:
    """Reading an event imports neither the HTTP client nor the settings."""
    script = (
        "import relay.dataverse.events, sys; print([n for n in ('httpx', 'pydantic', 'azure') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)  # noqa: S603 - our own interpreter
    assert done.stdout.strip() == "[]"
