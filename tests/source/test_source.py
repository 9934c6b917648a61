"""Tests of crawlpool.source.Source: several inputs, streams, stopping, counting."""

from __future__ import annotations

import gzip
import os
import pathlib
import stat
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlpool.errors import ConfigError
from crawlpool.models import Target
from crawlpool.source import BadLine, InputFileError, Source, SourceSettings, check_inputs
from tests.house import ROOT

posix = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="streams by select.poll")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Make a pipe; both ends are closed at the end, where the test hasn't closed them."""
    reading, writing = os.pipe()
    ends = {fd: os.fstat(fd).st_ino for fd in (reading, writing)}
    yield reading, writing
    for fd, inode in ends.items():
        try:
            if os.fstat(fd).st_ino == inode and stat.S_ISFIFO(os.fstat(fd).st_mode):
                os.close(fd)
        except OSError:
            pass


def urls(source: Source) -> list[str]:
    """Return the URL of each target and the place of each bad line."""
    return [item.url if isinstance(item, Target) else item.place for item in source]


def test_inputs_are_read_in_order_with_one_count(tmp_path: pathlib.Path, pipe: tuple[int, int]) -> None:
    """Files, gzip, standard input and URLs follow each other; ``n`` counts over all, lines count in each."""
    plain, packed = tmp_path / "a.txt", tmp_path / "b.gz"
    plain.write_bytes(b"\xef\xbb\xbfhttp://one/\n# no\nbad\n")
    packed.write_bytes(gzip.compress(b"http://two/\n"))
    os.write(pipe[1], b"http://three/\nworse\n")
    os.close(pipe[1])
    found = list(Source([str(plain), "HTTP://four", str(packed), "-", "ftp://five"], stdin_fd=pipe[0]))
    assert [item.n for item in found] == [1, 2, 3, 4, 5, 6, 7]
    assert [item.url for item in found if isinstance(item, Target)] == [
        "http://one/",
        "http://four/",
        "http://two/",
        "http://three/",
    ]
    assert [(item.n, item.place) for item in found if isinstance(item, BadLine)] == [
        (2, f"{plain}:3"),
        (6, "stdin:2"),
        (7, "argument 5"),
    ]


def test_a_source_can_be_read_again(tmp_path: pathlib.Path) -> None:
    """Each iteration begins at the first line, and leaving one early closes its file."""
    path = tmp_path / "urls.txt"
    path.write_text("http://one/\nhttp://two/\n")
    source = Source([str(path)])
    first = iter(source)
    assert next(first).n == 1
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    first.close()  # type: ignore[attr-defined]
    if before:
        assert len(os.listdir("/proc/self/fd")) == before - 1
    assert urls(source) == urls(source) == ["http://one/", "http://two/"]


def test_one_text_is_one_input() -> None:
    """A single URL as a text isn't taken for a sequence of one-letter files."""
    assert urls(Source("http://one/")) == ["http://one/"]


@posix
def test_a_line_of_an_open_stream_is_there_at_once(pipe: tuple[int, int]) -> None:
    """A line is handed out while standard input stays open; half a line waits for its end."""
    items = iter(Source(["-"], stdin_fd=pipe[0]))
    for number in range(3):
        os.write(pipe[1], b"http://h/%d\nhttp://h" % number if number == 0 else b"/x\nhttp://h")
        assert next(items).n == number + 1
    os.close(pipe[1])
    last = next(items)
    assert isinstance(last, Target)
    assert last.url == "http://h/"  # the end of the stream ends the last line
    assert next(items, None) is None


@posix
def test_gzip_on_a_stream_is_unpacked_as_it_comes(pipe: tuple[int, int]) -> None:
    """A gzip member that was flushed gives its lines at once, on standard input, too."""
    items = iter(Source(["-"], stdin_fd=pipe[0]))
    for number in range(2):
        os.write(pipe[1], gzip.compress(b"http://h/%d\n" % number))
        item = next(items)
        assert isinstance(item, Target)
        assert item.url == f"http://h/{number}"


@posix
@pytest.mark.parametrize("half", [b"", b"http://ha"])
def test_stop_ends_a_reader_that_waits_for_a_stream(pipe: tuple[int, int], half: bytes) -> None:
    """``stop`` from another thread ends the wait; half a line is not handed out. Stopping before has the same end."""
    source = Source(["-"], stdin_fd=pipe[0])
    found: list[Target | BadLine] = []
    first = threading.Event()

    def read() -> None:
        for item in source:
            found.append(item)
            first.set()

    thread = threading.Thread(target=read)
    thread.start()
    os.write(pipe[1], b"http://one/\n" + half)
    assert first.wait(10)
    source.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert [item.n for item in found] == [1]
    source.stop()
    assert list(source) == []


@posix
def test_stop_before_the_wait_is_not_lost(pipe: tuple[int, int]) -> None:
    """A stop between two lines, and one before the first, end the iteration without a wait."""
    os.write(pipe[1], b"http://one/\nhttp://two/\n")
    source = Source(["-"], stdin_fd=pipe[0])
    items = iter(source)
    assert next(items).n == 1
    source.stop()
    assert next(items, None) is None
    assert list(Source(["-"], stdin_fd=pipe[0])._inputs) == ["-"]
    fresh = Source(["-"], stdin_fd=pipe[0])
    fresh.stop()
    assert list(fresh) == []


