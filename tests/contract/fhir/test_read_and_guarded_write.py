from __future__ import annotations

import json

import pytest
from contract_kit import Met, patient

from relay.fhir.client import Put
from relay.fhir.profiles import LEAST_ENTRIES, by_host


async def test_the_kind_of_a_server_is_told(server: Met) -> None:
    """A server that names its software is known by it; one that does not is any other."""
    async with server.client() as fhir:
        assert await fhir.profile() is server.told
    assert by_host("http://127.0.0.1:8080/fhir") is None


async def test_one_is_read_with_what_guards_it(server: Met) -> None:
    """A read gives the resource and the ETag that a PUT of it needs."""
    fhir_id = await server.patient(gender="female")
    async with server.client() as fhir:
        (read,) = await fhir.read([("Patient", fhir_id)])
    resource = json.loads(read.text)
    assert (read.status, resource["gender"]) == (200, "female")
    assert read.etag == f'W/"{resource["meta"]["versionId"]}"'


async def test_many_are_read_in_order_each_with_its_own_status(server: Met) -> None:
    """A batch of reads answers entry by entry: there, never there, deleted, there."""
    first, gone, last = [await server.patient() for _ in range(3)]
    await server.delete(gone)
    ids = [("Patient", each) for each in (first, server.id(), gone, last)]
    async with server.client() as fhir:
        reads = await fhir.read(ids)
        alone = [(await fhir.read([each]))[0] for each in ids]
    assert [each.status for each in reads] == [200, 404, reads[2].status, 200]
    assert reads[2].status in after_delete(server)
    assert [json.loads(reads[each].text)["id"] for each in (0, 3)] == [first, last]
    assert [(each.status, each.etag) for each in reads] == [(each.status, each.etag) for each in alone]


async def test_a_put_creates_with_a_status_of_its_own(server: Met) -> None:
    """PUT to an id that nobody has makes it; 201, or 200 on some."""
    answer = await server.put(patient(server.id()))
    assert answer.status_code == (server.profile.put_create or answer.status_code)
    assert answer.status_code in (200, 201)


async def test_an_id_of_digits_alone(server: Met) -> None:
    """Some servers keep such ids for themselves and refuse them on a PUT."""
    number = str(int(server.id().removeprefix("contract-"), 16))
    answer = await server.put(patient(number))
    taken = server.profile.digits
    assert answer.is_success == (answer.is_success if taken is None else taken)
    if not answer.is_success:
        assert answer.status_code == 400


@pytest.mark.parametrize("count", [1, 3])
async def test_a_guarded_put_of_what_was_read_is_taken(server: Met, count: int) -> None:
    """Alone or in a batch: 200, another version, and the ETag of the answer guards the next PUT."""
    ids = [await server.patient() for _ in range(count)]
    async with server.client() as fhir:
        reads = await fhir.read([("Patient", each) for each in ids])
        etags = [each.etag for each in reads]
        for gender in ("male", "other"):
            puts = [
                Put("Patient", each, json.dumps(patient(each, gender=gender)), etag)
                for each, etag in zip(ids, etags, strict=True)
            ]
            written = await fhir.write(puts)
            assert [each.status for each in written] == [200] * count
            etags = [each.etag for each in written]
        again = await fhir.read([("Patient", each) for each in ids])
    assert etags == [each.etag for each in again]
    assert not {each.etag for each in reads} & {each.etag for each in again}
    assert [(await server.read(each))["gender"] for each in ids] == ["other"] * count


async def test_a_stale_put_is_refused_and_changes_nothing(server: Met) -> None:
    """412 says the standard, 409 says HAPI: either way the other writer's change stands."""
    fhir_id = await server.patient()
    async with server.client() as fhir:
        (read,) = await fhir.read([("Patient", fhir_id)])
        await server.put(patient(fhir_id, gender="female"))
        (written,) = await fhir.write([Put("Patient", fhir_id, json.dumps(patient(fhir_id, gender="male")), read.etag)])
    assert written.status in server.profile.conflict
    assert (await server.read(fhir_id))["gender"] == "female"


