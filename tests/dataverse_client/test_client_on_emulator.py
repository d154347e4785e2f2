"""The client and the emulator agree on the wire: writes, reads, batches, filters, races and failures."""

from collections.abc import AsyncIterator
from decimal import Decimal
from uuid import UUID, uuid4

import httpx
import pytest

from devstack.control import Fault
from devstack.dataverse import Emulator, create_app
from relay.dataverse import quoting
from relay.dataverse.batch import ChangeSet, Request
from relay.dataverse.client import DataverseClient
from relay.dataverse.errors import (
    DataverseBusy,
    DataverseError,
    DataverseMissing,
    DataverseNotReached,
    DataverseRace,
    DataverseRefusal,
)
from relay.dataverse.events import parse_event
from relay.dataverse.throttle import Governor
from relay.errors import Transient
from relay.telemetry import metered

HOSTILE = [
    "O'Brian",
    "''",
    "a\\b",
    "a]b",
    "[a",
    'say "hi"',
    "a, b (c)",
    "50%27 off & more + #1?",
    "line\r\nbreak",
    "ünï©ødé 漢字 🙂",
    "plain",
    "'),PropertyValues=['x",
    "x' or 'a' eq 'a",
    "$filter=1",
]


@pytest.fixture
async def org() -> AsyncIterator[Emulator]:
    async with create_app() as app:
        yield app


@pytest.fixture
async def dataverse(org: Emulator) -> AsyncIterator[DataverseClient]:
    async def no_sleep(_: float) -> None:
        """Lose no time."""

    governor = Governor(sleep=no_sleep)
    async with DataverseClient("http://dataverse", transport=httpx.ASGITransport(org), governor=governor) as client:
        yield client


def create(row: str, **columns: object) -> Request:
    return Request(
        "POST", quoting.tagged("contacts", "test"), {"contactid": row, "msemr_contacttype": 935000000, **columns}
    )


def update(row: str, etag: str, **columns: object) -> Request:
    return Request("PATCH", quoting.tagged(quoting.record("contacts", row), "test"), columns, {"If-Match": etag})


async def read(dataverse: DataverseClient, row: str) -> dict[str, object]:
    return dict(await dataverse.get(f"{quoting.record('contacts', row)}?$select=lastname"))


async def test_a_row_is_created_and_updated_by_its_etag(dataverse: DataverseClient) -> None:
    """A create by a chosen key and an update with the ETag read change the row once each."""
    row = str(uuid4())
    created = await dataverse.send(create(row, lastname="Doe"))
    assert (created.status, created.body) == (204, None)
    assert created.headers["OData-EntityId"].lower().endswith(f"contacts({row})")
    body = await read(dataverse, row)
    assert body["lastname"] == "Doe"
    await dataverse.send(update(row, str(body["@odata.etag"]), lastname="Roe"))
    assert (await read(dataverse, row))["lastname"] == "Roe"


async def test_a_stale_etag_is_a_race(dataverse: DataverseClient) -> None:
    """An update that was planned on an older row loses, and says so by its code."""
    row = str(uuid4())
    await dataverse.send(create(row, lastname="Doe"))
    etag = str((await read(dataverse, row))["@odata.etag"])
    await dataverse.send(update(row, etag, lastname="Roe"))
    with pytest.raises(DataverseRace) as caught:
        await dataverse.send(update(row, etag, lastname="Poe"))
    assert caught.value.code == "0x80060882"
    assert (await read(dataverse, row))["lastname"] == "Roe"


async def test_a_taken_key_is_a_race(dataverse: DataverseClient) -> None:
    """A create whose key is taken says that somebody was first."""
    row = str(uuid4())
    await dataverse.send(create(row))
    with pytest.raises(DataverseRace) as caught:
        await dataverse.send(create(row))
    assert caught.value.code == "0x80040237"


async def test_a_taken_alternate_key_is_a_race(org: Emulator, dataverse: DataverseClient) -> None:
    """A value that an alternate key holds already is a race too."""
    org.declare_key("contact", "msemr_azurefhirid")
    await dataverse.send(create(str(uuid4()), msemr_azurefhirid="p1"))
    with pytest.raises(DataverseRace) as caught:
        await dataverse.send(create(str(uuid4()), msemr_azurefhirid="p1"))
    assert caught.value.code == "0x80060892"


async def test_what_is_not_there_is_missing(dataverse: DataverseClient) -> None:
    """A row that is gone, read or updated, is missing by its code."""
    with pytest.raises(DataverseMissing):
        await dataverse.get(quoting.record("contacts", uuid4()))
    with pytest.raises(DataverseMissing):
        await dataverse.send(update(str(uuid4()), "*", lastname="Doe"))


