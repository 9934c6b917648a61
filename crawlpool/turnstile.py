"""The limits of hosts, held for requests that the caller's own thread sends: it waits for the host's turn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from crawlpool.clock import LOOK_S
from crawlpool.errors import DeadlineExceeded, HostUnreachable, PoolClosed
from crawlpool.leg import host_of
from crawlpool.rooms import Waits
from crawlpool.settle import came_from

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import requests

    from crawlpool.clock import Clock, Deadline
    from crawlpool.leg import Group
    from crawlpool.limits import HostLimits
    from crawlpool.politeness import Host
    from crawlpool.schedule import Schedule


class Turnstile:
    """Where a thread waits until a host may be asked; what it asks counts for the workers' legs, and theirs for it.

    Args:
        lock: the frontier's, which guards all of this.
        schedule: whose hosts are asked.
        clock: where time comes from.
        wake: called under the lock, when legs of a host may go on.
        group: says which limits hold.

    Thread-safe.
    """

    def __init__(self, lock: Any, schedule: Schedule, clock: Clock, wake: Callable[[], None], group: Group) -> None:
        self._lock = lock
        self._schedule = schedule
        self._clock = clock
        self._wake = wake
        self._group = group
        self._turns = Waits(lock)  # by host
        self._is_closed = False

    def enter(self, request: requests.PreparedRequest, deadline: Deadline) -> tuple[Host, HostLimits] | None:
        """Wait until a request's host may be asked, and count it as being asked.

        Returns:
            What ``leave`` takes; ``None`` where nothing limits the host.

        Raises:
            DeadlineExceeded: when its turn doesn't come before the deadline; as soon as that is known.
            HostUnreachable: when the host was given up.
            PoolClosed: when the pool was closed.
        """
        name = host_of(request.url or "")
        limits = self._group.limits_of(name)
        if limits is None:
            return None
        with self._lock:
            while True:
                if self._is_closed:
                    raise PoolClosed("the session pool is closed")
                now = self._clock.monotonic()
                host = self._schedule.hosts.of(name, now, limits.delay_s)
                if host.is_given_up(now):
                    raise HostUnreachable(f"the host could not be reached for long ({host.trouble})", host.trouble)
                at = host.may_start_at(limits)
                if at <= now:
                    host.start()
                    return host, limits
                if now >= deadline.at or deadline.at < at < math.inf:
                    raise DeadlineExceeded("the host's limits leave no turn before the deadline", request=request)
                self._turns.wait(name, min(min(at, deadline.at) - now, LOOK_S))

    def leave(
        self, turn: tuple[Host, HostLimits], response: requests.Response | None, error: BaseException | None
    ) -> None:
        """Say what came of a request; the host's next turn is somebody else's."""
        host, limits = turn
        came = came_from(response, error, limits, self._clock.wall())  # before the lock: it may ask a user's code
        with self._lock:
            now = self._clock.monotonic()
            host.end(came, limits, now)
            self._schedule.look_at(host, now)
            self.tell((host.name,))
            self._wake()

    def tell(self, hosts: Iterable[str]) -> None:
        """Wake those who wait for one of these hosts, of which a request has ended. Called under the lock."""
        if self._turns:
            for name in hosts:
                if name in self._turns:
                    self._turns[name].notify()

    def close(self) -> None:
        """End all waits. Called under the lock."""
        self._is_closed = True
        self._turns.wake_all()
