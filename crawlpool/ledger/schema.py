"""The tables of a job's ledger, and how its file is opened: to be written by one process, to be read by any number."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from typing import TYPE_CHECKING
from urllib.parse import quote

from crawlpool.errors import JobError, SinkError
from crawlpool.ledger.cut_off import TRIES, is_cut_off, open_copy
from crawlpool.redact import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "ledger.sqlite3"
#: Tells a ledger from other SQLite files ("crpl"), and which form its tables have.
APPLICATION_ID, VERSION = 0x6372706C, 2
#: The first SQLite whose UPDATE … FROM and window functions this uses.
_OLDEST_SQLITE = (3, 35)
_CACHE_KIB = 16 * 1024
_OLDEST_READ = 1  # version that is read as it is: it has all but the tables of shards, which a job of one lacks anyway
_WAL_PAGES = 16_384  # that lie in the write-ahead log before they are put in their places: 64 MiB
_BUSY_MS = 5000

#: Values of ``target.state``; those between these two are the outcomes, in the order of ``models.Outcome``. A target
#: that was handed over to another shard has a row in ``settled``, for its legs, and no record.
PENDING, HANDED_OVER = 0, 6
#: The rank of targets that were in flight at several crashes in a row: beyond that of any priority.
SUSPECT_RANK = 1e305

# host      of every target; 0 is of what waits for no host: bad lines, duplicates.
# target    all there are. `n` is the ordinal of the input, null for what a handler added; `line` the target as
#           ``jobs.entries`` writes it; `verdict` JSON that says why it is never sent; `crashes` how often in a row it
#           was in flight at a crash.
# seen      a digest of what each asks for, and the first that asked.
# settled   what came of each target that is settled, as JSON: ``store.Batch.results``, with the run at the end. One
#           text for all of it is written in half the time; the view `result` shows it as columns. `part`, `offset` and
#           `length` tell where the record stands.
# robots    the text that gave a verdict, by origin.
# sink      what counts of each output.
# run       one row a run; `ended_at` is null of one that is under way or has crashed. `monotonic_s` and `began_at` are
#           the same moment by two clocks: the legs tell their times by the first.
_TABLES = """
CREATE TABLE job (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE run (n INTEGER PRIMARY KEY, began_at REAL NOT NULL, monotonic_s REAL NOT NULL, ended_at REAL, ending TEXT);
CREATE TABLE host (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, targets INTEGER NOT NULL DEFAULT 0);
CREATE TABLE host_state (name TEXT PRIMARY KEY, cooled_until REAL, is_blocked INTEGER NOT NULL DEFAULT 0, orders TEXT)
    WITHOUT ROWID;
CREATE TABLE target (
    id INTEGER PRIMARY KEY,
    n INTEGER,
    host INTEGER NOT NULL,
    rank REAL NOT NULL,
    state INTEGER NOT NULL DEFAULT 0,
    crashes INTEGER NOT NULL DEFAULT 0,
    verdict TEXT,
    line TEXT NOT NULL
);
CREATE INDEX pending ON target (host, rank, id) WHERE state = 0;
CREATE INDEX suspect ON target (crashes) WHERE crashes > 0;
CREATE TABLE seen (digest INTEGER PRIMARY KEY, id INTEGER NOT NULL);
CREATE TABLE settled (id INTEGER PRIMARY KEY, info TEXT NOT NULL);
CREATE VIEW result AS SELECT
    id,
    json_extract(info, '$[1]') AS outcome,
    json_extract(info, '$[2]') AS reason,
    json_extract(info, '$[3]') AS status,
    json_extract(info, '$[4]') AS kind,
    json_extract(info, '$[5]') AS part,
    json_extract(info, '$[6]') AS offset,
    json_extract(info, '$[7]') AS length,
    json_extract(info, '$[8]') AS legs,
    json_extract(info, '$[9]') AS run
FROM settled;
CREATE TABLE robots (
    origin TEXT PRIMARY KEY,
    run INTEGER NOT NULL,
    at REAL NOT NULL,
    how TEXT NOT NULL,
    status INTEGER,
    text BLOB,
    legs TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE sink (name TEXT PRIMARY KEY, mark TEXT NOT NULL) WITHOUT ROWID;
"""


def open_to_write(path: str, is_shared: bool = False) -> sqlite3.Connection:
    """Open a ledger for the one process that writes it, and make it where there is none.

    A ledger of an earlier version is copied first, and then brought up to date.

    Args:
        path: of the file.
        is_shared: whether it lies on a file system of several machines, where no write-ahead log works: its memory is
            shared between processes of one machine (sqlite.org/wal.html). A plain journal is kept there.

    Raises:
        JobError: for a file that is no ledger, one of a later version, or a SQLite library too old.
        SinkError: when the disk doesn't let it be opened.
    """
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        oldest = ".".join(map(str, _OLDEST_SQLITE))
        raise JobError(f"a job needs SQLite {oldest} or newer; Python has {sqlite3.sqlite_version} here")
    with trouble_told(path):
        if not os.path.exists(path):
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY | getattr(os, "O_CLOEXEC", 0), 0o600))
        database = sqlite3.connect(path, timeout=_BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
        try:
            database.execute(f"PRAGMA journal_mode = {'TRUNCATE' if is_shared else 'WAL'}")
            database.execute("PRAGMA synchronous = FULL")
            database.execute("PRAGMA temp_store = MEMORY")
            database.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
            database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            _see_to_tables(database, path)
        except BaseException:
            database.close()
            raise
    return database


def open_to_read(path: str) -> sqlite3.Connection:
    """Open a ledger to be read, while a run writes it, too; nothing is ever locked for long.

    Raises:
        JobError: when there is none, it is none, or of a version that isn't known here.
    """
    if not os.path.isfile(path):
        raise JobError(f"{one_line(path)}: no such ledger")
    try:
        database = _opened_to_read(path)
    except sqlite3.Error:
        # Where nothing may be written (a copy on a read-only medium) there is no place for SQLite's shared memory. Then
        # nobody else writes either. But so opened it wouldn't see what still lies beside the file, in the log.
        with contextlib.suppress(FileNotFoundError):
            if os.path.getsize(f"{path}-wal"):
                raise JobError(
                    f"{one_line(path)}: can't be read here, as a part of it still lies in its -wal file and nothing "
                    "can be written beside it: copy the folder to where that can be done"
                ) from None
        database = _connected(path, "immutable=1")
    try:
        version = _version_of(database, path)
        if not _OLDEST_READ <= version <= VERSION:
            raise JobError(f"{one_line(path)}: a ledger of version {version}; this crawlpool reads {VERSION}")
    except BaseException:
        database.close()
        raise
    return database


def _opened_to_read(path: str) -> sqlite3.Connection:
    for _ in range(TRIES):
        try:
            return _connected(path, "mode=ro")
        except sqlite3.OperationalError as error:
            if not is_cut_off(error, path):
                raise
        # It may be the transaction of a writer on another machine, whose lock isn't seen here.
        copy = open_copy(path)
        if copy is not None:
            return copy
    raise JobError(f"{one_line(path)}: can't be read now, as it is written to all the time; its lock isn't seen here")


def _connected(path: str, how: str) -> sqlite3.Connection:
    address = f"file:{quote(os.path.abspath(path))}?{how}"
    database = sqlite3.connect(
        address, uri=True, timeout=_BUSY_MS / 1000, isolation_level=None, check_same_thread=False
    )
    try:
        database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    except BaseException as error:
        database.close()
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            raise JobError(f"{one_line(path)}: no ledger: {error}") from None
        raise
    return database


def _see_to_tables(database: sqlite3.Connection, path: str) -> None:
    version = _version_of(database, path)
    if version > VERSION:
        raise JobError(
            f"{one_line(path)}: this job was written by a later crawlpool (ledger version {version}, here {VERSION}): "
            "use that one, or a newer"
        )
    if version == VERSION:
        return
    if version:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copy2(path, f"{path}.v{version}")
    with transaction(database):
        if not version:
            for statement in _TABLES.split(";"):
                if statement.strip():
                    database.execute(statement)
            database.execute("INSERT INTO host (id, name) VALUES (0, '')")
            database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        for step in range(max(version, 1), VERSION):
            for statement in _STEPS[step]:
                database.execute(statement)
        database.execute(f"PRAGMA user_version = {VERSION}")


#: What makes version n + 1 of version n.
#:
#: Version 2 is for shards. `outbox` has the rows that are for other shards and not published yet, `imported` the
#: segments that came in, each with the digest of what stood in it, and `moved` which target here is which of another
#: shard's that it was handed over by.
_STEPS: dict[int, tuple[str, ...]] = {
    1: (
        "CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, shard INTEGER NOT NULL, row TEXT NOT NULL)",
        "CREATE INDEX outgoing ON outbox (shard, id)",
        "CREATE TABLE imported (segment TEXT PRIMARY KEY, digest TEXT NOT NULL) WITHOUT ROWID",
        "CREATE TABLE moved (source INTEGER, source_id INTEGER, id INTEGER NOT NULL, PRIMARY KEY (source, source_id)) "
        "WITHOUT ROWID",
    ),
}


def _version_of(database: sqlite3.Connection, path: str) -> int:
    """Return the version of a ledger; 0 for a file without any table."""
    try:
        tables = database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
        identity = database.execute("PRAGMA application_id").fetchone()[0]
        version = int(database.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        raise JobError(f"{one_line(path)}: no ledger: {error}") from None
    if not tables and not version:
        return 0
    if identity != APPLICATION_ID:
        raise JobError(f"{one_line(path)}: no ledger of crawlpool's, but another SQLite file")
    return version


@contextlib.contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Do what is done within in one transaction, or not at all."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # SQLite has rolled back by itself after some errors
            database.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def trouble_told(path: str) -> Iterator[None]:
    """Have what SQLite and the system say of a ledger come out as one clear line.

    Raises:
        SinkError: in place of ``sqlite3.Error`` and ``OSError``.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise SinkError(f"{one_line(path)}: the ledger can't be written: {error}") from error
    except UnicodeError as error:  # of the text of a table's own definition
        raise SinkError(f"{one_line(path)}: the ledger is damaged: {one_line(str(error))}") from error
    except OSError as error:
        if isinstance(error, (SinkError, JobError)):
            raise
        raise SinkError(f"{one_line(path)}: {error.strerror or error}") from error