async def test_a_text_too_long_names_its_column(dataverse: DataverseClient) -> None:
    """The column is named, the value is not."""
    with pytest.raises(DataverseRefusal) as caught:
        await dataverse.send(create(str(uuid4()), lastname="CANARY" * 100))
    assert (caught.value.code, caught.value.column) == ("0x80044331", "lastname")
    assert "CANARY" not in str(caught.value)


async def test_change_sets_are_atomic_and_alone(dataverse: DataverseClient) -> None:
    """Of three change sets the bad one fails as a whole, and the others are done; it is one request."""
    good, bad, other = (str(uuid4()) for _ in range(3))
    child = str(uuid4())
    items = [
        ChangeSet(
            (
                create(good, lastname="Good"),
                Request(
                    "POST",
                    "prefix_patientidentifiers",
                    {
                        "prefix_patientidentifierid": child,
                        "prefix_value": "1",
                        "prefix_Patient@odata.bind": quoting.bind("contacts", good),
                    },
                ),
            )
        ),
        ChangeSet((create(bad), create(good))),
        Request("GET", quoting.record("contacts", good)),
        ChangeSet((create(other),)),
    ]
    with metered() as meter:
        first, second, third, fourth = await dataverse.batch(items)
    assert meter.dataverse == 1
    assert [each.status for each in first] == [204, 204]
    assert len(second) == 1
    assert isinstance(second[0].error, DataverseRace)
    assert third[0].body["lastname"] == "Good"
    assert [each.status for each in fourth] == [204]
    with pytest.raises(DataverseMissing):
        await read(dataverse, bad)
    body = await dataverse.get(quoting.record("prefix_patientidentifiers", child))
    assert body["_prefix_patient_value"] == good


async def test_a_batch_may_stop(dataverse: DataverseClient) -> None:
    """Without continue-on-error what comes after the first failure is not done, and marked so."""
    row = str(uuid4())
    missing, unreached = await dataverse.batch(
        [Request("GET", quoting.record("contacts", uuid4())), create(row)], continue_on_error=False
    )
    assert isinstance(missing[0].error, DataverseMissing)
    assert isinstance(unreached[0].error, DataverseNotReached)
    with pytest.raises(DataverseMissing):
        await read(dataverse, row)


async def test_hostile_values_are_found_exactly(dataverse: DataverseClient) -> None:
    """Each value, however it looks, is found by the filter made of it, and nothing else is."""
    rows = {str(uuid4()): value for value in HOSTILE}
    await dataverse.batch([create(row, lastname=value) for row, value in rows.items()])
    for values in (HOSTILE, HOSTILE[:1], ["nobody", "no'body"], ["x" * 2000]):
        url = quoting.query("contacts", select=["lastname"], filter=quoting.in_filter("lastname", values))
        ((answer,),) = await dataverse.batch([Request("GET", url)])
        assert answer.error is None
        found = {row["contactid"]: row["lastname"] for row in answer.body["value"]}
        assert found == {row: value for row, value in rows.items() if value in values}
        assert (await dataverse.get(url))["value"] == answer.body["value"]


async def test_filters_combine_on_the_wire(dataverse: DataverseClient) -> None:
    """Filters joined by and, or keep their precedence in a query that is sent."""
    one, two = str(uuid4()), str(uuid4())
    await dataverse.batch([create(one, lastname="A'", firstname="X"), create(two, lastname="A'", firstname="Y")])
    chosen = quoting.both(
        quoting.any_of(quoting.equals("lastname", "A'"), quoting.equals("lastname", "B")),
        quoting.equals("firstname", "Y"),
        quoting.equals("statecode", 0),
    )
    url = quoting.query("contacts", select=["contactid"], filter=chosen, top=5, orderby="createdon desc")
    assert [row["contactid"] for row in (await dataverse.get(url))["value"]] == [two]


async def test_pages_are_followed(dataverse: DataverseClient) -> None:
    """Rows beyond the page size come by next links."""
    await dataverse.batch([create(str(uuid4())) for _ in range(5)])
    sizes = [len(page["value"]) async for page in dataverse.pages("contacts?$select=contactid", page_size=2)]
    assert sum(sizes) == 5
    assert len(sizes) >= 3


