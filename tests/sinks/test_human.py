"""Tests of crawlpool.sinks.human and of open_sink."""

from __future__ import annotations

import io
import pathlib
import sys

import pytest

from crawlpool.errors import ConfigError, DeadlineExceeded, SinkError
from crawlpool.models import Hop, Outcome, Result, Target
from crawlpool.sinks import BodiesSink, HumanSink, JsonlSink, WarcSink, is_destination, open_sink
from crawlpool.sinks.human import in_bytes, line_of
from tests.sinks.results import result_of


def test_an_answer_is_its_status_size_time_and_url() -> None:
    """One short line; the URL is shown without userinfo."""
    assert line_of(result_of("http://u:pw@h/a", body=b"x" * 20_477)) == "200          20.5 kB    0.08 s  http://h/a"


def test_redirects_show_where_they_led() -> None:
    """The URL that answered stands behind an arrow."""
    result = result_of("http://h/a", final_url="http://h/b", redirects=(Hop("http://h/a", 301),))
    assert line_of(result).endswith("http://h/a → http://h/b")


def test_a_failure_shows_its_kind_and_message() -> None:
    """Without an answer the outcome stands in front, and the error behind."""
    target = Target("http://h/")
    failed = Result(target, Outcome.FAILED, error=DeadlineExceeded("after 60 s: http://u:pw@h/"), elapsed_s=60.0)
    assert line_of(failed) == "failed             -   60.00 s  http://h/  deadline: after 60 s: http://***@h/"
    skipped = Result(target, Outcome.SKIPPED, reason="duplicate")
    assert line_of(skipped) == "skipped            -         -  http://h/  duplicate"
    assert line_of(Result(target, Outcome.FAILED, error=ValueError())).endswith("internal: ValueError")


def test_nothing_can_move_the_cursor() -> None:
    """Control characters of URLs, reasons and errors are shown as escapes, in one line of bounded length."""
    evil = "http://h/\x1b[2J\r\n\u202e" + "x" * 5000
    result = Result(Target(evil), Outcome.FAILED, reason="\x1b[1m", error=ValueError(evil))
    assert line_of(result).isprintable()
    assert len(line_of(result)) < 700
    out = io.StringIO()
    sink = HumanSink(out)
    sink.emit({"a\n": "\x1b[2J http://u:pw@h/"})
    assert out.getvalue()[:-1].isprintable()
    assert "pw" not in out.getvalue()


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_960, "1.0 MB"),
        (7 * 10**12, "7000.0 GB"),
    ],
)
def test_sizes_are_short(count: int, shown: str) -> None:
    """Three digits and a unit in powers of a thousand."""
    assert in_bytes(count) == shown


def test_lines_are_flushed_and_the_stream_stays_open(tmp_path: pathlib.Path) -> None:
    """Each line is in the file when ``write`` returns; a character that its encoding lacks becomes an escape."""
    path = tmp_path / "out.txt"
    with path.open("w", encoding="ascii", newline="\n") as stream:
        sink = HumanSink(stream)
        sink.write(result_of("http://h/ü", redirects=(Hop("http://h/a", 301),)))
        assert path.read_bytes().endswith(b"http://h/\\xfc \\u2192 http://h/\\xfc\n")
        sink.flush()
        sink.close()
        assert not stream.closed
    with pytest.raises(SinkError, match="closed"):
        sink.write(result_of())


def test_a_stream_that_was_closed_ends_the_sink_with_one_line(tmp_path: pathlib.Path) -> None:
    """Writing to a closed stream is a SinkError that names it, now and later."""
    stream = (tmp_path / "out.txt").open("w", encoding="utf-8")
    stream.close()
    sink = HumanSink(stream)
    for _ in range(2):
        with pytest.raises(SinkError, match=r"out\.txt: I/O operation on closed file"):
            sink.write(result_of())


def test_an_item_that_is_not_json_is_refused_as_by_every_sink() -> None:
    """A handler meets the same error on a terminal as with a file."""
    with pytest.raises(ConfigError):
        HumanSink(io.StringIO()).emit({"a": object()})


def test_a_destination_finds_its_sink(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``-``, ``*.jsonl``, ``*.warc.gz`` and folders work; anything else is told with what works."""
    sink = open_sink(str(tmp_path / "OUT.JSONL"))
    assert isinstance(sink, JsonlSink)
    sink.close()
    assert isinstance(open_sink("-"), JsonlSink)
    assert isinstance(open_sink("-", for_humans=True), HumanSink)
    for path, kind in ((tmp_path / "P.WARC.GZ", WarcSink), (f"{tmp_path}/bodies/", BodiesSink)):
        sink = open_sink(str(path), rotate_bytes=1 << 20, credentials=True)
        assert isinstance(sink, kind)
        sink.close()
    for other in ("out.csv", "pages.warc", "bodies", ""):
        with pytest.raises(ConfigError, match=r"'-' \(standard output\), paths .* and folders that end in / work$"):
            open_sink(other)
        assert not is_destination(other)
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(SinkError, match="stdout: it was closed"):
        open_sink("-", for_humans=True)
