"""One process has a job: the lock that says so, and who has it."""

from __future__ import annotations

import fcntl
import os
import socket
from typing import TYPE_CHECKING

from crawlpool.errors import JobError, SinkError
from crawlpool.redact import one_line

if TYPE_CHECKING:
    from types import TracebackType

NAME = "lock"
_MOST_BYTES = 200


class JobLock:
    """The lock of a job's folder; held from when it is made until ``close``, or until the process ends, however.

    Args:
        folder: the job's.

    Raises:
        JobError: when another process has the job; the message says which.
        SinkError: when the lock's file can't be made.

    A context manager. Belongs to the process that made it: a forked child has no part in it.
    """

    def __init__(self, folder: str) -> None:
        path = os.path.join(folder, NAME)
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        except OSError as error:
            raise SinkError(f"{one_line(path)}: {error.strerror or error}") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            who = os.read(self._fd, _MOST_BYTES).decode("utf-8", "replace").strip()
            os.close(self._fd)
            has_it = f"by process {one_line(who)}" if who else "by another process"
            raise JobError(f"{one_line(folder)}: the job is in use {has_it}") from None
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        except OSError:  # a full disk: who has it isn't told, and it is held all the same
            pass

    def close(self) -> None:
        """Give the job free. May be called again."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> JobLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def holder_of(folder: str) -> str | None:
    """Return who has a job, as its lock says it: ``1234 on host``; ``None`` where nobody does.

    Nothing is locked for that where the process is gone that had it last.

    Args:
        folder: the job's.
    """
    try:
        fd = os.open(os.path.join(folder, NAME), os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return None  # a copy need not have it
    try:
        who = os.read(fd, _MOST_BYTES).decode("utf-8", "replace").strip()
        number, _, host = who.partition(" on ")
        if number.isdigit() and host == socket.gethostname() and not _is_alive(int(number)):
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return one_line(who) or "another process"
        return None
    finally:
        os.close(fd)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # somebody else's
    return True