async def test_decimals_survive(dataverse: DataverseClient) -> None:
    """A number with a fraction comes back with the value that was sent."""
    row, hours = str(uuid4()), Decimal("47.12")
    await dataverse.send(
        Request("POST", "msemr_encounters", {"msemr_encounterid": row, "msemr_encounterlength": hours})
    )
    body = await dataverse.get(quoting.record("msemr_encounters", row))
    assert isinstance(body["msemr_encounterlength"], Decimal)
    assert body["msemr_encounterlength"] == hours


async def test_throttling_passes(org: Emulator, dataverse: DataverseClient) -> None:
    """Two 429s cost two more requests, no row and no error."""
    body = {"error": {"code": "0x80072322", "message": "Number of requests exceeded the limit."}}
    org.faults.append(Fault(path="batch", times=2, status=429, headers={"Retry-After": "0"}, body=body))
    with metered() as meter:
        ((answer,),) = await dataverse.batch([create(str(uuid4()))])
    assert answer.status == 204
    assert meter.dataverse == 3


async def test_a_storm_ends_as_transient(org: Emulator, dataverse: DataverseClient) -> None:
    """Throttling that asks for more than may be waited is raised with its time."""
    body = {"error": {"code": "0x80072322", "message": "x"}}
    org.faults.append(Fault(times=0, status=429, headers={"Retry-After": "120"}, body=body))
    with pytest.raises(DataverseBusy) as caught:
        await dataverse.get("contacts")
    assert isinstance(caught.value, Transient)
    assert caught.value.retry_after == 120


async def test_a_lost_answer_shows_as_a_race(org: Emulator, dataverse: DataverseClient) -> None:
    """When the answer to a create is lost, its repeat finds the row that is there already."""
    row = str(uuid4())
    org.faults.append(Fault(method="POST", path="batch", effect="lose"))
    ((answer,),) = await dataverse.batch([create(row, lastname="Doe")])
    assert isinstance(answer.error, DataverseRace)
    assert (await read(dataverse, row))["lastname"] == "Doe"


async def test_the_org_says_who_it_is(dataverse: DataverseClient) -> None:
    """The probe answers the organization's id."""
    assert (await dataverse.who_am_i())["OrganizationId"]


async def test_unknown_things_are_refused(dataverse: DataverseClient) -> None:
    """A table or a column that is not there is a refusal, not a miss of a row."""
    for url in ("nosuchtables", "contacts?$select=nosuchcolumn"):
        with pytest.raises(DataverseError) as caught:
            await dataverse.get(url)
        assert caught.value.kind == "terminal"


async def test_its_events_can_be_read() -> None:
    """A post-create message that the emulator delivers names the row, the caller's tag and the columns."""
    delivered: list[bytes] = []

    def receive(request: httpx.Request) -> httpx.Response:
        delivered.append(request.content)
        return httpx.Response(202)

    async with (
        create_app(webhook_transport=httpx.MockTransport(receive)) as org,
        DataverseClient("http://dataverse", transport=httpx.ASGITransport(org)) as dataverse,
    ):
        endpoint, row = str(uuid4()), str(uuid4())
        fields = {"name": "relay", "url": "http://relay:80/e", "contract": 8, "authtype": 4, "authvalue": "key"}
        await dataverse.send(Request("POST", "serviceendpoints", {"serviceendpointid": endpoint, **fields}))
        message = await dataverse.get("sdkmessages?$select=sdkmessageid&$filter=name%20eq%20'Create'")
        message_id = message["value"][0]["sdkmessageid"]
        chosen = quoting.both(
            quoting.equals("primaryobjecttypecode", "contact"), quoting.equals("_sdkmessageid_value", UUID(message_id))
        )
        filters = await dataverse.get(quoting.query("sdkmessagefilters", filter=chosen))
        step = {
            "name": "relay",
            "stage": 40,
            "mode": 1,
            "rank": 1,
            "supporteddeployment": 0,
            "eventhandler_serviceendpoint@odata.bind": quoting.bind("serviceendpoints", endpoint),
            "sdkmessageid@odata.bind": quoting.bind("sdkmessages", message_id),
            "sdkmessagefilterid@odata.bind": quoting.bind(
                "sdkmessagefilters", filters["value"][0]["sdkmessagefilterid"]
            ),
        }
        await dataverse.send(Request("POST", "sdkmessageprocessingsteps", step))
        await dataverse.send(create(row, lastname="Doe"))
        await org.webhooks.idle()
    event = parse_event(delivered[0])
    assert (event.message, event.table, event.id, event.tag) == ("Create", "contact", row, "test")
    assert event.attributes["lastname"] == "Doe"
    assert event.attributes["msemr_contacttype"] == 935000000
    assert event.organization_id
    assert event.occurred is not None
    assert not event.stripped
