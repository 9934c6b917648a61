"""Tests of crawlpool.sinks.jsonl, with real files, real pipes and a full device."""

from __future__ import annotations

import collections
import json
import os
import pathlib
import stat
import subprocess
import sys
import threading
from typing import Any

import pytest

from crawlpool.errors import ConfigError, SinkError
from crawlpool.models import Outcome, Result, Target
from crawlpool.record import EMPTY
from crawlpool.sinks.jsonl import JsonlSink
from tests.house import ROOT
from tests.sinks.results import result_of

posix = pytest.mark.skipif(os.name != "posix", reason="pipes and modes of POSIX")


class Pipe:
    """A pipe whose reading end is read by a thread only once it is told to."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        self.data = bytearray()
        self._reader = threading.Thread(target=self._read)

    def _read(self) -> None:
        while chunk := os.read(self.reading, 65536):
            self.data.extend(chunk)

    def start_reading(self) -> None:
        """Let the reader begin."""
        self._reader.start()

    def finish(self) -> list[Any]:
        """Close the writing end, and return the lines that came."""
        os.close(self.writing)
        self._reader.join(10)
        os.close(self.reading)
        return [json.loads(line) for line in bytes(self.data).splitlines()]


def test_a_file_is_private_cut_and_written_at_once(tmp_path: pathlib.Path) -> None:
    """The file has mode 0600, loses what it held, and has each record when ``write`` returns."""
    path = tmp_path / "out.jsonl"
    sink = JsonlSink(str(path), headers=["ETag"], run=3)
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    sink.write(result_of("http://u:pw@h/", n=1, meta={"id": 7}))
    (record,) = map(json.loads, path.read_bytes().splitlines())
    assert list(record) == list(EMPTY)
    assert (record["url"], record["n"], record["run"], record["meta"]) == ("http://h/", 1, 3, {"id": 7})
    assert record["headers"] == {"etag": '"x"'}
    sink.emit({"title": "ä"})
    assert path.read_text("utf-8").splitlines()[1] == '{"v":1,"item":{"title":"ä"},"run":3}'
    sink.flush()
    sink.close()
    sink.close()
    with pytest.raises(SinkError, match="the sink was closed"):
        sink.write(result_of())
    JsonlSink(str(path)).close()
    assert path.read_bytes() == b""


@pytest.mark.parametrize("meta", [object(), {"a": float("nan")}, {("a",): 1}, b"x", {"deep": {1, 2}}])
def test_meta_that_is_not_json_costs_no_record(tmp_path: pathlib.Path, meta: Any) -> None:
    """The URL has its record all the same, and ``meta`` says that and what could not be written."""
    path = tmp_path / "out.jsonl"
    sink = JsonlSink(str(path))
    sink.write(result_of(meta=meta))
    sink.close()
    assert json.loads(path.read_bytes())["meta"] == {"not_json": repr(meta)}


def test_a_broken_repr_costs_no_record(tmp_path: pathlib.Path) -> None:
    """Even a ``meta`` whose repr raises has its record; a credential in a repr is not shown."""

    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    path = tmp_path / "out.jsonl"
    sink = JsonlSink(str(path))
    sink.write(result_of(meta=Broken()))
    sink.write(result_of(meta={"http://u:s3cret@h/"}))
    sink.close()
    assert [json.loads(line)["meta"]["not_json"] for line in path.read_bytes().splitlines()] == [
        "Broken",
        "{'http://***@h/'}",
    ]


def test_an_item_that_is_not_json_is_the_handlers_mistake(tmp_path: pathlib.Path) -> None:
    """``emit`` raises in the handler's thread, and the sink goes on."""
    path = tmp_path / "out.jsonl"
    sink = JsonlSink(str(path))
    with pytest.raises(ConfigError):
        sink.emit({"a": object()})
    sink.emit({"a": "\ud800"})
    sink.close()
    assert json.loads(path.read_bytes()) == {"v": 1, "item": {"a": "\ud800"}, "run": 1}


@posix
@pytest.mark.parametrize("is_blocking", [True, False])
def test_a_full_pipe_stalls_and_then_gets_everything(is_blocking: bool) -> None:
    """Sixteen threads write more than a pipe holds before anybody reads: each record arrives, once and whole."""
    pipe = Pipe()
    os.set_blocking(pipe.writing, is_blocking)
    sink = JsonlSink(pipe.writing)
    start = threading.Barrier(17)

    def work(me: int) -> None:
        start.wait(10)
        for number in range(150):
            sink.write(result_of(f"http://h/{me}/{number}", meta="x" * 500))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    start.wait(10)
    pipe.start_reading()
    for thread in threads:
        thread.join(30)
    sink.close()
    found = collections.Counter(record["url"] for record in pipe.finish())
    assert found == {f"http://h/{me}/{number}": 1 for me in range(16) for number in range(150)}


