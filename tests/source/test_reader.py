"""Tests of crawlpool.source.reader: bytes to lines."""

from __future__ import annotations

import gzip
import os
import pathlib
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlpool.source.reader import LongLine, Read, StopSignal, opened, split_lines
from crawlpool.source.settings import InputFileError


def pieces(data: bytes, sizes: list[int]) -> Read:
    """Return a read that gives ``data`` in pieces of these sizes, then the rest."""
    at = 0
    left = list(sizes)

    def read() -> bytes:
        nonlocal at
        size = left.pop(0) if left else len(data)
        at += size
        return data[at - size : at]

    return read


def lines_of(path: pathlib.Path, limit: int = 65536) -> list[bytes | LongLine]:
    """Return the lines of a file."""
    with opened(str(path), StopSignal()) as read:
        return list(split_lines(read, limit))


@given(st.binary(max_size=60).map(lambda b: b.replace(b"\x01", b"\n")), st.lists(st.integers(1, 9)), st.integers(1, 20))
def test_lines_do_not_depend_on_how_the_bytes_come(data: bytes, sizes: list[int], limit: int) -> None:
    """However the input is cut into pieces, its lines are those of ``bytes.split``; long ones keep their length."""
    expected = data.split(b"\n")
    if not expected[-1]:
        expected.pop()
    found = list(split_lines(pieces(data, sizes), limit))
    assert found == [line if len(line) <= limit else LongLine(line[:100], len(line)) for line in expected]


