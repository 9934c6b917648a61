"""One shard while a runner has it: claimed, taken over, crawled, and let go of with what is left of it."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from crawlpool.engines.choice import Tries, Why
from crawlpool.engines.looking import TRIES, read_tries, write_tries
from crawlpool.engines.notes import saved_progress
from crawlpool.errors import Cancelled, CrawlPoolError, JobError, PoolClosed
from crawlpool.events import carry, logger
from crawlpool.redact import one_line, redact_text
from crawlpool.shards import layout
from crawlpool.shards.held import Busy
from crawlpool.shards.job import ShardJob
from crawlpool.shards.keeper import LeaseKeeper
from crawlpool.shards.takeover import enter

if TYPE_CHECKING:
    from collections.abc import Callable

    from crawlpool.engines.base import EngineSpec
    from crawlpool.engines.choice import Look
    from crawlpool.shards.held import Held
    from crawlpool.shards.manifest import Manifest

#: A shard that has asked for nothing so long after it was taken waits for its hosts.
BEGIN_S = 3.0
#: A shard with nothing to do waits so long for more of an input that is still read; then others have its place.
IDLE_S = 3.0
_log = logger("engine")


class Tenancy:
    """What all shards of one runner share: its pool, its leases.

    Args:
        spec: what there is to run.
        pool: the runner's.
        handler: of the crawls; ``None`` for none.
        wake: set whenever a shard was let go of.
        manifest: of the job.
        is_own_process: whether the process is there for nothing else.
        runner: the runner's name.

    Belongs to the runner's thread.
    """

    def __init__(
        self,
        spec: EngineSpec,
        pool: Any,
        handler: Callable[..., Any] | None,
        wake: threading.Event,
        manifest: Manifest,
        *,
        is_own_process: bool = False,
        runner: str = "",
    ) -> None:
        self.spec = spec
        self.runner = runner
        self.pool = pool
        self.handler = handler
        self.wake = wake
        self.manifest = manifest
        #: Requests that the pool may have under way at once.
        self.in_flight: int = pool._shared.settings.running_at_most
        self.keeper = LeaseKeeper(manifest.lease_s, kills_stopped=is_own_process)
        self._tenants: tuple[Tenant, ...] = ()  # replaced as a whole: it is read when a lease ends, by the keeper
        fence = self.keeper.fence()
        fence.at_end(self._ended)
        pool.set_fence(fence)

    def take(self, look: Look) -> Tenant | None:
        """Take a shard; ``None`` where another runner was faster."""
        held = self.keeper.claim(layout.shard_folder(self.spec.folder, look.shard))
        if isinstance(held, Busy):
            return None
        tenant = Tenant(self, held, look)
        self._tenants = (*(one for one in self._tenants if not one.has_ended), tenant)
        return tenant

    def held_back(self) -> int:
        """Return how often requests of the pool had to wait, as too many results weren't committed yet."""
        held_back: int = self.pool._workforce.frontier.held_back
        return held_back

    def _ended(self) -> None:
        for tenant in self._tenants:
            tenant.look_at_lease()

    def close(self) -> None:
        """Let go of the leases. The pool, should it go on, sends as if there had been none."""
        self.keeper.close()
        self.pool.set_fence(_always)


