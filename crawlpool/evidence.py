"""What a leg leaves behind: a row for the trail of its target, and of that the log line for ``crawlpool audit``.

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
from typing import TYPE_CHECKING, Any, Protocol

from crawlpool.clock import iso_utc
from crawlpool.errors import describe, kind_of
from crawlpool.events import LegEnded, emit, logger
from crawlpool.leg import host_of
from crawlpool.limits import HostLimits
from crawlpool.politeness import UNSENT, How
from crawlpool.redact import one_line, redact_text, redact_url
from crawlpool.settle import came_from
from crawlpool.trail import LegKind, LegNote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import requests

    from crawlpool.clock import Clock
    from crawlpool.leg import Leg
    from crawlpool.politeness import Address, Came
    from crawlpool.transport.base import Completion

_NAME = "leg"
_UNLIMITED = HostLimits(concurrency=None)
_log = logger(_NAME)
_stdlib = logging.getLogger(f"crawlpool.{_NAME}")
# As plain strings: to ask an enum's member for its value takes as long as all else that is asked for a plain page.
_ANSWERED, _UNSENT, _REDIRECT, _RETRY = (
    How.ANSWERED.value,
    How.UNSENT.value,
    LegKind.REDIRECT.value,
    LegKind.RETRY.value,
)
_AGAIN, _ROBOTS = LegKind.AGAIN.value, LegKind.ROBOTS.value
_NO_LIMITS = (None,) * 9  # what `_held` returns where there was nothing


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


def is_logged() -> bool:
    """Tell whether somebody wants each leg in the log."""
    return _stdlib.isEnabledFor(logging.DEBUG)


def note_of(leg: Leg, completion: Completion, end_s: float, clock: Clock) -> LegNote | None:
    """Return the row of a leg that has completed; ``None`` for one that wasn't sent.

    Args:
        leg: what came of it for its host is known already, where that has limits.
        completion: its end.
        end_s: when that was seen, read before anybody was told of it.
        clock: for a ``Retry-After`` that is a date.
    """
    if leg.verdict is not None or leg.exchange is None:
        return None
    line, response, error, given = leg.seat, completion.response, completion.error, leg.target.url
    limits, is_through = line.limits, leg.exit is None or not leg.passage.is_failure
    # Nearly always: a page, asked for by its own URL, from a host without limits.
    how, tail = _ANSWERED, _NO_LIMITS
    if limits is not None or error is not None or response is None or response.status_code >= 400 or not is_through:
        if limits is not None:
            came = leg.came
        else:
            came = came_from(response, error, _UNLIMITED, clock.wall()) if is_through else UNSENT
        how, tail = came.how.value, _held(leg, limits, line.shared, line.lifted_at, came)
        if tail[1] is not None:
            end_s = min(end_s, tail[1])
    status = ip = moments = url = host = said = proxy = None
    if response is not None:
        status = response.status_code
        wire = getattr(response, "wire", None)
        if wire is not None:
            ip = wire.ip
            if wire.proxy is not None:
                proxy = redact_url(wire.proxy)
            moments = wire.timings or None
    if error is not None:
        said = kind_of(error).value, one_line(redact_text(describe(error)))
    if proxy is None and leg.exit is not None:
        proxy = leg.exit.name
    asked = completion.exchange.request.url
    if asked != given:
        url, own = redact_url(asked or ""), redact_url(given)
        if url == own:
            url = None
        elif (host := host_of(url)) == host_of(own):
            host = None
    not_before, rested, wall_s = leg.not_before, leg.rested_until, leg.started_wall_s
    # Rounded by hand: `round` takes four times as long, and there are many of them.
    return tuple.__new__(
        LegNote,
        (
            leg.kind,
            None if wall_s is None else (wall_s * 1e6 + 0.5) // 1 / 1e6,
            (leg.queued_at * 1e6 + 0.5) // 1 / 1e6,
            (leg.taken_at * 1e6 + 0.5) // 1 / 1e6,
            (end_s * 1e6 + 0.5) // 1 / 1e6,
            how,
            status,
            ip,
            moments,
            url,
            host,
            said,
            _rounded(not_before) if not_before else None,
            None if rested is None else _rounded(rested),
            proxy,
            *tail,
        ),
    )


def keep_trail(leg: Leg, note: LegNote | None, again: Leg | None) -> None:
    """Put a row into the trail of a leg's target, which goes on with the leg that follows.

    Args:
        leg: one that has ended.
        note: its row; ``None`` where it has none.
        again: the leg that follows on it, if one does.
    """
    if note is not None:
        leg.trail = (*leg.trail, note)
    if again is None:
        return
    again.trail = leg.trail
    if leg.kind == _ROBOTS:
        again.kind = _ROBOTS
    elif len(again.hops) > len(leg.hops):
        again.kind = _REDIRECT
    else:
        again.kind = _RETRY if again.attempt > leg.attempt else _AGAIN


def leg_ended_of(note: LegNote, target_url: str) -> LegEnded | None:
    """Return what ``crawlpool audit`` judges; ``None`` for a leg by which its host isn't judged.

    Args:
        note: a leg's row.
        target_url: of the target whose trail it is in.
    """
    if note.how == _UNSENT:  # what the host was told never to have had
        return None
    url = redact_url(target_url) if note.url is None else note.url
    return LegEnded(
        url=url,
        host=host_of(url),
        start_s=note.start_s,
        end_s=note.end_s,
        started_at="" if note.started_at_s is None else iso_utc(note.started_at_s),
        how=note.how,
        status=note.status,
        retry_after_s=note.retry_after_s,
        known_s=note.known_s,
        delay_s=note.delay_s,
        per_host=note.per_host,
        max_cooldown_s=note.max_cooldown_s,
        address=note.address,
        address_delay_s=note.address_delay_s,
        address_per_host=note.address_per_host,
        lifted_s=note.lifted_s,
    )


def log_legs(noted: Iterable[tuple[LegNote, str, Mapping[str, Any] | None]]) -> None:
    """Log legs that were sent: after the frontier was told, as no host is to wait for a log line.

    Never raises: an application's log handler that does must not cost a target its result.

    Args:
        noted: the rows, each with the URL of its target, and with ``RunOptions.log_fields`` of its run.
    """
    with contextlib.suppress(Exception):
        for note, target_url, log_fields in noted:
            event = leg_ended_of(note, target_url)
            if event is not None:
                emit(_log, "debug", event, log_fields)


def give_turn(turn: AskedInTurn, came: Came, url: str | None, response: requests.Response | None, end_s: float) -> None:
    """Log a request that a caller's own thread has sent. Never raises.

    Args:
        turn: what the thread was given.
        came: what came of it for its host.
        url: where to.
        response: its answer, if there was one.
        end_s: when it was there, read before anybody was told.
    """
    if came.how is How.UNSENT or not is_logged():
        return
    with contextlib.suppress(Exception):
        limits, wall_s = turn.limits, turn.started_wall_s
        shared = limits if limits is not None and limits.per_ip else None
        tail = _held(turn, limits, shared, turn.lifted_at, came)
        end_s = end_s if tail[1] is None else min(end_s, tail[1])
        first = LegKind.FIRST.value, wall_s, None, _rounded(turn.taken_at), _rounded(end_s), came.how.value
        status = None if response is None else response.status_code
        none = (None,) * (len(LegNote._fields) - len(first) - 1 - len(tail))
        log_legs([(LegNote._make((*first, status, *none, *tail)), url or "", None)])


def _held(
    asked: Asked, limits: HostLimits | None, shared: HostLimits | None, lifted_at: float, came: Came
) -> tuple[Any, ...]:
    """Return the last fields of a row, from ``retry_after_s`` on: what a refusal asked for, and what limits held."""
    known_at = asked.known_at if came.how is How.REFUSED else None
    address = asked.address
    if shared is None or (address is not None and not address.is_bound_by(shared)):
        address = None  # it counted for it, and wasn't held to it
    return (
        came.retry_after_s,
        None if known_at is None else _rounded(known_at),
        # What the host's own politeness makes of both, as it was when its turn was given.
        None if limits is None else max(limits.delay_s, min(asked.crawl_delay_s, limits.max_cooldown_s)),
        None if limits is None else limits.concurrency,
        None if limits is None else limits.max_cooldown_s,
        None if address is None else address.name,
        None if address is None or shared is None else shared.delay_s,
        None if address is None or shared is None else shared.concurrency,
        None if limits is None or lifted_at == -math.inf else _rounded(lifted_at),
    )


def _rounded(seconds: float) -> float:
    return (seconds * 1e6 + 0.5) // 1 / 1e6
