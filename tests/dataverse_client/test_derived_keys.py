"""Primary keys that the relay derives are RFC 9562's UUIDs of version 5: the same on every machine, for ever."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from relay.dataverse.keys import NAMESPACE, child_keys, concept_keys, row_key


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_row_key_is_the_uuid_of_its_parts(kind: str, fhir_id: str) -> None:
    """The standard library's uuid5 gives the same."""
    assert row_key("fhir", kind, fhir_id) == str(uuid.uuid5(NAMESPACE, f"fhir\x1f{kind}\x1f{fhir_id}"))


@given(st.uuids(), st.lists(st.one_of(st.none(), st.text(max_size=9)), min_size=1, max_size=3))
def test_a_child_key_is_the_uuid_of_its_parent_and_values(parent: uuid.UUID, values: list[str | None]) -> None:
    """An absent value and an empty one are told apart."""
    parts = ["t", *("" if value is None else f"={value}" for value in values)]
    assert next(child_keys(str(parent), "t", values)) == str(uuid.uuid5(parent, "\x1f".join(parts)))


def test_the_other_choices_are_other_keys() -> None:
    """Where a user made another row of the first, the next is taken; all are different."""
    keys = list(concept_keys(1, "c"))
    assert len({*keys}) == len(keys) == 4