@posix
def test_memory_behind_a_stalled_pipe_is_bounded() -> None:
    """With nobody reading, writers wait once 1,024 records are pending; all of them arrive when the pipe is read."""
    pipe = Pipe()
    sink = JsonlSink(pipe.writing)
    written = threading.Semaphore(0)

    def work() -> None:
        for number in range(2000):
            sink.write(result_of(f"http://h/{number}"))
            written.release()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    lines = sink._lines
    while True:
        with lines._changed:
            if lines._changed._waiters:  # type: ignore[attr-defined]
                assert len(lines._pending) == 1024
                break
    pipe.start_reading()
    for thread in threads:
        thread.join(30)
    sink.close()
    assert len(pipe.finish()) == 4000


@posix
def test_a_reader_that_went_away_is_one_line() -> None:
    """Broken pipe ends the sink with one line; every later call says the same."""
    reading, writing = os.pipe()
    os.close(reading)
    sink = JsonlSink(writing)
    for call in (lambda: sink.write(result_of()), lambda: sink.emit({}), sink.flush, sink.close):
        with pytest.raises(SinkError, match=rf"^descriptor {writing}: Broken pipe$"):
            call()
    os.close(writing)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_one_line(tmp_path: pathlib.Path) -> None:
    """No space left ends the sink with one line that names the destination, and its descriptor is closed."""
    path = tmp_path / "out.jsonl"
    path.symlink_to("/dev/full")
    sink = JsonlSink(str(path))
    with pytest.raises(SinkError) as caught:
        sink.write(result_of())
    assert str(caught.value) == f"{path}: No space left on device"
    fd = sink._fd
    with pytest.raises(SinkError, match="No space left"):
        sink.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_destination_that_cannot_be_opened_is_told(tmp_path: pathlib.Path) -> None:
    """A missing folder and a folder in the place of the file are one line each."""
    with pytest.raises(SinkError, match=r"none/out\.jsonl: its folder does not exist$"):
        JsonlSink(str(tmp_path / "none" / "out.jsonl"))
    with pytest.raises(SinkError, match=r"Is a directory|Permission denied"):
        JsonlSink(str(tmp_path))
    with pytest.raises(SinkError, match=r"a\\x00b"):
        JsonlSink("a\0b")


def test_a_file_object_stays_open(tmp_path: pathlib.Path) -> None:
    """A file that the caller opened gets the records through its descriptor and is left to the caller."""
    with (tmp_path / "out").open("wb") as file:
        sink = JsonlSink(file)
        sink.write(Result(Target("http://h/"), Outcome.SKIPPED, reason="duplicate"))
        sink.close()
        assert not file.closed
        assert json.loads((tmp_path / "out").read_bytes())["reason"] == "duplicate"


SCRIPT = """
import sys
from crawlpool.models import Outcome, Result, Target
from crawlpool.sinks import open_sink
sink = open_sink("-")
sink.write(Result(Target("http://h/1"), Outcome.SKIPPED))
print("next?", file=sys.stderr, flush=True)
sys.stdin.readline()
sink.write(Result(Target("http://h/2"), Outcome.SKIPPED))
sink.close()
"""


def test_standard_output_has_each_record_at_once() -> None:
    """A record is in the pipe of standard output before the next one is written, and closing leaves it open."""
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        assert child.stdin and child.stdout and child.stderr
        assert child.stderr.readline().strip() == b"next?"
        assert json.loads(child.stdout.readline())["url"] == "http://h/1"
        child.stdin.write(b"\n")
        child.stdin.close()
        assert json.loads(child.stdout.readline())["url"] == "http://h/2"
        assert child.wait(20) == 0


@posix
def test_a_closed_standard_output_is_told() -> None:
    """Where descriptor 1 was closed at the start it may be anybody's file: nothing is written there."""
    command = [sys.executable, "-c", "from crawlpool.sinks import open_sink; open_sink('-')"]
    done = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", *command], cwd=ROOT, stderr=subprocess.PIPE, check=False)
    assert b"SinkError: stdout: it was closed when the program started" in done.stderr
