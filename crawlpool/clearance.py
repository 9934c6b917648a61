"""robots.txt as a leg: what asks for it before an origin's other legs go, and what its answer means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from requests.exceptions import ConnectTimeout

from crawlpool.errors import BlockedAddress, ErrorKind, HostUnreachable, kind_of
from crawlpool.events import RobotsRedirectBlocked, emit, logger
from crawlpool.leg import Leg, RunOptions
from crawlpool.models import Outcome, Result, Target
from crawlpool.retry import RetryPolicy
from crawlpool.retry.policy import RETRY_STATUSES, is_transient
from crawlpool.robots.gate import Answer, Fetched, Gate, How, Verdict
from crawlpool.robots.rules import Robots
from crawlpool.trail import LegKind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import requests
    from tenacity import RetryCallState

    from crawlpool.leg import Group, Run
    from crawlpool.trail import LegNote

_log = logger("clearance")

#: A robots.txt larger than this, decoded, is taken for a server's trouble: 512 KiB of it would be read (RFC 9309 2.5).
_MOST_BYTES = 4 * 1024 * 1024
_DEADLINE_S = 60.0
_MOST_REDIRECTS = 10  # RFC 9309 2.3.1.2 asks for five
_REASON = "robots_unreachable"
_FIRST = 1 << 40  # its priority among the legs of its host
# No connection came to be: whatever else is asked of the origin comes to the same, and its records should say so.
_LOST = frozenset({ErrorKind.DNS, ErrorKind.CONNECT, ErrorKind.TLS, ErrorKind.PROXY})
_LEFT_ALONE = frozenset({"held", "host_skipped"})
# A redirect that leads nowhere is no file (RFC 9309 2.3.1.2), and neither is what can't be asked for. Where the host's
# address must not be reached each of its legs finds that out by itself, with nothing sent, and its record says why.
_NONE = frozenset({ErrorKind.REDIRECT, ErrorKind.INVALID_URL, ErrorKind.BLOCKED_ADDRESS})


def _is_lost(error: BaseException) -> bool:
    return kind_of(error) in _LOST or isinstance(error, (HostUnreachable, ConnectTimeout))


def _is_worth_another(state: RetryCallState) -> bool:
    """Tell whether a request is sent again at once; where no connection came to be the gate asks again by itself.

    In an outage these are many, and what they'd take of the pool's retry budget is what its pages need.
    """
    outcome = state.outcome
    assert outcome is not None
    error = outcome.exception()
    if error is not None:
        return is_transient(error) and not _is_lost(error)
    return outcome.result().status_code in RETRY_STATUSES


_TWICE = RetryPolicy(attempts=2, retry=_is_worth_another)  # beyond that the gate asks again by itself


class Kept(Protocol):
    """Who keeps what robots.txt said."""

    def __call__(
        self, origin: str, fetched: Fetched, response: requests.Response | None, trail: tuple[LegNote, ...], /
    ) -> object:
        """Take what came of asking for an origin's robots.txt, before the legs go that wait for it.

        Called by a worker, under no lock. What it raises is logged, and the legs go all the same.

        Args:
            origin: whose.
            fetched: what it means.
            response: the last answer, with the text; ``None`` where there was none.
            trail: the legs for it, in order, the last with the answer; of the target ``origin + "/robots.txt"``.
        """


class Clearance:
    """The run of the robots.txt legs of another run, and what they found.

    Args:
        owner: the run whose legs need to be cleared.
        token: the crawler's product token.
        learned: takes (gate, origin, what was fetched), and lets the legs go that wait for it.
        asked: takes how many requests were sent.
        kept: takes what was found, for who keeps it.

    Thread-safe: ``gate`` is guarded by the frontier's lock, the rest doesn't change.
    """

    is_quick = True
    is_instant = False
    is_choosy = False

    def __init__(
        self,
        owner: Run,
        token: str,
        learned: Callable[[Gate, str, Fetched], None],
        asked: Callable[[int], None],
        kept: Kept | None = None,
    ) -> None:
        self._owner = owner
        self.gate = Gate()
        self.options = RunOptions(
            deadline_s=_DEADLINE_S,
            max_body_bytes=_MOST_BYTES,
            retry=_TWICE,
            max_redirects=_MOST_REDIRECTS,
            keeps_trail=kept is not None,
            log_fields=owner.options.log_fields,
        )
        self.token = token
        self._learned = learned
        self._asked = asked
        self._kept = kept

    @property
    def group(self) -> Group:
        """The owner's: the legs keep its limits."""
        return self._owner.group

    def leg_for(self, leg: Leg) -> Leg:
        """Return the leg that must go before ``leg``."""
        first = Leg.first(self, Target(f"{leg.origin}/robots.txt", priority=_FIRST))
        first.kind = LegKind.ROBOTS.value
        return first

    def is_wanted(self, leg: Leg) -> bool:
        """Tell whether anybody still waits for it."""
        return not self.group.is_stopped

    def accept(self, leg: Leg, response: requests.Response) -> None:
        """Accept any answer."""

    def settled(self, ended: Sequence[tuple[Leg, Result]]) -> None:
        """Learn what came of each."""
        self._asked(sum(result.attempts for _, result in ended))
        for leg, result in ended:
            origin = result.target.url.removesuffix("/robots.txt")
            fetched = fetched_of(result, self.token)
            error = result.error
            if isinstance(error, BlockedAddress) and result.redirects:  # else each of its URLs says the same
                emit(_log, "warning", RobotsRedirectBlocked(origin, error.host, error.address))
            if self._kept is not None:
                try:
                    self._kept(origin, fetched, result.response, leg.trail)
                except (
                    BaseException
                ) as error:  # whatever it is: without the verdict the origin's legs would wait for ever
                    _log.error("a robots.txt could not be kept", origin=origin, exc_info=error)
            self._learned(self.gate, origin, fetched)


def fetched_of(result: Result, token: str) -> Fetched:
    """Return what the answer to a request for robots.txt means (RFC 9309 2.3.1)."""
    response, error = result.response, result.error
    if result.outcome is Outcome.SKIPPED or result.reason == "cancelled":
        # Where it leads to a host that is left alone, to ask at once again would come to the same.
        return Fetched(How.UNREACHABLE if result.redirects and result.reason in _LEFT_ALONE else How.UNASKED)
    if error is not None:
        kind = result.error_kind
        if _is_lost(error):
            may_pass = is_transient(error) and not isinstance(error, HostUnreachable)
            return Fetched(How.LOST, None, kind, may_pass)
        return Fetched(How.NONE if kind in _NONE else How.UNREACHABLE)
    assert response is not None
    status = response.status_code
    if 200 <= status < 300:
        return Fetched(How.RULES, Robots(response.content, token))
    # Of the 4xx a 429 alone speaks of the moment and not of the file: it is asked for again, as Google does.
    return Fetched(How.NONE if status < 500 and status != 429 else How.UNREACHABLE)


def refusal_of(leg: Leg, answer: Answer, now: float) -> Result:
    """Return the result of a leg that waits, and whose origin's robots.txt can't be had."""
    waited_s = now - leg.queued_at
    if answer.verdict is Verdict.UNREACHABLE:
        return leg.unsent(Outcome.DISALLOWED, _REASON, None, waited_s)
    kind = answer.kind or ErrorKind.CONNECT
    error = HostUnreachable(f"{leg.origin}/robots.txt could not be fetched ({kind}); nothing else was tried", kind)
    return leg.unsent(Outcome.FAILED, _REASON, error, waited_s)
