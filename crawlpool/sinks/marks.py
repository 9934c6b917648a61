"""What counts of an output of a job, and how its files are called."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re

#: The suffix of the file that is being written.
OPEN_SUFFIX = ".open"
TAIL_BYTES = 4096


@dataclasses.dataclass(frozen=True)
class Mark:
    """What counts of an output: what the ledger commits of it.

    Args:
        part: the number of the part it lies in; the parts before it are complete.
        length: how many bytes of that part count.
        tail: the SHA-256, in hex, of the last ``min(length, 4096)`` bytes before ``length``: compared before a file is
            cut, so that no file is cut that isn't the one the mark is about. Empty where ``length`` is 0.
        is_complete: whether nothing comes after it, so that the part has its final name.
        crc: the CRC-32 of all bytes of the part that count, by which ``crawlpool verify`` finds one that was changed.
    """

    part: int = 1
    length: int = 0
    tail: str = ""
    is_complete: bool = False
    crc: int = dataclasses.field(default=0, compare=False)


def part_name(base: str, part: int) -> str:
    """Return a part's name: ``pages.warc.gz`` for the first, ``pages-00002.warc.gz`` for the second."""
    if part == 1:
        return base
    stem, suffix = _split(base)
    return f"{stem}-{part:05}{suffix}"


def tail_of(fd: int, length: int) -> str:
    """Return the ``Mark.tail`` of a file's first ``length`` bytes."""
    return digest_of_last(last_of(fd, length))


def digest_of_last(last: bytes) -> str:
    """Return the ``Mark.tail`` of what ends with these bytes, of which the last ``TAIL_BYTES`` count."""
    return hashlib.sha256(last[-TAIL_BYTES:]).hexdigest() if last else ""


def last_of(fd: int, length: int) -> bytes:
    """Return the last ``TAIL_BYTES`` of a file's first ``length`` bytes."""
    size = min(length, TAIL_BYTES)
    os.lseek(fd, length - size, os.SEEK_SET)
    pieces, left = [], size
    while left and (piece := os.read(fd, left)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _split(base: str) -> tuple[str, str]:
    stem, suffix = os.path.splitext(base)
    if suffix.lower() == ".gz":
        stem, inner = os.path.splitext(stem)
        suffix = inner + suffix
    return stem, suffix


def names_of(base: str) -> re.Pattern[str]:
    """Return what a part's name matches: its number and the suffix of an open one, where they are there."""
    stem, suffix = _split(base)
    return re.compile(rf"{re.escape(stem)}(?:-(\d{{5,9}}))?{re.escape(suffix)}({re.escape(OPEN_SUFFIX)})?")
