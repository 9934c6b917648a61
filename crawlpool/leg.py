"""A leg: one request to be made for a target, and what is known of the target so far. The frontier schedules legs."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import TYPE_CHECKING, Any, Protocol

from crawlpool.address import HOST_OF_URL, input_key
from crawlpool.models import Result
from crawlpool.politeness import UNSENT, Blocks, Passage
from crawlpool.prepare import PLAIN_URL
from crawlpool.redact import is_torn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import requests

    from crawlpool.address import InputHosts
    from crawlpool.clock import Clock, Deadline
    from crawlpool.limits import HostLimits
    from crawlpool.models import Hop, Outcome, Target
    from crawlpool.politeness import Address, Exit, Told
    from crawlpool.retry import RetryPolicy
    from crawlpool.robots import Robots
    from crawlpool.sites import Sites
    from crawlpool.trail import LegNote
    from crawlpool.transport.base import Exchange

_ORIGIN = re.compile(r"(https?)://(?:[^/?#\\]*@)?(\[[^\]/?#]*\]|[^:/?#\\]+)(?::0*([0-9]*))?(?=[/?#]|$)", re.IGNORECASE)
_PORTS = {"http": "80", "https": "443"}
#: So long after it was last seen what had come nothing is sent to a host of which an answer may be there.
HELD_UP_S = 0.1


def host_of(url: str) -> str:
    """Return the host of a URL as the frontier tells hosts apart: lower case, no port; ``""`` where there is none."""
    end = url.find("/", 8)
    origin = url if end < 0 else url[:end]
    host = _hosts.get(origin)
    if host is None:
        found = HOST_OF_URL.match(url)
        host = found[1].lower().rstrip(".") if found is not None else ""
        if end < 0 or "\\" in origin:
            return host  # a query or a fragment may follow at once: this isn't known to come again
        if len(_hosts) >= _MOST_HOSTS:
            _hosts.clear()
        _hosts[origin] = host
    return host


def origin_text(url: str) -> str:
    """Return ``scheme://host[:port]`` of an http or https URL, lower case, no userinfo, no standard port; or ``""``."""
    found = _ORIGIN.match(url)
    if found is None or is_torn(url):  # no URL either: sending it says so
        return ""
    scheme, host, port = found[1].lower(), found[2].lower().rstrip("."), found[3]
    return f"{scheme}://{host}" + (f":{port}" if port and port != _PORTS[scheme] else "")


# Hosts by "scheme://authority": most URLs of a crawl have one of few.
_hosts: dict[str, str] = {}
_MOST_HOSTS = 10_000


class Run(Protocol):
    """Whoever has legs in the frontier: a ``submit``, a ``map``, a crawl."""

    @property
    def group(self) -> Group:
        """What its legs are counted and limited by."""

    @property
    def options(self) -> RunOptions:
        """How its legs are sent."""

    @property
    def is_quick(self) -> bool:
        """Whether ``settled`` runs no code that may wait for other results: then one worker settles many in one go."""

    @property
    def is_instant(self) -> bool:
        """Whether nothing of the user's runs, and nothing waits, on the way of its plain legs to ``settled``."""

    @property
    def is_choosy(self) -> bool:
        """Whether ``accept`` may refuse an answer."""

    def is_wanted(self, leg: Leg) -> bool:
        """Tell whether a leg that a worker took shall be sent; ``abort`` finds the leg from before this is asked."""

    def accept(self, leg: Leg, response: requests.Response) -> None:
        """Look at a final answer before its body is read; raise to refuse it. Called by the thread that reads."""

    def settled(self, ended: Sequence[tuple[Leg, Result]]) -> None:
        """Take the one result of each of these targets. Called by a worker, under no lock; must not raise."""


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """How the legs of a run are sent.

    Args:
        deadline_s: wall-clock seconds of a leg, or of all legs of a target together; ``None`` for none.
        is_deadline_of_leg: whether the deadline begins anew with each leg.
        max_wait_s: how long a target may wait in the frontier and in back-off, all in all; ``None`` for ever.
        max_body_bytes: cap on a decoded body.
        retry: a policy, or ``None`` for the site's or the pool's.
        max_redirects: redirects followed at most; ``None`` for the session's.
        allow_redirects: whether redirects are followed.
        request: more of what ``Session.request`` takes: auth, cookies, files, hooks, json, timeout, verify,
            cert, proxies.
        keeps_trail: whether each leg that is sent leaves a row in ``Leg.trail``.
        keeps_wire: whether answers keep the bytes of the wire, as ``response.kept``.
        owns: tells whether the run may ask a host that a redirect leads to; ``None`` for any. Where it may not, the run
            gets a ``handover.Moved`` in place of a result.
        log_fields: what log lines about its legs carry beside their own fields, as ``events.carry`` takes it.
    """

    deadline_s: float | None = None
    is_deadline_of_leg: bool = True
    max_wait_s: float | None = None
    max_body_bytes: int | None = None
    retry: RetryPolicy | None = None
    max_redirects: int | None = None
    allow_redirects: bool = True
    request: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False)
    keeps_trail: bool = False
    keeps_wire: bool = False
    owns: Callable[[str], bool] | None = None
    log_fields: Mapping[str, Any] | None = None


