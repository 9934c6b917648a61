"""The crawl of one shard: its targets come from its inbox, and what belongs to others goes to theirs."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from crawlpool.errors import CrawlPoolError, LeaseLost
from crawlpool.handover import Moved
from crawlpool.jobs.chain import handed_over
from crawlpool.jobs.crawl import JobCrawl
from crawlpool.jobs.entries import Entry
from crawlpool.jobs.intake import JobIntake
from crawlpool.shards.inbox import Inbox
from crawlpool.shards.inputs import input_state
from crawlpool.shards.outbox import Publisher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from crawlpool.crawl import Crawl
    from crawlpool.leg import Group, Leg, RunOptions
    from crawlpool.models import Result, Target
    from crawlpool.shards.inputs import InputState
    from crawlpool.shards.opened import OpenShard
    from crawlpool.source import BadLine
    from crawlpool.worker import Workforce

#: How often a crawl looks into its inbox while it has something to do.
LOOK_IN_S = 1.0


class ShardIntake(JobIntake):
    """The targets of a shard, as ``JobIntake`` has them; it remembers which links to other shards were sent lately."""

    MOST_SENT = 100_000

    def __init__(self, *others: Any) -> None:
        super().__init__(*others)
        self._sent: set[int] = set()  # digests, guarded by _lock

    def is_new_digest(self, digest: int | None) -> bool:
        """Remember what an added target asks for; return whether nothing asked for that before, as far as known here.

        Raises:
            SinkError: when the ledger can't be read.
        """
        with self._lock:
            if self._dedupes and digest in self._sent:
                return False
        return super().is_new_digest(digest)

    def sent(self, digests: Iterable[int | None]) -> None:
        """Take it that links to other shards are committed: the same ones needn't be sent again; by the clerk."""
        with self._lock:
            if len(self._sent) >= self.MOST_SENT:
                self._sent.clear()
            self._sent.update(digest for digest in digests if digest is not None)


class ShardCrawl(JobCrawl):
    """A crawl of a shard; all that ``JobCrawl`` says holds for it, and ``run(())`` reads the inbox instead of seeds.

    Its run ends when the input is done, as far as it is shared out and known here, the inbox is empty, nothing waits,
    and what belongs to other shards is published. Its lease is asked before each request and each commit; where it is
    lost the crawl stops, commits nothing more, and ``run`` raises ``LeaseLost``: its targets are the next owner's.

    ``add`` takes a link to another shard's host as new unless this run sent the same one lately: whether it is, its own
    shard knows. A target whose redirect leads to another shard's host has its result there, so the handler sees it
    there; its ``response.history`` has no redirects from before. A robots.txt alone is fetched here wherever its
    redirects lead, as it is needed here.

    Args:
        job: the shard, open.
        others: as ``JobCrawl`` takes them.

    Thread-safe as ``JobCrawl`` is.
    """

    _job: OpenShard
    _intake: Any  # a ShardIntake

    def __init__(
        self,
        workforce: Workforce,
        handler: Callable[[Result, Crawl], None] | None,
        options: RunOptions,
        group: Group,
        job: OpenShard,
        in_flight: int,
        **others: Any,
    ) -> None:
        options = dataclasses.replace(options, owns=job.owns, log_fields=job.log_fields)
        super().__init__(workforce, handler, options, group, job, in_flight, **others)
        self._inbox = Inbox(job, self._clerk.hand_in, self._input_is)
        self._publisher = Publisher(job, self._clerk.hand_in, self._published, self._fail)
        # These two are the thread's that runs.
        self._looked_at = self._idle_since = self._clock.monotonic()

    def _new_intake(self, max_per_host: int | None, dedupe: bool) -> ShardIntake:
        return ShardIntake(self, self._workforce, self._job, self._took)

    # The run's side ----------------------------------------------------------------------------------------------

    def lost(self) -> None:
        """Take it that the shard is somebody else's: stop at once, running transfers too; from any thread."""
        self._fail(LeaseLost(f"shard {self._job.shard}: its lease has ended"))

    def is_wanted(self, leg: Leg) -> bool:
        """Tell whether the leg shall be sent: none by a lease that has ended."""
        if not self._job.is_held:
            self.lost()
            return False
        return super().is_wanted(leg)

    def _finish(self, *ended: tuple[Leg, Result]) -> None:
        moved = [(leg, result) for leg, result in ended if isinstance(result, Moved)]
        if moved:
            self._hand_over(moved)
            ended = tuple(one for one in ended if not isinstance(one[1], Moved))
        if ended:
            super()._finish(*ended)

    def _hand_over(self, moved: Sequence[tuple[Leg, Moved]]) -> None:
        job = self._job
        entries = [
            Entry(
                leg,
                result,
                [],
                [],
                handed_over=handed_over(leg, result, job.shard, job.sharding.shard_of(result.again.host)),
            )
            for leg, result in moved
        ]
        if not self._clerk.keep(entries):
            self._give_back([leg for leg, _ in moved])

    def _committed(self, entries: Sequence[Entry], has_come: bool) -> None:
        others = [row[5] for entry in entries for row in entry.adds if not self._job.is_mine(row)]
        if others:
            self._intake.sent(others)
        if others or any(entry.handed_over is not None for entry in entries):
            self._publisher.come()
        super()._committed(entries, has_come)

    # The way of a run --------------------------------------------------------------------------------------------

    def _feed(self, seeds: Iterable[str | Target | BadLine]) -> None:
        for _ in seeds:
            raise CrawlPoolError("the targets of a shard come from its inbox: run(()) takes no seeds")
        self._input_is(input_state(self._job.root))  # before anything is sent: which hosts may be asked
        self._set_out()
        self._publisher.start()
        self._look_in()

    def _input_is(self, state: InputState) -> None:
        self.group.inputs.restore(state.hosts)  # type: ignore[union-attr]

    def _is_quiet(self) -> bool:
        """Wait a while, with a look into the inbox now and then; tell whether the run is at its end."""
        if not (self._outstanding or self._job.waiting):
            self._publisher.hurry()  # nothing more will come to go with what there is
        is_quiet = super()._is_quiet()
        now = self._clock.monotonic()
        if self._outstanding or self._job.waiting:
            self._idle_since = now
        if self._is_draining or not (is_quiet or now - self._looked_at >= LOOK_IN_S):
            return is_quiet
        try:
            has_come = self._look_in()
        except BaseException as error:
            self._fail(error)
            return False
        with self._lock:
            return self._has_ended() and not has_come

    def _look_in(self) -> bool:
        """Take in what has come; return whether anything had. Note whether the run may end when nothing is left."""
        job = self._job
        job.check_held()
        has_come = self._inbox.look()
        now = self._looked_at = self._clock.monotonic()
        if has_come:
            self._idle_since = now
        is_idle = job.idle_s is not None and now - self._idle_since >= job.idle_s
        job.is_all_in = self._inbox.is_input_done
        job.is_input_done = job.is_all_in or job.until_idle or is_idle
        return has_come

    def _has_ended(self) -> bool:
        return super()._has_ended() and (self._is_draining or self._publisher.is_empty)

    def _published(self) -> None:
        with self._lock:
            self._quiet.notify_all()

    def _wind_up(self) -> None:
        self._publisher.finish()
        if not self._job.is_all_in:
            self._books.interrupt()

    def _close(self) -> None:
        self._inbox.close()
        super()._close()
