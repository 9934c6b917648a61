"""Who owns a shard: a process, told apart from every other one that there was or will be; and whether it is dead.

That a process is gone can be known for certain only in its own place: on the same machine since the same start of it,
and in the same namespace of process numbers (a container has its own). Anywhere else it may live and be unseen.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import secrets
import socket

_STATE, _STARTED = 0, 19  # of /proc/PID/stat, behind the name in brackets
_DEAD = frozenset("ZXx")


@dataclasses.dataclass(frozen=True)
class Owner:
    """A process that owns shards.

    Args:
        host: the machine's name, for people.
        boot: the start of the machine that it runs in; empty where that isn't known.
        pid_space: the namespace that ``pid`` is a number of; 0 where that isn't known.
        pid: the process's number.
        started: when it was started, in ticks since the machine was: numbers are given again. 0 where it isn't known.
        token: drawn at random: tells two owners in one process apart.
    """

    host: str
    boot: str
    pid_space: int
    pid: int
    started: int
    token: str

    @classmethod
    def here(cls) -> Owner:
        """Return this process, with a new token."""
        pid = os.getpid()
        _, started = _seen(pid) or ("", 0)
        return cls(socket.gethostname(), *_place(pid), pid, started, secrets.token_hex(8))

    @property
    def is_of_this_place(self) -> bool:
        """Whether its process would be seen here, did it live."""
        return self.boot != "" and self.pid_space != 0 and (self.boot, self.pid_space) == _place(os.getpid())

    def is_dead(self) -> bool:
        """Tell whether its process is known to be gone; a doubt is a no. One that is stopped isn't gone."""
        if not self.is_of_this_place or not self.started:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):
            pass  # somebody else's process: it is there
        seen = _seen(self.pid)
        if seen is None:
            return False  # gone since, or hidden
        state, started = seen
        if started != self.started:
            return True
        # What has ended and nobody has waited for yet sends nothing more; one whose first thread has ended may.
        return state in _DEAD and _threads(self.pid) <= 1

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def _seen(pid: int) -> tuple[str, int] | None:
    """Return state and start of a process; ``None`` where they can't be seen."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b") ")[2].split()
        return fields[_STATE].decode(), int(fields[_STARTED])
    except (OSError, ValueError, IndexError):
        return None


def _threads(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return 0


@functools.lru_cache(maxsize=4)
def _place(pid: int) -> tuple[str, int]:
    """Return the start of the machine and the namespace of a process: they don't change while it lives."""
    return _boot(), _pid_space()


def _boot() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _pid_space() -> int:
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0