class Group:
    """Legs that share a bound on how many of them wait, and the limits of their hosts.

    Args:
        capacity: legs that may wait at once before ``put`` blocks; ``None`` for any number.
        limits: how hard a host may be asked by this group; ``None`` for as hard as may be.
        sites: the pool's; limits set for one origin hold for its host, in place of ``limits``.
        most: where the group has a backlog: legs that may wait at once while too few of their hosts may be asked;
            ``None`` where it has none.
        holds_blocked: whether it leaves a host alone that doesn't want us.
        gives_back: whether what there is of such a host waits as for one that an operator holds, until nothing else is
            left; without it ends at once. Only for a group that has a ``Control``.

    Its counters are the frontier's, guarded by the frontier's lock. ``is_stopped`` is only ever set; a destructor,
    which may not wait for a lock, sets it without.
    """

    __slots__ = (
        *("control", "gives_back", "inputs"),
        *("backed", "blocks", "capacity", "clearance", "holds_blocked", "hungry", "ignores_robots", "is_stopped"),
        *("limits", "most", "owes", "queued", "queued_bytes", "sites", "told"),
    )

    def __init__(
        self,
        capacity: int | None,
        limits: HostLimits | None,
        sites: Sites | None = None,
        most: int | None = None,
        holds_blocked: bool = False,
        gives_back: bool = False,
    ) -> None:
        self.capacity = capacity
        self.most = most
        self.backed: set[str] = set()  # hosts of which more lies in the backlog
        self.hungry: dict[str, int] = {}  # those of them that should have more of it, and how many
        self.queued_bytes = 0
        self.blocks = Blocks()
        self.limits = limits
        self.sites = sites
        self.clearance: Any = None  # a Clearance by robots.txt, for hosts that have limits; set before the first leg
        self.ignores_robots = False  # on purpose, which its records say
        self.holds_blocked = holds_blocked
        self.owes = False  # whether results count until they are committed; set before the first leg
        self.queued = 0
        # What an operator says of hosts, those few of which they say anything. Replaced as a whole: it is read without.
        self.told: Mapping[str, Told] = {}
        self.is_stopped = False
        self.gives_back = gives_back
        # Which hosts that aren't public the input has named; without it each target names its own. Set before all legs.
        self.inputs: InputHosts | None = None
        self.control: Any = None  # a Control, where an operator may have a say; set by itself

    @property
    def is_full(self) -> bool:
        """Whether as many legs wait as may."""
        return self.capacity is not None and self.queued >= self.capacity

    @property
    def has_much_room(self) -> bool:
        """Whether a feeder that waits should go on: woken for each single place, it would be woken all the time."""
        return self.capacity is None or self.queued <= self.capacity - max(1, min(64, self.capacity // 4))

    def keeps_waiting(self, host: str) -> bool:
        """Whether ``host`` is held, and its legs wait; they take nobody's place."""
        told = self.told.get(host)
        return told is not None and told.waits

    def limits_of(self, host: str) -> HostLimits | None:
        """Return how hard ``host`` may be asked by this group; ``None`` for as hard as may be."""
        if self.sites is not None:
            for site in self.sites.current.values():
                if site.limits is not None and host_of(site.origin) == host:
                    return site.limits.of_host(host)
        return None if self.limits is None else self.limits.of_host(host)

    def most_cooldown_s(self, host: str) -> float:
        """Return for how many seconds ``host`` may rest after a refusal: 0 where nothing limits how it is asked."""
        limits = self.limits_of(host)
        told = self.told.get(host)
        if told is not None:
            limits = told.limits(limits, self.limits)
        return 0.0 if limits is None else limits.max_cooldown_s


class Leg:
    """One request for a target.

    A leg belongs to the thread that holds it: the feeder until it is put, the frontier, then the worker that took it.
    ``exchange`` is set by the worker before it sends, so that ``abort`` finds what to end. ``ordinal`` is the run's
    own; ``verdict`` is the result of a target that isn't to be sent at all.
    """

    # What nearly every leg begins with: as attributes of the class they cost nothing to make.
    request: requests.PreparedRequest | None = None
    exchange: Exchange | None = None
    deadline: Deadline | None = None
    attempt = 1
    legs = 0
    hops: tuple[Hop, ...] = ()
    history: tuple[requests.Response, ...] = ()
    not_before: float = 0.0
    queued_at: float = 0.0
    taken_at: float = 0.0  # by the clock of the frontier
    crawl_delay_s: float = 0.0  # its host's when it was taken
    known_at: float | None = None  # when the frontier was told that its host refused
    rested_until: float | None = None  # its host, after a refusal, while it waited
    waited_s: float = 0.0
    started_wall_s: float | None = None
    ordinal = 0
    verdict: Result | None = None
    seat: Any = None  # the frontier's: where it waits or runs
    came = UNSENT  # what came of it for its host; told by the worker before it settles
    address: Address | None = None  # which it counts for, beside its host; the frontier's
    is_blocked = False  # whether its answer says that the host doesn't want us
    excuses = 0  # how often it failed and wasn't counted
    starved = 0  # how often it couldn't be sent for want of a descriptor, and wasn't counted
    exit: Exit | None = None  # the one of several proxies by which it goes; given by the frontier as it is taken
    is_try = False  # whether that one rested, and is tried by it
    passage = Passage.UNSENT  # what came of it for its exit
    avoided: tuple[Exit, ...] = ()  # exits that failed it, and weren't counted
    refused_by: tuple[Exit, ...] = ()  # those of them that may not be to blame
    rules: Robots | None = None  # of its origin; set by the frontier as it is taken
    robots: str | None = None  # what its record says of robots.txt
    weight_bytes = 0  # of its target, for groups that have a bound on that
    is_waiting = False  # in the frontier
    is_owed = False  # whether its result is one that counts as not committed
    is_counted = True  # among those of its group that wait; robots.txt's own isn't, nor one of a host on hold
    kind = "first"  # why it is sent, as its row says it; kept where trails are
    trail: tuple[LegNote, ...] = ()  # rows of its target's legs that were sent, where its run keeps them
    onward: str | None = None  # where its target's redirects have led, by another run, before it came here
    _is_plain: bool | None = None
    _origin: str | None = None

    def __init__(self, run: Run, target: Target, host: str) -> None:
        self.run = run
        self.target = target
        self.host = host

    @classmethod
    def first(cls, run: Run, target: Target, ordinal: int = 0, verdict: Result | None = None) -> Leg:
        """Return the first leg of a target."""
        leg = cls(run, target, host_of(target.url))
        leg.ordinal = ordinal
        if verdict is not None:
            leg.verdict = verdict
        return leg

    @property
    def origin(self) -> str:
        """``scheme://host[:port]`` of what is to be fetched, lower case; ``""`` where there is none."""
        if self._origin is None:
            self._origin = origin_text(self.url)
        return self._origin

    @property
    def url(self) -> str:
        """What is to be asked for: the target's URL, or the one that redirects have led to."""
        if self.request is not None:
            return self.request.url or ""
        return self.onward or self.target.url

    @property
    def is_told(self) -> bool:
        """Whether the frontier knows already that the host refused."""
        return self.known_at is not None

    @property
    def patience_ends_at(self) -> float:
        """Until when it may wait, by the clock of ``queued_at``; infinity for ever."""
        return self.queued_at + (self.run.options.max_wait_s or math.inf) - self.waited_s

    def is_plain(self) -> bool:
        """Tell whether the target is a GET or HEAD of a URL that ``PLAIN_URL`` matches, with at most headers."""
        known = self._is_plain
        if known is None:
            target = self.target
            known = self._is_plain = (
                self.onward is None
                and (target.method == "GET" or target.method == "HEAD")
                and target.data is None
                and target.params is None
                and PLAIN_URL.fullmatch(target.url) is not None
            )
        return known

    def next(self, request: requests.PreparedRequest, attempt: int, not_before: float) -> Leg:
        """Return the leg that follows on this one: the same target, and what is known of it so far."""
        leg = Leg(self.run, self.target, self.host)
        leg.request, leg.attempt, leg.not_before = request, attempt, not_before
        leg.deadline, leg.legs, leg.waited_s = self.deadline, self.legs, self.waited_s
        leg.hops, leg.history, leg.ordinal, leg.robots = self.hops, self.history, self.ordinal, self.robots
        leg.excuses, leg.starved = self.excuses, self.starved
        if self.avoided:
            leg.avoided = self.avoided
        return leg

    def leave(self, now: float) -> None:
        """Note that the leg waits no more; by the frontier."""
        self.is_waiting = False
        self.taken_at = now
        self.waited_s += now - self.queued_at

    def unsent(
        self, outcome: Outcome, reason: str | None = None, error: BaseException | None = None, more_wait_s: float = 0.0
    ) -> Result:
        """Return the result of a target whose leg isn't sent: with all that is known of it so far.

        Args:
            outcome, reason, error: as a ``Result`` has them.
            more_wait_s: what it has waited and isn't in ``waited_s`` yet.
        """
        return Result(
            target=self.target,
            outcome=outcome,
            reason=reason,
            error=error,
            redirects=self.hops,
            attempts=self.legs,
            started_at_s=self.started_wall_s,
            waited_s=self.waited_s + more_wait_s,
            robots=self.robots,
        )

    def permits(self, key: str) -> bool:
        """Tell whether the host of that key, which isn't public, was named by the user (``address.Inputs``)."""
        inputs = self.run.group.inputs
        return input_key(host_of(self.target.url)) == key if inputs is None else inputs.permits(key)

    @property
    def may_be_late(self) -> bool:
        """Whether its host may refuse something else between its being taken and its being sent."""
        limits = None if self.seat is None else self.seat.limits
        return limits is not None and limits.concurrency != 1 and not limits.delay_s

    def is_late(self, clock: Clock, looked_at: float) -> bool:
        """Tell whether the leg, about to be sent, must not be any more.

        Its host has refused another one since it was taken, or may have: nobody has looked for a while at what has
        come, as the process was held up. By the host's clock a request that follows on its refusal is one too many.

        Args:
            clock: the frontier's.
            looked_at: when who sends it last saw what had come.
        """
        host, now = self.seat.host, clock.monotonic()
        return host is not None and (host.cooled_until > now or (host.running > 1 and now - looked_at > HELD_UP_S))

    def abort(self) -> None:
        """End the leg if it is being sent; from any thread."""
        exchange = self.exchange
        if exchange is not None:
            exchange.abort()
