"""A target that its redirects have led from one shard to another, as a row of the ledger: what it was, and where it is.

Its line begins with ``>``, and holds the target as it was given, the redirects that were followed and what they took,
where the last one leads, and whose target it was. It has no credential: a target with one isn't taken into a job, a
redirect's login is dropped (``redirects``), and headers are made again where it arrives (``handover``).

The requests that were sent for it so far aren't part of it. They lie in the ledger of the shard whose hosts were asked,
as the legs of a target that was handed over: so the legs of a host are all in one ledger.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from crawlpool.backlog import pack, target_of
from crawlpool.ledger.schema import HANDED_OVER
from crawlpool.ledger.transfer import rank_of
from crawlpool.leg import Leg, host_of
from crawlpool.models import Hop
from crawlpool.trail import LegKind

if TYPE_CHECKING:
    from crawlpool.handover import Moved
    from crawlpool.leg import Run
    from crawlpool.models import Target

#: How the line of such a target begins.
MARK = ">"
_REDIRECT = LegKind.REDIRECT.value
_encode = json.JSONEncoder(separators=(",", ":")).encode


class HandedOver(NamedTuple):
    """A target that is handed over: to which shard, its row there as JSON, and what the ledger here is told of it.

    ``told`` is a JSON list open at its end, as ``ledger.transfer.Transfer.handed_over`` has it; where a result has the
    part in which its record stands it has the shard.
    """

    shard: int
    row: str
    told: str


class Chain(NamedTuple):
    """What the line of a target says that was handed over.

    Args:
        target: as it was given.
        url: where its redirects have led.
        hops: the redirects.
        legs: requests that were sent for it.
        waited_s: what it has waited.
        robots: what its record says of robots.txt, as far as it has come.
        excuses: how often it failed and wasn't counted.
        source: the shard that handed it over.
        source_id: its number there.
    """

    target: Target
    url: str
    hops: tuple[Hop, ...]
    legs: int
    waited_s: float
    robots: str | None
    excuses: int
    source: int
    source_id: int


def handed_over(leg: Leg, moved: Moved, source: int, shard: int) -> HandedOver:
    """Return what becomes of a target whose redirect leads to a host of another shard.

    Args:
        leg: which was answered by the redirect; with its trail.
        moved: what its run got.
        source: the shard that has the target.
        shard: the one that gets it.
    """
    again, target = moved.again, leg.target
    said = {
        "to": again.url,
        "hops": [[hop.url, hop.status] for hop in again.hops],
        "legs": again.legs,
        "waited_s": round(again.waited_s, 6),
        "robots": leg.robots,
        "excuses": again.excuses,
        "from": [source, leg.ordinal],
    }
    line = f'{MARK}{{"target":{pack(target).decode("ascii")},{_encode(said)[1:]}'
    row = (target.n, _plain(again.host), rank_of(target.priority), line, None, None, 0)
    status = "null" if moved.response is None else moved.response.status_code
    legs = ",".join([note.json for note in leg.trail])
    told = f"[{leg.ordinal},{HANDED_OVER},null,{status},null,{shard},0,0,[{legs}]"
    return HandedOver(shard, _encode(row), told)


def chain_of(line: str) -> Chain:
    """Return what a line says that begins with ``MARK``.

    Raises:
        ValueError, KeyError, TypeError: when it can't be read.
    """
    said: dict[str, Any] = json.loads(line[len(MARK) :])
    source, source_id = said["from"]
    return Chain(
        target_of(said["target"]),
        said["to"],
        tuple(Hop(url, status) for url, status in said["hops"]),
        said["legs"],
        said["waited_s"],
        said["robots"],
        said["excuses"],
        source,
        source_id,
    )


def leg_of_chain(run: Run, line: str, host: str) -> Leg:
    """Return the leg by which a target goes on that was handed over.

    Args:
        run: the crawl of the shard that it came to.
        line: the target's.
        host: its host; empty for what waits for none.
    """
    chain = chain_of(line)
    leg = Leg(run, chain.target, host or host_of(chain.url))
    leg.onward, leg.hops, leg.legs, leg.waited_s = chain.url, chain.hops, chain.legs, chain.waited_s
    leg.robots, leg.excuses, leg.kind = chain.robots, chain.excuses, _REDIRECT
    return leg


def _plain(host: str) -> str:
    return host.encode("utf-8", "backslashreplace").decode()
