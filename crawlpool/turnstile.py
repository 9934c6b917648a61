"""The limits of hosts, held for requests that the caller's own thread sends: it waits for the host's turn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from crawlpool.clock import LOOK_S
from crawlpool.detour import detour, may_detour, no_exit, note_passage, ride
from crawlpool.errors import DeadlineExceeded, HostUnreachable, PoolClosed
from crawlpool.events import logger, tell
from crawlpool.evidence import give_turn
from crawlpool.leg import host_of
from crawlpool.politeness import UNSENT, ExitProxies, Passage
from crawlpool.rooms import Waits
from crawlpool.settle import came_from

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import requests

    from crawlpool.clock import Clock
    from crawlpool.leg import Group, Leg
    from crawlpool.limits import HostLimits
    from crawlpool.names import Names
    from crawlpool.politeness import Address, Exit, Exits, Host
    from crawlpool.schedule import Schedule
    from crawlpool.transport.base import Exchange

_log = logger("turnstile")


class Turn:
    """A turn that a thread was given: of a host that has limits, by one of several proxies, or both.

    Belongs to that thread; the turnstile's lock is held where it is given and taken back.
    """

    exit: Exit | None = None
    is_try = False
    passage = Passage.UNSENT
    avoided: tuple[Exit, ...] = ()
    refused_by: tuple[Exit, ...] = ()

    def __init__(self, host: str, limits: HostLimits | None) -> None:
        self.host = host
        self.limits = limits
        self.at: Host | None = None
        self.address: Address | None = None  # which it counts for, beside the host
        # For the log: when it was given, when a refusal was told to everybody, and what held beside the limits.
        self.taken_at = 0.0
        self.started_wall_s: float | None = None
        self.known_at: float | None = None
        self.crawl_delay_s = 0.0
        self.lifted_at = -math.inf


class Turnstile:
    """Where a thread waits until a host may be asked; what it asks counts for the workers' legs, and theirs for it.

    Args:
        lock: the frontier's, which guards all of this.
        schedule: whose hosts are asked.
        clock: where time comes from.
        wake: called under the lock, when legs of a host may go on.
        group: says which limits hold.
        names: finds the addresses of hosts.

    Thread-safe.
    """

    def __init__(
        self,
        lock: Any,
        schedule: Schedule,
        clock: Clock,
        wake: Callable[[], None],
        group: Group,
        names: Names | None = None,
    ) -> None:
        self._lock = lock
        self._schedule = schedule
        self._clock = clock
        self._skip_to = getattr(clock, "skip_to", None)
        self._wake = wake
        self._group = group
        self._names = names
        self._turns = Waits(lock)  # by host, or by the address that it shares with others
        self._is_closed = False

    def enter(self, exchange: Exchange, before: Turn | None = None) -> Turn | None:
        """Wait until a request's host may be asked, and count it as being asked.

        Args:
            exchange: the request; it is told by which proxy it goes, where there are several.
            before: the turn of the same request that its proxy failed.

        Returns:
            What ``leave`` takes; ``None`` where nothing limits the host, and there are not several proxies.

        Raises:
            DeadlineExceeded: when its turn doesn't come before the deadline; as soon as that is known.
            HostUnreachable: when the host was given up, or all the proxies were.
            PoolClosed: when the pool was closed.
        """
        name = host_of(exchange.request.url or "")
        limits = self._group.limits_of(name)
        exits = self._schedule.exits if type(exchange.settings["proxies"]) is ExitProxies else None
        if limits is None and exits is None:
            return None
        turn = Turn(name, limits)
        if before is not None:
            detour(before, turn)
        while not self._wait(turn, exits, exchange):
            found = None if self._names is None else self._names.find(exchange)
            with self._lock:
                self._schedule.locate(name, found, self._clock.monotonic())
                self._wake()
        if turn.exit is not None:
            exchange.settings = {**exchange.settings, "proxies": turn.exit.proxies}
        return turn

    def _wait(self, turn: Turn, exits: Exits | None, exchange: Exchange) -> bool:
        """Wait for a turn, and take it; return whether there was one: first the address of the host must be known."""
        deadline, limits = exchange.deadline, turn.limits
        with self._lock:
            while True:
                if self._is_closed:
                    raise PoolClosed("the session pool is closed")
                now = self._clock.monotonic()
                at, shared = -math.inf, None
                if limits is not None:
                    turn.at = host = self._schedule.hosts.of(turn.host, now, limits.delay_s)
                    if host.is_given_up(now):
                        raise HostUnreachable(f"the host could not be reached for long ({host.trouble})", host.trouble)
                    if limits.per_ip and host.whereabouts.is_open:
                        return False
                    at, shared = host.may_start_at(limits), host.address_for(limits)
                    if shared is not None:
                        at = max(at, shared.may_start_at(limits))
                if exits is not None and exits.is_shut:
                    at = max(at, exits.opens_at)
                if at <= now:
                    if exits is not None and not ride(turn, exits, now):
                        raise no_exit()
                    turn.taken_at, turn.started_wall_s = now, self._clock.wall()
                    if turn.at is not None:
                        turn.at.start()
                        turn.crawl_delay_s, turn.lifted_at = turn.at.crawl_delay_s, turn.at.lifted_at
                        turn.address = turn.at.address
                    if turn.address is not None:
                        turn.address.start()
                    return True
                left_s = deadline.remaining_s()  # by its own clock, which may be another
                if left_s <= 0 or left_s < at - now < math.inf:
                    what = "the proxies, which rest," if exits is not None and exits.is_shut else "the host's limits"
                    raise DeadlineExceeded(f"{what} leave no turn before the deadline", request=exchange.request)
                if self._skip_to is not None and at != math.inf:
                    self._skip_to(at)
                    continue
                self._turns.wait(turn.host if shared is None else shared, min(at - now, left_s, LOOK_S))

    def leave(
        self, turn: Turn, exchange: Exchange, response: requests.Response | None, error: BaseException | None
    ) -> bool:
        """Say what came of a request; the host's next turn is somebody else's.

        Returns:
            Whether its proxy failed it, and another one may do better: then it is to be sent again, uncounted.
        """
        end_s = self._clock.monotonic()
        exits, limits, came = self._schedule.exits, turn.limits, UNSENT
        note_passage(turn, exchange.settings["proxies"], response, error)
        if limits is not None and not turn.passage.is_failure:
            came = came_from(response, error, limits, self._clock.wall())  # before the lock: it may ask a user's code
        with self._lock:
            now = self._clock.monotonic()
            if turn.exit is not None:
                self._schedule.left_exit(turn, now)
            if turn.at is not None and limits is not None:
                turn.known_at = now
                turn.at.end(came, limits, now)
                if turn.address is not None:
                    turn.address.end(came, now)
                self._schedule.look_at(turn.at, now)
            self.tell((turn,))
            self._wake()
            news, self._schedule.news = self._schedule.news, []
        give_turn(turn, came, exchange.request.url, response, end_s)
        for event, whose in news:
            tell(_log, event, whose)
        return exits is not None and may_detour(turn, exits)

    def tell(self, ended: Iterable[Turn | Leg]) -> None:
        """Wake those who wait for the hosts of requests that have ended, or for their addresses. Under the lock."""
        if self._turns:
            for one in ended:
                if one.host in self._turns:
                    self._turns[one.host].notify()
                if one.address is not None and one.address in self._turns:
                    self._turns[one.address].notify_all()  # the first may wait for its host's sake, too

    def close(self) -> None:
        """End all waits. Called under the lock."""
        self._is_closed = True
        self._turns.wake_all()
