"""Tests of crawlpool.source.formats and its settings: lines, JSON Lines and CSV."""

from __future__ import annotations

import csv
import io
import json
import pathlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlpool.errors import ConfigError, InputError
from crawlpool.models import Target
from crawlpool.source import BadLine, InputFileError, Source, SourceSettings
from crawlpool.source.formats import items_of
from crawlpool.source.reader import split_lines


def items(data: bytes, input_format: str = "lines", **settings: Any) -> list[Target | BadLine]:
    """Return what a source makes of the bytes of one input."""
    chunks = iter([data])
    lines = split_lines(lambda: next(chunks, b""), settings.get("max_line_bytes", 65536))
    made = SourceSettings(input_format=input_format, **settings)
    return list(items_of(lines, "in", made, iter(range(1, 10**9))))


def short(item: Target | BadLine) -> tuple[Any, ...]:
    """Return what matters of an item, to compare."""
    if isinstance(item, Target):
        return (item.n, item.url, item.meta)
    assert isinstance(item.error, InputError)
    assert item.error.place == item.place
    assert str(item.error).startswith(f"{item.place}: ")
    assert str(item.error).isprintable()
    return (item.n, item.place, str(item.error).partition(": ")[2])


def test_every_kind_of_bad_line_is_told_and_the_rest_goes_on() -> None:
    """Blank lines and comments don't count; each bad line has its number, its place and its reason."""
    data = (
        b"# comment\r\n\r\nhttp://one/\r\n  \t\n  # another\n http://two/a b \nexample.com\nhttp://a\0b/\n"
        b"http://h/\xff\nftp://h/\nhttp://h:99999/\nhttp://\xe2\x98\x83.example/\nhttp://u:pw@h:x/\n"
        b"h\0t\0t\0p\0\n" + b"http://h/" + b"x" * 70_000 + b"\nhttp://last/"
    )
    assert [short(item) for item in items(data)] == [
        (1, "http://one/", None),
        (2, "http://two/a%20b", None),
        (3, "in:7", "no scheme (http:// or https://): 'example.com'"),
        (4, "in:8", "NUL byte at character 9 (UTF-16 instead of UTF-8?): 'http://a\\x00b/'"),
        (5, "in:9", "byte 0xff at 10 is not UTF-8: 'http://h/\\xff'"),
        (6, "in:10", "unsupported scheme (only http and https are fetched): 'ftp://h/'"),
        (7, "in:11", "bad port (a number from 1 to 65535): 'http://h:99999/'"),
        (
            8,
            "in:12",
            "bad international host name (Codepoint U+2603 at position 1 of '☃' not allowed): 'http://☃.example/'",
        ),
        (9, "in:13", "bad port (a number from 1 to 65535): 'http://***@h:x/'"),
        (10, "in:14", "NUL byte at character 2 (UTF-16 instead of UTF-8?): 'h\\x00t\\x00t\\x00p\\x00'"),
        (11, "in:15", f"line of 70009 bytes (the limit is 65536): 'http://h/{'x' * 90}…'"),
        (12, "http://last/", None),
    ]


def test_a_target_keeps_its_line_as_given() -> None:
    """``input`` is the line without its surrounding blanks; the method is that of the settings."""
    fast, slow = items(b" http://h/a \nHTTP://H/a#b\n", method="head")
    assert fast == Target("http://h/a", method="HEAD", n=1, input="http://h/a")
    assert slow == Target("http://h/a", method="HEAD", n=2, input="HTTP://H/a#b")


def test_a_comment_of_any_length_is_a_comment() -> None:
    """A comment over the limit of a line is skipped like any other."""
    assert [short(i) for i in items(b"  #" + b"x" * 500 + b"\nhttp://h/\n", max_line_bytes=100)] == [
        (1, "http://h/", None)
    ]


