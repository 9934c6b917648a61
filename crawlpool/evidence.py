"""What a run leaves behind for ``crawlpool audit``: a line in the log for each request that was sent.

Who says of itself that it was polite must not say more than is true, and a correct run must not look like a breach.
So each moment is the one by which the frontier itself went, or lies on the strict side of it:

- ``start_s`` is the time at which the frontier took the leg out for its host, read under its lock. The request is sent
  after it, never before: within the same breath, unless an auth of the user's takes its time.
- ``end_s`` is read once for a batch of legs that have ended, before anybody is told of it. So the answers were there
  already, and the frontier counts the hosts as free, and a refusal's time as begun, at the earliest then.
- ``known_s`` is the time at which the frontier was told of a refusal, read under its lock; the answer was there by
  then, so its end is no later, whoever told. A leg for a host that may have several was taken before that, and is under
  way, or after it, and has waited for the whole of the cooldown.

What lies between ``start_s`` and ``end_s`` is thus a little more than the host saw, and what lies between two requests
a little less. The legs of a host whose recorded spans keep the limits have kept them. A leg that was given up in the
very moment of its sending counts as sent, as it does for its host.
"""

from __future__ import annotations

import contextlib
import logging
import math
from typing import TYPE_CHECKING, Protocol

from crawlpool.clock import Clock, iso_utc
from crawlpool.events import LegEnded, emit, logger
from crawlpool.leg import host_of
from crawlpool.limits import HostLimits
from crawlpool.politeness import UNSENT, Came, How
from crawlpool.redact import redact_url
from crawlpool.settle import came_from

if TYPE_CHECKING:
    from collections.abc import Iterable

    import requests

    from crawlpool.leg import Leg
    from crawlpool.politeness import Address
    from crawlpool.transport.base import Completion

_NAME = "leg"
_UNLIMITED = HostLimits(concurrency=None)
_log = logger(_NAME)
_stdlib = logging.getLogger(f"crawlpool.{_NAME}")


class Asked(Protocol):
    """What a request knows of its turn: a leg, or what a thread was given that sends by itself."""

    taken_at: float
    known_at: float | None
    started_wall_s: float | None
    crawl_delay_s: float
    address: Address | None


class AskedInTurn(Asked, Protocol):
    """The same of a thread that sends by itself, with the limits that hold for it."""

    limits: HostLimits | None
    lifted_at: float


class Evidence:
    """The evidence of one batch of legs. Belongs to the worker that settles them.

    Args:
        clock: of the frontier.
    """

    __slots__ = ("_clock", "_end_s")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._end_s = clock.monotonic()

    @classmethod
    def begin(cls, clock: Clock) -> Evidence | None:
        """Note the end of legs that have completed, before anybody is told; ``None`` where nobody logs it."""
        return cls(clock) if _stdlib.isEnabledFor(logging.DEBUG) else None

    def give(self, ended: Iterable[Completion]) -> None:
        """Log each leg that was sent: after the frontier was told, as no host is to wait for a log line.

        Never raises: an application's log handler that does must not cost a target its result.
        """
        with contextlib.suppress(Exception):
            for completion in ended:
                leg: Leg = completion.exchange.token
                limits = leg.seat.limits
                came = self._came(leg, completion) if limits is None else leg.came
                if came.how is not How.UNSENT:  # what the host was told never to have had, it is not judged by
                    url, response = completion.exchange.request.url, completion.response
                    line = leg.seat
                    event = _of(leg, limits, line.shared, line.lifted_at, came, url, response, self._end_s)
                    emit(_log, "debug", event)

    def _came(self, leg: Leg, completion: Completion) -> Came:
        """Return what came of a leg whose host has no limits: nobody else has asked."""
        if leg.verdict is not None or leg.exchange is None or leg.passage.is_failure:
            return UNSENT
        return came_from(completion.response, completion.error, _UNLIMITED, self._clock.wall())


def give_turn(turn: AskedInTurn, came: Came, url: str | None, response: requests.Response | None, end_s: float) -> None:
    """Log a request that a caller's own thread has sent. Never raises.

    Args:
        turn: what the thread was given.
        came: what came of it for its host.
        url: where to.
        response: its answer, if there was one.
        end_s: when it was there, read before anybody was told.
    """
    if came.how is How.UNSENT or not _stdlib.isEnabledFor(logging.DEBUG):
        return
    with contextlib.suppress(Exception):
        limits = turn.limits
        shared = limits if limits is not None and limits.per_ip else None
        emit(_log, "debug", _of(turn, limits, shared, turn.lifted_at, came, url, response, end_s))


def _of(
    asked: Asked,
    limits: HostLimits | None,
    shared: HostLimits | None,
    lifted_at: float,
    came: Came,
    url: str | None,
    response: requests.Response | None,
    end_s: float,
) -> LegEnded:
    url = url or ""
    known_at = asked.known_at if came.how is How.REFUSED else None
    address = asked.address
    if shared is None or (address is not None and not address.is_bound_by(shared)):
        address = None  # it counted for it, and wasn't held to it
    return LegEnded(
        url=redact_url(url),
        host=host_of(url),
        start_s=round(asked.taken_at, 6),
        end_s=round(end_s if known_at is None else min(end_s, known_at), 6),
        started_at="" if asked.started_wall_s is None else iso_utc(asked.started_wall_s),
        how=came.how.value,
        status=None if response is None else response.status_code,
        retry_after_s=came.retry_after_s,
        known_s=None if known_at is None else round(known_at, 6),
        # What the host's own politeness makes of both, as it was when its turn was given.
        delay_s=None if limits is None else max(limits.delay_s, min(asked.crawl_delay_s, limits.max_cooldown_s)),
        per_host=None if limits is None else limits.concurrency,
        max_cooldown_s=None if limits is None else limits.max_cooldown_s,
        address=None if address is None else address.name,
        address_delay_s=None if address is None or shared is None else shared.delay_s,
        address_per_host=None if address is None or shared is None else shared.concurrency,
        lifted_s=None if limits is None or lifted_at == -math.inf else round(lifted_at, 6),
    )
