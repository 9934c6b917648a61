"""Several proxies: by which of them a host's requests go, which of them rest, and when all do. No lock; time is given.

Each host has an order of its own over the proxies, by a hash of both names: the first is its exit. So nothing has to be
remembered of any host, each run gives it the same, and when one proxy rests only its own hosts move.
"""

from __future__ import annotations

import enum
import hashlib
import math
from typing import TYPE_CHECKING

from crawlpool.politeness.outage import Outage
from crawlpool.redact import redact_url

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

#: So many failures of a proxy in a row have it rest, and for how many seconds; then one request tries it.
FAILURES, REST_S = 3, 60.0
#: When all rest, and each has failed so many of these tries, what waits for them is given up.
TRIES = 5


class Passage(enum.Enum):
    """What a request that went by a proxy says of it."""

    UNSENT = "unsent"  # it didn't go
    UNKNOWN = "unknown"  # nothing that could be laid to the one or the other
    THROUGH = "through"  # it came to its host
    UNREACHED = "unreached"  # the proxy did not come to the host
    REFUSED = "refused"  # the proxy would not take it to this host; whether that is the host's fault the others tell
    FAILED = "failed"  # the proxy can't be used

    @property
    def is_failure(self) -> bool:
        """Whether another proxy may do better."""
        return self is Passage.REFUSED or self is Passage.FAILED


class ExitProxies(dict[str, str]):
    """Proxies by scheme, as ``requests`` takes them, that were chosen here and not by a user. Nobody changes it."""

    __slots__ = ()


class Exit:
    """One of several proxies, and how it does.

    Args:
        url: the proxy's, credentials and all.
        name: what it is called where others read, and by the hash.

    Not thread-safe: its owner's lock guards it, but for ``name`` and ``proxies``, which don't change.
    """

    __slots__ = ("_hash", "failures", "is_resting", "is_tried", "name", "outage", "proxies", "rests", "tries", "until")

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self.proxies = ExitProxies(http=url, https=url)
        self._hash = hashlib.blake2b(name.encode() + b"\0", digest_size=8)
        self.failures = 0  # in a row
        self.outage = Outage()  # of what lies behind it
        self.is_resting = False
        self.until = -math.inf  # when it may be tried
        self.is_tried = False  # a request is under way that tries it
        self.tries = 0  # that failed, since something last came through
        self.rests = 0  # so far

    def weight(self, host: bytes) -> bytes:
        """Return its weight for a host: the heaviest is the host's exit."""
        hashed = self._hash.copy()
        hashed.update(host)
        return hashed.digest()

    def may_take(self, now: float) -> bool:
        """Tell whether a request may go by it."""
        return not self.is_resting or (not self.is_tried and now >= self.until)

    def __repr__(self) -> str:
        return f"<Exit {self.name}{', resting' if self.is_resting else ''}>"


