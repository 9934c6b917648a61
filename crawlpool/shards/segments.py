"""Segments: files of targets on their way to a shard. Each is written once, whole, and never changed.

A file of lines: a header (a JSON object), a JSON array for each target (``ledger.store.Row``), and a trailer that tells
how many these are and the digest of all that stands before it. Nothing is read from a file that isn't whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from json.encoder import encode_basestring_ascii as _quoted
from typing import TYPE_CHECKING, Any, NamedTuple

from crawlpool.errors import JobError
from crawlpool.redact import one_line
from crawlpool.shards import atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import BinaryIO

VERSION = 1
#: How the names of segments end.
END = ".seg"
_NAME = re.compile(r"input-([0-9]{8,})\.seg|from-([0-9]{4,})-e([0-9]{4,})-([0-9]{8,})\.seg")
_CHUNK_BYTES = 1 << 16
_MOST_TRAILER_BYTES = 200
_FIELDS = 7
_NULL = "null"
_encode: Callable[[Any], str] = json.JSONEncoder(separators=(",", ":")).encode


class Foreign(JobError):
    """A segment that is whole, and doesn't belong where it lies."""


class BegunAnew(Foreign):
    """A segment of a part that was begun anew since something of it was taken in."""


class SegmentName(NamedTuple):
    """The name of a segment, taken apart. They sort as they are to be imported: those of the input first.

    Args:
        source: the shard that has handed its targets over; ``None`` for the input.
        epoch: of that shard; 0 for the input.
        number: the round of the input, or the batch of the epoch, from 1.
    """

    source: int | None
    epoch: int
    number: int

    @classmethod
    def of_input(cls, number: int) -> SegmentName:
        """Return the name of what a round of the input has for a shard."""
        return cls(None, 0, number)

    @classmethod
    def parse(cls, text: str) -> SegmentName | None:
        """Return the name that a file has; ``None`` where it is that of no segment."""
        found = _NAME.fullmatch(text)
        if found is None:
            return None
        name = cls.of_input(int(found[1])) if found[1] else cls(int(found[2]), int(found[3]), int(found[4]))
        return name if str(name) == text else None

    @property
    def kind(self) -> str:
        """``input`` or ``from``."""
        return "input" if self.source is None else "from"

    def __str__(self) -> str:
        if self.source is None:
            return f"input-{self.number:08d}{END}"
        return f"from-{self.source:04d}-e{self.epoch:04d}-{self.number:08d}{END}"


def line_of(row: Sequence[Any]) -> bytes:
    """Return a row as the line of a segment."""
    # Put together by hand, in half of the time that an encoder takes: there is one for each line of the input.
    n, host, rank, line, verdict, digest, is_found = row
    return (
        f"[{_NULL if n is None else n},{_quoted(host)},{rank!r},{_quoted(line)},"
        f"{_NULL if verdict is None else _quoted(verdict)},{_NULL if digest is None else digest},{is_found}]\n"
    ).encode("ascii")


def write(
    folder: str, name: SegmentName, rows: Iterable[Sequence[Any]], sharding_id: str = "", writer: str = ""
) -> None:
    """Write a segment; it is on the disk, with its name, when this returns. One that has the name is replaced.

    Args:
        folder: the inbox of the shard that it is for; it is there.
        name: its name.
        rows: the targets, as ``ledger.store.Row`` says.
        sharding_id: ``Manifest.sharding_id`` of the job.
        writer: ``Manifest.job_id`` of the folder that it comes from: one that was begun anew has another.

    Raises:
        SinkError: when it can't be written; then nothing is there under its name that wasn't before.

    One writer at a time for each name.
    """
    lines = [line_of(row) for row in rows]
    write_lines(folder, name, b"".join(lines), len(lines), sharding_id, writer)


def write_lines(
    folder: str, name: SegmentName, lines: bytes | bytearray, count: int, sharding_id: str = "", writer: str = ""
) -> None:
    """Write a segment of rows that are lines already, as ``write`` does.

    Args:
        folder, name, sharding_id, writer: as ``write`` takes them.
        lines: what ``line_of`` made of each row, one after the other.
        count: how many they are.

    Raises:
        SinkError: when it can't be written.
    """
    facts = {"v": VERSION, "id": str(name), "kind": name.kind, "source": name.source, "sharding": sharding_id}
    facts |= {"to": _shard_of(folder), "by": writer}
    header = _encode(facts).encode("ascii") + b"\n"
    digest = hashlib.blake2b(header, digest_size=16)
    digest.update(lines)
    atomic.put(os.path.join(folder, str(name)), (header, bytes(lines), _trailer(count, digest.hexdigest())))


