"""What a crawl has taken in and not begun: as much of it in the frontier as helps, the rest in the backlog."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from crawlpool.backlog import Backlog, pack, unpack
from crawlpool.clock import LOOK_S
from crawlpool.errors import ConfigError, CrawlPoolError
from crawlpool.frontier import Offered
from crawlpool.leg import Leg
from crawlpool.models import Outcome, Result, Target
from crawlpool.settle import first_leg
from crawlpool.source import BadLine
from crawlpool.stock import Stock

if TYPE_CHECKING:
    from collections.abc import Callable

    from crawlpool.leg import Run
    from crawlpool.seen import Seen
    from crawlpool.worker import Workforce

_BATCH = 64  # taken in one go of what is never going to be sent


class Intake(Stock):
    """The targets of one crawl on their way into the frontier.

    A host that rests, or is slow, has few of its targets in the frontier; the others lie in the backlog, and the input
    is read on: behind a hundred thousand lines of one host may be others that could be asked now.

    Args:
        run: the crawl, whose group has a backlog.
        workforce: who does the work.
        seen: what was met before.
        look: called now and then while the feeder waits for room in the backlog.

    Thread-safe.
    """

    #: Targets that may lie in the backlog before no more input is read. Those that handlers add always go there.
    AHEAD = 1_000_000

    def __init__(self, run: Run, workforce: Workforce, seen: Seen, look: Callable[[], None] = lambda: None) -> None:
        super().__init__(run, workforce)
        self._backlog = Backlog()
        self._look = look
        # Guards _seen. _read_on is waited on by the feeder, for room in the backlog.
        self._lock = threading.Lock()
        self._read_on = threading.Condition(self._lock)
        self._seen = seen

    def leg_of(self, seed: object, ordinal: int) -> Leg:
        """Return the first leg of a seed; with its verdict where it is none that can be fetched, or not a new one.

        Args:
            seed: a URL, a target, a bad line; anything else is a failure of its own.
            ordinal: which seed it is, from 1.
        """
        if isinstance(seed, BadLine):
            target = Target("", n=seed.n, input=seed.input)
            return Leg.first(self._run, target, verdict=Result(target, Outcome.FAILED, None, seed.error))
        leg = first_leg(self._run, seed)
        self._inputs.note(leg.host)
        if leg.verdict is None:
            with self._lock:
                of = self._seen.duplicate_of(leg.target, ordinal)
                if of is None:
                    leg.verdict = self._seen.refusal_of(leg.target)
                else:
                    leg.verdict = Result(leg.target, Outcome.SKIPPED, "duplicate", duplicate_of=of or None)
        return leg

    def is_new(self, target: Target) -> bool:
        """Remember a target that was added; return whether it is met for the first time."""
        with self._lock:
            return self._seen.duplicate_of(target) is None

    def begin(self, leg: Leg) -> bool:
        """Take the leg of a seed in, waiting while there is enough; by the feeder.

        Returns:
            Whether it was taken; not by a crawl that was stopped, or whose pool was closed.

        Raises:
            CrawlPoolError: when the backlog can't be written; the leg wasn't taken then.
        """
        offered = Offered.HOST_FULL
        if leg.verdict is not None or leg.host not in self._group.backed:  # else it is known without the lock
            leg.weight_bytes = _weight_of(leg.target)
            offered = self._workforce.offer(leg, block=True)
        if offered is Offered.HOST_FULL:
            line = _packed(leg.target)
            if line is None:  # it can lie in memory only
                return self._workforce.offer(leg, block=True, anyway=True) is Offered.QUEUED
            self._put_back(leg, line, offered)
            self._wait_for_room()
            return True
        return offered is Offered.QUEUED

    def add(self, target: Target) -> None:
        """Take a target in that was added; never waits.

        Raises:
            ConfigError: when it isn't JSON.
            CrawlPoolError: when the backlog can't be written; the target wasn't taken then.
        """
        # Through JSON, though it may not have to lie on the disk: what a handler gets doesn't depend on that.
        line = pack(target)
        leg = self._leg_again(unpack(line))
        offered = self._workforce.offer(leg, block=False)
        if offered is not Offered.QUEUED:
            self._put_back(leg, line, offered)

    def take_rest(self) -> list[Leg]:
        """Take targets out of the backlog that are never going to be sent; none when it is empty.

        Raises:
            CrawlPoolError: when the backlog can't be read.
        """
        return [Leg.first(self._run, target) for target in self._backlog.take_any(_BATCH)]

    def close(self) -> None:
        """Give back what the backlog holds."""
        self._backlog.close()

    def _legs_of(self, host: str, most: int) -> tuple[list[Leg], bool]:
        targets, is_last = self._backlog.take(host, most)
        with self._lock:
            self._read_on.notify_all()
        return [self._leg_again(target) for target in targets], is_last

    def _leg_again(self, target: Target) -> Leg:
        """Return the leg of a target that comes out of the backlog, or might have."""
        leg = Leg.first(self._run, target)
        leg.weight_bytes = _weight_of(target)
        with self._lock:
            leg.verdict = self._seen.refusal_of(target)
        return leg

    def _put_back(self, leg: Leg, line: bytes, offered: Offered) -> None:
        with self._lock:
            self._seen.give_back(leg.target)
        self._backlog.put(leg.host, line, leg.target.priority)
        if offered is Offered.HOST_FULL:
            # Asked after it was put: a host that is no more of them may have been looked for before.
            if leg.host not in self._group.backed:
                self._workforce.frontier.back(self._group, leg.host)
        else:
            self.has_strangers = True

    def _wait_for_room(self) -> None:
        while len(self._backlog) >= self.AHEAD and not self._group.is_stopped and not self._workforce.is_closed:
            with self._lock:
                if len(self._backlog) >= self.AHEAD:
                    self._read_on.wait(LOOK_S)
            self._look()


def found_in(target: str | Target, parent: Result | None) -> Target:
    """Return a target that is added; of a plain URL with the depth and the parent that a result gives it."""
    if isinstance(target, Target):
        return target
    depth, of = (0, None) if parent is None else (parent.target.depth + 1, parent.target.url)
    return Target(target, depth=depth, parent=of)


def _packed(target: Target) -> bytes | None:
    """Return a target as JSON; ``None`` if another one would come out of that."""
    try:
        line = pack(target)
        return line if _is_plain(target) or unpack(line) == target else None
    except (ConfigError, CrawlPoolError):
        return None


def _is_plain(target: Target) -> bool:
    """Tell whether a target has nothing that JSON might change."""
    return target.meta is None and target.data is None and target.params is None and target.headers is None


def _weight_of(target: Target) -> int:
    """Return about how many bytes a target takes, beside what each does."""
    size = len(target.url) + len(target.input or "")
    if _is_plain(target):
        return size
    try:
        return len(pack(target))
    except (ConfigError, CrawlPoolError):
        return size
