"""One shard while a runner has it: claimed, taken over, crawled, and let go of with what is left of it."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from typing import TYPE_CHECKING, Any

from crawlpool import disk
from crawlpool.clock import SYSTEM_CLOCK, Clock
from crawlpool.engines.choice import Look, Tries, Why
from crawlpool.engines.notes import saved_progress
from crawlpool.errors import Cancelled, CrawlPoolError, LeaseLost, PoolClosed
from crawlpool.events import logger
from crawlpool.redact import one_line, redact_text
from crawlpool.shards import layout, manifest
from crawlpool.shards.job import ShardJob
from crawlpool.shards.keeper import Busy, LeaseKeeper
from crawlpool.shards.takeover import take_over

if TYPE_CHECKING:
    from collections.abc import Callable

    from crawlpool.engines.base import EngineSpec
    from crawlpool.shards.keeper import Held

TRIES = "tries.json"
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
        clock: where time comes from.

    Belongs to the runner's thread.
    """

    def __init__(
        self,
        spec: EngineSpec,
        pool: Any,
        handler: Callable[..., Any] | None,
        wake: threading.Event,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.spec = spec
        self.pool = pool
        self.handler = handler
        self.wake = wake
        self.clock = clock
        self.manifest = manifest.read(spec.folder)
        self.keeper = LeaseKeeper(spec.lease_s)
        pool.set_fence(self.keeper.fence())

    def take(self, look: Look) -> Tenant | None:
        """Take a shard; ``None`` where another runner was faster."""
        held = self.keeper.claim(layout.shard_folder(self.spec.folder, look.shard))
        return None if isinstance(held, Busy) else Tenant(self, held, look)

    def close(self) -> None:
        """Let go of the leases."""
        self.keeper.close()


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
        #: Targets that got their outcome since it was taken.
        self.settled = 0
        self._began_with: int | None = None
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

    def drain(self) -> None:
        """Finish what is under way, and take no more. Returns at once; may be called again."""
        self._tell("drain")

    def stop(self) -> None:
        """Break off what is under way. Returns at once; may be called again."""
        self._tell("stop")

    def lost(self) -> None:
        """Take it that another runner may have the shard from now on."""
        self._tell("lost")

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
        why, message = Why.FAILED, "it wasn't begun"
        try:
            why, message = self._crawled()
        except LeaseLost:
            _log.warning("a shard's lease was lost", shard=shard, tenure=self._held.tenure)
            return
        except (Cancelled, PoolClosed):
            why, message = Why.DRAINED, ""
        except Exception as error:  # whatever it is: the shard's others, and other shards, are to go on
            text = str(error) if isinstance(error, CrawlPoolError) else f"{type(error).__name__}: {error}"
            message = one_line(redact_text(text))
            self.failure = message
            if not isinstance(error, CrawlPoolError):
                _log.error("a fault of crawlpool in a shard", shard=shard, exc_info=error)
        finally:
            crawl = self._crawl
            if crawl is not None:
                self._last = self._progress(crawl)
            self._tenancy.wake.set()
        self._release(why, message)
        self._tenancy.wake.set()

    def _crawled(self) -> tuple[Why, str]:
        spec, held = self._tenancy.spec, self._held
        tries = _read_tries(self._folder).begun(spec.run, is_broken_off=self._look.is_broken_off)
        _write_tries(self._folder, tries)
        path = take_over(held)
        job = ShardJob(
            path,
            root=spec.folder,
            shard=self._look.shard,
            manifest=self._tenancy.manifest,
            lease=held,
            idle_s=IDLE_S,
            **spec.job,
        )
        crawl = self._tenancy.pool.new_crawl(self._tenancy.handler, job=job, **spec.crawl)
        settled = crawl.progress().report.settled
        self._began_with = settled
        got_on = tries.got_on(settled)
        if got_on != tries:
            _write_tries(self._folder, got_on)
        with self._lock:
            self._crawl, order = crawl, self._order
        if order:
            getattr(crawl, order)()
        try:
            report = crawl.run(())
        finally:
            crawl.close()
        if crawl.is_draining and self._order:
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
        pending = saved["report"]["pending"] if saved is not None else self._look.pending
        try:
            self._held.release(pending=pending, report=report)
        except (CrawlPoolError, OSError) as error:  # its disk is full: then others take it as broken off
            self.failure = self.failure or one_line(str(error))
        else:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self._folder, TRIES))


def _read_tries(folder: str) -> Tries:
    try:
        with open(os.path.join(folder, TRIES), "rb") as file:
            found = json.loads(file.read(1000))
    except (OSError, ValueError):
        return Tries()
    return Tries.of_json(found if isinstance(found, dict) else {})


def _write_tries(folder: str, tries: Tries) -> None:
    """Write it so that it is there after a loss of power: that may be just what the shard does to a machine."""
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
