"""A target whose redirect leads to a host that another run asks: how it leaves one run, and how it goes on in another.

What travels is the target as it was given, its redirects so far and where the last one leads; never a header that was
made for a request. Where it arrives the redirects are followed once more without asking anybody: each is prepared from
the one before as requests prepares it (RFC 9110, section 15.4), with the credentials and headers of the pool there. So
method, body and headers are what they would have been in one run, and what a redirect takes away stays away.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import requests

from crawlpool.clock import Deadline
from crawlpool.leg import host_of
from crawlpool.models import Outcome, Result
from crawlpool.transport.base import Exchange

if TYPE_CHECKING:
    from crawlpool.leg import Leg
    from crawlpool.session import Session
    from crawlpool.transport.base import Completion

#: The reason of a ``Moved``; no record has it.
MOVED = "moved"


@dataclasses.dataclass(frozen=True)
class Moved(Result):
    """What a run gets in place of a result of a target that somebody else is to go on with (``RunOptions.owns``).

    It is no outcome: nobody counts or records it. ``response`` is the redirect, with those before it as its history.

    Args:
        again: the leg that would have followed: its ``url`` and ``host`` say where the redirect leads, ``hops`` how it
            came to that.
    """

    again: Any = None

    @classmethod
    def of(cls, leg: Leg, again: Leg, completion: Completion) -> Moved:
        """Return what the run of a leg gets whose redirect leads to somebody else's host.

        Args:
            leg: which was answered by the redirect.
            again: the leg that would follow.
            completion: the answer.
        """
        if completion.response is not None:
            completion.response.history = list(leg.history)  # requests, asked for the next hop, has taken it away
        return cls(
            leg.target,
            Outcome.SKIPPED,
            MOVED,
            response=completion.response,
            redirects=again.hops,
            attempts=leg.legs,
            started_at_s=leg.started_wall_s,
            elapsed_s=completion.elapsed_s,
            waited_s=leg.waited_s,
            again=again,
        )


def rejoined(leg: Leg, session: Session, first: requests.PreparedRequest) -> requests.PreparedRequest:
    """Return the request for where a target's redirects have led, as it would be had they been followed here.

    Args:
        leg: with ``onward`` and the redirects, as ``hops``.
        session: whose settings hold.
        first: the request for the target itself, which isn't sent.

    Raises:
        requests.RequestException: when it can't be made.
    """
    given = leg.run.options.request
    request = first
    leads_to = [*(hop.url for hop in leg.hops[1:]), leg.onward or ""]
    for hop, url in zip(leg.hops, leads_to, strict=True):
        answer = requests.Response()
        answer.status_code, answer.url, answer.request = hop.status, request.url or "", request
        answer.headers["Location"] = url
        answer._content, answer._content_consumed = b"", True
        settings = session.merge_environment_settings(
            request.url, given.get("proxies") or {}, False, given.get("verify"), given.get("cert")
        )
        following = session.next_hop(answer, Exchange(request, settings, Deadline(None)))
        if following is None:
            raise requests.exceptions.InvalidURL("the redirect that led here can't be followed")
        request = following
    if host_of(request.url or "") != leg.host:
        raise requests.exceptions.InvalidURL("the redirect that led here leads to another host now")
    return request
