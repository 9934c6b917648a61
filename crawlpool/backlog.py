"""The targets of a crawl that have no place in the frontier yet: by host, on disk, without end."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import math
import operator
import threading
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from crawlpool.config import check, is_count
from crawlpool.errors import ConfigError, CrawlPoolError, PoolClosed
from crawlpool.models import Target

if TYPE_CHECKING:
    import sqlite3

_DEFAULTS = {field.name: field.default for field in dataclasses.fields(Target)}
_REST = {name: default for name, default in _DEFAULTS.items() if name != "url"}
_rest_of = operator.attrgetter(*_REST)
_FRESH_ROWS, _FRESH_BYTES = 512, 1 << 18  # that are written in one go
_CACHE_KIB = 8 * 1024  # of pages that SQLite holds: a backlog that fits in there never touches the disk
_PAGE_BYTES = 4096

# `turn` is where a host stands in the order in which hosts are looked at; the lines of a host by rank, then by age.
_SCHEMA = """
    PRAGMA journal_mode = MEMORY;
    PRAGMA synchronous = OFF;
    CREATE TABLE line (host BLOB, rank REAL, n INTEGER, text BLOB, PRIMARY KEY (host, rank, n)) WITHOUT ROWID;
    CREATE TABLE host (name BLOB PRIMARY KEY, turn INTEGER) WITHOUT ROWID;
    CREATE INDEX turns ON host (turn);
"""

_JSON = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
_quoted = json.encoder.encode_basestring_ascii  # what an encoder writes text by
_Row = tuple[bytes, float, int, bytes]


def pack(target: Target) -> bytes:
    """Return ``target`` as one line of JSON.

    A field that has its default value is left out; ``data`` of bytes goes as base64.

    Raises:
        ConfigError: when a field isn't JSON; the message names the field.
    """
    # By identity: what is in a target may be of any type, and compare in any way. Nearly always there is the URL alone.
    if type(target.url) is str and all(map(operator.is_, _rest_of(target), _REST.values())):
        return f'{{"url":{_quoted(target.url)}}}'.encode("ascii")  # a third of the time
    fields: dict[str, Any] = {
        name: value for name, default in _DEFAULTS.items() if (value := getattr(target, name)) is not default
    }
    if isinstance(target.headers, Mapping):
        fields["headers"] = dict(target.headers)
    if isinstance(target.data, (bytes, bytearray)):
        fields["data_b64"] = base64.b64encode(fields.pop("data")).decode("ascii")
    try:
        return _line(fields)
    except (TypeError, ValueError, RecursionError):
        for name, value in fields.items():
            try:
                _line(value)
            except (TypeError, ValueError, RecursionError) as error:
                raise ConfigError(f"{name}: a target that is added to a crawl must be JSON: {error}") from error
        raise


def unpack(line: bytes) -> Target:
    """Return the target that ``pack`` made a line of; tuples in it have become lists."""
    return target_of(json.loads(line))


def target_of(fields: dict[str, Any]) -> Target:
    """Return the target that a line of ``pack``'s speaks of, parsed; the dict is used up."""
    encoded = fields.pop("data_b64", None)
    if encoded is not None:
        fields["data"] = base64.b64decode(encoded)
    return Target(**fields)


def _line(value: Any) -> bytes:
    return _JSON.encode(value).encode("ascii")


