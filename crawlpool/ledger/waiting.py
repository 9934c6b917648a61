"""The targets of a job that wait to be fetched: its backlog, host by host, read from the ledger and never written to.

A target waits until its result is committed, so that a run that is broken off finds it waiting again. That it was
taken is known in memory only. Of one host and rank they are taken in order, so one number tells which were.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

from crawlpool.ledger.schema import SUSPECT_RANK, trouble_told

if TYPE_CHECKING:
    from collections.abc import Collection

    from crawlpool.ledger.store import Ledger

_LEAST_RANK = -1e308
_LOOKED_AT = 512  # hosts looked at in one go, for those that have something left


class Taken(NamedTuple):
    """A target that was taken: its number, the ordinal of its input, why it isn't to be sent, and what it is.

    ``verdict`` is JSON or ``None``, ``line`` as ``jobs.entries`` writes it.
    """

    id: int
    n: int | None
    verdict: str | None
    line: str


@dataclasses.dataclass
class _Host:
    """What is taken of one host."""

    last: dict[float, int] = dataclasses.field(default_factory=dict)  # the last that was, by rank
    out: int = 0  # how many aren't settled
    is_dry: bool = False  # nothing was left when last looked at


class Waiting:
    """What waits in a ledger.

    A target that is suspected of ending the process is taken when nothing else is out, and nothing is taken until it is
    settled: if it does so again nobody else is suspected for it.

    Args:
        ledger: the job's.
        count: how many wait.

    Not thread-safe: it belongs to the thread that has the ledger.
    """

    def __init__(self, ledger: Ledger, count: int) -> None:
        self._ledger = ledger
        self._database = ledger.database
        self._size = count  # of those that wait and weren't taken
        self._hosts: dict[str, _Host] = {}
        self._host_of: dict[int, str] = {}  # of each that was taken and isn't settled
        self._at = -1  # the host that was looked at last
        self._has_suspect = False  # whether one is out, which then is all that is

    def __len__(self) -> int:
        """How many wait that weren't taken."""
        return self._size

    def __bool__(self) -> bool:
        """Whether any do."""
        return self._size > 0

    @property
    def taken(self) -> int:
        """How many were taken and aren't settled."""
        return len(self._host_of)

    def came(self, hosts: Collection[str], count: int) -> None:
        """Take it that targets were committed.

        Args:
            hosts: whose.
            count: how many.
        """
        self._size += count
        for name in hosts:
            if (host := self._hosts.get(name)) is not None:
                host.is_dry = False

    def settled(self, target: int) -> None:
        """Take it that the result of a target that was taken is committed."""
        name = self._host_of.pop(target)
        host = self._hosts[name]
        host.out -= 1
        if not host.out:
            del self._hosts[name]  # none that was taken waits any more
        if not self._host_of:
            self._has_suspect = False
            self._hosts.clear()  # what was held back for those that were out

    def take(self, name: str, most: int) -> tuple[list[Taken], bool]:
        """Take targets of a host; return them, and whether they are the last.

        Raises:
            SinkError: when the ledger can't be read.
        """
        with trouble_told(self._ledger.path):
            number = self._number_of(name)
            if number is None:
                return [], True
            host = self._hosts.get(name) or _Host()
            found: list[Taken] = []
            rank, is_last = _LEAST_RANK, False
            if self._has_suspect:
                return self._held_back(name, host)
            while len(found) <= most:  # one more than is taken tells whether it is the last
                rank = self._database.execute(
                    "SELECT min(rank) FROM target WHERE state = 0 AND host = ? AND rank > ?", (number, rank)
                ).fetchone()[0]
                if rank is None:
                    is_last = True
                    break
                if rank >= SUSPECT_RANK:
                    if self._host_of and not found:
                        return self._held_back(name, host)
                    is_last = True  # as far as can be said now: it is asked for again when nothing is out
                    if found:
                        break
                    most, self._has_suspect = 1, True
                rows = self._database.execute(
                    "SELECT id, n, verdict, line FROM target WHERE state = 0 AND host = ? AND rank = ? AND id > ? "
                    "ORDER BY id LIMIT ?",
                    (number, rank, host.last.get(rank, 0), most + 1 - len(found)),
                ).fetchall()
                found += map(Taken._make, rows)
                mine = rows[: most - (len(found) - len(rows))]
                if mine:
                    host.last[rank] = mine[-1][0]
                if self._has_suspect:
                    break
        del found[most:]
        host.is_dry = is_last
        if found:
            self._hosts[name] = host
            host.out += len(found)
            self._size -= len(found)
            self._host_of.update((one.id, name) for one in found)
        return found, is_last

    def _held_back(self, name: str, host: _Host) -> tuple[list[Taken], bool]:
        """Take nothing of a host, and don't name it, until nothing is out any more."""
        host.is_dry = True
        self._hosts[name] = host
        return [], True

    def hosts(self, most: int, without: Collection[str] = frozenset()) -> list[str]:
        """Return hosts that have targets waiting, in turn.

        Args:
            most: how many at most. Fewer may be returned than there are, none only where there is none.
            without: those not asked for.

        Raises:
            SinkError: when the ledger can't be read.
        """
        found: list[str] = []
        began_at, has_wrapped, looked = self._at, False, 0
        with trouble_told(self._ledger.path):
            while len(found) < most and self._size:
                row = self._database.execute(
                    "SELECT host FROM target WHERE state = 0 AND host > ? ORDER BY host LIMIT 1", (self._at,)
                ).fetchone()
                if row is None or (has_wrapped and row[0] > began_at):
                    if has_wrapped or (row is None and began_at == -1):
                        self._at = -1
                        break
                    self._at, has_wrapped = -1, True
                    continue
                self._at = row[0]
                name = self._name_of(row[0])
                host = self._hosts.get(name)
                if name not in without and (host is None or not host.is_dry):
                    found.append(name)
                looked += 1
                if looked >= _LOOKED_AT and found:
                    break
        return found

    def count(self, name: str, most: int) -> int:
        """Return how many targets of a host wait that weren't taken; so many are counted at most.

        Raises:
            SinkError: when the ledger can't be read.
        """
        with trouble_told(self._ledger.path):
            number = self._number_of(name)
            if number is None:
                return 0
            host = self._hosts.get(name)
            out = 0 if host is None else host.out
            rows = self._database.execute(
                "SELECT count(*) FROM (SELECT 1 FROM target WHERE state = 0 AND host = ? LIMIT ?)", (number, most + out)
            ).fetchone()
        return max(int(rows[0]) - out, 0)

    def _number_of(self, name: str) -> int | None:
        known = self._ledger.hosts.get(name)
        if known is not None:
            return known
        row = self._database.execute("SELECT id FROM host WHERE name = ?", (name,)).fetchone()
        return None if row is None else int(row[0])

    def _name_of(self, number: int) -> str:
        return str(self._database.execute("SELECT name FROM host WHERE id = ?", (number,)).fetchone()[0])
