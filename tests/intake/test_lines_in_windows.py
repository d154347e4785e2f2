"""A file of lines is cut into windows as it comes, and can be taken up between any two of them."""

from __future__ import annotations

import gzip
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from intake_inputs import limits, verdicts

from relay.errors import Refused
from relay.inbound import lines as lines_module
from relay.inbound.intake import read_lines
from relay.inbound.lines import Bounds, Line, Place, ReadAt, Window, windows_from

BOUNDS = Bounds(lines=3, bytes=20, line_bytes=12)


def reader(data: bytes, asked: list[int] | None = None) -> ReadAt:
    async def read(start: int, length: int) -> bytes:
        if asked is not None:
            asked.append(start)
        return data[start : start + length]

    return read


async def cut(data: bytes, place: Place = Place(), bounds: Bounds = BOUNDS, max_ratio: int = 100) -> list[Window]:  # noqa: B008 - a frozen value
    windows = windows_from(reader(data), place, bounds, max_ratio=max_ratio, max_lines=1000)
    return [window async for window in windows]


LINES = st.lists(st.binary(max_size=16).map(lambda each: each.replace(b"\n", b"")), max_size=12)


@settings(max_examples=40, deadline=None)
@given(LINES, st.sampled_from([b"", b"\n"]), st.booleans(), st.integers(1, 9))
async def test_windows_hold_every_line_once_and_end_where_the_next_begins(
    texts: list[bytes], last: bytes, packed: bool, read: int
) -> None:
    """Whatever the reads' sizes, plain or gzip: each line that is not blank is in one window, in order and in bounds."""
    data = b"\n".join(texts) + last
    wanted = [
        (number, text if len(text) <= 12 else None)
        for number, text in enumerate(data.split(b"\n"), 1)
        if text.strip() or len(text) > 12
    ]
    if data.startswith((b"\x1f\x8b", b"\xef\xbb\xbf")):
        return
    sent = gzip.compress(data, mtime=0) if packed else data
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines_module, "READ", read)
        patch.setattr(lines_module, "_INFLATED", read)
        windows = await cut(sent, max_ratio=10_000)
        assert [(line.number, line.data) for window in windows for line in window.lines] == wanted
        for window, after in pairwise(windows):
            assert window.end == after.start
        for window in windows:
            sizes = [len(line.data or b"") for line in window.lines]
            assert len(sizes) <= 3
            assert sum(sizes) <= 20
        for number in range(0, len(windows), 2):  # and from between any two of them the rest is the same
            assert await cut(sent, windows[number].start, max_ratio=10_000) == windows[number:]


async def test_a_plain_file_is_read_from_the_place_on() -> None:
    """What is done of a plain file is not read again."""
    asked: list[int] = []
    data = b"aaaa\nbbbb\ncccc\ndddd\n"
    found = [w async for w in windows_from(reader(data, asked), Place(15, 3), BOUNDS, max_ratio=1, max_lines=4)]
    assert [line for window in found for line in window.lines] == [Line(4, b"dddd")]
    assert asked == [0, 15, 20]


async def test_a_byte_order_mark_begins_a_file_only() -> None:
    """The mark is taken off the first line, and is part of any other."""
    mark = b"\xef\xbb\xbf"
    (window,) = await cut(mark + b"1\n" + mark + b"2")
    assert window.lines == (Line(1, b"1"), Line(2, mark + b"2"))


@pytest.mark.parametrize(
    ("data", "code", "before"),
    [
        (gzip.compress(b"a\nb\nc\nd\n", mtime=0)[:-9], "truncated", 1),
        (gzip.compress(b"a\nb\nc\nd\n", mtime=0) + b"junk", "encoding", 1),
        (b"\x1f\x8b" + b"junk", "encoding", 0),
        (gzip.compress(b"a\n" * 100_000, mtime=0), "ratio", 0),
        (gzip.compress(b"", mtime=0) * 10_001, "encoding", 0),
    ],
)
async def test_a_damaged_gzip_is_refused_after_what_could_be_read(data: bytes, code: str, before: int) -> None:
    """The windows before the damage are there; then a stable code says what is wrong."""
    windows = windows_from(reader(data), Place(), BOUNDS, max_ratio=100, max_lines=1000)
    for _ in range(before):
        await anext(windows)
    with pytest.raises(Refused) as refused:
        await anext(windows)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("data", "numbers"),
    [
        (b"a\nb\nc\nd\ne\nf\n", [1, 2, 3, 4]),
        (b"a\nb\nc\nd\ne", [1, 2, 3, 4]),
        (b"a\n\nb\n\n\nc\n", [1, 3]),
        (b"\n" * 100, []),
    ],
)
async def test_too_many_lines_are_refused_after_those_before(
    data: bytes, numbers: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blank lines count too: no more is read of a file of nothing else than may be in one."""
    asked: list[int] = []
    windows = windows_from(reader(data * 2**10, asked), Place(), BOUNDS, max_ratio=100, max_lines=4)
    monkeypatch.setattr(lines_module, "READ", 16)
    found: list[int] = []

    async def find() -> None:
        async for window in windows:
            found.extend(line.number for line in window.lines)

    with pytest.raises(Refused) as refused:
        await find()
    assert (found, refused.value.code, refused.value.status) == (numbers, "too-many-lines", 413)
    assert len(asked) <= 3


async def test_as_many_lines_as_may_be_are_taken() -> None:
    """The line end of the last line begins no further one."""
    data = b"a\nb\nc\nd\n"
    assert [w async for w in windows_from(reader(data), Place(), BOUNDS, max_ratio=1, max_lines=4)] == await cut(data)


async def test_members_and_padding_of_gzip_are_one_file() -> None:
    """Files put one after the other by tools, with zeros between them, read as one."""
    data = gzip.compress(b"a\nb", mtime=0) + b"\0\0" + gzip.compress(b"c\n") + b"\0"
    (window,) = await cut(data)
    assert [line.data for line in window.lines] == [b"a", b"bc"]


def test_a_line_fails_alone_whatever_is_wrong_with_it() -> None:
    """Each line is judged by itself, and its place is its number in the file; a large window is decoded when asked for."""
    lines = [
        Line(7, b'{"resourceType":"Patient","id":"p1"}'),
        Line(8, b"surname;first name"),
        Line(10, None),
        Line(11, b'{"resourceType":"Patient","id":"\xff"}'),
        Line(12, b'{"resourceType":"Patient"}'),
    ]
    for large in (1, 1_000_000):
        incoming = read_lines(lines, limits(), large=large)
        assert verdicts(incoming) == ["taken", "not-json", "line-too-long", "encoding", "no-id"]
        places = [entry.problem.at for entry in incoming.entries if entry.problem]
        assert places == ["line 8", "line 10", "line 11", "line 12.id"]
        assert incoming.entries[0].resource == {"resourceType": "Patient", "id": "p1"}
