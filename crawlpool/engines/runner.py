"""A runner: takes shards that have something to do, runs them on one pool, lets go of them, until it is told to end.

It is the same in every engine: a thread of this process, or a task of a Dask worker. It knows of others only by what
lies in the job's folder.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import socket
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

from crawlpool.clock import SYSTEM_CLOCK, Clock
from crawlpool.engines import choice, notes
from crawlpool.engines.looking import Looker
from crawlpool.engines.notes import RunnerNote
from crawlpool.engines.tenancy import Tenancy, Tenant
from crawlpool.errors import CrawlPoolError
from crawlpool.events import carry, logger
from crawlpool.redact import one_line, redact_text

if TYPE_CHECKING:
    from crawlpool.engines.base import EngineSpec

_log = logger("engine")
#: A runner of whose shards so many in a row could not go on ends: it is its disk, or its memory, and not theirs.
_MOST_FAILED = 3
#: Of a shard that was let go of a runner tells in so many notes more, and of so many shards: who reads it once a second
#: misses none.
_TOLD_FOR, _TOLD = 10, 200
#: The coordinator counts as gone when its file hasn't changed for so many leases.
_GONE_LEASES = 3
_MARKS = 15  # notes over which the pace is told


def new_name() -> str:
    """Return a name for a runner, which no other one has."""
    return f"r-{uuid.uuid4().hex[:12]}"


class Runner:
    """One runner. ``run`` is called once; ``drain`` and ``stop`` from any thread.

    Args:
        spec: what there is to run.
        name: of the runner.
        clock: where time comes from.
        is_own_process: whether its process is there for nothing else: one that is stopped past its lease is killed.

    Thread-safe as said.
    """

    def __init__(
        self,
        spec: EngineSpec,
        name: str | None = None,
        clock: Clock = SYSTEM_CLOCK,
        *,
        is_own_process: bool = False,
    ) -> None:
        self.name = name or new_name()
        self._spec = spec
        self._clock = clock
        self._is_own_process = is_own_process
        self._wake = threading.Event()  # guards itself
        # Guards _order. It only ever goes from run to drain to stop.
        self._lock = threading.Lock()
        self._order = notes.RUN
        # What follows is of the thread that runs.
        self._tenants: dict[int, Tenant] = {}
        self._released: dict[int, tuple[int, Any]] = {}  # how far each was, and in which note that is told last
        self._failed: dict[int, str] = {}
        self._given_up: set[int] = set()
        self._is_alone = False  # whether it has a shard that isn't to end others with its process
        self._failed_in_a_row = 0
        self._trouble: str | None = None
        self._counter = 0
        self._told_at = -1e9
        self._freshness = notes.Freshness(clock)
        self._settled = 0  # by tenants that have ended
        self._marks: collections.deque[tuple[float, int]] = collections.deque(maxlen=_MARKS)
        self._held_back = 0  # how often requests had been, when that was last asked
        self._used = (clock.monotonic(), time.process_time())  # when it was last asked, and the process's time
        self._lease_s = 0.0

    # Any thread's side -------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Take no further shard, and finish what is under way. Returns at once."""
        self._told(notes.DRAIN)

    def stop(self) -> None:
        """The same, and break off what is under way."""
        self._told(notes.STOP)

    def _told(self, order: str) -> None:
        with self._lock:
            if self._order != notes.STOP:
                self._order = order
        self._wake.set()

    @property
    def is_draining(self) -> bool:
        """Whether it was told to end, by whomever."""
        return self._order != notes.RUN

    # The run -----------------------------------------------------------------------------------------------------

    def run(self) -> RunnerNote:
        """Run shards until it is told to end; return the last that it tells of itself.

        Raises:
            CrawlPoolError: when there is no such job, or no pool can be made.
        """
        spec = self._spec
        with contextlib.ExitStack() as opened:
            carry({"runner": self.name})
            opened.callback(carry, None)
            pool = spec.make_pool()
            if spec.shuts_pool:
                opened.callback(pool.close, cancel=True)
            handler = None if spec.make_handler is None else spec.make_handler()
            looker = Looker(spec.folder, spec.run)
            self._lease_s = looker.manifest.lease_s
            tenancy = Tenancy(
                spec,
                pool,
                handler,
                self._wake,
                looker.manifest,
                is_own_process=self._is_own_process,
                runner=self.name,
            )
            opened.callback(tenancy.close)
            looker.is_over = tenancy.keeper.is_over
            try:
                self._work(tenancy, looker)
            except BaseException:
                self.stop()
                self._break_off()
                raise
            finally:
                self._tell(is_last=True)
        return self._note("ended")

    def _work(self, tenancy: Tenancy, looker: Looker) -> None:
        idle, look_at = 0, self._clock.monotonic()
        while True:
            self._listen()
            if self._reap():
                look_at = self._clock.monotonic()  # its place is free
            order = self._order
            if order != notes.RUN:
                for tenant in self._tenants.values():
                    tenant.stop() if order == notes.STOP else tenant.drain()
                if not self._tenants:
                    return
            elif self._clock.monotonic() >= look_at:
                running = sum(tenant.running for tenant in self._tenants.values())
                held_back = tenancy.held_back()
                wanted = choice.how_many(
                    len(self._tenants),
                    self._spec.at_once,
                    running,
                    tenancy.in_flight,
                    self._cores_used(),
                    is_held_back=held_back > self._held_back,
                    is_opening=not all(tenant.has_begun for tenant in self._tenants.values()),
                )
                self._held_back = held_back
                if wanted > 0:
                    idle = 0 if self._take(tenancy, looker, wanted) else idle + 1
                look_at = self._clock.monotonic() + choice.next_look_s(idle)
            self._tell()
            ends_at = self._told_at + notes.EVERY_S
            if order == notes.RUN:
                ends_at = min(ends_at, look_at)
            self._wake.wait(max(ends_at - self._clock.monotonic(), 0.01))
            self._wake.clear()

    def _cores_used(self) -> float:
        """Return how many cores the process has used since this was last asked."""
        now, used_s = self._clock.monotonic(), time.process_time()
        since, before_s = self._used
        self._used = (now, used_s)
        return (used_s - before_s) / (now - since) if now > since else 0.0

    def _take(self, tenancy: Tenancy, looker: Looker, wanted: int) -> bool:
        """Take so many shards more; tell whether any was there to be taken."""
        looks = looker.look()
        self._given_up.update(look.shard for look in looks if choice.is_given_up(look) and not look.is_held)
        taken = False
        again = self._spec.retry is not None
        for look in choice.in_order(looks, self._spec.run, self.name, self._tenants, again=again):
            is_full = wanted == 0 or (choice.is_suspect(look) and self._tenants)
            if is_full or self._is_alone or self.is_draining:
                break
            tenant = tenancy.take(look)
            if tenant is not None:
                self._tenants[look.shard] = tenant
                self._is_alone = choice.is_suspect(look)
                self._failed.pop(look.shard, None)
                taken = True
                wanted -= 1
        return taken

    def _reap(self) -> bool:
        """See which shards were let go of; tell whether any was."""
        before = len(self._tenants)
        for shard, tenant in list(self._tenants.items()):
            if not tenant.has_ended:
                continue
            tenant.join()
            del self._tenants[shard]
            self._is_alone = False
            saved = tenant.saved
            self._settled += tenant.settled
            if saved is not None:
                self._released.pop(shard, None)
                self._released[shard] = (self._counter + _TOLD_FOR, saved)
                while len(self._released) > _TOLD:
                    del self._released[next(iter(self._released))]
            if tenant.failure is None:
                self._failed_in_a_row = 0
                continue
            self._failed[shard] = tenant.failure
            _log.error("a shard could not go on", shard=shard, runner=self.name, why=tenant.failure)
            self._failed_in_a_row += not tenant.is_its_file
            if self._failed_in_a_row >= _MOST_FAILED:
                self._trouble = f"{_MOST_FAILED} shards in a row could not go on: {tenant.failure}"
                self.drain()
        return len(self._tenants) < before

    def _break_off(self) -> None:
        for tenant in self._tenants.values():
            tenant.stop()
        for tenant in self._tenants.values():
            tenant.join()

    # What is heard and told --------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Heed what the coordinator says; where it says nothing any more, drain."""
        if self._clock.monotonic() < self._told_at + notes.EVERY_S:
            return
        word = notes.read_word(self._spec.folder)
        age_s = self._freshness.age_s(notes.COORDINATOR, word)
        if word is not None and word.run != self._spec.run:
            self._trouble = self._trouble or "another run of the command has the job"
            self.drain()
        elif word is not None and word.order == notes.STOP:
            self.stop()
        elif word is not None and word.order != notes.RUN:
            self.drain()
        elif age_s > _GONE_LEASES * self._lease_s and not self.is_draining:
            self._trouble = f"nothing was heard of the coordinator for {age_s:.0f} s"
            self.drain()

    def _tell(self, *, is_last: bool = False) -> None:
        now = self._clock.monotonic()
        if not is_last and now < self._told_at + notes.EVERY_S:
            return
        self._told_at = now
        self._counter += 1
        self._released = {shard: told for shard, told in self._released.items() if told[0] >= self._counter}
        for tenant in self._tenants.values():
            tenant.note_getting_on()
        state = "ended" if is_last else "draining" if self.is_draining else "running"
        notes.write_note(self._spec.folder, self._note(state))

    def _note(self, state: str) -> RunnerNote:
        shards = {shard: saved for shard, tenant in self._tenants.items() if (saved := tenant.saved) is not None}
        return RunnerNote(
            self.name,
            self._spec.run,
            self._counter,
            state,
            socket.gethostname(),
            os.getpid(),
            shards,
            {shard: saved for shard, (_, saved) in self._released.items()},
            dict(self._failed),
            tuple(sorted(self._given_up)),
            self._trouble,
            self._pace(),
            _rss_bytes(),
        )

    def _pace(self) -> float:
        now = self._clock.monotonic()
        settled = self._settled + sum(tenant.settled for tenant in self._tenants.values())
        self._marks.append((now, settled))
        since_s, before = self._marks[0]
        return round((settled - before) / (now - since_s), 1) if now > since_s else 0.0


def told_trouble(error: BaseException) -> str:
    """Return an error as one line without credentials."""
    text = str(error) if isinstance(error, CrawlPoolError) else f"{type(error).__name__}: {error}"
    return one_line(redact_text(text))


def run_runner(spec: EngineSpec) -> RunnerNote:
    """Run a runner in this process; what engines of other processes call.

    Args:
        spec: what there is to run.

    Raises:
        CrawlPoolError: as ``Runner.run``.
    """
    return dataclasses.replace(Runner(spec, is_own_process=True).run(), shards={}, released={})


def _rss_bytes() -> int:
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
