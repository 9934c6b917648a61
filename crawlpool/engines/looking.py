"""What the shards of a job look like from outside: their newest tenures and their inboxes, read without any lock."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from typing import TYPE_CHECKING, Any, TypeAlias

from crawlpool import disk
from crawlpool.books import Progress
from crawlpool.engines.choice import Look, Tries, Why, is_done
from crawlpool.engines.notes import saved_progress
from crawlpool.errors import CrawlPoolError
from crawlpool.fence import LEASE_CLOCK
from crawlpool.redact import one_line
from crawlpool.shards import layout, manifest, tenure
from crawlpool.shards.inputs import InputState, input_state, is_visible
from crawlpool.shards.lease import Terms, Watch
from crawlpool.shards.lineage import Standing, Standings
from crawlpool.shards.parts import Part, Shelf
from crawlpool.shards.segments import SegmentName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from crawlpool.clock import Clock
    from crawlpool.jobs.reading import JobReader
    from crawlpool.shards.tenure import Tenure

IsOver: TypeAlias = "Callable[[str, int, Tenure | None, bytes], bool]"
#: Beside a shard's tenures: how often it has ended its owners.
TRIES = "tries.json"
_MOST_BYTES = 1000


class Looker:
    """Reads what there is to know of a job's shards. Belongs to one thread.

    Args:
        folder: the job's.
        run: names this run of the command.
        clock: by which leases are watched.
        is_over: tells whether a tenure has ended, as ``LeaseKeeper.is_over``; unless given, what is seen here says so.

    Raises:
        JobError: when it isn't a job with shards.
    """

    def __init__(self, folder: str, run: str, clock: Clock = LEASE_CLOCK, is_over: IsOver | None = None) -> None:
        self._folder = folder
        self._run = run
        self.manifest = manifest.read(folder)
        self._mine = frozenset(self.manifest.mine())
        self._watch = Watch(Terms(self.manifest.lease_s), clock)
        self.is_over: IsOver = is_over or self._has_ended
        self._released: dict[int, Tenure] = {}  # what was let go of doesn't change any more
        self._read: dict[int, tuple[bytes, Tenure | None]] = {}  # what a tenure's file held last, and what that says
        self._unreleased: set[int] = set()  # what has had an owner who hasn't let go
        self.state = InputState()
        #: Of each shard one segment that can't be judged yet, its path and its name; of the last ``look``.
        self.later: dict[int, tuple[str, SegmentName]] = {}
        #: Shards whose folders couldn't be read, and why.
        self.damaged: dict[int, str] = {}

    def look(self) -> list[Look]:
        """Look at all shards that belong to this folder and have had a target: first the tenures, then the inboxes."""
        self.state = input_state(self._folder)  # first: once it says that all is handed out, the inboxes have it
        looks = self.look_at_tenures()
        self.later = {}
        standings = Standings(self._folder, {shard: last.epoch for shard, last in self._released.items()})
        return [self._with_inbox(look, standings) for look in looks]

    def look_at_tenures(self) -> list[Look]:
        """Look at the tenures alone: what is told of inboxes is nothing."""
        found = []
        for shard in layout.shards_there(self._folder):
            if shard in self._mine:
                try:
                    found.append(self._look_at(shard))
                except CrawlPoolError as error:
                    self.damaged[shard] = str(error)
        return found

    def reports(self) -> Iterator[tuple[int, Any]]:
        """Yield of each shard what its last owner has told when it let go, as ``notes.saved_progress`` has it."""
        for shard, found in self._released.items():
            if found.report is not None:
                yield shard, found.report.get("progress")

    def ledgers(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the same of each shard whose last owner hasn't let go of it, by its ledger; all that can be read."""
        shelf = Shelf()
        try:
            for shard in sorted(self._unreleased):
                saved = None
                with contextlib.suppress(CrawlPoolError):  # who takes the shard finds it out, and says so
                    saved = shelf.look(Part(self._folder, shard), _saved_in, None)
                if saved is not None:
                    yield shard, saved
        finally:
            shelf.close()

    def failures(self) -> dict[int, str]:
        """Return why shards couldn't go on in this run."""
        found = dict(self.damaged)
        for shard, last in self._released.items():
            report = last.report or {}
            if report.get("why") == Why.FAILED and report.get("run") == self._run:
                found[shard] = str(report.get("message"))
        return found

    def unjudged(self) -> dict[int, str]:
        """Return of each shard with segments that can't be judged which one waits, and for what."""
        return {
            shard: f"{one_line(path)}: can't be judged: of epoch {name.epoch} of shard {name.source} nothing is known "
            f"in {one_line(layout.shard_folder(self._folder, name.source or 0))}, as if that were an older copy"
            for shard, (path, name) in self.later.items()
        }

    def foreign(self) -> int:
        """Return how many segments wait here for shards of other parts."""
        count = 0
        for shard in layout.shards_there(self._folder):
            if shard not in self._mine:
                count += sum(1 for _ in self._segments(shard))
        return count

    def _look_at(self, shard: int) -> Look:
        folder = layout.shard_folder(self._folder, shard)
        numbers = layout.tenures_there(folder)
        self._unreleased.discard(shard)
        if not numbers:
            return Look(shard)
        known = self._released.get(shard)
        if known is None or known.number != numbers[-1]:
            self._released.pop(shard, None)
            content = tenure.content_of(folder, numbers[-1])
            found = None if content is None else self._tenure_of(shard, numbers[-1], content)
            if content is None or found is None or not found.is_released:
                # Half written, or gone for a newer one: somebody has it. Where the former never ends it is damaged, and
                # whoever claims it finds that out.
                self._unreleased.add(shard)
                is_held = content is None or not self.is_over(folder, numbers[-1], found, content)
                tries = 0 if is_held else read_tries(folder, self._run).count + 1
                return Look(shard, numbers[-1], is_held=is_held, tries=tries)
            self._released[shard] = known = found
            self._read.pop(shard, None)
        report = known.report or {}
        try:
            why = Why(report.get("why"))
        except ValueError:
            why = None
        told = str(report.get("run", ""))
        return Look(shard, known.number, is_released=True, pending=known.pending, why=why, run=told)

    def _tenure_of(self, shard: int, number: int, content: bytes) -> Tenure | None:
        """Return what a file says: it is the same for some seconds, and so needn't be made out each time."""
        before = self._read.get(shard)
        if before is None or before[0] != content or before[1] is None or before[1].number != number:
            before = self._read[shard] = (content, tenure.Tenure.from_bytes(number, content))
        return before[1]

    def _has_ended(self, folder: str, number: int, found: Tenure | None, content: bytes) -> bool:
        if found is not None and found.owner.is_dead():
            return True
        return self._watch.has_ended(folder, number, content)

    def _with_inbox(self, look: Look, standings: Standings) -> Look:
        count = size = later = 0
        for name, entry in self._segments(look.shard):
            if not look.is_held and _is_later(standings, name):  # who has the shard sees that for himself
                later += 1
                self.later[look.shard] = entry.path, name
                continue
            count += 1
            with contextlib.suppress(OSError):
                size += entry.stat().st_size
        return dataclasses.replace(look, inbox_bytes=size, segments=count, later=later)

    def _segments(self, shard: int) -> Iterator[tuple[SegmentName, os.DirEntry[str]]]:
        with contextlib.suppress(OSError), os.scandir(layout.inbox_folder(self._folder, shard)) as entries:
            for entry in entries:
                name = SegmentName.parse(entry.name)
                if name is not None and is_visible(name, self.state):
                    yield name, entry


