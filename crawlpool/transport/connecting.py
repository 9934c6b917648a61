"""To whom a connection is made: the addresses of a host, in which order, and how long each may take. No socket is here.

``getaddrinfo`` can't be interrupted, so a thread that has a deadline must not be in it: the pool's resolver asks in
threads of its own, and who waits for it goes on when its time is over.
"""

from __future__ import annotations

import itertools
import socket
import time
from typing import TYPE_CHECKING, Any, TypeAlias

from crawlpool.transport.resolver import MAX_ADDRESSES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from crawlpool.transport.resolver import Resolver

#: Family, type, protocol and socket address, as ``socket.socket`` and ``connect`` take them.
Place: TypeAlias = "tuple[int, int, int, Any]"


def places_of(host: str, port: int, resolver: Resolver | None, until: float | None) -> list[Place]:
    """Return where a host can be reached, in the order in which to try.

    Args:
        host: a name, or an IP address without brackets.
        port: its port.
        resolver: who looks it up; without one the calling thread does, for as long as that takes.
        until: when it is too late (monotonic seconds); ``None`` for never.

    Raises:
        socket.gaierror: when the name can't be resolved.
        TimeoutError: when that took too long.
        OSError: when the system couldn't even try.
        PoolClosed: when the pool was closed meanwhile.
    """
    if resolver is None:
        found = socket.getaddrinfo(host, port, socket.AF_UNSPEC, socket.SOCK_STREAM)
        return interleaved([(family, kind, proto, address) for family, kind, proto, _, address in found])
    known = resolver.cached(host, port)
    if known is None:
        known = resolver.resolve(host, port, None if until is None else max(until - time.monotonic(), 0.0))
    return interleaved(placed(known, port))


def placed(addresses: Iterable[str], port: int) -> list[Place]:
    """Return the places of addresses that are written as text; nothing is looked up."""
    found: list[Place] = []
    for one in addresses:
        if ":" not in one:
            found.append((socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, (one, port)))
        elif "%" not in one:
            found.append((socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, (one, port, 0, 0)))
        else:  # the number of the scope is the system's to know
            flags = socket.AI_NUMERICHOST
            for family, kind, proto, _, address in socket.getaddrinfo(one, port, 0, socket.SOCK_STREAM, 0, flags):
                found.append((family, kind, proto, address))
    return found


def interleaved(places: Sequence[Place]) -> list[Place]:
    """Return places so that the families take turns, the first one's first (RFC 8305 4); eight at most.

    A family that leads nowhere, as IPv6 does in many a network, then costs one try and not one for each address.
    """
    by_family: dict[int, list[Place]] = {}
    for one in places:
        by_family.setdefault(one[0], []).append(one)
    turns = itertools.zip_longest(*by_family.values())
    return [one for turn in turns for one in turn if one is not None][:MAX_ADDRESSES]


def until_for(until: float | None, others: int, now: float) -> float | None:
    """Return until when an address may be tried: half of the time that is left, while there are others.

    So that all together never take longer than one alone could, and one that is mute doesn't keep the next from
    being tried. libcurl shares its time out in the same way.

    Args:
        until: when there is no time left for any (monotonic seconds); ``None`` for no limit.
        others: how many addresses come after it.
        now: the time.
    """
    if until is None or not others:
        return until
    return now + max(until - now, 0.0) / 2
