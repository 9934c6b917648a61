"""``--min-free``: a crawl ends while there is still room on the disk, and not when a write fails."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from crawlpool.redact import one_line
from crawlpool.sinks.human import in_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: Seconds from one look to the next.
EVERY_S = 1.0


class Room:
    """Looks whether there is room left where outputs lie. Belongs to one thread.

    Args:
        paths: of the outputs and the job's folder; they need not be there yet.
        least_bytes: what must be free; ``None`` not to look.
        now: the clock, in seconds.
    """

    def __init__(
        self, paths: Iterable[str], least_bytes: int | None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._least_bytes = least_bytes
        self._folders = () if least_bytes is None else tuple(dict.fromkeys(map(_folder_there, paths)))
        self._now = now
        self._look_at_s = -1.0 if self._folders else float("inf")

    @property
    def look_at_s(self) -> float:
        """When to look next, by the clock."""
        return self._look_at_s

    def trouble(self) -> str | None:
        """Return what is wrong, in words; ``None`` where there is room, or it isn't time to look."""
        now_s = self._now()
        if self._least_bytes is None or now_s < self._look_at_s:
            return None
        self._look_at_s = now_s + EVERY_S
        for folder in self._folders:
            try:
                found = os.statvfs(folder)
            except (OSError, AttributeError):  # gone, or a system that can't tell: the next write says what is wrong
                continue
            free_bytes = found.f_bavail * found.f_frsize
            if found.f_blocks and free_bytes < self._least_bytes:
                return (
                    f"{one_line(folder)}: {in_bytes(free_bytes)} are free on its disk, and "
                    f"{in_bytes(self._least_bytes)} shall stay free (--min-free)"
                )
        return None


def _folder_there(path: str) -> str:
    """Return the nearest folder above a path that is there, or the path itself where it is one."""
    folder = os.path.abspath(path)
    while not os.path.isdir(folder) and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder)
    return folder
