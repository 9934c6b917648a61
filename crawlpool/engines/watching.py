"""How far all runners together are: their notes, and what the shards' last owners have told, as one progress.

Nothing here must be right for the job to be: the books that count are those of the ledgers.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

from crawlpool.books import HostTimes, Progress
from crawlpool.clock import SYSTEM_CLOCK, Clock
from crawlpool.engines import notes
from crawlpool.engines.notes import Freshness, RunnerNote, progress_of
from crawlpool.models import Report

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: After so many seconds without a new note of it a runner is shown as stale.
STALE_S = 10.0
_SLOWEST = 5


@dataclasses.dataclass(frozen=True)
class Runners:
    """The runners at one moment.

    Args:
        notes: what each has told last.
        stale: names of those that tell nothing any more, and haven't ended.
    """

    notes: tuple[RunnerNote, ...] = ()
    stale: frozenset[str] = frozenset()

    @property
    def up(self) -> tuple[RunnerNote, ...]:
        """Those that haven't ended, and tell of themselves."""
        return tuple(note for note in self.notes if not note.has_ended and note.name not in self.stale)

    @property
    def failed(self) -> dict[int, str]:
        """Why shards could not go on."""
        return {shard: why for note in self.notes for shard, why in note.failed.items()}

    @property
    def given_up(self) -> set[int]:
        """Shards that are left alone."""
        return {shard for note in self.notes for shard in note.given_up}

    @property
    def troubles(self) -> dict[str, str]:
        """Why runners ended early."""
        return {note.name: note.trouble for note in self.notes if note.trouble is not None}


class Watcher:
    """Sums up what runners tell. Belongs to one thread.

    Args:
        job: the folder of the job.
        run: names this run of the command.
        clock: where time comes from.
    """

    def __init__(self, job: str, run: str, clock: Clock = SYSTEM_CLOCK) -> None:
        self._job = job
        self._run = run
        self._freshness = Freshness(clock)
        self._last: dict[int, Progress] = {}
        self._is_open: set[int] = set()
        self._notes: dict[str, RunnerNote] = {}
        self._counters: dict[str, int] = {}

    def know(self, shard: int, saved: Mapping[str, Any] | None) -> None:
        """Take what the last owner of a shard has told of it, unless something newer is known."""
        if saved is not None and shard not in self._is_open:
            with contextlib.suppress(KeyError, TypeError, ValueError):
                self._last[shard] = progress_of(saved)

    def know_committed(self, shard: int, saved: Mapping[str, Any]) -> None:
        """Take what the ledger of a shard has that nobody has let go of; a note that tells of more than that counts."""
        self._take(shard, saved)

    def look(self) -> Runners:
        """Read the notes of all runners."""
        found: list[RunnerNote] = []
        stale: set[str] = set()
        is_open: set[int] = set()
        names = notes.names(self._job)
        for name in names:
            note = notes.read_note(self._job, name)
            if note is None or note.run != self._run:
                continue
            found.append(note)
            is_stale = self._freshness.age_s(name, note.counter) > STALE_S
            if is_stale and not note.has_ended:
                stale.add(name)
            if self._counters.get(name) == note.counter:  # said already; somebody else may have said more since
                is_open.update(() if is_stale or note.has_ended else note.shards)
                continue
            self._counters[name] = note.counter
            for shard, saved in (*note.released.items(), *note.shards.items()):
                self._take(shard, saved)
            is_open.update(note.shards)
        self._is_open = is_open
        self._freshness.forget_all_but(set(names))
        return Runners(tuple(found), frozenset(stale))

    def _take(self, shard: int, saved: Mapping[str, Any]) -> None:
        with contextlib.suppress(KeyError, TypeError, ValueError):
            now = progress_of(saved)
            before = self._last.get(shard)
            # Of a shard that has moved on, a note that tells of it as it was comes late. Its books only grow.
            if before is None or now.report.legs >= before.report.legs:
                self._last[shard] = now

    def progress(self) -> Progress:
        """Return how far the job is, as of the last look."""
        found = merged(self._last.values())
        if self._is_open == self._last.keys():
            return found
        # What a shard that nobody has open tells as running and waiting is of another time.
        running = sum(self._last[shard].running for shard in self._is_open if shard in self._last)
        return dataclasses.replace(found, running=running)


def merged(each: Iterable[Progress]) -> Progress:
    """Return how far several crawls are as one: the slowest hosts of all, the rest added up."""
    each = list(each)
    slowest: list[HostTimes] = sorted(
        (host for one in each for host in one.slowest), key=lambda host: host.mean_s, reverse=True
    )
    kinds: collections.Counter[str] = collections.Counter()
    statuses: collections.Counter[int] = collections.Counter()
    left_alone: dict[str, collections.Counter[str]] = {}
    for one in each:
        kinds.update(one.kinds)
        statuses.update(one.statuses)
        for reason, hosts in one.left_alone.items():
            left_alone.setdefault(reason, collections.Counter()).update(hosts)
    return Progress(
        Report.merged(one.report for one in each),
        sum(one.queued for one in each),
        sum(one.running for one in each),
        tuple(slowest[:_SLOWEST]),
        dict(kinds),
        dict(statuses),
        {reason: dict(hosts) for reason, hosts in left_alone.items()},
    )