def test_a_line_of_any_length_costs_bounded_memory(tmp_path: pathlib.Path) -> None:
    """Of a line of 40 MB only the first 100 bytes are kept; the lines around it are whole."""
    path = tmp_path / "urls.txt"
    with path.open("wb") as file:
        file.write(b"before\n")
        for _ in range(40):
            file.write(b"x" * 1_000_000)
        file.write(b"\nafter")
    tracemalloc.start()
    try:
        found = lines_of(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == [b"before", LongLine(b"x" * 100, 40_000_000), b"after"]
    assert peak < 1_000_000


@pytest.mark.parametrize("data", [b"", b"a", b"a\n", b"\xef", b"\xef\xbb", b"\xff", b"\x1f", b"\n", b"\r\n"])
def test_short_inputs_are_whole(tmp_path: pathlib.Path, data: bytes) -> None:
    """What is shorter than a mark that the reader looks for is still read as it stands."""
    path = tmp_path / "urls.txt"
    path.write_bytes(data)
    assert lines_of(path) == data.splitlines(keepends=False) or lines_of(path) == data.split(b"\n")[:-1]


def test_a_byte_order_mark_is_skipped_once(tmp_path: pathlib.Path) -> None:
    """A UTF-8 byte-order mark at the start is no part of the first line; a later one is."""
    path = tmp_path / "urls.txt"
    path.write_bytes(b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n")
    assert lines_of(path) == [b"a", b"\xef\xbb\xbfb"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32-le"])
def test_utf16_is_refused_with_its_name(tmp_path: pathlib.Path, encoding: str) -> None:
    """A file that begins with a UTF-16 (or 32) mark is refused whole: not a line of it could be right."""
    path = tmp_path / "urls.txt"
    path.write_bytes("\ufeffhttp://h/\n".encode(encoding))
    with pytest.raises(InputFileError, match=r"urls\.txt: is UTF-16; the input must be UTF-8"):
        lines_of(path)


@pytest.mark.parametrize("name", ["urls.gz", "URLS.GZ", "urls.txt"])
def test_gzip_is_unpacked_by_its_first_bytes(tmp_path: pathlib.Path, name: str) -> None:
    """Gzip of several members, one of them with a mark inside and zeros behind, is read as one text."""
    path = tmp_path / name
    path.write_bytes(gzip.compress(b"\xef\xbb\xbfa\nb") + gzip.compress(b"c\nd\n") + b"\0" * 70_000)
    assert lines_of(path) == [b"a", b"bc", b"d"]


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4), st.lists(st.integers(1, 40), max_size=30))
def test_gzip_members_are_joined_however_they_come(parts: list[bytes], sizes: list[int]) -> None:
    """The unpacked text is that of Python's gzip module, however the bytes are cut."""
    from crawlpool.source.reader import _gunzipped

    packed = b"".join(map(gzip.compress, parts))
    read = pieces(packed, sizes)
    assert b"".join(_gunzipped(read(), read, "x")) == gzip.decompress(packed) == b"".join(parts)


def test_a_gzip_bomb_is_unpacked_piece_by_piece(tmp_path: pathlib.Path) -> None:
    """A file of 200 kB that unpacks to 200 MB of one line never holds more than pieces of it."""
    packer = zlib.compressobj(9, wbits=31)
    path = tmp_path / "bomb.gz"
    with path.open("wb") as file:
        for _ in range(200):
            file.write(packer.compress(b"x" * 1_000_000))
        file.write(packer.flush())
    tracemalloc.start()
    try:
        found = lines_of(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == [LongLine(b"x" * 100, 200_000_000)]
    assert peak < 2_000_000


@pytest.mark.parametrize(("damage", "reason"), [("cut", "ends too early"), ("checksum", "broken gzip data")])
def test_broken_gzip_keeps_what_came_before(tmp_path: pathlib.Path, damage: str, reason: str) -> None:
    """The whole lines before the break are handed out, no half line is, and then comes one clear error."""
    lines = [b"http://h/%d" % i for i in range(200_000)]
    packed = bytearray(gzip.compress(b"\n".join(lines)))
    if damage == "cut":
        del packed[len(packed) // 2 :]
    else:
        packed[-8] ^= 1
    path = tmp_path / "urls.gz"
    path.write_bytes(packed)
    found: list[bytes | LongLine] = []

    def collect() -> None:
        with opened(str(path), StopSignal()) as read:
            for line in split_lines(read, 100):
                found.append(line)  # extend() would lose what came before the error

    with pytest.raises(InputFileError, match=rf"urls\.gz: .*{reason}"):
        collect()
    assert 1000 < len(found) < 200_000
    assert found == lines[: len(found)]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (gzip.compress(b"http://h/\n" * 50, mtime=0)[:-9], "ends too early"),
        (gzip.compress(b"http://h/\n", mtime=0)[:1], "no gzip data"),
        (gzip.compress(b"http://h/\n", mtime=0)[:5], "ends too early"),
        (b"http://h/\n", "no gzip data, though its name ends in .gz"),
        (b"", "no gzip data"),
        (gzip.compress(b"a", mtime=0) + b"rubbish", "broken gzip data"),
    ],
)
def test_gzip_that_is_none_is_told(tmp_path: pathlib.Path, data: bytes, reason: str) -> None:
    """A file that says .gz and is cut off, empty or something else is never read as if it were whole."""
    path = tmp_path / "urls.gz"
    path.write_bytes(data)
    with pytest.raises(InputFileError, match=rf"urls\.gz: .*{reason}"):
        lines_of(path)


def test_file_trouble_is_one_line(tmp_path: pathlib.Path) -> None:
    """A missing file, a folder, a name that no file can have: each is named with what is wrong."""
    for name, reason in ((tmp_path / "none", "no such file"), (tmp_path, "is a directory")):
        with pytest.raises(InputFileError, match=f"{name}: {reason}$"):
            lines_of(name)
    with pytest.raises(InputFileError, match=r"a\\x00b: no file can have this name"), opened("a\0b", StopSignal()):
        pass


def test_an_input_that_is_not_open_is_told() -> None:
    """Standard input that was closed is an error with a name, not a crash."""
    fd = os.open(os.devnull, os.O_RDONLY)
    os.close(fd)
    with pytest.raises(InputFileError, match=r"^stdin: bad file descriptor$"), opened("-", StopSignal(), fd):
        pass
