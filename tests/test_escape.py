"""Text from outside is harmless wherever it goes: to a terminal, a log, records, a table, a WARC header, a name."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import pathlib
import re
import unicodedata
from typing import Any

import pytest
import requests
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crawlpool.cli.answer import write_answer
from crawlpool.cli.export import cell_of, table_of
from crawlpool.escape import cell, for_terminal, harms_terminal, header_lines, in_line, json_bytes
from crawlpool.events import logger
from crawlpool.models import Hop, Outcome, Result, Target
from crawlpool.observe import Telling, logs_to
from crawlpool.record import EVERY_HEADER, record_line, record_of
from crawlpool.redact import one_line
from crawlpool.sinks.bodies import EXTENSIONS, BodiesSink, extension_of
from crawlpool.sinks.human import line_of
from crawlpool.sinks.jsonl import JsonlSink
from crawlpool.sinks.warc_records import uri_of
from tests.sinks.results import result_of

BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
#: What a server would like to send, and any text whatever.
hostile = st.text(
    st.sampled_from(f"\x00\x07\b\t\n\r\x1b\x7f\x85\x9b\u2028\u2029\ufeff\ud800\udfff{BIDI}=+-@,;'\"\\[2Ja \u00e4\u6f22")
    | st.characters(),
    max_size=30,
)


def forbidden(text: str, but: str = "\n") -> list[str]:
    """Return the characters of a text that must not get there; by Unicode's own classes, not by our pattern."""
    return [ch for ch in text if ch not in but and (unicodedata.category(ch) in ("Cc", "Cs", "Zl", "Zp") or ch in BIDI)]


def answered(text: str, url: str = "http://h.example/") -> Result:
    """Return a result in which everything that a server has a say in is this text."""
    response: Any = requests.Response()
    response.status_code, response._content, response.reason = 200, b"body", text
    response.url = f"http://h.example/{text}"
    response.headers.update({"Content-Type": text, "X-Robots-Tag": text, "ETag": text})
    return Result(
        Target(url, meta={"title": text}, input=text, parent=f"http://h.example/{text}"),
        Outcome.FAILED,
        error=ValueError(text),
        response=response,
        redirects=(Hop(f"http://h.example/{text}", 302),),
        elapsed_s=0.1,
        started_at_s=1_800_000_000.0,
        waited_s=0.0,
    )


@given(hostile)
def test_the_gates_let_nothing_through_and_leave_the_rest(text: str) -> None:
    """Lines keep tabs and line ends, one line has neither; printable text is left as it is; twice is once."""
    assert forbidden(for_terminal(text), "\n\t") == []
    for one in (in_line(text), one_line(text), cell(text)):
        assert forbidden(one, "") == []
    assert for_terminal(for_terminal(text)) == for_terminal(text)
    if not forbidden(text, ""):
        assert in_line(text) == for_terminal(text) == text


@given(hostile)
@example("\ud83d\ude00")
def test_json_says_the_same_and_shows_nothing(text: str) -> None:
    """A record's line is UTF-8 and JSON, has one line end, and a reader gets the server's very text."""
    for line in (record_line(answered(text), headers=EVERY_HEADER), record_line(answered("x")), _plain(text)):
        shown = line.decode("utf-8")
        assert forbidden(shown) == []
        assert shown.count("\n") == 1
    record = json.loads(record_line(answered(text), headers=EVERY_HEADER))
    joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")  # two halves are one character
    assert record["content_type"] == joined or text in ("\ud83d\ude00",)
    assert json.loads(json_bytes(json.dumps([text], ensure_ascii=False))) in ([text], [joined])


def _plain(text: str) -> bytes:
    """Return the record of a page, made the short way."""
    from crawlpool.wire import Wire

    result = result_of(started_at_s=1.0, waited_s=0.0)
    response: Any = result.response
    response.headers["Content-Type"] = text
    response.url = f"http://h/{text}"
    response.wire = Wire("127.0.0.1", None, text, 5, False, ())
    return record_line(result)


@given(hostile)
@settings(max_examples=50)
def test_items_of_handlers_are_as_harmless(text: str) -> None:
    """What a handler took from a page and emits goes the same way."""
    read, write = os.pipe()
    with open(read, "rb") as reader:
        with open(write, "wb", buffering=0) as file:
            sink = JsonlSink(file)
            sink.emit({"title": text})
            sink.close()
        line = reader.read().decode("utf-8")
    assert forbidden(line) == []
    assert json.loads(line)["item"]["title"] is not None


@given(hostile)
def test_lines_for_eyes_are_printable(text: str) -> None:
    """The line of a result that people see on a terminal."""
    assert line_of(answered(text)).isprintable()


