"""What the commands have in common that read a job: how they find a URL in it, and how bytes go out."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

import click

from crawlpool.cli.exits import Exit
from crawlpool.errors import CrawlPoolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from crawlpool.jobs.reading import JobReader
    from crawlpool.jobs.records import JobRecord
    from crawlpool.shards.reading import JobsReader

#: What each command says of its argument: a job, or several that are read as one.
JOBS = click.Argument(["jobs"], nargs=-1, required=True, metavar="JOB...")
_GATHERED_BYTES = 1 << 16


class NotInJob(CrawlPoolError):
    """A job doesn't have what was asked for; the message names both."""


class Pending(NotInJob):
    """A URL of a job isn't done yet."""


def is_job(path: str) -> bool:
    """Tell whether a folder is a job's, with shards or without."""
    from crawlpool.ledger.schema import NAME

    return os.path.lexists(os.path.join(path, NAME)) or is_sharded(path)


def is_sharded(path: str) -> bool:
    """Tell whether a folder is that of a job of many shards."""
    from crawlpool.shards.manifest import is_sharded

    return is_sharded(path)


def record_in(job: JobReader | JobsReader, url: str) -> JobRecord:
    """Return the record of a URL.

    Raises:
        Pending: when it waits to be fetched, or may still come.
        NotInJob: when the job doesn't have it at all.
    """
    record = job.get(url)
    if record is None:
        is_there = job.find(url) is not None
        raise Pending(f"{shown(url)}: it isn't done yet; it waits in the job") if is_there else not_in(job, url)
    return record


def not_in(job: JobReader | JobsReader, url: str) -> NotInJob:
    """Return the error for a URL that no ledger of a job has; a ``Pending`` where it waits before that, or may come."""
    from crawlpool.jobs.reading import JobReader
    from crawlpool.redact import one_line

    part = None if isinstance(job, JobReader) else job.inbox_of(url)
    if part is not None:
        return Pending(
            f"{shown(url)}: it isn't done yet; it waits in the inbox of shard {part.shard} of {one_line(part.root)}"
        )
    paths = " and ".join(map(one_line, job.paths))
    if not job.is_input_done:
        return Pending(f"{shown(url)}: not read yet, or not in the input: that of {paths} isn't read to its end")
    has = "the jobs {} have" if len(job.paths) > 1 else "the job {} has"
    return NotInJob(f"{shown(url)}: {has.format(paths)} no such URL (that a redirect led there isn't looked at)")


def tell_pending(error: Pending) -> Exit:
    """Tell why there is nothing to tell of a URL yet; return the exit code."""
    from crawlpool.observe import Telling

    Telling().fail("work_left", str(error))
    return Exit.WORK_LEFT


def shown(url: str) -> str:
    """Return a URL of the command line as a message may show it."""
    from crawlpool.redact import hide, one_line

    return one_line(hide(url))


def write_bytes(pieces: Iterable[bytes]) -> None:
    """Write bytes to standard output.

    Raises:
        SinkError: as ``write_answer`` does.
    """
    from crawlpool.errors import SinkError

    if sys.stdout is None:
        raise SinkError("stdout: it was closed when the program started")
    try:
        sys.stdout.flush()
        stream = sys.stdout.buffer
        for piece in gathered(pieces):
            stream.write(piece)
        stream.flush()
    except (OSError, ValueError) as error:
        if isinstance(error, CrawlPoolError):
            raise
        raise SinkError(f"stdout: {getattr(error, 'strerror', None) or error}") from error


@contextlib.contextmanager
def new_file(path: str) -> Iterator[int]:
    """Give the descriptor of a new file, mode 0600, within this block; it has its name only when that is left well.

    Raises:
        SinkError: when it can't be written.
    """
    from crawlpool.errors import SinkError
    from crawlpool.redact import one_line

    partial = f"{path}.{os.getpid()}.part"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        fd = os.open(partial, flags, 0o600)
        try:
            try:
                yield fd
                os.fsync(fd)
            finally:
                os.close(fd)
            os.replace(partial, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(partial)
            raise
    except (OSError, ValueError) as error:
        if isinstance(error, CrawlPoolError):
            raise
        reason = getattr(error, "strerror", None) or error
        if isinstance(error, FileNotFoundError):
            reason = "its folder does not exist"
        raise SinkError(f"{one_line(path)}: {reason}") from error


def gathered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes in larger pieces: for each a call of the system is worth it."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= _GATHERED_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)
