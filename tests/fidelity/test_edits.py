from __future__ import annotations

from collections import OrderedDict
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest

from relay.errors import Failed
from relay.fhir.edits import Pointer, apply_edits, element_path

TEXT = '{ "id" : "p1",\r\n "x":[ 1.10 , 2,{"y":"\\u00e9"} ], "e":{ } , "n":null }'


@pytest.mark.parametrize(
    ("pointer", "value", "after"),
    [
        (("id",), "p2", TEXT.replace('"p1"', '"p2"')),
        (("x",), [], TEXT.replace('[ 1.10 , 2,{"y":"\\u00e9"} ]', "[]")),
        (("x", 0), Decimal("1.100"), TEXT.replace("1.10", "1.100")),
        (("x", 2, "y"), True, TEXT.replace('"\\u00e9"', "true")),
        (("n",), {"a": 1}, TEXT.replace("null", '{"a":1}')),
        (("new",), "é", TEXT.replace("null", 'null,"new":"\\u00e9"')),
        (("e", "new"), 1, TEXT.replace("{ }", '{"new":1 }')),
        (("x", 2, "z"), 0.5, TEXT.replace('e9"}', 'e9","z":0.5}')),
        (("x", 3), "last", TEXT.replace('e9"} ]', 'e9"},"last" ]')),
        (("id",), None, TEXT.replace('"id" : "p1",\r\n ', "")),
        (("x",), None, TEXT.replace(',\r\n "x":[ 1.10 , 2,{"y":"\\u00e9"} ]', "")),
        (("n",), None, TEXT.replace(' , "n":null', "")),
        (("x", 0), None, TEXT.replace("1.10 , ", "")),
        (("x", 1), None, TEXT.replace(" , 2", "")),
        (("x", 2, "y"), None, TEXT.replace('{"y":"\\u00e9"}', "{}")),
    ],
    ids=lambda each: element_path(each) if isinstance(each, tuple) else "",
)
def test_one_edit(pointer: Pointer, value: Any, after: str) -> None:
    """One value goes in, changes or goes out with its comma; no other byte moves."""
    assert apply_edits(TEXT, [(pointer, value)]) == after


def test_each_edit_sees_the_ones_before() -> None:
    """Positions and members are those that the edits before left behind."""
    edits: list[tuple[Pointer, Any]] = [
        (("name",), [{"family": "A"}]),
        (("name", 0, "given"), ["B"]),
        (("name", 0, "given", 1), "C"),
        (("name", 0, "given", 0), None),
        (("name", 1), {"text": "D"}),
        (("name", 0), None),
        (("id",), None),
    ]
    assert apply_edits('{"id":"p1"}', edits) == '{"name":[{"text":"D"}]}'


def test_no_edits_change_nothing() -> None:
    """Without edits the text is what it was."""
    assert apply_edits(TEXT, []) == TEXT


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (Decimal("1.10"), "1.10"),
        (Decimal("1E+3"), "1E+3"),
        (Decimal("-0.0"), "-0.0"),
        (Decimal("0.00000001234567890123456789"), "1.234567890123456789E-8"),
        (12345678901234567890, "12345678901234567890"),
        ([None, True, False, ""], '[null,true,false,""]'),
        ({"b": [Decimal("2.0")], "a": {}}, '{"b":[2.0],"a":{}}'),
        (MappingProxyType(OrderedDict(é=(1, 2))), '{"\\u00e9":[1,2]}'),
        ('"\\\n\x00\U0001f600', '"\\"\\\\\\n\\u0000\\ud83d\\ude00"'),
    ],
    ids=str,
)
def test_how_values_are_written(value: Any, written: str) -> None:
    """A Decimal keeps its digits, members their order, and everything outside ASCII is escaped."""
    assert apply_edits('{"id":"p1"}', [(("x",), value)]) == f'{{"id":"p1","x":{written}}}'


@pytest.mark.parametrize("value", [Decimal("NaN"), Decimal("Infinity"), float("nan"), [float("inf")]], ids=str)
def test_numbers_that_are_none(value: Any) -> None:
    """What JSON has no number for is refused."""
    with pytest.raises(ValueError, match=r"not finite|JSON compliant"):
        apply_edits(TEXT, [(("x",), value)])


@pytest.mark.parametrize("value", [b"bytes", {1, 2}, object()], ids=["bytes", "set", "object"])
def test_values_that_are_no_json(value: Any) -> None:
    """What JSON has no form for is refused."""
    with pytest.raises(TypeError):
        apply_edits(TEXT, [(("x",), [value])])


@pytest.mark.parametrize(
    ("pointer", "value", "at"),
    [
        ((), {}, ""),
        (("no",), None, "no"),
        (("no", "where"), 1, "no"),
        (("x", 4), 1, "x[4]"),
        (("x", 3), None, "x[3]"),
        (("x", -1), 1, "x[-1]"),
        (("x", 7, "y"), 1, "x[7]"),
        (("x", "y"), 1, "x"),
        (("x", 0, "y"), 1, "x[0]"),
        (("id", 0), 1, "id"),
        (("e", 0), 1, "e"),
        (("n", "y"), 1, "n"),
        ((0,), 1, ""),
        (("x", 2, "y", "z"), 1, "x[2].y"),
    ],
    ids=lambda each: element_path(each) if isinstance(each, tuple) else "",
)
def test_a_pointer_that_leads_nowhere(pointer: Pointer, value: Any, at: str) -> None:
    """What is not there cannot be gone through, taken out or skipped; the error names the element, never content."""
    with pytest.raises(Failed) as caught:
        apply_edits(TEXT, [(pointer, value)])
    assert (caught.value.code, caught.value.at) == ("invalid-element", at)
    assert "p1" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "not-json"),
        ('{"id":"p1"', "not-json"),
        ('{"id":"p1"} x', "not-json"),
        ('{"x":NaN}', "not-json"),
        ("[]", "invalid-element"),
        ("null", "invalid-element"),
        ('"{}"', "invalid-element"),
        ("{}", "invalid-element"),
        ('{"id":"p1","id":"p2"}', "duplicate-member"),
        ('{"id":"p1","x":{"a":1,"\\u0061":2}}', "duplicate-member"),
        ('{"id":"p1","meta":{"tag":[{"code":"SUBSETTED"}]}}', "subsetted"),
    ],
)
def test_texts_that_are_no_whole_resource(text: str, code: str) -> None:
    """A text that is no object, ambiguous, or tagged as a part of a resource is refused, not guessed at."""
    with pytest.raises(Failed) as caught:
        apply_edits(text, [(("x", "b"), 1)])
    assert caught.value.code == code


def test_a_subset_is_refused_without_edits() -> None:
    """A part of a resource is refused even where nothing is to change."""
    with pytest.raises(Failed, match="SUBSETTED"):
        apply_edits('{"meta":{"tag":[{"code":"SUBSETTED"}]}}', [])