def read(path: str, sharding_id: str = "") -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a segment, in their order. All of it is checked before the first one comes.

    Args:
        path: of the file.
        sharding_id: ``Manifest.sharding_id`` of the job that reads it; empty for any.

    Raises:
        Foreign: when the file is of another job, or for another shard; nothing was yielded then.
        JobError: when it is damaged, or can't be read; nothing was yielded then, unless the disk failed meanwhile.
        FileNotFoundError: when there is none any more; who has imported it may have removed it.
    """
    try:
        with open(path, "rb", buffering=_CHUNK_BYTES) as file:
            count = _checked(file, path, sharding_id)
            file.seek(0)
            file.readline()
            for number, line in enumerate(file):
                if number >= count:
                    break
                yield _row(line, path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise JobError(f"{one_line(path)}: {error.strerror or error}") from error


def check_writer(path: str, source: int, writers: Mapping[int, str]) -> str:
    """Return who wrote a segment; empty where that isn't told, or can't be read, which ``read`` is to say.

    A part that was begun anew numbers its segments, and its targets, as the one before it did. What it hands over can't
    be held against what the one before has handed over: so of each shard the segments of one writer are taken in.

    Args:
        path: of the file.
        source: the shard that it comes from.
        writers: of whom something was taken in before, by shard.

    Raises:
        BegunAnew: when another one is known for its source.
    """
    writer = ""
    with contextlib.suppress(OSError, ValueError, RecursionError, AttributeError), open(path, "rb") as file:
        writer = str(json.loads(file.readline(_CHUNK_BYTES)).get("by") or "")
    known = writers.get(source)
    if writer and known and writer != known:
        raise BegunAnew(
            f"{one_line(path)}: the part that wrote it was begun anew ({one_line(writer)}) since something of its "
            f"shard {source} was taken in here ({one_line(known)}): what it hands over now can't be told from that"
        )
    return writer


def digest_of(path: str) -> str:
    """Return the digest of what stands in a segment, as its last line tells it; empty where that can't be read."""
    with contextlib.suppress(OSError, ValueError, RecursionError, KeyError, TypeError), open(path, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _MOST_TRAILER_BYTES))
        return str(json.loads(file.read().rstrip(b"\n").rpartition(b"\n")[2])["blake2b"])
    return ""


def check_content(path: str, digest: str) -> None:
    """See that a segment is the one of its name that was taken in before, and may go.

    Args:
        path: of the file.
        digest: of what was taken in.

    Raises:
        BegunAnew: when something else stands in it.
    """
    found = digest_of(path)
    if digest and found and found != digest:
        raise BegunAnew(
            f"{one_line(path)}: another one of that name was taken in before: the part that wrote it was begun anew, "
            "or went on from an old copy, and what it hands over now can't be told from what it did"
        )


def names(folder: str) -> list[SegmentName]:
    """Return the names of the segments in an inbox, as they are to be imported; what else lies there is ignored.

    Raises:
        JobError: when it can't be read; where there is none there are none.
    """
    try:
        found = [SegmentName.parse(name) for name in os.listdir(folder)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise JobError(f"{one_line(folder)}: {error.strerror or error}") from error
    return sorted((name for name in found if name is not None), key=lambda name: (name.source is not None, *_key(name)))


def _key(name: SegmentName) -> tuple[int, int, int]:
    return (name.source or 0, name.epoch, name.number)


def _trailer(count: int, digest: str) -> bytes:
    return _encode({"rows": count, "blake2b": digest}).encode("ascii") + b"\n"


def _checked(file: BinaryIO, path: str, sharding_id: str) -> int:
    """Return how many rows a segment has, if it is whole and belongs here."""
    header = file.readline(_CHUNK_BYTES)
    with contextlib.suppress(ValueError, RecursionError):
        facts = json.loads(header)
        if isinstance(facts, dict) and isinstance(version := facts.get("v"), int) and version > VERSION:
            raise JobError(f"{one_line(path)}: was written by a later crawlpool (version {version}, here {VERSION})")
        digest, count, last = hashlib.blake2b(header, digest_size=16), -1, b""
        for line in file:
            digest.update(last)
            last = line
            count += 1
        if count < 0 or len(last) > _MOST_TRAILER_BYTES or last != _trailer(count, digest.hexdigest()):
            raise _damaged(path)
        if facts["id"] != os.path.basename(path):
            raise JobError(f"{one_line(path)}: is damaged: it is {one_line(str(facts['id']))} by what stands in it")
        here, there = _shard_of(os.path.dirname(path)), facts.get("to")
        if None not in (here, there) and here != there:
            raise Foreign(f"{one_line(path)}: is for shard {one_line(str(there))}; it was put into the wrong folder")
        theirs = facts["sharding"]
        if sharding_id and theirs and theirs != sharding_id:
            raise _foreign(path, str(theirs), sharding_id)
        return count
    raise _damaged(path)


def _shard_of(inbox: str) -> str | None:
    """Return the name of the shard whose inbox a folder is; ``None`` of any other folder."""
    name = os.path.basename(os.path.dirname(os.path.abspath(inbox)))
    return name if name.isdigit() else None


def _row(line: bytes, path: str) -> tuple[Any, ...]:
    row = json.loads(line.decode("ascii"))  # of bytes it would guess the encoding first
    if not isinstance(row, list) or len(row) != _FIELDS:
        raise _damaged(path)
    return tuple(row)


def _foreign(path: str, theirs: str, here: str) -> Foreign:
    is_cut_alike = theirs.split(":")[:2] == here.split(":")[:2]  # as `Manifest.sharding_id` has it
    what = "of another job, or of a part that was begun with other options or an input of another name"
    what = what if is_cut_alike else "of a job with another number of shards or another list of suffixes"
    return Foreign(f"{one_line(path)}: is {what} ({one_line(theirs)}, here {one_line(here)})")


def _damaged(path: str) -> JobError:
    return JobError(f"{one_line(path)}: is damaged: it isn't what was written")
