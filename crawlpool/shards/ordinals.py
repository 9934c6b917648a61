"""Which entries of an input were seen, and by whom: two bytes for each, in a temporary file."""

from __future__ import annotations

import mmap
import struct
import tempfile
from typing import TYPE_CHECKING

from crawlpool.errors import JobError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_WIDTH = struct.Struct("<H")
_GROWS_BYTES = 1 << 20
_OTHERS = 0xFFFE  # whoever comes after so many shares a number with the others who do


class Ordinals:
    """Remembers for each ordinal who was the first that had it. A context manager.

    Args:
        most: returns the last ordinal that there is by now: a greater one is damage.

    Raises:
        JobError: from each method, when the temporary file can't be written.

    Not thread-safe.
    """

    def __init__(self, most: Callable[[], int]) -> None:
        self._most = most
        self._last = 0
        try:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115
        except OSError as error:
            raise _trouble(error) from error
        self._map: mmap.mmap | None = None
        self._size = 0

    def add(self, ordinal: int, who: int) -> int | None:
        """Note that somebody has an ordinal; return who had it before, ``None`` where nobody had.

        Args:
            ordinal: from 1.
            who: their number, from 0.

        Raises:
            JobError: also for an ordinal that there isn't.
        """
        if not 0 < ordinal <= self._last:
            self._last = self._most()
            if not 0 < ordinal <= self._last:
                raise JobError(f"a target has the ordinal {ordinal:,}, and the input {self._last:,} entries")
        place = ordinal * _WIDTH.size
        if place + _WIDTH.size > self._size:
            self._grow(place + _WIDTH.size)
        assert self._map is not None
        (before,) = _WIDTH.unpack_from(self._map, place)
        if before:
            return int(before) - 1
        _WIDTH.pack_into(self._map, place, min(who, _OTHERS) + 1)
        return None

    def close(self) -> None:
        """Forget all. May be called again."""
        if self._map is not None:
            self._map.close()
            self._map = None
        self._file.close()

    def _grow(self, least: int) -> None:
        size = -(-least // _GROWS_BYTES) * _GROWS_BYTES
        try:
            if self._map is not None:
                self._map.close()
                self._map = None
            # Written, and not only made longer: a page that can't be had when it is first used ends the process.
            self._file.seek(self._size)
            while self._size < size:
                self._size += self._file.write(bytes(_GROWS_BYTES))
            self._file.flush()
            self._map = mmap.mmap(self._file.fileno(), size)
        except (OSError, ValueError) as error:
            raise _trouble(error) from error

    def __enter__(self) -> Ordinals:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _trouble(error: OSError | ValueError) -> JobError:
    return JobError(f"a temporary file is needed, in the folder of TMPDIR: {error}")