def test_stop_ends_the_reading_of_a_file_at_the_next_line(tmp_path: pathlib.Path) -> None:
    """A file that is being read ends with the line that was handed out last."""
    path = tmp_path / "urls.txt"
    path.write_text("http://one/\n" * 1000)
    source = Source([str(path)])
    taken = 0
    for _ in source:
        taken += 1
        if taken == 5:
            source.stop()
    assert taken == 5


DAEMON = """
import threading
from crawlpool.source import Source
first = threading.Event()
def read():
    for _ in Source(["-"]):
        first.set()
threading.Thread(target=read, daemon=True).start()
assert first.wait(20)
"""


@posix
def test_a_reader_that_waits_does_not_hold_up_the_exit(pipe: tuple[int, int]) -> None:
    """The program ends, and without a word, though a daemon thread still waits for its standard input."""
    os.write(pipe[1], b"http://one/\n")
    done = subprocess.run(
        [sys.executable, "-c", DAEMON], cwd=ROOT, stdin=pipe[0], capture_output=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@posix
def test_a_named_pipe_is_a_stream(tmp_path: pathlib.Path) -> None:
    """A named pipe can be read, is not touched by the check, and a reader that waits for its writer can be stopped."""
    path = tmp_path / "urls.fifo"
    os.mkfifo(path)
    check_inputs([str(path)])
    source = Source([str(path)])
    assert source.total is None
    thread = threading.Thread(target=lambda: list(source))
    thread.start()
    source.stop()
    thread.join(10)
    assert not thread.is_alive()
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.extend(urls(Source([str(path)]))))
    reader.start()
    with open(path, "wb", buffering=0) as file:
        file.write(b"http://one/\n")
    reader.join(10)
    assert found == ["http://one/"]


def test_trouble_is_found_before_the_crawl(tmp_path: pathlib.Path) -> None:
    """``check_inputs`` finds what is missing, a folder, UTF-16, no gzip, CSV without its columns, a second ``-``."""
    good = tmp_path / "good.txt"
    good.write_text("http://one/\nbad line\n")
    check_inputs([str(good), "-", "http://h/", "ftp://bad"])
    bad = {
        "none.txt": (None, "no such file"),
        "utf16.txt": ("http://h/".encode("utf-16"), "is UTF-16"),
        "plain.gz": (b"http://h/", "no gzip data"),
    }
    for name, (data, reason) in bad.items():
        path = tmp_path / name
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(InputFileError, match=f"{name}: {reason}"):
            check_inputs([str(good), str(path)])
    with pytest.raises(InputFileError, match="is a directory"):
        check_inputs([str(tmp_path)])
    with pytest.raises(InputFileError, match="no column 'url'"):
        check_inputs([str(good)], SourceSettings("csv"))
    with pytest.raises(ConfigError, match="'-' is there twice"):
        check_inputs(["-", "-"])


@posix
def test_a_file_without_permission_is_told(tmp_path: pathlib.Path) -> None:
    """A file that may not be read is named before the crawl."""
    path = tmp_path / "urls.txt"
    path.write_text("http://h/\n")
    path.chmod(0)
    is_root = os.geteuid() == 0
    if is_root:  # the superuser may read everything
        os.seteuid(65534)
    try:
        with pytest.raises(InputFileError, match=r"urls\.txt: no permission to read it"):
            check_inputs([str(path)])
    finally:
        if is_root:
            os.seteuid(0)


LINE = st.sampled_from(["http://h/", "# no", "", " \t", "bad", "  http://h/a b", '{"url": "http://h/"}', "\x0b#", "\r"])


@given(st.lists(LINE, max_size=8), st.sampled_from(["\n", "\r\n"]), st.booleans(), st.sampled_from(["lines", "jsonl"]))
def test_the_total_is_the_number_of_items(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], end: str, mark: bool, input_format: str
) -> None:
    """Where a total is known it is exactly the number of targets and bad lines."""
    path = tmp_path_factory.mktemp("total") / "urls.txt"
    path.write_bytes((b"\xef\xbb\xbf" if mark else b"") + end.join(lines).encode())
    source = Source([str(path), "http://one/"], SourceSettings(input_format))
    assert source.total == len(list(source)) == source.total


def test_the_total_is_unknown_where_counting_is_not_cheap(tmp_path: pathlib.Path) -> None:
    """Standard input, gzip, CSV, a missing and a large file have no total."""
    packed, large = tmp_path / "a.gz", tmp_path / "large.txt"
    packed.write_bytes(gzip.compress(b"http://h/\n"))
    with large.open("wb") as file:
        file.truncate(16 * 1024 * 1024 + 1)
    for given_ in ("-", str(packed), str(large), str(tmp_path / "none")):
        assert Source(["http://h/", given_]).total is None
    assert Source(["http://h/", "http://h/"]).total == 2


def test_memory_is_flat(tmp_path: pathlib.Path) -> None:
    """Reading 50,000 lines takes no more memory than reading 2,000."""

    def peak(count: int) -> int:
        path = tmp_path / "urls.txt"
        path.write_bytes(b"".join(b"http://www.example.com/page/%d\n" % i for i in range(count)))
        tracemalloc.start()
        try:
            assert sum(1 for _ in Source([str(path)])) == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    small = peak(2_000)
    assert peak(50_000) < 2 * small + 200_000
