"""Lines on stderr, and the library's log lines among them."""

from __future__ import annotations

import io
import json
import logging
import warnings

import pytest

from crawlpool.events import RetryScheduled, emit, logger
from crawlpool.observe import Telling, logs_to


class Gone(io.StringIO):
    """A stream whose reader went away."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_text_has_a_prefix_and_its_further_lines_are_indented() -> None:
    """So that it can be told from the lines of other programs."""
    stream = io.StringIO()
    Telling(stream=stream).say("event", "one\ntwo", n=1)
    assert stream.getvalue() == "crawlpool: one\n           two\n"


def test_json_has_the_event_its_fields_and_the_text() -> None:
    """One object a line, whatever is in it."""
    stream = io.StringIO()
    telling = Telling("json", stream=stream)
    telling.warn("event", "one\ntwo", n=1, odd={1, 2})
    found = json.loads(stream.getvalue())
    assert {key: found[key] for key in ("event", "level", "message", "n")} == {
        "event": "event", "level": "warning", "message": "one\ntwo", "n": 1,
    }  # fmt: skip
    assert found["timestamp"].endswith("Z")


def test_quiet_leaves_warnings_and_errors() -> None:
    """What only informs is left out."""
    stream = io.StringIO()
    telling = Telling(is_quiet=True, stream=stream)
    telling.say("a", "informs")
    telling.fail("b", "fails")
    assert stream.getvalue() == "crawlpool: fails\n"


def test_telling_never_raises() -> None:
    """Not when the reader went away, the stream was closed, or can't say a character."""
    closed = io.StringIO()
    closed.close()
    for stream in (Gone(), closed):
        Telling(stream=stream).fail("a", "x")
    said = io.BytesIO()
    narrow = io.TextIOWrapper(said, encoding="ascii")
    Telling(stream=narrow).fail("a", "\u2192")
    assert said.getvalue() == b"crawlpool: \\u2192\n"


def test_credentials_are_cut_out() -> None:
    """Of texts and of JSON."""
    for log_format in ("console", "json"):
        stream = io.StringIO()
        Telling(log_format, stream=stream).fail("a", "see http://u:s3cr3t@h/", url="http://u:s3cr3t@h/")
        assert "s3cr3t" not in stream.getvalue()


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_log_lines_of_the_library_are_told(log_format: str) -> None:
    """From the level that was asked for, with their fields; no control character and no credential in them."""
    stream = io.StringIO()
    telling = Telling(log_format, stream=stream)
    with logs_to(telling, 1):
        emit(logger("retry"), "info", RetryScheduled("http://u:s3cr3t@h/\x1b[2J", "GET", 1, 0.5, "status 503"))
        logging.getLogger("crawlpool.x").debug("too fine")
    line = stream.getvalue()
    assert line.count("\n") == 1
    assert "retry scheduled" in line and "status 503" in line
    assert "s3cr3t" not in line and "\x1b" not in line
    if log_format == "json":
        found = json.loads(line)
        assert (found["level"], found["logger"], found["delay_s"]) == ("info", "crawlpool.retry", 0.5)


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_tracebacks_are_for_those_who_ask(log_format: str) -> None:
    """An exception is one line; with verbosity 2 it has its traceback, plain and without credentials."""
    told = {}
    for verbosity in (0, 2):
        stream = io.StringIO()
        with logs_to(Telling(log_format, stream=stream), verbosity):
            try:
                secret = "s3cr3t"
                raise RuntimeError(f"at http://u:{secret}@h/")
            except RuntimeError:
                logger("worker").exception("it failed")
        told[verbosity] = stream.getvalue()
    assert "Traceback" not in told[0] and "RuntimeError: at http://***@h/" in told[0]
    assert told[0].count("\n") == 1
    assert "Traceback" in told[2] and "s3cr3t" not in told[2].replace('secret = "s3cr3t"', "")


def test_warnings_of_python_are_told_as_log_lines() -> None:
    """Not in Python's own format, and not when quiet."""
    for is_quiet in (False, True):
        stream = io.StringIO()
        with warnings.catch_warnings(), logs_to(Telling(is_quiet=is_quiet, stream=stream)):
            warnings.simplefilter("always")
            warnings.warn("look out", stacklevel=1)
        assert ("look out" in stream.getvalue()) is not is_quiet


def test_logging_is_as_before_afterwards() -> None:
    """Levels, handlers and the way of warnings; a value that can't be shown harms nobody."""

    class Bad:
        def __repr__(self) -> str:
            raise ValueError

    loggers = [logging.getLogger(name) for name in ("crawlpool", "py.warnings", "urllib3")]
    before = [(log.level, log.propagate, list(log.handlers)) for log in loggers]
    shown = warnings.showwarning
    stream = io.StringIO()
    with logs_to(Telling(stream=stream), 2):
        logging.getLogger("crawlpool.x").error("bad %r", Bad())
    assert [(log.level, log.propagate, list(log.handlers)) for log in loggers] == before
    assert warnings.showwarning is shown
    assert "can't be shown" in stream.getvalue()
