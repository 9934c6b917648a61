"""A ledger that is read, by anybody at any time: while a run writes it, too.

Each statement is short and takes a page of rows, found by their number. Nobody waits for a reader so, and SQLite can
put its log back into the file: one that reads for a minute in one go would have the log grow for a minute.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from typing import TYPE_CHECKING, Any, NamedTuple

from crawlpool.errors import JobError
from crawlpool.ledger.schema import HANDED_OVER, open_to_read
from crawlpool.redact import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Rows that one statement returns at most, and numbers that it looks at, where it looks for some of them only.
PAGE_ROWS, SPAN = 512, 8192
#: How the line of a target begins that another shard handed over; ``jobs.chain`` writes it.
MOVED = ">"
_TOLD = 10  # of what came of a target: how much there is

# What a column holds; in a damaged file it may be anything.
_TEXT, _NUMBER, _REAL = (str,), (int,), (float, int)
_MAYBE_TEXT, _MAYBE_NUMBER, _MAYBE_REAL = (str, type(None)), (int, type(None)), (float, int, type(None))
_KINDS_OF_SETTLED = (
    *(_NUMBER, _MAYBE_NUMBER, _NUMBER, _TEXT, _NUMBER, _MAYBE_TEXT, _MAYBE_NUMBER, _MAYBE_TEXT),
    *(_NUMBER, _NUMBER, _NUMBER, (list,), _NUMBER),
)
_KINDS_OF_TARGET = (_NUMBER, _MAYBE_NUMBER, _MAYBE_TEXT, _REAL, _NUMBER, _NUMBER, _MAYBE_TEXT, _TEXT)
_KINDS_OF_RUN = (_NUMBER, _REAL, _REAL, _MAYBE_REAL, _MAYBE_TEXT)
_KINDS_OF_HOST = (_TEXT, _MAYBE_REAL, _NUMBER, _MAYBE_TEXT)
_KINDS_OF_ROBOTS = (_TEXT, _NUMBER, _REAL, _TEXT, _MAYBE_NUMBER, (bytes, type(None)), _TEXT)

_SETTLED = """
SELECT settled.id, target.n, target.host, target.line, settled.info
FROM settled JOIN target ON target.id = settled.id
"""
_TARGET = """
SELECT target.id, target.n, host.name, target.rank, target.state, target.crashes, target.verdict, target.line
FROM target LEFT JOIN host ON host.id = target.host
"""


class Settled(NamedTuple):
    """A target that has its result, and what is told of that.

    ``host`` is the number of its host, 0 for what waited for none; ``line`` the target as ``jobs.entries`` writes it;
    ``outcome`` what ``target.state`` is then; ``legs`` its trail, a list for each leg.
    """

    id: int
    n: int | None
    host: int
    line: str
    outcome: int
    reason: str | None
    status: int | None
    kind: str | None
    part: int
    offset: int
    length: int
    legs: list[Any]
    run: int


class TargetRow(NamedTuple):
    """A target as the table has it, with its host's name; ``verdict`` is JSON, ``line`` as ``jobs.entries`` has it."""

    id: int
    n: int | None
    host: str | None
    rank: float
    state: int
    crashes: int
    verdict: str | None
    line: str


class RunRow(NamedTuple):
    """A run; ``ended_at`` and ``ending`` are ``None`` of one that goes on, or was broken off."""

    n: int
    began_at: float
    monotonic_s: float
    ended_at: float | None
    ending: str | None


class HostRow(NamedTuple):
    """What is kept of a host: until when it rests, whether it doesn't want us, an operator's word as JSON."""

    name: str
    cooled_until: float | None
    is_blocked: int
    orders: str | None


class RobotsRow(NamedTuple):
    """A robots.txt: which run asked for it and when, what came of it, its text, and the legs for it as JSON."""

    origin: str
    run: int
    at: float
    how: str
    status: int | None
    text: bytes | None
    legs: str


