"""One host: what it is asked now, what it answered, and when it may be asked next."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from crawlpool.politeness.address import Address, Whereabouts
from crawlpool.politeness.breaker import Breaker
from crawlpool.politeness.came import REFUSALS, Came, How
from crawlpool.politeness.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable

    from crawlpool.limits import HostLimits

#: The first wait in seconds after a refusal that names no time; it doubles with each further one.
FIRST_COOLDOWN_S = 1.0
#: So long after it was last seen what had come nothing is sent to a host of which an answer may be there.
HELD_UP_S = 0.1
_UNJUDGED_S = 1.0  # a refusal that was read is judged long before that


class Host:
    """The state of one host. Times are of one monotonic clock.

    The delay counts from the end of an answer, not from its start: so the host sees it by its own clock, too, however
    long its answer was under way.

    Args:
        name: as it stands in URLs, lower case, no port.
        on_cooldown: called with the host when its cooldown has changed.
        ended_at: when its last answer ended, as far as is known.

    Not thread-safe, but for what is said of single methods: its owner's lock guards it.
    """

    __slots__ = (
        "_breaker",
        "_is_probing",
        "_on_cooldown",
        "_refusals",
        "_window",
        "address",
        "cooled_until",
        "crawl_delay_s",
        "ended_at",
        "has_answered",
        "kept_s",
        "lifted_at",
        "lines",
        "name",
        "noticed_at",
        "running",
        "whereabouts",
    )

    def __init__(
        self, name: str, on_cooldown: Callable[[Host], object] | None = None, ended_at: float = -math.inf
    ) -> None:
        self.name = name
        self.running = 0
        self.ended_at = ended_at
        self.cooled_until = -math.inf
        self.noticed_at = -math.inf  # when a refusal was read that nobody has judged yet
        self.crawl_delay_s = 0.0
        self.lines: list[Any] = []  # the schedule's own: what waits for this host
        self.has_answered = False
        self.whereabouts = Whereabouts.UNKNOWN  # looked for only where limits are per address, too
        self.address: Address | None = None
        self.lifted_at = -math.inf  # since when no earlier refusal counts
        self.kept_s = 0.0  # how long after its last answer it must be remembered, as a delay may count from there
        self._on_cooldown = on_cooldown
        self._refusals = 0
        self._breaker: Breaker | None = None  # nearly no host needs one
        self._is_probing = False
        self._window: Window | None = None  # where how many it may have at once is found out

    def delay_s(self, limits: HostLimits) -> float:
        """Return the seconds between an answer and the next request."""
        return max(limits.delay_s, min(self.crawl_delay_s, limits.max_cooldown_s))

    def may_start_at(self, limits: HostLimits) -> float:
        """Return the time from which on a request may be sent; infinity while one that runs has to end first."""
        delay_s = self.delay_s(limits)
        breaker = self._breaker
        is_open = breaker is not None and not breaker.is_closed
        if self.running:
            if delay_s or is_open or self.running >= self._most(limits):
                return math.inf
            at = self.cooled_until
        else:
            at = max(self.ended_at + delay_s, self.cooled_until) if delay_s else self.cooled_until
        return max(at, breaker.probe_at()) if is_open and breaker is not None else at

    def _most(self, limits: HostLimits) -> float:
        if limits.adaptive:
            return 1 if self._window is None else self._window.size
        return math.inf if limits.concurrency is None else limits.concurrency

    @property
    def is_lost(self) -> bool:
        """Whether its name could not be looked up."""
        return self.whereabouts is Whereabouts.LOST

    def address_for(self, limits: HostLimits | None) -> Address | None:
        """Return the address that ``limits`` hold for as well; ``None`` where they hold for the host alone."""
        address = self.address
        return None if address is None or limits is None or not address.is_bound_by(limits) else address

    def is_given_up(self, now: float) -> bool:
        """Tell whether what waits for it shall end unsent: it couldn't be reached for long."""
        return self._breaker is not None and self._breaker.is_given_up(now)

    def forgive(self) -> None:
        """Take it that its failures to connect weren't its own."""
        if self._breaker is not None:
            self._breaker.succeeded()

    def lift(self, now: float) -> None:
        """Take it that it never refused, and was never out of reach: an operator says so."""
        self.forgive()
        self.cooled_until = -math.inf
        self._refusals = 0
        self.lifted_at = now
        self._tell()

    def rest(self, seconds: float, now: float) -> None:
        """Take it that it refused before we knew it, and rests for so many seconds from now on."""
        self.cooled_until = max(self.cooled_until, now + seconds)
        self._tell()

    @property
    def trouble(self) -> Any:
        """The kind of the last failure to reach it; ``None`` where all is well."""
        return None if self._breaker is None or self._breaker.is_closed else self._breaker.kind

    def start(self) -> None:
        """Count a request that is about to be sent."""
        self.running += 1
        if self._breaker is not None and not self._breaker.is_closed:
            self._is_probing = True

    def is_late(self, now: float, looked_at: float) -> bool:
        """Tell whether a request that is about to be sent must not be any more; by any thread, without the lock.

        The host has refused another one since it was taken, or may have: nobody has looked for a while at what has
        come, as the process was held up. By the host's clock a request that follows on its refusal is one too many.

        Args:
            now: monotonic seconds.
            looked_at: when who sends it last took in what had come.
        """
        if self.cooled_until > now or self.noticed_at > now - _UNJUDGED_S:
            return True
        return self.running > 1 and now - looked_at > HELD_UP_S

    def notice(self, status: int, now: float) -> None:
        """Take the status of an answer that isn't judged yet; by the thread that reads it, without the lock."""
        if status in REFUSALS:
            self.noticed_at = now

    def refuse(self, came: Came, limits: HostLimits, now: float) -> None:
        """Take a refusal at once, before ``end`` is told of it: where several run at once each moment counts."""
        self._cool(came.retry_after_s, limits, now)

    def end(self, came: Came, limits: HostLimits, now: float, *, is_told: bool = False) -> None:
        """Take what came of a request; ``is_told`` where ``refuse`` was called for it."""
        self.running -= 1
        how = came.how
        is_probe = self._is_probing
        if not self.running:
            self._is_probing = False
        if how is How.UNSENT:
            return
        self.ended_at = now
        if limits.adaptive and limits.concurrency is not None:
            self._window = self._window or Window()
            if how is How.ANSWERED:
                self._window.went_well(limits.concurrency)
            else:
                self._window.went_wrong(self.running)
        if how is How.UNREACHABLE:
            if self._breaker is None:
                self._breaker = Breaker(limits.connect_failures)
            assert came.kind is not None
            self._breaker.failed(now, came.kind, is_probe=is_probe)
            return
        self.has_answered = True
        if self._breaker is not None:
            self._breaker.succeeded()
        if how is How.REFUSED and not is_told:
            self._cool(came.retry_after_s, limits, now)
        elif how is How.ANSWERED:
            self._refusals = 0

    def tried(self, now: float) -> None:
        """Take it that a connection was tried that nobody counts, before ``end``: the delay holds from then on, too.

        Whose fault it was isn't known then, and a host that is there after all has seen it.
        """
        self.ended_at = now

    def left(self, now: float) -> None:
        """Take the end of a request that had no limits when it started: what came of it wasn't judged."""
        self.running -= 1
        if not self.running:
            self._is_probing = False
        self.ended_at = now

    def is_forgettable(self, now: float) -> bool:
        """Tell whether a new ``Host`` would do as well, for any limits whose delay has passed."""
        return (
            not self.running
            and not self.lines
            and now >= self.cooled_until
            and now >= self.ended_at + self.kept_s
            and not self.crawl_delay_s
            and self.lifted_at == -math.inf
            and (self._breaker is None or self._breaker.is_closed)
        )

    def _cool(self, retry_after_s: float | None, limits: HostLimits, now: float) -> None:
        if now >= self.cooled_until:  # else it answers what was under way already: the same refusal
            self._refusals += 1
        if retry_after_s is None:
            # Bounded before it is computed: 2.0 ** 5000 is an error. None counted: an answer came in between.
            retry_after_s = FIRST_COOLDOWN_S * 2.0 ** min(max(self._refusals - 1, 0), 40)
        self.cooled_until = max(self.cooled_until, now + min(retry_after_s, limits.max_cooldown_s))
        self.noticed_at = -math.inf
        self._tell()

    def _tell(self) -> None:
        if self._on_cooldown is not None:
            self._on_cooldown(self)

    def __repr__(self) -> str:
        return f"<Host {self.name}: {self.running} running>"
