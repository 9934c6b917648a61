"""What a test may leave behind, and how it is found: threads and sockets."""

from __future__ import annotations

import gc
import os
import pathlib
import threading
import time

#: How long a thread that is about to end may take to do it. Waited only where one is left.
ENDING_S = 5.0

_FDS = pathlib.Path("/proc/self/fd")


def leaked_threads(before: set[threading.Thread], patience_s: float = ENDING_S) -> list[threading.Thread]:
    """Return the threads that are new since ``before`` and don't end within ``patience_s`` seconds in all."""
    until = time.monotonic() + patience_s
    new = [thread for thread in threading.enumerate() if thread not in before]
    for thread in new:
        thread.join(max(0.0, until - time.monotonic()))
    return [thread for thread in new if thread.is_alive()]


def open_sockets() -> set[str]:
    """Return the sockets of this process, as inode numbers; none where there is no /proc."""
    found = set()
    for link in _FDS.iterdir() if _FDS.is_dir() else ():
        try:
            name = os.readlink(link)
        except OSError:  # the descriptor of this very listing
            continue
        if name.startswith("socket:"):
            found.add(name[8:-1])
    return found


def leaked_sockets(before: set[str]) -> set[str]:
    """Return the sockets that are new since ``before``, after garbage was collected if there are any."""
    left = open_sockets() - before
    if left:
        gc.collect()  # closes those that only a reference cycle held; an unclosed one then warns, which fails, too
        left = open_sockets() - before
    return left