class Exits:
    """Two proxies or more. Times are of one monotonic clock.

    Args:
        urls: of the proxies; their credentials are no part of what is hashed or told.

    Not thread-safe: its owner's lock guards it. ``of`` alone may be asked without: it reads one flag of each.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        self.urls = tuple(urls)
        self.all: list[Exit] = []
        known: dict[str, int] = {}
        for url in urls:
            name = redact_url(url).rstrip("/").lower()
            known[name] = known.get(name, 0) + 1  # one address may be there with several logins
            self.all.append(Exit(url, name if known[name] == 1 else f"{name}#{known[name]}"))
        self.news: list[tuple[str, Exit]] = []  # what somebody should hear of

    def __len__(self) -> int:
        return len(self.all)

    def home(self, host: str) -> Exit:
        """Return the exit of a host as long as all is well."""
        key = key_of(host)
        return max(self.all, key=lambda one: one.weight(key))

    def of(self, host: str) -> Exit:
        """Return the first exit of a host that doesn't rest, for what can't wait for its turn; changes nothing."""
        home = self.home(host)
        if not home.is_resting:
            return home
        return next((one for one in self._in_order(host) if not one.is_resting), home)

    def take(self, host: str, now: float, avoided: Container[Exit] = ()) -> Exit | None:
        """Return the exit by which a request is to go now; ``None`` where all rest. ``ended`` must be called for it.

        Args:
            host: the request's.
            now: the time.
            avoided: those that failed this very request before: the last to be chosen.
        """
        exit_ = self.home(host)
        if exit_.is_resting or exit_ in avoided:
            free = [one for one in self._in_order(host) if one.may_take(now)]
            if not free:
                return None
            exit_ = next((one for one in free if one not in avoided), free[0])
        if exit_.is_resting:
            exit_.is_tried = True
        return exit_

    # All together ------------------------------------------------------------------------------------------------

    @property
    def is_shut(self) -> bool:
        """Whether all rest, and it is worth waiting for one of them."""
        return all(one.is_resting for one in self.all) and not self.is_given_up

    @property
    def is_given_up(self) -> bool:
        """Whether none could be used for so long that what waits for them is to end unsent."""
        return all(one.is_resting and one.tries >= TRIES for one in self.all)

    @property
    def opens_at(self) -> float:
        """When one may be tried, where all rest; infinity while those that might be are."""
        return min((one.until for one in self.all if not one.is_tried), default=math.inf)

    def room(self, now: float) -> int:
        """Return how many may be tried now, where all rest."""
        return sum(one.may_take(now) for one in self.all)

    # What came of it ---------------------------------------------------------------------------------------------

    def ended(
        self,
        exit_: Exit,
        host: str,
        passage: Passage,
        now: float,
        *,
        is_try: bool,
        avoided: Sequence[Exit] = (),
        refused_by: Sequence[Exit] = (),
    ) -> None:
        """Take what came of a request.

        Args:
            exit_: by which it went, from ``take``.
            host: where to.
            passage: what came of it.
            now: the time.
            is_try: whether the exit rested when it was taken.
            avoided: those that failed the same request before: when all have, none can be used, and all rest.
            refused_by: those that wouldn't take the same request there: if this one did, it was their fault.
        """
        if is_try:
            exit_.is_tried = False
        if passage is Passage.THROUGH:
            self._came_through(exit_, host)
            for other in refused_by:
                self._failed(other, now, is_try=False)
        elif passage is Passage.FAILED:
            self._failed(exit_, now, is_try=is_try)
            if not refused_by and len(avoided) + 1 >= len(self.all):
                for one in self.all:
                    if not one.is_resting:
                        self._rest(one, now)
        elif passage is Passage.UNREACHED or passage is Passage.REFUSED:
            exit_.outage.failed(host, now, is_known=True)
            if exit_.outage.is_on and (is_try or (not exit_.is_resting and self._others_work(exit_))):
                self._rest(exit_, now)

    def excuses(self, exit_: Exit, excuses: int) -> bool:
        """Tell whether a request by an exit that couldn't reach its host is to be tried again without being counted.

        Args:
            exit_: which.
            excuses: how often it was already.
        """
        return exit_.outage.excuses(excuses) and self._others_work(exit_)

    def _came_through(self, exit_: Exit, host: str) -> None:
        exit_.failures = exit_.tries = 0
        exit_.outage.reached(host)
        if exit_.is_resting:
            exit_.is_resting = exit_.is_tried = False
            self.news.append(("proxy back", exit_))

    def _failed(self, exit_: Exit, now: float, *, is_try: bool) -> None:
        if exit_.is_resting and not is_try:
            return  # it was under way when the rest began, and tells nothing new
        exit_.failures += 1
        if is_try or exit_.failures >= FAILURES:
            self._rest(exit_, now)

    def _rest(self, exit_: Exit, now: float) -> None:
        exit_.until = now + REST_S
        if exit_.is_resting:
            exit_.tries += 1
        else:
            exit_.is_resting = True
            exit_.rests += 1
            self.news.append(("proxy rests", exit_))

    def _others_work(self, exit_: Exit) -> bool:
        """Tell whether something else than the exit works: else it is our own network, or the hosts."""
        return any(not one.is_resting and one.outage.has_reached for one in self.all if one is not exit_)

    def _in_order(self, host: str) -> list[Exit]:
        key = key_of(host)
        return sorted(self.all, key=lambda one: one.weight(key), reverse=True)


def key_of(host: str) -> bytes:
    """Return a host's name as it is hashed: the same with and without brackets, in Unicode and as DNS has it."""
    name = host.strip("[]").rstrip(".").lower()
    if not name.isascii():
        import idna

        try:
            return idna.encode(name, uts46=True)
        except idna.IDNAError:
            return name.encode("utf-8", "backslashreplace")
    return name.encode()