def _is_later(standings: Standings, name: SegmentName) -> bool:
    try:
        return standings.of(name) is Standing.LATER
    except CrawlPoolError:
        return False  # who takes the shard says what is wrong


def _saved_in(reader: JobReader) -> dict[str, Any]:
    report = reader.report  # first: it says when they can't be read
    books = reader.ledger.value("books") or {}
    statuses = {int(status): count for status, count in (books.get("statuses") or {}).items()}
    kinds, left_alone = dict(books.get("kinds") or {}), dict(books.get("left_alone") or {})
    return saved_progress(Progress(report, 0, 0, (), kinds, statuses, left_alone))


def has_nothing_left(folder: str) -> bool:
    """Tell whether a job of shards has nothing left to be fetched, as far as can be told; of a damaged one: no."""
    try:
        looker = Looker(folder, "")  # no run is called so: what another one has left counts as left
        before = looker.look()
        after = looker.look_at_tenures()
    except CrawlPoolError:
        return False
    return not looker.damaged and is_done(before, after, is_input_done=looker.state.is_done, run="")


def read_tries(folder: str, run: str) -> Tries:
    """Return how often a shard has ended its owners in a run of the command; in another one it hasn't yet.

    Args:
        folder: the shard's.
        run: names the run.
    """
    try:
        with open(os.path.join(folder, TRIES), "rb") as file:
            found = json.loads(file.read(_MOST_BYTES))
    except (OSError, ValueError):
        return Tries(run)
    tries = Tries.of_json(found if isinstance(found, dict) else {})
    return tries if tries.run == run else Tries(run, 0, tries.settled)


def write_tries(folder: str, tries: Tries) -> None:
    """Write it, so that it is there after a loss of power: that may be just what the shard does to a machine.

    Raises:
        OSError: when it can't be written.
    """
    path = os.path.join(folder, TRIES)
    new = f"{path}.{os.getpid()}"
    fd = disk.open_file(new, create=True)
    try:
        disk.cut(fd, 0)
        disk.write_all(fd, json.dumps(tries.as_json()).encode())
        disk.sync_file(fd)
    finally:
        os.close(fd)
    disk.rename(new, path)
