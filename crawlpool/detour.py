"""Legs that go by one of several proxies: which one it is, what came of it, and the leg that goes by another."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

import requests

from crawlpool.errors import (
    BodyStalled,
    Cancelled,
    DeadlineExceeded,
    ErrorKind,
    HostUnreachable,
    NoDescriptors,
    PoolClosed,
    causes,
    kind_of,
)
from crawlpool.exchange import can_resend
from crawlpool.models import Outcome
from crawlpool.politeness import Passage
from crawlpool.politeness.exits import TRIES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crawlpool.leg import Leg
    from crawlpool.politeness import Exit, Exits, Host, Hosts
    from crawlpool.transport.base import Completion

_PROXY_LOGIN = 407
# What http.client and libcurl say of a proxy that was asked for a host and said no; if it wants a login it is to blame.
_REFUSAL = re.compile(r"[Tt]unnel (?:connection )?failed(?:: |, response )(?!407)\d|complete SOCKS")
_UNREACHED = frozenset({ErrorKind.DNS, ErrorKind.CONNECT, ErrorKind.TIMEOUT})
_UNKNOWN = frozenset({ErrorKind.DEADLINE, ErrorKind.INVALID_URL, ErrorKind.INTERNAL, ErrorKind.BLOCKED_ADDRESS})


class Rider(Protocol):
    """What goes by one of several proxies: a leg, or a request that a caller's own thread sends."""

    @property
    def host(self) -> str:
        """Where to."""

    exit: Exit | None
    is_try: bool
    passage: Passage
    avoided: tuple[Exit, ...]
    refused_by: tuple[Exit, ...]


def give_exit(leg: Leg, exits: Exits, now: float) -> None:
    """Give a leg that is being taken its exit; where none can be had for long it is to end unsent.

    A run that has proxies of its own goes by them.
    """
    if "proxies" not in leg.run.options.request and not ride(leg, exits, now):
        leg.verdict = leg.unsent(Outcome.FAILED, "proxies_unreachable", no_exit())


def ride(rider: Rider, exits: Exits, now: float) -> bool:
    """Give a request its exit; return whether there is one."""
    rider.exit = exits.take(rider.host, now, rider.avoided)
    rider.is_try = rider.exit is not None and rider.exit.is_resting
    return rider.exit is not None


def leave_exit(rider: Rider, exits: Exits, hosts: Hosts, told: list[tuple[str, str]], now: float) -> Iterator[Host]:
    """Take what a request that has ended says of its exit.

    Args:
        rider: the request.
        exits: all of them.
        hosts: those that are known.
        told: where the news go.
        now: the time.

    Yields:
        Each host that is forgiven: what couldn't be reached by an exit that rests now wasn't the host's fault.
    """
    if rider.exit is not None:
        by = {"avoided": rider.avoided, "refused_by": rider.refused_by}
        exits.ended(rider.exit, rider.host, rider.passage, now, is_try=rider.is_try, **by)
        rider.is_try = False  # it may wait again, and end unsent
    news, exits.news = exits.news, []
    for event, exit_ in news:
        told.append((event, exit_.name))
        if event == "proxy rests":
            for host in list(hosts):
                if host.trouble is not None and exits.home(host.name) is exit_:
                    host.forgive()
                    yield host


def passage_of(response: requests.Response | None, error: BaseException | None) -> Passage:
    """Return what came of a request that went by an exit.

    Args:
        response, error: one of them.
    """
    if error is None:
        assert response is not None
        return Passage.FAILED if response.status_code == _PROXY_LOGIN else Passage.THROUGH
    if isinstance(error, (Cancelled, PoolClosed, DeadlineExceeded, NoDescriptors)) or not isinstance(error, Exception):
        return Passage.UNKNOWN
    kind = kind_of(error)
    if kind is ErrorKind.PROXY:
        return Passage.REFUSED if any(_REFUSAL.search(str(one)) for one in causes(error)) else Passage.FAILED
    if kind in _UNREACHED and not isinstance(error, BodyStalled):
        return Passage.UNREACHED
    return Passage.UNKNOWN if kind in _UNKNOWN else Passage.THROUGH


def note_passage(
    rider: Rider, proxies: object, response: requests.Response | None, error: BaseException | None
) -> None:
    """Note on a request that has ended what came of it for its exit.

    Args:
        rider: the request.
        proxies: those by which it really went: the user's own count over the exit.
        response, error: one of them.
    """
    if rider.exit is not None and proxies is rider.exit.proxies:
        rider.passage = passage_of(response, error)


def may_detour(rider: Rider, exits: Exits) -> bool:
    """Tell whether a request that its exit failed is to go by another, uncounted: each fails it once at most."""
    return (
        rider.passage.is_failure
        and rider.exit is not None
        and rider.exit not in rider.avoided
        and len(rider.avoided) + 1 < len(exits)
    )


def may_wait(leg: Leg, exits: Exits) -> bool:
    """Tell whether a leg that no exit could take is to wait, uncounted, until one may be tried: all rest now."""
    return (
        leg.passage is Passage.FAILED
        and not leg.refused_by
        and len(leg.avoided) + 1 >= len(exits)
        and leg.excuses < TRIES
    )


def detour(before: Rider, after: Rider) -> None:
    """Have the request ``after``, the same as ``before``, go by another exit than that one went by."""
    assert before.exit is not None
    after.avoided = (*before.avoided, before.exit)
    refused = before.passage is Passage.REFUSED
    after.refused_by = (*before.refused_by, before.exit) if refused else before.refused_by


def by_another(leg: Leg, completion: Completion, exits: Exits, now: float) -> Leg | None:
    """Return the leg that follows on one that its exit failed, not counted as an attempt; ``None`` if each has."""
    exchange = leg.exchange
    if leg.verdict is not None or exchange is None:
        return None
    note_passage(leg, exchange.settings["proxies"], completion.response, completion.error)
    waits = may_wait(leg, exits) and completion.response is None
    if not (waits or may_detour(leg, exits)) or not can_resend(exchange.request):
        return None
    if completion.response is not None:
        completion.response.close()
    if exchange.request._body_position is not None:
        requests.utils.rewind_body(exchange.request)
    again = leg.next(exchange.request, leg.attempt, now)
    if waits:
        again.avoided, again.excuses = (), leg.excuses + 1
    else:
        detour(leg, again)
    return again


def no_exit() -> HostUnreachable:
    """Return the error of a request that isn't sent, as no proxy could be used for long."""
    return HostUnreachable("no proxy could be used for long; this was not tried (proxy)", ErrorKind.PROXY)