async def test_in_a_batch_of_puts_each_has_its_own_status(server: Met) -> None:
    """One that somebody else changed is refused; its neighbours are written."""
    ids = [await server.patient() for _ in range(3)]
    async with server.client() as fhir:
        reads = await fhir.read([("Patient", each) for each in ids])
        await server.put(patient(ids[1], gender="female"))
        written = await fhir.write(
            [
                Put("Patient", each, json.dumps(patient(each, gender="male")), read.etag)
                for each, read in zip(ids, reads, strict=True)
            ]
        )
    assert (written[0].status, written[2].status) == (200, 200)
    assert written[1].status in server.profile.conflict
    assert [(await server.read(each))["gender"] for each in ids] == ["male", "female", "male"]


async def test_a_batch_says_versions_in_a_form_of_its_own(server: Met) -> None:
    """`response.etag` of a PUT in a batch is an ETag on most servers, the bare version on HAPI, nothing on Medplum."""
    fhir_id = await server.patient()
    version = (await server.read(fhir_id))["meta"]["versionId"]
    request = {"method": "PUT", "url": f"Patient/{fhir_id}", "ifMatch": f'W/"{version}"'}
    entry = {"resource": patient(fhir_id, gender="male"), "request": request}
    answer = await server.owner.post("", json={"resourceType": "Bundle", "type": "batch", "entry": [entry] * 1})
    (response,) = [each["response"] for each in answer.json()["entry"]]
    now = (await server.read(fhir_id))["meta"]["versionId"]
    told = {"bare": now, "etag": f'W/"{now}"', "none": None, None: response.get("etag")}
    assert response.get("etag") == told[server.profile.batch_etag]


async def test_a_guarded_put_of_what_nobody_has(server: Met) -> None:
    """With If-Match a PUT to an id that nobody has is refused and makes nothing; HAPI makes it, and says so by 201."""
    fhir_id = server.id()
    async with server.client() as fhir:
        (written,) = await fhir.write([Put("Patient", fhir_id, json.dumps(patient(fhir_id)), 'W/"1"')])
        (read,) = await fhir.read([("Patient", fhir_id)])
    assert written.status == (server.profile.lost_put or written.status)
    assert (written.status, read.status) == (201, 200) or (400 <= written.status < 500 and read.status == 404)


async def test_versions_are_ordered_where_the_profile_says_so(server: Met) -> None:
    """Ordered versions are integers that grow with every change; elsewhere nothing is read into them."""
    fhir_id = await server.patient()
    versions = []
    for gender in ("male", "female", "other"):
        await server.put(patient(fhir_id, gender=gender))
        versions.append((await server.read(fhir_id))["meta"]["versionId"])
    assert len(set(versions)) == 3
    if server.profile.ordered:
        assert versions == sorted(versions, key=int)


async def test_a_put_that_changes_nothing(server: Met) -> None:
    """Some servers make a version of it, others keep the one they have: the relay makes no such PUT."""
    fhir_id = await server.patient(gender="male")
    before = (await server.read(fhir_id))["meta"]["versionId"]
    await server.put(patient(fhir_id, gender="male"))
    after = (await server.read(fhir_id))["meta"]["versionId"]
    if server.profile.identical_put is not None:
        assert (before == after) == (server.profile.identical_put == "same")


async def test_more_than_one_batch_can_be_read(server: Met) -> None:
    """Where the number of entries matters, the server's kind is asked for, and each answer finds its resource."""
    fhir_id = await server.patient()
    ids = [("Patient", fhir_id if number % 50 == 0 else f"nobody-{number}") for number in range(LEAST_ENTRIES + 1)]
    async with server.client() as fhir:
        reads = await fhir.read(ids)
    assert [each.status for each in reads] == [200 if number % 50 == 0 else 404 for number in range(len(ids))]


def after_delete(server: Met) -> tuple[int, ...]:
    """Return what a read of something deleted may answer."""
    known = server.profile.after_delete
    return (404, 410) if known is None else (known,)