class Backlog:
    """Targets by host: those of one host come out by priority, then in the order in which they were put.

    What doesn't fit in eight megabytes of memory lies in an anonymous temporary file, in the folder of ``TMPDIR``.

    Args:
        most_bytes: the largest that the file may get; ``None`` for as large as the disk allows.

    Thread-safe. ``put`` never waits for room.
    """

    def __init__(self, most_bytes: int | None = None) -> None:
        check(most_bytes is None or is_count(most_bytes), "most_bytes", most_bytes, "1 or more, or None")
        self._most_bytes = most_bytes
        # Guards all that follows, and the database's I/O, too: an order of rows can't be apart from the rows. What is
        # done under it is bounded by a batch; packing and unpacking are done outside.
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None  # made when there is something to be written
        self._fresh: list[_Row] = []  # not written yet
        self._fresh_bytes = 0
        self._count = 0  # rows put, and turns given
        self._size = 0
        self._is_closed = False

    def __len__(self) -> int:
        """How many targets lie here."""
        return self._size

    def __bool__(self) -> bool:
        """Whether any do."""
        return self._size > 0

    def put(self, host: str, line: bytes, priority: float = 0) -> None:
        """Add a target.

        Args:
            host: under which it is asked for.
            line: what ``pack`` made of it.
            priority: higher comes out first among those of a host.

        Raises:
            CrawlPoolError: when there is no room on the disk; the target isn't here then.
            PoolClosed: after ``close``.
        """
        with self._lock:
            if self._is_closed:
                raise PoolClosed("the crawl takes no more targets: its backlog was closed")
            self._count += 1
            self._fresh.append((_key(host), _rank(priority), self._count, line))
            self._fresh_bytes += len(line)
            if len(self._fresh) >= _FRESH_ROWS or self._fresh_bytes >= _FRESH_BYTES:
                try:
                    self._write()
                except CrawlPoolError:
                    self._fresh.pop()
                    self._fresh_bytes -= len(line)
                    raise
            self._size += 1

    def take(self, host: str, most: int) -> tuple[list[Target], bool]:
        """Take the next targets of a host out.

        Args:
            host: which.
            most: how many at most.

        Returns:
            The targets, and whether none of the host is left.

        Raises:
            CrawlPoolError: when the temporary file can't be read.
        """
        key = _key(host)
        with self._lock:
            self._try_to_write()
            rows = self._read("SELECT * FROM line WHERE host = ? ORDER BY rank, n LIMIT ?", (key, most))
            if rows:
                _, rank, n, _ = rows[-1]
                self._run("DELETE FROM line WHERE host = ? AND (rank, n) <= (?, ?)", (key, rank, n))
            is_last = len(rows) < most
            if is_last:
                rows += self._out_of_fresh(most - len(rows), key)
                is_last = not any(row[0] == key for row in self._fresh)
            if is_last:
                self._run("DELETE FROM host WHERE name = ?", (key,))
            else:  # behind the others
                self._count += 1
                self._run("UPDATE host SET turn = ? WHERE name = ?", (self._count, key))
            self._size -= len(rows)
        return [unpack(row[3]) for row in rows], is_last

    def hosts(self, most: int, without: Collection[str] = ()) -> list[str]:
        """Return hosts that have targets here, whose turn it is first.

        Args:
            most: how many at most.
            without: those not asked for.

        Raises:
            CrawlPoolError: when the temporary file can't be read.
        """
        with self._lock:
            self._try_to_write()
            rows = self._read("SELECT name FROM host ORDER BY turn LIMIT ?", (most + len(without),))
            keys = dict.fromkeys([*(row[0] for row in rows), *(row[0] for row in self._fresh)])
        names = (key.decode("utf-8", "surrogatepass") for key in keys)
        return [name for name in names if name not in without][:most]

    def count(self, host: str, most: int) -> int:
        """Return how many targets of a host lie here; ``most`` where there are more: so many are counted.

        Raises:
            CrawlPoolError: when the temporary file can't be read.
        """
        key = _key(host)
        with self._lock:
            fresh = sum(row[0] == key for row in self._fresh)
            query = "SELECT COUNT(*) FROM (SELECT 1 FROM line WHERE host = ? LIMIT ?)"
            rows = self._read(query, (key, most))
        return min(fresh + (rows[0][0] if rows else 0), most)

    def take_any(self, most: int) -> list[Target]:
        """Take targets out, of whichever host; none when none is left.

        Raises:
            CrawlPoolError: when the temporary file can't be read.
        """
        with self._lock:
            rows = self._read("SELECT * FROM line ORDER BY host, rank, n LIMIT ?", (most,))
            if rows:
                self._run("DELETE FROM line WHERE (host, rank, n) <= (?, ?, ?)", rows[-1][:3])
            rows += self._out_of_fresh(most - len(rows))
            self._size -= len(rows)
        return [unpack(row[3]) for row in rows]

    def close(self) -> None:
        """Drop what is left, and the temporary file. May be called again."""
        with self._lock:
            self._is_closed = True
            self._size = self._fresh_bytes = 0
            self._fresh.clear()
            if self._database is not None:
                self._database.close()
                self._database = None

    # Under the lock ----------------------------------------------------------------------------------------------

    def _out_of_fresh(self, most: int, key: bytes | None = None) -> list[_Row]:
        """Take rows out of what isn't written: those of one host, or any."""
        mine = [row for row in self._fresh if key is None or row[0] == key]
        rows = sorted(mine, key=lambda row: row[:3])[:most]
        if rows:
            gone = {row[2] for row in rows}
            self._fresh = [row for row in self._fresh if row[2] not in gone]
            self._fresh_bytes -= sum(len(row[3]) for row in rows)
        return rows

    def _try_to_write(self) -> None:
        """Write what is fresh if there is room; where there is none it stays where it is, and comes out from there."""
        with contextlib.suppress(CrawlPoolError):
            self._write()

    def _write(self) -> None:
        if not self._fresh:
            return
        import sqlite3

        rows = self._fresh
        try:
            database = self._opened()
            with database:
                database.execute("BEGIN")
                database.executemany("INSERT INTO line VALUES (?, ?, ?, ?)", rows)
                firsts = {row[0]: row[2] for row in reversed(rows)}
                database.executemany("INSERT OR IGNORE INTO host VALUES (?, ?)", firsts.items())
        except (sqlite3.Error, OSError) as error:
            raise CrawlPoolError(f"no room for waiting targets in a temporary file: {error}") from error
        self._fresh, self._fresh_bytes = [], 0

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            import sqlite3

            # An empty name is a temporary file of SQLite's own, which it makes when its cache is full.
            database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            database.executescript(_SCHEMA)
            database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            if self._most_bytes is not None:
                database.execute(f"PRAGMA max_page_count = {max(self._most_bytes // _PAGE_BYTES, 1)}")
            self._database = database
        return self._database

    def _read(self, query: str, values: tuple[Any, ...]) -> list[Any]:
        if self._database is None:
            return []
        import sqlite3

        try:
            return self._database.execute(query, values).fetchall()
        except (sqlite3.Error, OSError) as error:
            raise CrawlPoolError(f"the temporary file of waiting targets can't be read: {error}") from error

    def _run(self, query: str, values: tuple[Any, ...]) -> None:
        self._read(query, values)


def _key(host: str) -> bytes:
    return host.encode("utf-8", "surrogatepass")


def _rank(priority: float) -> float:
    try:
        return -float(priority)
    except OverflowError:  # of a whole number, which has no end
        return -math.inf if priority > 0 else math.inf
