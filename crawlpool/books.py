"""The books of a crawl: what came in, how it ended, and which hosts were slow."""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING, Any

from crawlpool.models import Outcome, Report, Result

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crawlpool.clock import Clock
    from crawlpool.leg import Leg
    from crawlpool.politeness import Told

# Hosts whose times are kept; a crawl of more forgets the ones that were seen least.
_KEPT_HOSTS = 4096
#: The plain counts that ``Books.saved`` has.
_SAVED = ("inputs", "found", "items", "bytes", "legs", "robots_legs", "retries", "moved_in", "moved_out")
#: Why a target ends unsent for its host's sake.
_LEFT_ALONE = frozenset({"held", "host_skipped", "host_unreachable", "robots_unreachable", "crashes"})


@dataclasses.dataclass(frozen=True)
class HostTimes:
    """How one host answered: answers so far, and their mean time in seconds."""

    host: str
    answers: int
    mean_s: float


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a crawl is.

    Args:
        report: the books so far; they balance when the crawl is over.
        queued: targets that wait.
        running: targets that are being fetched or handled.
        slowest: the slowest hosts, slowest first.
        kinds: how often each kind of error ended a target.
        statuses: how often each HTTP error status ended one.
        left_alone: hosts of which targets ended unsent, by the reason in their records: the host, and how many.
        told: hosts of which an operator has said something, and what.
    """

    report: Report
    queued: int
    running: int
    slowest: tuple[HostTimes, ...]
    kinds: dict[str, int]
    statuses: dict[int, int]
    left_alone: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    told: dict[str, Told] = dataclasses.field(default_factory=dict)


class Books:
    """Counts; thread-safe.

    Args:
        clock: where time comes from.
        before: what ``saved`` returned of the books that these go on with; ``None`` for new ones.
    """

    def __init__(self, clock: Clock, before: Mapping[str, Any] | None = None) -> None:
        self._clock = clock
        # Guards every field below.
        self._lock = threading.Lock()
        self._inputs = self._found = self._items = self._bytes = self._legs = self._robots_legs = self._retries = 0
        self._moved_in = self._moved_out = 0
        self._ended = dict.fromkeys(Outcome, 0)
        self._kinds: dict[str, int] = {}
        self._statuses: dict[int, int] = {}
        self._hosts: dict[str, tuple[int, float]] = {}
        self._left_alone: dict[str, dict[str, int]] = {}
        self._pending = 0
        self._before_s = 0.0
        self._started_at: float | None = None
        self._is_complete = True
        if before:
            self._restore(before)

    def _restore(self, before: Mapping[str, Any]) -> None:
        for name in _SAVED:
            setattr(self, f"_{name}", before.get(name, 0))  # the last ones are younger than some jobs
        self._ended = {outcome: before["ended"][outcome.value] for outcome in Outcome}
        self._kinds = dict(before["kinds"])
        self._statuses = {int(status): count for status, count in before["statuses"].items()}
        self._left_alone = {reason: dict(hosts) for reason, hosts in before["left_alone"].items()}
        self._before_s = before["elapsed_s"]

    def saved(self) -> dict[str, Any]:
        """Return the counts as JSON has them, to go on with in another process."""
        with self._lock:
            return {
                **{name: getattr(self, f"_{name}") for name in _SAVED},
                "ended": {outcome.value: count for outcome, count in self._ended.items()},
                "kinds": self._kinds,
                "statuses": self._statuses,
                "left_alone": self._left_alone,
                "elapsed_s": round(self._elapsed_s(), 3),
            }

    def start(self) -> None:
        """Note that the crawl begins."""
        with self._lock:
            self._started_at = self._clock.monotonic()

    def took(self, count: int = 1) -> None:
        """Count targets or bad lines taken from the seeds."""
        with self._lock:
            self._inputs += count

    def found(self, count: int = 1) -> None:
        """Count targets added by handlers."""
        with self._lock:
            self._found += count

    def moved_in(self, count: int) -> None:
        """Count targets that other shards have handed over."""
        with self._lock:
            self._moved_in += count

    def moved_out(self, count: int) -> None:
        """Count targets that are handed over to other shards."""
        with self._lock:
            self._moved_out += count

    def unfound(self) -> None:
        """Take back a count of ``found``: the target was refused."""
        with self._lock:
            self._found -= 1

    def emitted(self, count: int = 1) -> None:
        """Count items."""
        with self._lock:
            self._items += count

    def left(self, count: int) -> None:
        """Note how many targets have no outcome at the end: they wait for the next run of a job."""
        with self._lock:
            self._pending = count

    def asked_robots(self, legs: int) -> None:
        """Count requests for robots.txt."""
        with self._lock:
            self._robots_legs += legs

    def interrupt(self) -> None:
        """Note that the crawl was stopped before its input was done."""
        with self._lock:
            self._is_complete = False

    def settle(self, result: Result, leg: Leg) -> None:
        """Count how a target ended."""
        content = result.response._content if result.response is not None else None
        size = len(content) if isinstance(content, bytes) else 0
        kind = str(result.error_kind) if result.error is not None else None
        with self._lock:
            self._ended[result.outcome] += 1
            self._bytes += size
            self._legs += result.attempts
            self._retries += max(0, result.attempts - 1 - len(result.redirects))
            if result.reason in _LEFT_ALONE:
                hosts = self._left_alone.setdefault(result.reason or "", {})
                if leg.host in hosts or len(hosts) < _KEPT_HOSTS:
                    hosts[leg.host] = hosts.get(leg.host, 0) + 1
            if kind is not None:
                self._kinds[kind] = self._kinds.get(kind, 0) + 1
            if result.outcome is Outcome.HTTP_ERROR and result.response is not None:
                status = result.response.status_code
                self._statuses[status] = self._statuses.get(status, 0) + 1
            if result.elapsed_s is not None:
                count, total = self._hosts.get(leg.host, (0, 0.0))
                self._hosts[leg.host] = (count + 1, total + result.elapsed_s)
                if len(self._hosts) > _KEPT_HOSTS:
                    self._forget_hosts()

    def report(self) -> Report:
        """Return the books of this moment."""
        with self._lock:
            return self._report()

    def progress(self, queued: int, running: int, told: Mapping[str, Told] | None = None) -> Progress:
        """Return how far the crawl is."""
        with self._lock:
            slow = sorted(((total / n, n, host) for host, (n, total) in self._hosts.items()), reverse=True)[:5]
            return Progress(
                self._report(),
                queued,
                running,
                tuple(HostTimes(host, n, mean) for mean, n, host in slow),
                dict(self._kinds),
                dict(self._statuses),
                {reason: dict(hosts) for reason, hosts in self._left_alone.items()},
                dict(told or {}),
            )

    def knows(self, host: str) -> bool:
        """Tell whether a host has answered, as far as is remembered."""
        with self._lock:
            return host in self._hosts

    def unreachable(self) -> list[str]:
        """Return hosts of which targets ended unsent, as they couldn't be reached."""
        with self._lock:
            return list(self._left_alone.get("host_unreachable", ()))

    def _elapsed_s(self) -> float:
        return self._before_s + (0.0 if self._started_at is None else self._clock.monotonic() - self._started_at)

    def _report(self) -> Report:
        return Report(
            inputs=self._inputs,
            found=self._found,
            pending=self._pending,
            **{outcome.value: count for outcome, count in self._ended.items()},
            body_bytes=self._bytes,
            legs=self._legs,
            robots_legs=self._robots_legs,
            retries=self._retries,
            elapsed_s=self._elapsed_s(),
            is_complete=self._is_complete,
            items=self._items,
            moved_in=self._moved_in,
            moved_out=self._moved_out,
        )

    def _forget_hosts(self) -> None:
        kept = sorted(self._hosts.items(), key=lambda item: item[1][0], reverse=True)[: _KEPT_HOSTS // 2]
        self._hosts = dict(kept)