class Tenant:
    """One shard that a runner has, and the thread that runs it.

    Args:
        tenancy: what it shares with others.
        held: the claim to it.
        look: what was known of it before.

    Thread-safe.
    """

    def __init__(self, tenancy: Tenancy, held: Held, look: Look) -> None:
        self._tenancy = tenancy
        self._held = held
        self._look = look
        self._folder = layout.shard_folder(tenancy.spec.folder, look.shard)
        #: Why the shard couldn't go on, in one line; ``None`` where it could. Read after ``has_ended``.
        self.failure: str | None = None
        #: Whether that is a file of the shard's own, which says nothing of how others will do.
        self.is_its_file = False
        #: Targets that got their outcome since it was taken.
        self.settled = 0
        self._began_with: int | None = None
        self._taken_at = time.monotonic()
        self._has_begun = False  # of the runner's thread, as all that it asks for
        self._tries = Tries()
        self._is_whole = False  # whether the crawl has come to its end, so that its books are whole
        # Guards _crawl and _order: a crawl that is made after it was told to drain is told so, too.
        self._lock = threading.Lock()
        self._crawl: Any = None
        self._order = ""
        self._last: dict[str, Any] | None = None  # written by the shard's thread alone, at its end
        self._thread = threading.Thread(target=self._run, name=f"crawlpool-shard-{look.shard}", daemon=True)
        self._thread.start()

    @property
    def has_ended(self) -> bool:
        """Whether it was let go of."""
        return not self._thread.is_alive()

    @property
    def saved(self) -> dict[str, Any] | None:
        """How far the shard is, as JSON has it; ``None`` before its ledger is open."""
        crawl = self._crawl
        if self._last is not None:
            return self._last
        return None if crawl is None else self._progress(crawl)

    @property
    def running(self) -> int:
        """Targets of it that are being fetched."""
        crawl = self._crawl
        return 0 if crawl is None or self._last is not None else crawl.running

    @property
    def has_begun(self) -> bool:
        """Whether it has begun to fetch, or has had time for it."""
        if not self._has_begun:
            crawl = self._crawl
            if crawl is not None:
                self._progress(crawl)  # counts what is settled
            is_late = time.monotonic() > self._taken_at + BEGIN_S
            self._has_begun = is_late or self.has_ended or self.running > 0 or self.settled > 0
        return self._has_begun

    def note_getting_on(self) -> None:
        """Write down that the shard gets on, should it end this process after all; by the runner's thread."""
        if self._tries.count and self.settled and self._crawl is not None:
            self._tries = self._tries.got_on((self._began_with or 0) + self.settled)
            with contextlib.suppress(OSError):
                write_tries(self._folder, self._tries)

    def drain(self) -> None:
        """Finish what is under way, and take no more. Returns at once; may be called again."""
        self._tell("drain")

    def stop(self) -> None:
        """Break off what is under way. Returns at once; may be called again."""
        self._tell("stop")

    def look_at_lease(self) -> None:
        """Where the lease has ended: another runner may have the shard from now on. Returns at once."""
        if not self._held.is_held() and not self.has_ended:
            threading.Thread(target=self._tell, args=("lost",), name="crawlpool-lost", daemon=True).start()

    def join(self) -> None:
        """Wait until it was let go of."""
        self._thread.join()

    def _tell(self, order: str) -> None:
        with self._lock:
            if order == self._order or self._order == "lost":
                return
            self._order = order
            crawl = self._crawl
        if crawl is not None:
            getattr(crawl, order)()

    # The shard's thread ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        shard = self._look.shard
        carry({"shard": shard, "runner": self._tenancy.runner})
        why, message = Why.FAILED, "it wasn't begun"
        try:
            why, message = self._crawled()
        except (Cancelled, PoolClosed):
            why, message = Why.DRAINED, ""
        except Exception as error:  # whatever it is: other shards are to go on
            text = str(error) if isinstance(error, CrawlPoolError) else f"{type(error).__name__}: {error}"
            message = one_line(redact_text(text))
            if self._held.is_held():
                self.failure, self.is_its_file = message, isinstance(error, JobError)
                if not isinstance(error, CrawlPoolError):
                    _log.error("a fault of crawlpool in a shard", shard=shard, exc_info=error)
        finally:
            crawl = self._crawl
            if crawl is not None:
                self._last = self._progress(crawl)
        try:
            self._release(why, message)
        finally:
            self._tenancy.wake.set()

    def _crawled(self) -> tuple[Why, str]:
        spec, held, manifest = self._tenancy.spec, self._held, self._tenancy.manifest
        is_broken_off = held.number > 1 and not held.is_former_released
        tries = read_tries(self._folder, spec.run).begun(spec.run, is_broken_off=is_broken_off)
        if is_broken_off:
            write_tries(self._folder, tries)
        epoch = enter(held, is_shared=manifest.is_shared)
        job = ShardJob(
            epoch.path,
            root=spec.folder,
            shard=self._look.shard,
            manifest=manifest,
            lease=held,
            idle_s=IDLE_S,
            runner=self._tenancy.runner,
            outputs=manifest.outputs,
            retry=spec.retry if self._look.run != spec.run and tries.count <= 1 else None,
            **spec.job,
        )
        crawl = self._tenancy.pool.new_crawl(self._tenancy.handler, job=job, **spec.crawl)
        try:
            settled = crawl.progress().report.settled
            self._began_with = settled
            if is_broken_off:
                tries = tries.got_on(settled)
                write_tries(self._folder, tries)
            self._tries = tries
            with self._lock:
                self._crawl, order = crawl, self._order
            if order:
                getattr(crawl, order)()
            report = crawl.run(())
            self._is_whole = True
        finally:
            crawl.close()
        if self._order:
            return Why.DRAINED, ""
        return (Why.HELD if report.pending else Why.DONE), ""

    def _progress(self, crawl: Any) -> dict[str, Any]:
        progress = crawl.progress()
        if self._began_with is not None:
            self.settled = progress.report.settled - self._began_with
        return saved_progress(progress)

    def _release(self, why: Why, message: str) -> None:
        saved = self._last
        report = {"run": self._tenancy.spec.run, "why": str(why), "message": message, "progress": saved}
        pending = saved["report"]["pending"] if saved is not None and self._is_whole else None
        try:
            is_released = self._held.release(pending=pending, report=report, reason=message or None)
        except (CrawlPoolError, OSError) as error:  # its disk is full: then others take it as broken off
            self.failure = self.failure or one_line(str(error))
            return
        if not is_released:
            self._held.abandon()
            _log.warning("a shard's lease had ended", shard=self._look.shard, tenure=self._held.number)
            return
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(self._folder, TRIES))


def _always() -> bool:
    return True
