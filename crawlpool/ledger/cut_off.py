"""A ledger whose writer was cut off in a transaction, as a reader sees it who must change nothing.

With a plain journal, as ledgers on a file system of several machines have one, the file may hold a half of a
transaction then, and the journal what has to be put back. SQLite does that when the file is opened to be written. A
reader doesn't: it may not see the lock of a writer on another machine, whose transaction it would so undo. It reads a
copy of its own, in which that is done.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
import time

from crawlpool.errors import JobError
from crawlpool.redact import one_line

#: How often it is looked for the end of a transaction, and how many seconds apart: it may be a living writer's.
TRIES, APART_S = 20, 0.05
_MARK = "READONLY_ROLLBACK"


def is_cut_off(error: sqlite3.Error, path: str) -> bool:
    """Tell whether a ledger couldn't be opened to be read as something has to be put back first.

    Args:
        error: by which it failed.
        path: of its file.
    """
    name = getattr(error, "sqlite_errorname", None)  # since Python 3.11
    if name is not None:
        return _MARK in name
    with contextlib.suppress(OSError):
        return os.path.getsize(f"{path}-journal") > 0
    return False


def open_copy(path: str) -> sqlite3.Connection | None:
    """Open a copy of a ledger in which the transaction that was cut off is undone.

    The copy has no name, and is gone when the connection is closed.

    Args:
        path: of the ledger.

    Returns:
        ``None`` where somebody writes to it meanwhile: then nothing was cut off.

    Raises:
        JobError: when there is no room for the copy, or it can't be made.
    """
    with contextlib.ExitStack() as opened:
        try:
            folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="crawlpool-"))
        except OSError as error:
            raise _no_room(path, error) from error
        copy, journal = os.path.join(folder, "ledger"), f"{path}-journal"
        try:
            before = _stamps(path, journal)
            shutil.copyfile(path, copy)
            shutil.copyfile(journal, f"{copy}-journal")
            time.sleep(APART_S)
            if _stamps(path, journal) != before:
                return None
        except FileNotFoundError:
            return None  # its transaction has ended
        except OSError as error:
            raise _no_room(path, error) from error
        database = sqlite3.connect(copy, isolation_level=None, check_same_thread=False)
        try:
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()  # puts back what has to be
            database.execute("PRAGMA query_only = 1")
        except BaseException:
            database.close()
            raise
        return database


def _no_room(path: str, error: OSError) -> JobError:
    what = "its last writer was cut off, and a copy is needed to read it, in the folder of TMPDIR"
    return JobError(f"{one_line(path)}: {what}: {error.strerror or error}")


def _stamps(*paths: str) -> list[tuple[int, int, int]]:
    found = [os.stat(path) for path in paths]
    return [(one.st_size, one.st_mtime_ns, one.st_ctime_ns) for one in found]
