from __future__ import annotations

from typing import Any

import pytest
from intake_inputs import take, take_bundle, take_file, verdicts


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("duplicate_ids.json", ["duplicate-id", "taken", "duplicate-id"]),
        ("identical_twice.json", ["taken", "same-as-entry-0"]),
        ("true_is_not_one.json", ["duplicate-id", "duplicate-id"]),
        ("delete_and_put_of_one.json", ["duplicate-id", "duplicate-id"]),
        ("history_two_versions.json", ["older-version", "taken"]),
        ("history_versions_without_times.json", ["older-version", "taken"]),
        ("history_order_alone.json", ["taken", "older-version"]),
        ("history_deleted_last.json", ["taken", "older-version"]),
        ("history_deleted_and_back.json", ["older-version", "taken"]),
        ("notification_two_versions_undated.json", ["subscription-status", "duplicate-id", "duplicate-id"]),
    ],
)
def test_the_same_resource_twice(name: str, expected: list[str]) -> None:
    """Copies that differ all fail, identical ones are one, and of versions the newest counts."""
    assert verdicts(take_file(name)) == expected


def version(updated: str | None, number: str | None) -> dict[str, Any]:
    meta = {"lastUpdated": updated, "versionId": number}
    meta = {name: value for name, value in meta.items() if value is not None}
    return {
        "resource": {"resourceType": "Patient", "id": "p1", "meta": meta},
        "request": {"method": "PUT", "url": "Patient/p1"},
    }


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("2024-01-02T00:00:00Z", "1"), ("2024-01-01T00:00:00Z", "2")),  # time before version
        (("2024-01-01T00:00:00.001Z", None), ("2024-01-01T00:00:00Z", None)),
        (("2024-01-01T00:00:00-01:00", None), ("2024-01-01T00:30:00Z", None)),
        (("2024-01-01T00:00:00Z", "10"), ("2024-01-01T00:00:00Z", "9")),  # one time: version
        ((None, "10"), ("2024-01-01T00:00:00Z", "9")),  # a time that only one has is not used
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_the_newest_version_counts_in_any_order(
    first: tuple[str | None, str | None],
    second: tuple[str | None, str | None],
    turned: bool,
) -> None:
    """Time decides before version and version before order, as far as all of them have it."""
    sent = [version(*first), version(*second)]
    expected = ["taken", "older-version"]
    if turned:
        sent.reverse()
        expected.reverse()
    assert verdicts(take_bundle(*sent, kind="history")) == expected


@pytest.mark.parametrize(
    "meta", [("2024-01-01", None), ("2024-01-01T00:00:00", None), (None, "W/1"), (None, "9" * 99), ("yesterday", "x")]
)
def test_what_says_nothing_comparable_leaves_it_to_the_order(meta: tuple[str | None, str | None]) -> None:
    """A time without zone or a version that is no number does not count; a history is newest first."""
    sent = [version(*meta), version("2030-01-01T00:00:00Z", "7")]
    assert verdicts(take_bundle(*sent, kind="history")) == ["taken", "older-version"]


def test_one_version_of_many_counts_however_they_are_shuffled() -> None:
    """Of many versions exactly the newest is taken, wherever it stands."""
    sent = [version(f"2024-01-{day:02d}T00:00:00Z", None) for day in (day * 11 % 29 for day in range(1, 29))]
    taken = [entry for entry in take_bundle(*sent, kind="history").entries if not entry.skip]
    assert [entry.resource["meta"]["lastUpdated"] for entry in taken if entry.resource] == ["2024-01-28T00:00:00Z"]


@pytest.mark.parametrize(("one", "other"), [("1.10", "1.1"), ("1", "1.0"), ("1", "true"), ('"1"', "1"), ("null", "[]")])
def test_copies_are_compared_as_json(one: str, other: str) -> None:
    """Numbers with other digits and values of other kinds differ, although Python calls some of them equal."""
    entry = '{{"resource":{{"resourceType":"Basic","id":"b1","x":[{{"y":{}}}]}}}}'
    body = f'{{"resourceType":"Bundle","type":"collection","entry":[{entry.format(one)},{entry.format(other)}]}}'
    assert verdicts(take(body.encode())) == ["duplicate-id", "duplicate-id"]


def test_two_deletions_of_one_resource_are_one() -> None:
    """The same deletion twice is one."""
    sent = {"request": {"method": "DELETE", "url": "Patient/p1"}}
    first, second = take_bundle(sent, sent).entries
    assert first.problem is None
    assert (first.skip, second.skip) == ("", "same-as-entry-0")
