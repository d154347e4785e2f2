from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from intake_inputs import limits, take, take_file

from relay.errors import Refused
from relay.inbound.limits import parse


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("nan.json", "not-a-number"),
        ("infinity.json", "not-a-number"),
        ("number_that_fills_memory.json", "number-out-of-range"),
        ("lone_surrogate.json", "surrogate"),
        ("duplicate_member.json", "duplicate-member"),
        ("trailing_comma.json", "not-json"),
        ("trailing_garbage.json", "not-json"),
        ("truncated.json", "truncated"),
        ("not_a_resource.json", "not-fhir"),
        ("resource_type_missing.json", "not-fhir"),
        ("entry_not_an_array.json", "not-fhir"),
        ("unknown_bundle_type.json", "unknown-bundle-type"),
    ],
)
def test_unreadable_input_is_400(name: str, code: str) -> None:
    """What is not strict JSON, or not FHIR, is refused whole with a stable code."""
    with pytest.raises(Refused) as refused:
        take_file(name)
    assert (refused.value.status, refused.value.code) == (400, code)


@pytest.mark.parametrize("name", ["trailing_comma.json", "truncated.json", "latin_1.json", "lone_surrogate.json"])
def test_a_refusal_holds_nothing_of_the_body(name: str) -> None:
    """Neither the message nor the errors behind it hold the document."""
    with pytest.raises(Refused) as refused:
        take_file(name)
    assert refused.value.__cause__ is None
    assert refused.value.__context__ is None
    assert "p1" not in str(refused.value)


@pytest.mark.parametrize("number", ["1" * 5000, "1e1001", "1e-1001", "0." + "1" * 1000, "1e99999999999999999999"])
def test_a_number_that_costs_too_much_is_refused(number: str) -> None:
    """Numbers beyond any measured value are refused before somebody writes them out."""
    with pytest.raises(Refused) as refused:
        parse(f'{{"value":{number}}}', limits())
    assert refused.value.code == "number-out-of-range"


def test_numbers_keep_their_digits() -> None:
    """Fractions and exponents are Decimals with all their digits; whole numbers are integers."""
    text = '{"a":1.10,"b":1e3,"c":-0.0,"d":66.899999999999991,"e":7}'
    value = parse(text, limits())
    assert [str(each) for each in value.values()] == ["1.10", "1E+3", "-0.0", "66.899999999999991", "7"]
    assert [type(each) for each in value.values()] == [Decimal] * 4 + [int]


def test_a_surrogate_pair_is_text() -> None:
    """Both halves of a pair are one character, and an escaped backslash before u starts no escape."""
    entry = take_file("surrogate_pair.json").entries[0]
    assert entry.resource is not None
    assert entry.resource["name"] == [{"family": "\N{GRINNING FACE} \\ud83d"}]


@pytest.mark.parametrize("text", ['["\\uDC00"]', '{"\\ud800":1}', '{"a":[{"b":"x\\ud800y"}]}', '["\\udc00\\ud800"]'])
def test_half_a_surrogate_pair_anywhere_is_refused(text: str) -> None:
    """No element name or text may hold half of a pair: no server and no column could take it."""
    with pytest.raises(Refused) as refused:
        parse(text, limits())
    assert refused.value.code == "surrogate"


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[" * 5_000_000, '{"a":' * 101 + "1" + "}" * 101, "[" * 101 + "]" * 101]
)
def test_depth_is_checked_before_parsing(text: str) -> None:
    """Nesting beyond the limit is refused, however deep it would go on."""
    with pytest.raises(Refused, match="100 levels") as refused:
        parse(text, limits())
    assert (refused.value.status, refused.value.code) == (400, "too-deep")


def test_depth_at_the_limit_is_taken() -> None:
    """The limit itself is allowed, and brackets inside strings do not count."""
    assert parse("[" * 100 + "]" * 100, limits())
    assert parse(json.dumps(['[[[["{{{{\\"[[\\\\', "]]", '"', "\\" * 7] * 50), limits(max_depth=1))


def test_depth_beyond_the_interpreter_is_refused_too() -> None:
    """Where a setting allows more than Python can parse, that is refused and nothing breaks."""
    deep = 1_000_000
    with pytest.raises(Refused) as refused:
        parse("[" * deep + "]" * deep, limits(max_depth=deep))
    assert refused.value.code == "too-deep"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(alphabet='ab"\\[]{}é\N{GRINNING FACE}\n'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='x"[]\\{}'), inner, max_size=3),
    max_leaves=20,
)


def depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


def longest(value: object) -> int:
    if isinstance(value, dict):
        return max((longest(each) for each in [*value, *value.values()]), default=0)
    if isinstance(value, list):
        return max(map(longest, value), default=0)
    return len(value) if isinstance(value, str) else 0


@given(json_values, st.booleans(), st.integers(0, 2))
def test_depth_is_that_of_the_parsed_value(value: object, ascii_only: bool, extra: int) -> None:
    """The scan before parsing finds the same depth as the parsed value has, whatever the strings hold."""
    text = json.dumps(value, ensure_ascii=ascii_only)
    deep = depth(value)
    assert parse(text, limits(max_depth=max(deep + extra, 1))) == value
    if deep > 1:
        with pytest.raises(Refused):
            parse(text, limits(max_depth=deep - 1))


@given(json_values, st.booleans())
def test_string_length_is_that_of_the_parsed_value(value: object, ascii_only: bool) -> None:
    """Strings are measured in characters, not in bytes or escapes; the limit itself is allowed."""
    text = json.dumps(value, ensure_ascii=ascii_only)
    most = longest(value)
    assert parse(text, limits(max_string=max(most, 1))) == value
    if most > 1:
        with pytest.raises(Refused) as refused:
            parse(text, limits(max_string=most - 1))
        assert refused.value.code == "string-too-long"


@pytest.mark.parametrize("text", ['["aaaaaaaa\\x"]', '["aaaaaaaaaaaa', 'aaaaaaaaaaaa"', "aaaaaaaaaaaa"])
def test_a_long_string_that_is_no_json_is_not_json(text: str) -> None:
    """What is not JSON is refused as that, however long it is."""
    with pytest.raises(Refused) as refused:
        parse(text, limits(max_string=5))
    assert refused.value.code in {"not-json", "truncated"}


def test_long_white_space_is_no_string() -> None:
    """What lies between two strings is not measured as one."""
    assert parse(f'["a",{" " * 100}"b"]', limits(max_string=5)) == ["a", "b"]


@pytest.mark.parametrize("type_", ["1", '"patient"', '"P"', '"Pa/tient"', "null", '"Patient\\n"'])
def test_a_resource_type_must_be_a_type_name(type_: str) -> None:
    """A resourceType that could not name a FHIR type is refused before it reaches a URL."""
    with pytest.raises(Refused) as refused:
        take(f'{{"resourceType":{type_},"id":"p1"}}'.encode())
    assert refused.value.code == "not-fhir"
