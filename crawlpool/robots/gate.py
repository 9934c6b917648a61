"""Which origins may be asked: what is known of their robots.txt, since when, and when to ask for it again."""

from __future__ import annotations

import dataclasses
import enum
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crawlpool.errors import ErrorKind
    from crawlpool.robots.rules import Robots

#: How long a file counts (RFC 9309 2.4).
FRESH_S = 24 * 3600.0
#: Seconds from one vain try to the next, as long as there is patience.
AGAIN_S = (10.0, 20.0, 40.0, 60.0)
#: The same where the host can't be connected to, and may be in a moment: as often as a page is tried, and as long as a
#: server takes to be started again.
LOST_AGAIN_S = (1.0, 3.0, 8.0)
#: How long it is taken for granted that an origin's file can't be had: then it is tried once more.
GIVEN_UP_S = 1800.0
LOST_S = 30.0
#: Origins that are remembered; the oldest go first.
MOST = 50_000


class How(enum.Enum):
    """What came of asking for a robots.txt."""

    RULES = "rules"  # a file
    NONE = "none"  # there is none: everything is allowed
    UNREACHABLE = "unreachable"  # the server has trouble: everything is disallowed for now (RFC 9309 2.3.1.4)
    LOST = "lost"  # the host couldn't be connected to, or has no address: nothing else could be fetched either
    UNASKED = "unasked"  # the request was given up


@dataclasses.dataclass(frozen=True, slots=True)
class Fetched:
    """What came of asking: the rules where there are any, the kind of error where the host is lost.

    ``may_pass`` tells of a lost host that the next try may well succeed: a name that doesn't exist won't.
    """

    how: How
    rules: Robots | None = None
    kind: ErrorKind | None = None
    may_pass: bool = False


class Verdict(enum.Enum):
    """What a leg of an origin is to do."""

    GO = "go"  # by the rules
    FETCH = "fetch"  # robots.txt first
    WAIT = "wait"
    UNREACHABLE = "unreachable"  # end as disallowed
    LOST = "lost"  # end as failed

    @property
    def ends(self) -> bool:
        """Whether it is to end unsent."""
        return self in (Verdict.UNREACHABLE, Verdict.LOST)


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What a leg is to do; ``rules`` are ``None`` where everything is allowed."""

    verdict: Verdict
    rules: Robots | None = None
    kind: ErrorKind | None = None


_FETCH, _WAIT, _UNREACHABLE, _FREE = (
    Answer(verdict) for verdict in (Verdict.FETCH, Verdict.WAIT, Verdict.UNREACHABLE, Verdict.GO)
)


class _Permit:
    """What is known of one origin."""

    __slots__ = ("answer", "is_fetching", "since", "tries", "until")

    def __init__(self) -> None:
        self.answer = _FETCH
        self.until = math.inf  # how long the answer holds; then the file is to be fetched
        self.is_fetching = False
        self.since = 0.0  # of the first vain try of a row
        self.tries = 0


class Gate:
    """The robots.txt files of a crawl's origins. Times are of one monotonic clock.

    One fetch is under way for an origin, however many legs want to know.

    Args:
        patience_s: how long an origin whose server has trouble is asked again before its legs end.

    Not thread-safe: its owner's lock guards it.
    """

    def __init__(self, patience_s: float = 300.0) -> None:
        self._patience_s = patience_s
        self._permits: dict[str, _Permit] = {}

    def opens_at(self, origin: str, now: float) -> float:
        """Return when ``ask`` says more than "wait": any time up to now for at once, infinity while one is fetched."""
        if self.ask(origin, now).verdict is not Verdict.WAIT:
            return -math.inf
        permit = self._permits[origin]
        return math.inf if permit.is_fetching else permit.until

    def ask(self, origin: str, now: float) -> Answer:
        """Return what a leg of an origin is to do now."""
        permit = self._permits.get(origin)
        if permit is None:
            return _FETCH
        if permit.is_fetching:
            return _WAIT
        return permit.answer if now < permit.until else _FETCH

    def begin(self, origin: str) -> None:
        """Note that the file is being fetched."""
        permit = self._permits.get(origin)
        if permit is None:
            if len(self._permits) >= MOST:
                self._forget()
            permit = self._permits[origin] = _Permit()
        permit.is_fetching = True

    def learn(self, origin: str, fetched: Fetched, now: float) -> None:
        """Take what came of a fetch."""
        permit = self._permits.setdefault(origin, _Permit())
        permit.is_fetching = False
        if fetched.how is How.UNASKED:
            permit.answer, permit.until = _FETCH, math.inf
            return
        if not permit.tries:
            permit.since = now
        if fetched.how is How.UNREACHABLE:
            wait_s = AGAIN_S[min(permit.tries, len(AGAIN_S) - 1)]
            permit.tries += 1
            if now + wait_s - permit.since <= self._patience_s:
                permit.answer, permit.until = _WAIT, now + wait_s
            else:
                permit.answer, permit.until, permit.tries = _UNREACHABLE, now + GIVEN_UP_S, 0
        elif fetched.may_pass and permit.tries < len(LOST_AGAIN_S):
            permit.answer, permit.until = _WAIT, now + LOST_AGAIN_S[permit.tries]
            permit.tries += 1
        else:
            permit.tries = 0
            if fetched.how is How.LOST:
                permit.answer, permit.until = Answer(Verdict.LOST, None, fetched.kind), now + LOST_S
            else:
                permit.answer = _FREE if fetched.rules is None else Answer(Verdict.GO, fetched.rules)
                permit.until = now + FRESH_S

    def forgive(self, host: str) -> None:
        """Have the files of a host asked for anew that couldn't be had."""
        vain = (Verdict.WAIT, Verdict.UNREACHABLE, Verdict.LOST)
        for origin, permit in self._permits.items():
            if permit.answer.verdict in vain and not permit.is_fetching and _host_of(origin) == host:
                permit.answer, permit.until, permit.tries = _FETCH, math.inf, 0

    def _forget(self) -> None:
        """Forget the tenth that was met first, but for those that are being fetched or waited for."""
        old = [
            origin for origin, permit in self._permits.items() if not permit.is_fetching and permit.answer is not _WAIT
        ]
        for origin in old[: MOST // 10]:
            del self._permits[origin]


def _host_of(origin: str) -> str:
    """Return the host of ``scheme://host[:port]``."""
    host_port = origin.partition("://")[2]
    end = host_port.find("]") + 1 if host_port.startswith("[") else host_port.find(":")
    return host_port if end < 0 else host_port[:end]
