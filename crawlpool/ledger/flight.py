"""Which targets are in flight: kept where a killed process leaves it, so that the next one knows whom to suspect.

A target that kills its process (a bomb for a parser, a page that exhausts the memory) would do so again at each start.
So what is begun and not committed is noted in a small file that is mapped into memory: a write costs a microsecond, no
system call, and is there after ``kill -9``. After a power cut it may be old; then somebody else is suspected once.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading

from crawlpool.errors import SinkError
from crawlpool.redact import one_line

NAME = "flight"
_SLOT = struct.Struct("<q")


class Flight:
    """The targets in flight of one job.

    Args:
        path: of the file; made, or cut to size.
        slots: how many there may be at once; of more the oldest are forgotten.

    Raises:
        SinkError: when the file can't be made.

    Thread-safe.
    """

    def __init__(self, path: str, slots: int) -> None:
        self.path = path
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
            try:
                left = os.read(fd, _SLOT.size * 1_000_000)
                # Written, not only lengthened: to a hole there may be no room to write later, and the process is killed
                # by the system for that (SIGBUS).
                os.ftruncate(fd, 0)
                _write_all(fd, bytes(_SLOT.size * slots))
                self._map = mmap.mmap(fd, _SLOT.size * slots)
            finally:
                os.close(fd)
        except (OSError, ValueError) as error:
            raise SinkError(f"{one_line(path)}: {getattr(error, 'strerror', None) or error}") from error
        #: What was in flight when the last process that had the job ended.
        self.left: frozenset[int] = frozenset(
            _SLOT.unpack_from(left, at)[0] for at in range(0, len(left) - _SLOT.size + 1, _SLOT.size)
        ) - {0}
        # Guards _slot_of, _free and what is written to _map.
        self._lock = threading.Lock()
        self._slot_of: dict[int, int] = {}
        self._free = list(range(slots))

    def began(self, target: int) -> None:
        """Note that a target is about to be sent; again for each of its requests."""
        with self._lock:
            if target in self._slot_of:
                return
            if not self._free:
                oldest = next(iter(self._slot_of))
                self._free.append(self._slot_of.pop(oldest))
            slot = self._slot_of[target] = self._free.pop()
            _SLOT.pack_into(self._map, slot * _SLOT.size, target)

    def ended(self, targets: list[int]) -> None:
        """Note that the results of targets are committed."""
        with self._lock:
            for target in targets:
                slot = self._slot_of.pop(target, None)
                if slot is not None:
                    _SLOT.pack_into(self._map, slot * _SLOT.size, 0)
                    self._free.append(slot)

    def close(self, *, is_clean: bool) -> None:
        """Let go of the file; may be called again.

        Args:
            is_clean: whether the process ended by itself: then nobody is to be suspected.
        """
        with self._lock:
            if self._map.closed:
                return
            if is_clean:
                self._map[:] = bytes(len(self._map))
            self._map.close()


def _write_all(fd: int, data: bytes) -> None:
    written = 0
    while written < len(data):
        written += os.pwrite(fd, data[written:], written)