def test_a_bad_line_never_shows_its_credential() -> None:
    """Neither ``input`` nor the message of a bad line holds userinfo, in any format."""
    found = [
        *items(b"http://u:s3cret@h:x/\n\xff http://u:s3cret@h/\nhttp://u:s3cret" + b"x" * 300, max_line_bytes=200),
        *items(
            b'{"url": "http://u:s3cret@h:x/"}\n{"url": "http://u:s3cret@h/"\n{"link": "http://u:s3cret@h/"}', "jsonl"
        ),
        *items(b'url,a\nhttp://u:s3cret@h/\nhttp://u:s3cret@h:x/,1\n"http://u:s3cret@h/', "csv"),
    ]
    assert len(found) == 9
    for item in found:
        assert isinstance(item, BadLine)
        assert "s3cret" not in item.input
        assert "s3cret" not in str(item.error)


def test_jsonl_takes_its_url_and_what_it_carries() -> None:
    """Each object gives a target; carried fields become ``meta``, null where they are missing."""
    data = b'{"link": "http://one/", "id": 7, "x": [1.5, {"y": null}]}\n\n{"link":"http://h/\\u00e4"}\r\n'
    found = items(data, "jsonl", url_field="link", carry=("id", "x"))
    assert [short(item) for item in found] == [
        (1, "http://one/", {"id": 7, "x": [1.5, {"y": None}]}),
        (2, "http://h/%C3%A4", {"id": None, "x": None}),
    ]
    assert found[0].input == "http://one/"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"http://h/", "not JSON (Expecting value at character 1): 'http://h/'"),
        (b'{"url": "http://h/', 'not JSON (Unterminated string starting at at character 9): \'{"url": "http://h/\''),
        (b"[1]", "not a JSON object: '[1]'"),
        (b"{}", "the field 'url' is missing: '{}'"),
        (b'{"url": 3}', "the field 'url' is no text: '{\"url\": 3}'"),
        (b'{"url": "http://h/", "x": NaN}', "not JSON (nested too deep or a number out of range)"),
        (b'{"url": "http://h/", "x": 1e999}', "not JSON (nested too deep or a number out of range)"),
        (b"[" * 60_000, "not JSON (nested too deep or a number out of range)"),
        (b'{"url": "http://h/\\u0000"}', "NUL byte at character 10"),
        (b'{"url": "http://h/\\ud800"}', "half a surrogate pair"),
        (b"\xff", "byte 0xff at 1 is not UTF-8"),
        (b"# comment", "not JSON"),
        (b'{"url": "' + b"x" * 70_000, "line of 70009 bytes"),
    ],
)
def test_a_bad_json_line_is_told_and_the_rest_goes_on(line: bytes, reason: str) -> None:
    """What is no JSON object with a URL is one bad line; the next line is read as ever."""
    bad, good = items(line + b'\n{"url": "http://h/"}\n', "jsonl")
    assert short(bad)[:2] == (1, "in:1")
    assert short(bad)[2].startswith(reason)
    assert short(good) == (2, "http://h/", None)


def test_csv_takes_its_url_and_what_it_carries() -> None:
    """Columns go by the header row; quotes may hold commas, quotes and line ends; the place is a row's first line."""
    data = b'id, url ,note\r\n1,http://one/,a\r\n\r\n2,"http://h/a,b","say ""x""\r\nand more"\r\n3,x,\n4,http://last/,z'
    found = items(data, "csv", carry=("note", "id"))
    assert [short(item) for item in found] == [
        (1, "http://one/", {"note": "a", "id": "1"}),
        (2, "http://h/a,b", {"note": 'say "x"\r\nand more', "id": "2"}),
        (3, "in:6", "no scheme (http:// or https://): 'x'"),
        (4, "http://last/", {"note": "z", "id": "4"}),
    ]


