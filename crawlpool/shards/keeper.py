"""The leases of one process: claiming shards, refreshing what is held, and closing the fence when that fails.

Two threads: one refreshes, and may hang for as long as a file system likes; the other does no I/O at all, and ends what
is under way in the moment in which a lease ends. A lease that has ended doesn't come back, even if the refresh that
was under way succeeds in the end: another may have begun.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import math
import os
import threading
from typing import TYPE_CHECKING, Any

from crawlpool.clock import LOOK_S
from crawlpool.errors import CrawlPoolError, JobError, SinkError
from crawlpool.events import logger
from crawlpool.fence import LEASE_CLOCK, Fence
from crawlpool.redact import one_line
from crawlpool.shards import layout
from crawlpool.shards import tenure as tenures
from crawlpool.shards.held import Busy, Held
from crawlpool.shards.lease import DEFAULT_LEASE_S, Terms, Watch
from crawlpool.shards.owner import Owner
from crawlpool.shards.switch import Switch
from crawlpool.shards.tenure import Tenure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from crawlpool.clock import Clock

_log = logger("leases")
_LEAST_WAIT_S = 0.005


class LeaseKeeper:
    """Claims shards for this process and refreshes the leases on those that it holds.

    Args:
        lease_s: how long leases hold, in seconds; the same for all who work on a job.
        clock: where time comes from; one that goes on while the machine sleeps.
        has_threads: whether it refreshes by itself; without, ``refresh_all`` and ``look`` are for the caller to call.
        owner: who claims; this process unless given.
        kills_stopped: whether the system shall kill this process when it is stopped past the end of a lease. Without,
            one that was stopped in the moment between its last look at the fence and the system call that sends makes
            that one request when it is woken. For processes that are there for nothing else; where it can't be done
            (anywhere but on Linux) it isn't.

    Thread-safe. A context manager: leaving it abandons what is held.
    """

    def __init__(
        self,
        lease_s: float = DEFAULT_LEASE_S,
        clock: Clock = LEASE_CLOCK,
        *,
        has_threads: bool = True,
        owner: Owner | None = None,
        kills_stopped: bool = False,
    ) -> None:
        self.terms = Terms(lease_s)
        self.clock = clock
        self.owner = owner or Owner.here()
        self._has_threads = has_threads
        self._pid = os.getpid()
        self._stop = threading.Event()
        self._fence = Fence(clock, unacked_s=self.terms.unacked_s)
        self._switch: Switch | None = None
        if kills_stopped:
            with contextlib.suppress(OSError):
                self._switch = Switch(clock)
        # Guards _held, _watch, _threads and _told, of each Held its _fd, _tenure, _is_writing and _ends_at, and the
        # fence's `ends_at`. Files are read and written without it: who writes a tenure's says so in `_is_writing`.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)  # somebody has written, an end has moved, or all is over
        self._held: dict[str, Held] = {}
        self._watch = Watch(self.terms, clock)
        self._threads: list[threading.Thread] = []
        self._told: set[Held] = set()  # of whose end the fence's callbacks have been told

    def fence(self) -> Fence:
        """Return the fence that is open while each lease that is held is; for ``SessionPool.set_fence``.

        While no shard is held it is open. A lease that was lost keeps it closed until it is abandoned.
        """
        return self._fence

    def held(self) -> list[Held]:
        """Return what is held, and what was lost and not abandoned yet."""
        with self._lock:
            return list(self._held.values())

    # Claiming ----------------------------------------------------------------------------------------------------

    def claim(self, shard_folder: str) -> Held | Busy:
        """Claim a shard.

        Args:
            shard_folder: the shard's; made where there is none.

        Returns:
            The shard, held and refreshed from now on; or who has it. Whether a silent owner is at its end is known
            only after it has been asked about for as long as leases hold: call this again.

        Raises:
            SinkError: when nothing can be written there.
            JobError: when the folder can't be read.
        """
        self._check_process()
        if not os.path.isdir(shard_folder):
            layout.make_folder(shard_folder)
        there = layout.tenures_there(shard_folder)
        number, former = (there[-1], None) if there else (0, None)
        if there:
            content = tenures.content_of(shard_folder, number)
            if content is None:
                return Busy(number, "an owner who came just now", 0.0)
            former = Tenure.from_bytes(number, content)
            if not self.is_over(shard_folder, number, former, content):
                with self._lock:
                    return Busy(number, _named(former), self._watch.left_s(shard_folder))
        began_at = self.clock.monotonic()
        mine = Tenure(number + 1, self.owner)
        if former is not None:
            is_sole = former.is_released and former.is_sole
            mine = dataclasses.replace(mine, epoch=former.epoch, is_sole=is_sole)
        # Looked at once more: others may have come and gone, and have removed the very name that we took.
        if not tenures.make(shard_folder, mine) or layout.tenures_there(shard_folder)[-1] != mine.number:
            return Busy(mine.number, "an owner who was quicker", self.terms.lease_s)
        fd = tenures.open_file(shard_folder, mine.number)
        held = Held(self, shard_folder, fd, mine, former, self.terms.end_after(began_at))
        with self._lock:
            self._held[shard_folder] = held
            self._watch.forget(shard_folder)
            self._settle()
        self._ensure_threads()
        tenures.remove_before(shard_folder, mine.number)
        return held

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise CrawlPoolError("a forked child has no part in its parent's leases: make a keeper of its own")

    def is_over(self, folder: str, number: int, former: Tenure | None, content: bytes) -> bool:
        """Tell whether a tenure has ended: it was released, its process is gone, or it has been silent for too long.

        Args:
            folder: the shard's, as it is claimed by.
            number: of the tenure that counts.
            former: the tenure; ``None`` where its file is damaged.
            content: what the file holds, read just now. How long it has been the same is counted from the first call.
        """
        with self._lock:
            held = self._held.get(folder)
            if held is not None and held.number == number:
                return False
            has_ended = self._watch.has_ended(folder, number, content)
        if former is None:
            return has_ended
        # One of ours that isn't held was abandoned: nobody in this process goes on with it.
        return has_ended or former.is_released or former.owner == self.owner or former.owner.is_dead()

    # Refreshing --------------------------------------------------------------------------------------------------

    def refresh_all(self) -> None:
        """Refresh each lease that hasn't ended; what can't be written is tried again the next time, until the end."""
        for held in self.held():
            if held.is_held():
                try:
                    self.refresh(held)
                except CrawlPoolError as error:
                    _log.warning("a lease could not be refreshed", shard=_number_of(held), why=str(error))

    def look(self) -> None:
        """Tell the fence's callbacks of leases that have ended, each once. Does no I/O but what they do."""
        now = self.clock.monotonic()
        with self._lock:
            fresh = [one for one in self._held.values() if now >= one._ends_at and one not in self._told]
            self._told.update(fresh)
        if fresh:
            try:
                self._fence.tell_end()
            finally:
                with self._lock:
                    self._settle()  # by now nothing is under way: nobody need be killed for that
            for held in fresh:
                _log.warning("a lease has ended", shard=_number_of(held), tenure=held.number)

    def refresh(self, held: Held, **changed: Any) -> None:
        """Write a tenure again, with changes; move the lease's end on when that is acknowledged.

        Raises:
            JobError: when the lease has ended.
            SinkError: when it can't be written, or the folder can't be looked into.
        """
        self._check_process()
        with self._writing(held):
            began_at = self.clock.monotonic()
            held.check()
            now = dataclasses.replace(held._tenure, counter=held._tenure.counter + 1, **changed)
            try:
                tenures.rewrite(held._fd, now)
            except OSError as error:
                raise SinkError(f"{one_line(held.folder)}: {error.strerror or error}") from error
            is_newest = layout.tenures_there(held.folder)[-1:] == [held.number]
            with self._lock:
                held._tenure = now
                if not is_newest:
                    held._ends_at = -math.inf
                elif self.clock.monotonic() < held._ends_at:  # else it came too late: another may have begun
                    held._ends_at = self.terms.end_after(began_at)
                self._settle()
        held.check()

    def release(self, held: Held, **told: Any) -> bool:
        """Write that a shard is given up, and drop it; for ``Held.release``."""
        try:
            self.refresh(held, **told)
        except JobError:
            return False
        finally:
            self.drop(held)
        return True

    def drop(self, held: Held) -> None:
        """Let go of a shard without a word; for ``Held.abandon``."""
        with self._lock:
            held._ends_at = -math.inf
            if self._held.get(held.folder) is held:
                del self._held[held.folder]
            self._told.discard(held)
            self._settle()
            fd = -1
            if not held._is_writing:  # else who writes closes it: that may take as long as the file system likes
                fd, held._fd = held._fd, -1
        if fd >= 0:
            os.close(fd)

    @contextlib.contextmanager
    def _writing(self, held: Held) -> Iterator[None]:
        with self._lock:
            while held._is_writing:
                self._changed.wait(LOOK_S)
            held._is_writing = True
        try:
            yield
        finally:
            fd = -1
            with self._lock:
                held._is_writing = False
                if self._held.get(held.folder) is not held:
                    fd, held._fd = held._fd, -1
                self._changed.notify_all()
            if fd >= 0:
                os.close(fd)

    def _settle(self) -> None:
        """Set the fence to the earliest end, under the lock, and wake who waits for it."""
        self._fence.ends_at = min((one._ends_at for one in self._held.values()), default=math.inf)
        if self._switch is not None:
            ends = (one._ends_at for one in self._held.values() if one not in self._told and one._ends_at > -math.inf)
            self._switch.put_off(min(ends, default=math.inf) + self.terms.margin_s / 2)
        self._changed.notify_all()

    # Its threads -------------------------------------------------------------------------------------------------

    def _ensure_threads(self) -> None:
        with self._lock:
            if self._threads or not self._has_threads or self._stop.is_set():
                return
            for run, name in ((self._keep, "crawlpool-leases"), (self._guard, "crawlpool-lease-ends")):
                carried = contextvars.copy_context()  # their log lines carry what the claiming thread's do: the runner
                self._threads.append(threading.Thread(target=carried.run, args=(run,), name=name, daemon=True))
            started = list(self._threads)
        for thread in started:
            thread.start()

    def _keep(self) -> None:
        while not self._stop.wait(self.terms.refresh_s):
            try:
                self.refresh_all()
            except Exception:  # a fault of ours; the leases end by themselves
                _log.exception("refreshing leases failed")

    def _guard(self) -> None:
        while not self._stop.is_set():
            try:
                self.look()
            except Exception:  # of a callback; the fence is closed all the same
                _log.exception("ending what is under way failed")
            with self._lock:
                ends = [one._ends_at for one in self._held.values() if one not in self._told]
                left_s = min(ends, default=math.inf) - self.clock.monotonic()
                if left_s > 0 and not self._stop.is_set():
                    self._changed.wait(min(left_s + _LEAST_WAIT_S, LOOK_S))

    def close(self) -> None:
        """Abandon what is held, and end the threads. May be called again."""
        self._stop.set()
        with self._lock:
            self._changed.notify_all()
            threads = list(self._threads)
        for held in self.held():
            held.abandon()
        if self._switch is not None:
            self._switch.close()
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(self.terms.lease_s)  # longer, and a file system hangs: no process is to wait for that

    def __enter__(self) -> LeaseKeeper:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _number_of(held: Held) -> int | str:
    name = os.path.basename(held.folder)
    return int(name) if name.isdecimal() else name


def _named(tenure: Tenure | None) -> str:
    return "an owner whose file is damaged" if tenure is None else str(tenure.owner)
