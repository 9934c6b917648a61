"""A script that crawls as soon as it is imported, while it starts worker processes: found out, and told in one line.

A worker process of a cluster of our own begins, as each of ``multiprocessing``'s does, with the import of the script
that the program runs. Where what that does isn't below ``if __name__ == "__main__":`` it would begin the crawl in
there, too, before the process has become a worker. No cluster comes up so, and what Dask and Python have to say of it
is pages. So such a process says it by a file in the job's folder, and ends without a word; the program, whose cluster
doesn't come up, finds the file and tells what to do.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys

from crawlpool.engines.notes import FOLDER

#: What is to be done about it.
ADVICE = (
    "worker processes import the script that starts them, and this one begins the crawl when it is imported: "
    "put what it runs below 'if __name__ == \"__main__\":'"
)
_MARK, _CODE = "unguarded", 3
_MOST_BYTES = 1 << 20


def is_importing() -> bool:
    """Tell whether this process was started by ``multiprocessing``, and is still importing the script of its parent."""
    # The very sign by which multiprocessing refuses to start a process in there.
    return bool(getattr(multiprocessing.current_process(), "_inheriting", False))


def leave(job: str) -> None:
    """Say that this process only imports the script, and end it. Its traceback would be one of many.

    Args:
        job: the folder of the job that it was to crawl; where there is none yet nothing is said.

    Raises:
        SystemExit: always.
    """
    with contextlib.suppress(OSError):
        os.close(os.open(_path(job), os.O_WRONLY | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600))
    raise SystemExit(_CODE)


def has_left(job: str) -> bool:
    """Tell whether a process has ended so since the last call, and forget it.

    Args:
        job: the folder of the job.
    """
    try:
        os.unlink(_path(job))
    except OSError:
        return False
    return True


def is_lacking() -> bool:
    """Tell whether the script of this program has no such line at all: where its processes can't say so, that does."""
    script = sys.modules.get("__main__")
    path = getattr(script, "__file__", None)
    if path is None or getattr(script, "__spec__", None) is not None:  # ``python -m``: it isn't run in workers
        return False
    try:
        with open(path, "rb") as file:
            return b"__main__" not in file.read(_MOST_BYTES)
    except OSError:
        return False


def _path(job: str) -> str:
    return os.path.join(job, FOLDER, _MARK)