def test_a_quote_that_never_closes_costs_one_row() -> None:
    """The lines that were read in search of its end are rows of their own again."""
    data = b'url,a\nhttp://one/,1\nhttp://two/,"open\nhttp://three/,3\nhttp://four/,4\n'
    assert [short(item)[:2] for item in items(data, "csv")] == [
        (1, "http://one/"),
        (2, "in:3"),
        (3, "http://three/"),
        (4, "http://four/"),
    ]
    many = data + b"http://h/,x\n" * 1000
    found = [short(item) for item in items(many, "csv", max_line_bytes=300)]
    assert len(found) == 1004
    assert found[1] == (
        2,
        "in:3",
        "a quote opens here that doesn't close within 300 bytes: 'http://two/,\"open'",
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"http://h/", "1 fields where the header row has 2"),
        (b"http://h/a,b,c", "3 fields where the header row has 2 (a comma inside a field needs quotes around it)"),
        (b'"http://h/"x,1', "',' expected after '\"'"),
        (b"http://h/\r,1", "new-line character seen in unquoted field"),
        (b"http://h/\xff,1", "byte 0xff at 10 is not UTF-8"),
        (b"http://h/,\0", "NUL byte"),
        (b'http://h/,"a\n\xff"', "a quote opens here, and its field is not UTF-8"),
        (b'http://h/,"a\n\0"', "a quote opens here, and in its field is a NUL byte"),
        (b",1", "no URL"),
        (b"x" * 400, "line of 400 bytes (the limit is 300)"),
    ],
)
def test_a_bad_csv_row_is_told_and_the_rest_goes_on(row: bytes, reason: str) -> None:
    """A row that is broken, too short, too long or no text is a bad line; later rows are read as ever."""
    found = items(b"url,a\n" + row + b"\nhttp://h/,1\n", "csv", max_line_bytes=300)
    assert short(found[0])[:2] == (1, "in:2")
    assert short(found[0])[2].startswith(reason)
    assert short(found[-1])[1] == "http://h/"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"link,a\nhttp://h/,1\n", "in:1: the header row has no column 'url': 'link, a'"),
        (b"\n\nurl\nhttp://h/\n", "in:3: the header row has no column 'a': 'url'"),
        (b'url,"a\n', "in:1: no header row: a quote opens here that never closes"),
        (b"url,a\xff\n", "in:1: no header row: it is too long or not UTF-8"),
    ],
)
def test_csv_without_its_columns_is_refused(data: bytes, reason: str) -> None:
    """Where the header row lacks a column no row could be right: the whole input is refused."""
    with pytest.raises(InputFileError) as caught:
        items(data, "csv", carry=("a",))
    assert str(caught.value) == reason


CELL = st.text(st.sampled_from("ab \",\r\n'é#"), max_size=6)


@given(st.lists(st.lists(CELL, min_size=2, max_size=2), max_size=8), st.sampled_from(["\r\n", "\n"]))
def test_csv_that_python_writes_is_read_back(rows: list[list[str]], end: str) -> None:
    """Whatever stands in the fields: what the csv module writes comes back as it was."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([["url", "a", "b"], *([f"http://h/{i}", *row] for i, row in enumerate(rows))])
    found = items(out.getvalue().encode(), "csv", carry=("a", "b"))
    assert [item.meta for item in found if isinstance(item, Target)] == [{"a": a, "b": b} for a, b in rows]


@given(st.binary(max_size=200), st.sampled_from(["lines", "jsonl", "csv"]), st.integers(16, 40))
def test_no_bytes_break_a_source(data: bytes, input_format: str, limit: int) -> None:
    """Whatever the bytes: each item is a target or a bad line of one message, numbered without a gap."""
    if input_format == "csv":
        data = b"url,a\n" + data
    found = items(data, input_format, max_line_bytes=limit)
    assert [item.n for item in found] == list(range(1, len(found) + 1))
    for item in found:
        json.dumps(short(item))


@pytest.mark.parametrize(
    "settings",
    [
        {"input_format": "xml"},
        {"url_field": ""},
        {"carry": "id", "input_format": "csv"},
        {"carry": ("a", "a"), "input_format": "csv"},
        {"carry": ("",), "input_format": "csv"},
        {"carry": ("id",)},
        {"default_scheme": "ftp"},
        {"method": "GET /"},
        {"method": ""},
        {"max_line_bytes": 0},
        {"max_line_bytes": True},
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    """A setting of a wrong value is told when it is made, with its name and value."""
    with pytest.raises(ConfigError, match=f"^{next(iter(settings))}="):
        SourceSettings(**settings)


def test_the_source_uses_the_format(tmp_path: pathlib.Path) -> None:
    """The format of the settings holds for files, and a URL given as an input is just a URL."""
    path = tmp_path / "urls.jsonl"
    path.write_text('{"url": "http://h/"}\n')
    found = list(Source([str(path), "http://two/"], SourceSettings("jsonl")))
    assert [short(item)[1] for item in found] == ["http://h/", "http://two/"]
