from __future__ import annotations

import json
from typing import Any

import fhir_texts
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Failed
from relay.fhir.json_text import Span, document, elements, member, members, value_at


def cut(text: str, span: Span) -> str:
    return text[span.start : span.end]


def put_together(text: str, span: Span) -> Any:
    """Read a value by its spans alone, numbers as their text."""
    part = cut(text, span)
    if part.startswith("{"):
        return {name: put_together(text, inner) for name, inner in members(text, span.start).items()}
    if part.startswith("["):
        return [put_together(text, inner) for inner in elements(text, span.start)]
    return value_at(text, span)


@given(fhir_texts.values, fhir_texts.spaces, fhir_texts.spaces)
def test_spans_are_what_a_parser_sees(value: str, before: str, after: str) -> None:
    """Walking a document by its spans gives what parsing it gives, with the text of every number."""
    text = before + value + after
    assert cut(text, document(text)) == value
    assert put_together(text, document(text)) == json.loads(text, parse_float=str, parse_int=str)


@given(fhir_texts.values, st.data())
def test_a_cut_or_doubled_document_is_refused(value: str, data: st.DataObject) -> None:
    """A document that ends early or goes on is refused, unless what is left is a document itself."""
    text = value[: data.draw(st.integers(0, len(value)))] + data.draw(st.sampled_from(["", ",", "}", "]", '"', value]))
    try:
        json.loads(text)
    except ValueError:
        with pytest.raises(Failed):
            document(text)
    else:
        assert cut(text, document(text)) == text.strip(" \t\r\n")


def test_members_keep_order_and_places() -> None:
    """Members come in the order of the text, each with the span of its value; white space belongs to none."""
    text = ' { "b" : 1.10 , "a":[ 1, {"c":null} ] ,"\\u0063" :"x"}'
    found = members(text)
    assert {name: cut(text, span) for name, span in found.items()} == {
        "b": "1.10",
        "a": '[ 1, {"c":null} ]',
        "c": '"x"',
    }
    assert list(found) == ["b", "a", "c"]
    assert [cut(text, span) for span in elements(text, found["a"].start)] == ["1", '{"c":null}']
    inner = elements(text, found["a"].start)[1]
    assert member(text, inner, "c") is not None
    assert member(text, inner, "d") is None


@pytest.mark.parametrize("text", ['{"a":1,"a":1}', '{"a":1,"\\u0061":2}', '{"\\ud83d\\ude00":1,"\N{GRINNING FACE}":2}'])
def test_one_name_twice_is_refused(text: str) -> None:
    """Two members of one name are refused however the name is spelt, since readers disagree on which counts."""
    with pytest.raises(Failed, match="line 1 column") as failed:
        members(text)
    assert failed.value.code == "duplicate-member"


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "{",
        "[1",
        "[1,]",
        '{"a":1,}',
        '{"a" 1}',
        "{a:1}",
        "{'a':1}",
        "[NaN]",
        "[Infinity]",
        "[-Infinity]",
        "[01]",
        "[1.]",
        "[+1]",
        "[.5]",
        '["\n"]',
        '["\\x"]',
        "[1] 2",
        "\ufeff{}",
        "\u00a0{}",
        "[1\u00a0]",
        "nul",
        "[" * 100_000,
        "[" * 100_000 + "]" * 100_000,
    ],
)
def test_what_is_not_strict_json_is_refused(text: str) -> None:
    """Python's own extensions, other white space, trailing commas and bottomless nesting are refused."""
    with pytest.raises(Failed) as failed:
        document(text)
    assert failed.value.code == "not-json"
    assert failed.value.__context__ is None


@pytest.mark.parametrize(
    "text", ["[1", '{"a":1', '{"a":1 "b"', '{"a"', '{"a":', "[1 2]", '{"a":1,}', "{1:2}", '{"a":NaN}']
)
def test_spans_of_broken_json_are_refused(text: str) -> None:
    """Members and elements are found only where the text holds them whole."""
    with pytest.raises(Failed) as failed:
        (elements if text.startswith("[") else members)(text)
    assert failed.value.code == "not-json"


def test_another_kind_of_value_is_refused() -> None:
    """Members of an array and elements of an object are refused by place."""
    with pytest.raises(Failed, match="an object is expected at line 2 column 1") as failed:
        members("\n[]")
    assert failed.value.code == "invalid-element"
    with pytest.raises(Failed, match="an array is expected"):
        elements("{}")


def test_errors_name_the_place_and_no_content() -> None:
    """The message has line and column, and nothing of the document."""
    with pytest.raises(Failed) as failed:
        document('{"name":"Canary",\n  "x":Canary}')
    assert "line 2 column 7" in str(failed.value)
    assert "Canary" not in str(failed.value)


def test_lone_surrogate_escapes_stay() -> None:
    """Half a pair is legal JSON: it stays in the text as it is written."""
    text = '{"a":"\\ud800"}'
    assert cut(text, members(text)["a"]) == '"\\ud800"'


def test_long_numbers_are_only_text() -> None:
    """A number of any length is a span; nobody counts with it."""
    text = f"[{'9' * 10_000}]"
    assert len(cut(text, elements(text)[0])) == 10_000
