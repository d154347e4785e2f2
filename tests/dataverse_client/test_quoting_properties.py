"""No value, however hostile, changes the structure of a URL or a filter, and every value arrives exactly."""

import re
from decimal import Decimal
from urllib.parse import parse_qsl, unquote, urlsplit
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.dataverse import quoting

HOSTILE = ["'", "''", "'''", "\r\n", "$", "&", "%27", "%", "+", "?", "/", "#", "\\", "]", "[", '"', ",", ")", "=", "a"]
text = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    st.lists(st.sampled_from(HOSTILE), max_size=12).map("".join),
)
GUID = "0F8FAD5B-D9CB-469F-A165-70867728950E"


def read_filter(filter_text: str) -> tuple[set[str], set[str]]:
    """Read back what in_filter writes: names, and values by the grammar of each of its two forms."""
    names: set[str] = set()
    values: set[str] = set()
    rest = filter_text
    literal = re.compile(r"'((?:[^']|'')*)'")
    while rest:
        rest = rest.removeprefix(" or ")
        wrapped = rest.startswith("(")
        rest = rest.removeprefix("(")
        if match := re.match(r"Microsoft\.Dynamics\.CRM\.In\(PropertyName='([a-z0-9_]+)',PropertyValues=\[", rest):
            names.add(match[1])
            rest = rest[match.end() :]
            while not rest.startswith("])"):
                item = re.match(r"'([^'\"\\\[\]]*)'", rest)  # as JSON and as OData text, this reads the same
                assert item is not None
                values.add(item[1])
                rest = rest[item.end() :].removeprefix(",")
            rest = rest[2:]
        else:
            match = re.match(r"([a-z0-9_]+) eq ", rest)
            assert match is not None
            names.add(match[1])
            item = literal.match(rest, match.end())
            assert item is not None
            values.add(item[1].replace("''", "'"))
            rest = rest[item.end() :]
        if wrapped:
            assert rest.startswith(")")
            rest = rest[1:]
    return names, values


@given(st.lists(text, min_size=1, max_size=6))
@example(["O'Brian", "a\\b", "x]", 'say "hi"', "plain"])
@example(["'),PropertyValues=['x"])
@example(["a' or 'a' eq 'a"])
def test_values_arrive_exactly(values: list[str]) -> None:
    """Whatever the values, the query reads back as one filter over exactly them."""
    url = quoting.query("contacts", select=["fullname"], filter=quoting.in_filter("lastname", values))
    parts = urlsplit(url)
    assert parts.path == "contacts"
    assert not parts.fragment
    assert re.fullmatch(r"[A-Za-z0-9%._~'(),$=&?-]+", url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True))
    assert list(options) == ["$select", "$filter"]
    assert read_filter(options["$filter"]) == ({"lastname"}, set(values))


@given(text)
def test_a_literal_reads_back(value: str) -> None:
    """A literal is one quoted text whose inner quotes are doubled."""
    literal = quoting.string_literal(value)
    assert re.fullmatch(r"'(?:[^']|'')*'", literal, re.DOTALL)
    assert literal[1:-1].replace("''", "'") == value


@given(text)
def test_an_option_never_leaves_its_place(value: str) -> None:
    """No text given as filter, expand or tag adds an option, a path segment or a line."""
    url = quoting.tagged(quoting.query("contacts", filter=value, expand=value), value)
    assert urlsplit(url).path == "contacts"
    assert not re.search(r"[\s#+/\\]", url)
    query = url.partition("?")[2]
    read = [(name, unquote(raw)) for name, _, raw in (each.partition("=") for each in query.split("&"))]
    names = ["$filter", "$expand", "tag"] if value else ["tag"]
    assert read == [(name, value) for name in names]


def test_a_very_long_value_arrives() -> None:
    """64 KiB of quotes and ampersands are quoted like anything else."""
    value = "'&%27\r\n" * 10_000
    url = quoting.query("contacts", filter=quoting.equals("lastname", value))
    assert dict(parse_qsl(urlsplit(url).query))["$filter"] == "lastname eq '" + value.replace("'", "''") + "'"


@pytest.mark.parametrize(
    "use",
    [quoting.string_literal, lambda value: quoting.in_filter("a", [value]), lambda value: quoting.tagged("a", value)],
)
def test_a_lone_surrogate_is_refused(use) -> None:  # noqa: ANN001 - any of three functions
    """A lone surrogate has no UTF-8 form; the error does not repeat the text around it."""
    with pytest.raises(ValueError, match="surrogate") as caught:
        use("Doe \ud800")
    assert "Doe" not in str(caught.value)
    assert not isinstance(caught.value, UnicodeError)