class LedgerReader:
    """A ledger, open to be read.

    Args:
        path: of its file.

    Raises:
        JobError: when it can't be read, isn't a ledger, or is damaged. So do all methods.

    Not thread-safe.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        with self._told():
            self._database = open_to_read(path)
            #: The form of its tables; those of shards came with the second.
            self.version = int(self._database.execute("PRAGMA user_version").fetchone()[0])

    @property
    def has_shards(self) -> bool:
        """Whether it has the tables of shards, empty or not."""
        return self.version > 1

    def close(self) -> None:
        """Let go of the file. May be called again."""
        self._database.close()

    def value(self, key: str) -> Any:
        """Return what the table ``job`` has under a key, out of its JSON; ``None`` where there is nothing."""
        rows = self._rows("SELECT value FROM job WHERE key = ?", (key,))
        return self.parsed(rows[0][0], f"the value of {key!r}") if rows else None

    def mark(self, name: str) -> dict[str, Any] | None:
        """Return what counts of an output, as the fields of a ``Mark``; ``None`` for one that has nothing yet."""
        rows = self._rows("SELECT mark FROM sink WHERE name = ?", (name,))
        return dict(self.parsed(rows[0][0], f"the mark of {name!r}")) if rows else None

    def runs(self) -> list[RunRow]:
        """Return all runs, in order."""
        rows = self._rows("SELECT n, began_at, monotonic_s, ended_at, ending FROM run ORDER BY n")
        return [RunRow(*self._checked(row, _KINDS_OF_RUN, "run")) for row in rows]

    # Targets -----------------------------------------------------------------------------------------------------

    def settled(
        self,
        outcome: int | None = None,
        host: str | None = None,
        *,
        has_handed_over: bool = False,
        after: int = 0,
        only_moved: bool = False,
    ) -> Iterator[Settled]:
        """Yield what is settled, in the order of its numbers.

        Args:
            outcome: only what ended so; ``schema.HANDED_OVER`` for what was handed over to another shard.
            host: only what waited for this host, or for none, or was handed over by another shard.
            has_handed_over: whether what was handed over comes, too: it has legs and no record here.
            after: only what has a greater number.
            only_moved: only what was handed over by another shard; ``host`` doesn't count then.
        """
        where, given = "", list[Any]()
        if outcome is not None:
            where, given = " AND target.state = ?", [outcome]
        elif not has_handed_over:
            where = f" AND target.state <> {HANDED_OVER}"
        if only_moved:
            where += " AND substr(target.line, 1, 1) = ?"
            given.append(MOVED)
        elif host is not None:
            rows = self._rows("SELECT id FROM host WHERE name = ?", (host,))
            where += " AND (target.host IN (0, ?) OR substr(target.line, 1, 1) = ?)"
            given += [rows[0][0] if rows else 0, MOVED]
        last = after
        while True:
            first = self._rows("SELECT min(id) FROM settled WHERE id > ?", (last,))[0][0]
            if first is None:
                return
            until = first + SPAN
            page = self._rows(
                f"{_SETTLED} WHERE settled.id >= ? AND settled.id < ?{where} ORDER BY settled.id LIMIT ?",
                (first, until, *given, PAGE_ROWS),
            )
            for row in page:
                yield self._settled(row)
            last = page[-1][0] if len(page) == PAGE_ROWS else until - 1

    def settled_of(self, number: int, *, is_handed_over: bool = False) -> Settled | None:
        """Return a target that is settled; ``None`` for one that isn't.

        Args:
            number: the target.
            is_handed_over: whether one is wanted that was handed over to another shard, and no other.
        """
        sign = "=" if is_handed_over else "<>"
        rows = self._rows(f"{_SETTLED} WHERE settled.id = ? AND target.state {sign} {HANDED_OVER}", (number,))
        return self._settled(rows[0]) if rows else None

    def target(self, number: int) -> TargetRow | None:
        """Return a target, settled or not."""
        rows = self._rows(f"{_TARGET} WHERE target.id = ?", (number,))
        return TargetRow(*self._checked(rows[0], _KINDS_OF_TARGET, "target")) if rows else None

    def states(self) -> Iterator[tuple[int, int, bool]]:
        """Yield number and state of each target, and whether it has a result."""
        last = 0
        while rows := self._rows(
            "SELECT target.id, target.state, settled.id IS NOT NULL FROM target LEFT JOIN settled "
            "ON settled.id = target.id WHERE target.id > ? ORDER BY target.id LIMIT ?",
            (last, SPAN),
        ):
            yield from rows
            last = rows[-1][0]

    def count_settled(self) -> int:
        """Return how many results there are; it counts them."""
        return int(self._rows("SELECT count(*) FROM settled")[0][0])

    def first_of(self, digest: int) -> int | None:
        """Return the number of the first target that asked for something, by its digest as the table has it."""
        rows = self._rows("SELECT id FROM seen WHERE digest = ?", (digest,))
        return None if not rows else int(rows[0][0])

    def count_waiting(self, host: str, most: int) -> int:
        """Return how many targets of a host wait; so many are counted at most."""
        query = "SELECT 1 FROM target WHERE state = 0 AND host = (SELECT id FROM host WHERE name = ?) LIMIT ?"
        return int(self._rows(f"SELECT count(*) FROM ({query})", (host, most))[0][0])

    def count_before(self, target: TargetRow, most: int) -> int:
        """Return how many targets of its host wait that go before a target; so many are counted at most."""
        query = (
            "SELECT 1 FROM target WHERE state = 0 AND host = (SELECT id FROM host WHERE name = ?) "
            "AND (rank, id) < (?, ?) LIMIT ?"
        )
        rows = self._rows(f"SELECT count(*) FROM ({query})", (target.host, target.rank, target.id, most))
        return int(rows[0][0])

    # Hosts and robots.txt ----------------------------------------------------------------------------------------

    def knows_host(self, name: str) -> bool:
        """Tell whether any target is of a host."""
        return bool(self._rows("SELECT 1 FROM host WHERE name = ?", (name,)))

    def host(self, name: str) -> HostRow:
        """Return what is kept of a host."""
        rows = self._rows("SELECT name, cooled_until, is_blocked, orders FROM host_state WHERE name = ?", (name,))
        return HostRow(*self._checked(rows[0], _KINDS_OF_HOST, "host")) if rows else HostRow(name, None, 0, None)

    def hosts(self) -> Iterator[HostRow]:
        """Yield the hosts of which something is kept, by name."""
        last = ""
        while rows := self._rows(
            "SELECT name, cooled_until, is_blocked, orders FROM host_state WHERE name > ? ORDER BY name LIMIT ?",
            (last, PAGE_ROWS),
        ):
            yield from (HostRow(*self._checked(row, _KINDS_OF_HOST, "host")) for row in rows)
            last = rows[-1][0]

    def robots_of(self, origin: str) -> RobotsRow | None:
        """Return what is kept of an origin's robots.txt."""
        query = "SELECT origin, run, at, how, status, text, legs FROM robots WHERE origin = ?"
        rows = self._rows(query, (origin,))
        return RobotsRow(*self._checked(rows[0], _KINDS_OF_ROBOTS, "robots.txt")) if rows else None

    def robots_legs(self) -> Iterator[tuple[str, int, str]]:
        """Yield origin, run and legs of each robots.txt."""
        last = ""
        while rows := self._rows(
            "SELECT origin, run, legs FROM robots WHERE origin > ? ORDER BY origin LIMIT ?", (last, PAGE_ROWS)
        ):
            yield from rows
            last = rows[-1][0]

    # Trouble -----------------------------------------------------------------------------------------------------

    def damages(self, most: int = 20) -> list[str]:
        """Return what SQLite finds wrong with the file, looking at all of it: one statement, and no short one."""
        found = [str(row[0]) for row in self._rows(f"PRAGMA integrity_check({most})")]
        return [] if found == ["ok"] else found

    def parsed(self, text: Any, what: str) -> Any:
        """Return what JSON in the ledger says.

        Raises:
            JobError: when it is none; ``what`` says of what.
        """
        try:
            return json.loads(text)
        except (ValueError, TypeError, RecursionError):
            raise self._damage(f"{what} is no JSON") from None

    def rows(self, query: str, given: Sequence[Any] = ()) -> list[Any]:
        """Return what a short statement finds that only reads."""
        return self._rows(query, given)

    def _settled(self, row: Sequence[Any]) -> Settled:
        number, n, host, line, info = row
        told = self.parsed(info, f"what came of target {number}")
        if not isinstance(told, list) or len(told) < _TOLD or told[0] != number:
            raise self._damage(f"what came of target {number} can't be read")
        return Settled(*self._checked((number, n, host, line, *told[1:_TOLD]), _KINDS_OF_SETTLED, "result of target"))

    def _checked(self, row: Sequence[Any], kinds: Sequence[tuple[type, ...]], what: str) -> Sequence[Any]:
        """Return a row if each of its columns is what it should be."""
        if not all(map(isinstance, row, kinds)):
            raise self._damage(f"{what} {one_line(str(row[0]), 40)} can't be read")
        return row

    def _damage(self, what: str) -> JobError:
        return JobError(f"{one_line(self.path)}: the ledger is damaged: {what}")

    def _rows(self, query: str, given: Sequence[Any] = ()) -> list[Any]:
        with self._told():
            return self._database.execute(query, given).fetchall()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.ProgrammingError as error:  # a caller's mistake: it was closed
            raise JobError(f"{one_line(self.path)}: {error}") from error
        except sqlite3.OperationalError as error:
            raise JobError(f"{one_line(self.path)}: the ledger can't be read: {error}") from error
        except (sqlite3.Error, ValueError, OverflowError) as error:  # ValueError: a text that is no UTF-8
            raise JobError(f"{one_line(self.path)}: the ledger is damaged: {one_line(str(error))}") from error
        except OSError as error:
            raise JobError(f"{one_line(self.path)}: {error.strerror or error}") from error
