"""What a command says once, on standard output."""

from __future__ import annotations

import io
import sys

import pytest

from crawlpool.cli.answer import write_answer
from crawlpool.errors import SinkError


def test_what_the_encoding_lacks_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A character that standard output can't show is written as its escape; each line has its end."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", newline="\n")
    monkeypatch.setattr(sys, "stdout", stream)
    write_answer(["a host: bücher.example", "done"])
    assert stream.buffer.getvalue() == b"a host: b\\xfccher.example\ndone\n"  # type: ignore[attr-defined]


def test_a_closed_output_is_a_sink_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """None at all, one that was closed, a full device: each one line that says why."""
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(SinkError, match=r"^stdout: it was closed when the program started"):
        write_answer(["x"])
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    with pytest.raises(SinkError, match=r"^stdout: .*closed file"):
        write_answer(["x"])
    full = open("/dev/full", "w", encoding="utf-8")  # noqa: SIM115
    monkeypatch.setattr(sys, "stdout", full)
    with pytest.raises(SinkError, match=r"^stdout: No space left on device"):
        write_answer(["x"])
    with pytest.raises(OSError, match="No space"):
        full.close()