def test_a_record_is_named_by_a_guid() -> None:
    """A row is named by its primary key in lower case."""
    assert quoting.record("contacts", GUID) == f"contacts({GUID.lower()})"
    assert quoting.record("contacts", UUID(GUID)) == f"contacts({GUID.lower()})"
    assert quoting.bind("msemr_careplans", GUID) == f"/msemr_careplans({GUID.lower()})"


@pytest.mark.parametrize("bad", ["", "1", GUID + "'", "{" + GUID + "}", GUID.replace("-", ""), GUID + "\n", "x" * 36])
def test_what_is_no_guid_names_no_record(bad: str) -> None:
    """Only the 8-4-4-4-12 form is a record id; the error does not repeat it."""
    with pytest.raises(ValueError, match="GUID") as caught:
        quoting.record("contacts", bad)
    assert not bad or bad not in str(caught.value).replace("00000000-0000-0000-0000-000000000000", "") or bad == "1"


@pytest.mark.parametrize("bad", ["", "a b", "a'", "lastName", "a/b", "a\n", "é", "a,b"])
def test_logical_names_are_checked(bad: str) -> None:
    """A property's name is made of a-z, 0-9 and _ wherever it is used."""
    with pytest.raises(ValueError, match="logical name"):
        quoting.equals(bad, "x")
    with pytest.raises(ValueError, match="logical name"):
        quoting.in_filter(bad, ["x"])
    with pytest.raises(ValueError, match="logical name"):
        quoting.query("contacts", select=[bad])


@pytest.mark.parametrize("bad", ["", "a b", "contacts?x", "contacts/x", "a'"])
def test_set_names_are_checked(bad: str) -> None:
    """An entity set's name is letters, digits and _."""
    with pytest.raises(ValueError, match="entity set"):
        quoting.query(bad)
    with pytest.raises(ValueError, match="entity set"):
        quoting.record(bad, GUID)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("O'Brian", "'O''Brian'"),
        (True, "true"),
        (False, "false"),
        (935000000, "935000000"),
        (Decimal("1E+2"), "100"),
        (Decimal("0.10"), "0.10"),
        (None, "null"),
        (UUID(GUID), GUID.lower()),
    ],
)
def test_values_by_type(value: quoting.Value, written: str) -> None:
    """Each type has its own literal."""
    assert quoting.equals("a", value) == f"a eq {written}"


@pytest.mark.parametrize("value", [Decimal("NaN"), Decimal("Infinity"), 1.5, b"x", ["x"]])
def test_other_values_are_refused(value: object) -> None:
    """What has no exact literal is refused by type."""
    with pytest.raises(ValueError, match=type(value).__name__):
        quoting.equals("a", value)  # type: ignore[arg-type]  # that is the point


def test_plain_values_make_one_in() -> None:
    """Values that read the same as JSON and as OData stand in one In, each once."""
    assert (
        quoting.in_filter("msemr_azurefhirid", ["a", "b", "a"])
        == "Microsoft.Dynamics.CRM.In(PropertyName='msemr_azurefhirid',PropertyValues=['a','b'])"
    )


def test_filters_combine() -> None:
    """Combined filters keep their own precedence; an empty filter holds always in both and is refused in any_of."""
    assert quoting.both("a eq 1", "", "b eq 2") == "(a eq 1) and (b eq 2)"
    assert quoting.both("a eq 1", "") == "a eq 1"
    assert quoting.both("", "") == quoting.both() == ""
    assert quoting.any_of("a eq 1", "b eq 2") == "(a eq 1) or (b eq 2)"
    for filters in ((), ("a eq 1", "")):
        with pytest.raises(ValueError, match="any_of"):
            quoting.any_of(*filters)
    with pytest.raises(ValueError, match="no values"):
        quoting.in_filter("a", [])


def test_a_whole_query() -> None:
    """Options come in a fixed order; without any there is no question mark."""
    assert quoting.query("contacts") == "contacts"
    assert (
        quoting.query(
            "contacts", select=["a", "b"], filter="a eq 1", top=5, orderby="a desc,b", expand="x($select=y;$top=1)"
        )
        == "contacts?$select=a,b&$filter=a%20eq%201&$top=5&$orderby=a%20desc,b&$expand=x(%24select%3Dy%3B%24top%3D1)"
    )
    with pytest.raises(ValueError, match="orderby"):
        quoting.query("contacts", orderby="a; drop")
    with pytest.raises(ValueError, match="top"):
        quoting.query("contacts", top=0)
    assert quoting.tagged("contacts?$top=1", "relay:x") == "contacts?$top=1&tag=relay%3Ax"
