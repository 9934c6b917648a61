"""What a frontier is told of hosts beside the ends of legs, and what it tells of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crawlpool.leg import host_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from crawlpool.clock import Clock
    from crawlpool.idlers import Idlers
    from crawlpool.leg import Group, Leg
    from crawlpool.robots import Fetched, Gate
    from crawlpool.schedule import Schedule


class Tidings:
    """What ``Frontier`` has for those who learn something of hosts, or want to hear of them.

    Thread-safe.
    """

    _lock: Any
    _clock: Clock
    _schedule: Schedule
    _idlers: Idlers

    def learn(self, gate: Gate, origin: str, fetched: Fetched) -> None:
        """Take what came of asking for an origin's robots.txt; the legs that waited for it may go on."""
        with self._lock:
            self._schedule.learn(gate, origin, host_of(origin), fetched, self._clock.monotonic())
            self._idlers.wake()

    def refused(self, leg: Leg) -> None:
        """Say at once that a leg's host refused, by ``leg.came``; ``settle`` says what follows on it."""
        with self._lock:
            self._schedule.refused(leg, self._clock.monotonic())

    def excuses(self, leg: Leg) -> bool:
        """Say that a leg couldn't reach its host; tell whether it is to be tried again without being counted."""
        with self._lock:
            excuses = self._schedule.excuses(leg, self._clock.monotonic())
            self._idlers.wake()
            return excuses

    def news(self) -> list[tuple[str, str]]:
        """Return what happened since the last call that somebody should hear of: events, each with its host."""
        schedule = self._schedule
        if not schedule.news:  # without the lock: who has made news asks, and sees its own
            return []
        with self._lock:
            news, schedule.news = schedule.news, []
            return news

    def cooled(self, owns: Callable[[str], bool] | None = None) -> list[tuple[str, float]]:
        """Return the hosts whose cooldown has changed since the last call, as ``Hosts.cooled`` does.

        Args:
            owns: tells which hosts the caller asks about, nobody else about these; ``None`` for the one caller.
        """
        if not self._schedule.hosts.has_cooled:  # nearly always; and without the lock
            return []
        with self._lock:
            return self._schedule.hosts.cooled(self._clock.monotonic(), owns)

    def resume_hosts(
        self,
        group: Group,
        cooled: Mapping[str, float],
        *,
        waits_delay: bool,
        owns: Callable[[str], bool] | None = None,
    ) -> None:
        """Have hosts go on where an earlier process left them, as ``Hosts.resume`` does; before legs are put.

        Args:
            group: by whose limits a host rests no longer than it may.
            cooled: hosts that rest, and for how many seconds from now.
            waits_delay: whether each host waits a full delay first.
            owns: tells which hosts are meant; ``None`` for all.
        """
        resting = [(host, min(seconds, group.most_cooldown_s(host))) for host, seconds in cooled.items()]
        with self._lock:
            self._schedule.hosts.resume(resting, self._clock.monotonic(), waits_delay=waits_delay, owns=owns)