@given(hostile)
def test_no_cell_is_a_formula_or_moves_a_cursor(text: str) -> None:
    """Each cell of a row, whatever stands before the formula; the row is one row."""
    rows = b"".join(table_of([record_of(answered(text), headers=EVERY_HEADER)])).decode()  # type: ignore[list-item]
    assert forbidden(rows) == []
    head, row = list(csv.reader(io.StringIO(rows)))
    assert len(head) == len(row)
    numbers = re.compile(r"-?[0-9.e+-]+")
    for one in row:
        bare = one.lstrip(" \u00a0\u200b\ufeff\u3000")
        assert not bare.startswith(("=", "+", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20"))
        assert not bare.startswith("-") or numbers.fullmatch(one)


@pytest.mark.parametrize("before", ["", " ", "\u00a0", "\ufeff", "\u200b", "\u3000", " \u2003"])
@pytest.mark.parametrize("start", [*"=+-@\t\r\n", "\uff1d"])
def test_what_stands_before_a_formula_does_not_hide_it(before: str, start: str) -> None:
    """Blanks and marks of no width, which a spreadsheet passes over."""
    assert cell_of(f"{before}{start}1+1").startswith("'")


@given(hostile)
def test_a_warc_header_has_printable_ascii_alone(text: str) -> None:
    """A target URI can't end its line, nor hold a login."""
    uri = uri_of(f"http://ada:pw@h.example/{text}")
    assert re.fullmatch("[!-~]*", uri)
    assert uri.startswith("http://h.example/")


@given(hostile)
def test_a_file_name_is_a_number_and_a_known_extension(text: str) -> None:
    """No server has a say in it."""
    assert extension_of(answered(text).response) in {*EXTENSIONS.values(), ".bin"}


def test_a_body_lies_under_such_a_name(tmp_path: pathlib.Path) -> None:
    """Whatever the answer calls itself."""
    sink = BodiesSink(f"{tmp_path}/b/")
    sink.write(answered("../../\x1b]0;x\x07.html"))
    assert [path.name for path in tmp_path.rglob("0*.*")] == ["00000001.bin"]


@given(hostile, st.sampled_from(["console", "json"]))
@settings(max_examples=60)
def test_no_log_line_moves_a_cursor_or_ends_early(text: str, log_format: str) -> None:
    """Neither a value, nor one in a list, nor the text of an exception, nor an object's own repr."""

    class Odd:
        def __repr__(self) -> str:
            return f"<{text}>"

    stream = io.StringIO()
    with logs_to(Telling(log_format, stream=stream), 2):
        logger("x").warning("it came", value=text, many=[text, {"a": text}], odd=Odd())
        logging.getLogger("crawlpool.y").warning("of another %s", text)
    shown = stream.getvalue()
    assert shown.count("\n") == 2
    assert forbidden(shown, "\n\t") == []
    with logs_to(Telling(log_format, stream=stream), 2):
        try:
            raise ValueError(text)
        except ValueError:
            logger("x").exception("failed")
    assert forbidden(stream.getvalue(), "\n\t") == []


@given(hostile, st.sampled_from(["console", "json"]))
def test_nothing_that_is_told_moves_a_cursor(text: str, log_format: str) -> None:
    """The last gate of stderr; JSON stays JSON."""
    stream = io.StringIO()
    Telling(log_format, stream=stream).fail("a", text, host=text)
    assert forbidden(stream.getvalue(), "\n\t") == []
    if log_format == "json":
        assert json.loads(stream.getvalue())["message"] is not None


@given(hostile)
def test_no_answer_of_a_command_moves_a_cursor(text: str) -> None:
    """The last gate of what explain, status, audit, plan and verify say."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", io.StringIO())
        write_answer([text, json.dumps({"host": text})])
        import sys

        shown = sys.stdout.getvalue()  # type: ignore[attr-defined]
    assert forbidden(shown, "\n\t") == []


@pytest.mark.parametrize("data", [b"\x1b[2J", b"a\rb", b"\x9b2J", b"\xc2\x9b", "\u202e".encode(), b"\x7f", b"\0"])
def test_bytes_that_a_terminal_obeys_are_found(data: bytes) -> None:
    """C0, DEL, C1 in UTF-8 and outside of it, a lone carriage return, the marks of bidirectional text."""
    assert harms_terminal(data)
    assert forbidden(header_lines(b"X: " + data).decode()) == []


@pytest.mark.parametrize("data", [b"", b"plain\r\nlines\n\ttab", "\u00e4 \u6f22 \U0001f600".encode(), b"\xe4 Latin-1"])
def test_harmless_bytes_are_left_alone(data: bytes) -> None:
    """Text in any language, and line ends of both kinds."""
    assert not harms_terminal(data)
