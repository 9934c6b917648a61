"""The judge of ``crawlpool audit``: was a host asked faster, or more at once, than allowed? Pure: no files, no clock.

For each leg, in the order in which a host's legs were started, three rules:

- **at once**: where ``per_host`` may run, a leg may start when the latest but ``per_host - 1`` of the ends of all legs
  that started before it has come. With one at a time that is the end of the last answer;
- **delay**: then it is one at a time, and the leg may start so much later;
- **cooldown**: after a refusal that ended at *t* no leg may start before *t* + min(``Retry-After`` or 1 second,
  ``max_cooldown_s``). Where several may run, those that were taken before everybody knew of it are under way. When
  an operator has released the host, refusals from before count no more.

A leg is judged by its own limits, against all legs of its host and run that had some; and where these were those of its
host's address, too, by the first two rules against all such legs of that address. The judge keeps some 36 bytes and the
URL of each leg of the run that it reads, twice where addresses are judged, and sorts the legs of one host at a time:
legs are logged at their ends, and one that took an hour may collide with any that was logged meanwhile, so a window
would let some breaches through.
"""

from __future__ import annotations

import bisect
import collections
import heapq
import math
from array import array
from typing import TYPE_CHECKING, Any, NamedTuple

from crawlpool.findings import Breach, Findings, Kind, Request
from crawlpool.politeness import How
from crawlpool.politeness.host import FIRST_COOLDOWN_S
from crawlpool.redact import redact_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

#: What rounding may make of two moments that are the same; far less than any limit that makes sense.
TOLERANCE_S = 0.001


class Allowed(NamedTuple):
    """How hard a host may be asked: ``per_host`` at once (``None``: any number), or one at a time with a delay."""

    delay_s: float = 0.0
    per_host: int | None = 1
    max_cooldown_s: float = 120.0

    @property
    def at_once(self) -> int | None:
        """How many may run at once."""
        return 1 if self.delay_s else self.per_host


class RecordedLeg(NamedTuple):
    """A leg as the log tells of it. Times are seconds of one monotonic clock.

    ``allowed`` is what held for it, ``None`` for nothing; ``known_s`` is when a refusal had been told to everybody, and
    ``lifted_s`` since when an operator had earlier ones count no more. ``address`` is the one for which its limits held
    as well, with ``address_delay_s`` and ``address_per_host``.
    """

    host: str
    url: str
    start_s: float
    end_s: float
    allowed: Allowed | None = Allowed()
    status: int | None = 200
    is_refusal: bool = False
    retry_after_s: float | None = None
    known_s: float | None = None
    line: int = 0
    address: str | None = None
    address_delay_s: float | None = None
    address_per_host: int | None = None
    lifted_s: float | None = None

    @classmethod
    def of(cls, fields: Mapping[str, Any], line: int = 0) -> RecordedLeg:
        """Return the leg of a log line's fields, which are those of ``crawlpool.events.LegEnded``.

        Raises:
            ValueError: when one is missing, or isn't what it has to be.
        """
        host, url, status = fields.get("host"), fields.get("url"), fields.get("status")
        start_s, end_s = _seconds(fields, "start_s"), _seconds(fields, "end_s")
        address = fields.get("address")
        if not isinstance(host, str) or not isinstance(url, str) or start_s is None or end_s is None or end_s < start_s:
            raise ValueError("a leg has a host, a URL, a start and an end")
        delay_s, cap_s = _seconds(fields, "delay_s"), _seconds(fields, "max_cooldown_s")
        per_host, at_address = fields.get("per_host"), fields.get("address_per_host")
        are_counts = all(one is None or (isinstance(one, int) and one > 0) for one in (per_host, at_address))
        if (delay_s is None) != (cap_s is None) or not are_counts:
            raise ValueError("the limits of a leg are all there or all null")
        return cls(
            host,
            redact_url(url),
            start_s,
            end_s,
            None if delay_s is None or cap_s is None else Allowed(delay_s, per_host, cap_s),
            status if isinstance(status, int) else None,
            fields.get("how") == How.REFUSED.value,
            _seconds(fields, "retry_after_s"),
            _seconds(fields, "known_s"),
            line,
            address if isinstance(address, str) else None,
            _seconds(fields, "address_delay_s"),
            at_address,
            _seconds(fields, "lifted_s"),
        )


class Judge:
    """Takes the legs of runs in any order within a run, and finds what was too early.

    Args:
        allowed: judges all legs by these limits in place of those that held; of those that had some, the cooldown's
            bound stays.
        most_breaches: so many are kept; all are counted.
        on_request: called with each leg, in the order of their starts within host and run, those without limits too.

    Not thread-safe.
    """

    def __init__(
        self,
        allowed: Allowed | None = None,
        most_breaches: int = 20,
        on_request: Callable[[Request], object] | None = None,
    ) -> None:
        self._allowed = allowed
        self._most = most_breaches
        self._on_request = on_request
        self._found = Findings()
        self._hosts: dict[str, _Legs] = {}
        self._addresses: dict[str, _Legs] = {}
        self._names: set[str] = set()
        self._source = ""
        # What legs have in common, each once: few differ in it.
        self._sorts: list[tuple[Allowed | None, int | None]] = []
        self._numbers: dict[tuple[Allowed | None, int | None], int] = {}

    def begin_run(self, source: str = "") -> None:
        """Judge the legs so far; those that follow are of another run, with a clock of its own.

        Args:
            source: what their lines are lines of, as places should call it.
        """
        self._judge_run()
        self._source = source

    def add(self, leg: RecordedLeg) -> None:
        """Take one leg."""
        found, allowed = self._found, leg.allowed
        found.legs += 1
        if self._allowed is not None:
            cap_s = self._allowed.max_cooldown_s if allowed is None else allowed.max_cooldown_s
            allowed = self._allowed._replace(max_cooldown_s=cap_s)
        found.without_limits += allowed is None
        legs = self._hosts.get(leg.host)
        if legs is None:
            legs = self._hosts[leg.host] = _Legs()
            self._names.add(leg.host)
        if allowed is None and self._on_request is None:
            return
        if leg.is_refusal and allowed is not None:
            asked_s = FIRST_COOLDOWN_S if leg.retry_after_s is None else leg.retry_after_s
            known_s = leg.end_s if leg.known_s is None else leg.known_s
            legs.refusals[len(legs.starts)] = min(asked_s, allowed.max_cooldown_s), known_s
        if leg.lifted_s is not None:
            legs.lifts.add(leg.lifted_s)
        legs.add(leg, self._number_of(allowed, leg.status))
        if leg.address is not None and leg.address_delay_s is not None and allowed is not None:
            shared = allowed
            if self._allowed is None:
                shared = allowed._replace(delay_s=leg.address_delay_s, per_host=leg.address_per_host)
            self._addresses.setdefault(leg.address, _Legs()).add(leg, self._number_of(shared, leg.status))

    def _number_of(self, allowed: Allowed | None, status: int | None) -> int:
        sort = allowed, status
        number = self._numbers.get(sort)
        if number is None:
            number = self._numbers[sort] = len(self._sorts)
            self._sorts.append(sort)
        return number

    def findings(self) -> Findings:
        """Judge the legs so far, and return all that was found."""
        self._judge_run()
        self._found.hosts = len(self._names)
        return self._found

    def _judge_run(self) -> None:
        if self._hosts:
            self._found.runs += 1
            while self._hosts:  # each host's legs are given back as soon as they are judged
                host = next(iter(self._hosts))
                self._judge_legs(host, self._hosts.pop(host), Kind.DELAY, Kind.AT_ONCE, self._on_request)
            while self._addresses:
                address, legs = self._addresses.popitem()
                self._judge_legs(address, legs, Kind.ADDRESS_DELAY, Kind.ADDRESS_AT_ONCE, None)

    def _judge_legs(
        self, host: str, legs: _Legs, delay: Kind, at_once: Kind, on_request: Callable[[Request], object] | None
    ) -> None:
        sorts, starts, ends = self._sorts, legs.starts, legs.ends
        bounds = {number: (sorts[number][0] or _UNLIMITED).at_once or math.inf for number in set(legs.sorts)}
        most = max((bound for bound in bounds.values() if bound != math.inf), default=1)
        latest: list[tuple[float, int]] = []  # ends, and whose: as many as any rule asks for, in order
        closed, noted = _Closed(), _Closed(after=True)  # from a refusal's end on; after everybody knew of it
        lifts = collections.deque(sorted(legs.lifts))
        last_end = -math.inf
        for leg in legs.in_order(bounds):
            start, end = starts[leg], ends[leg]
            if on_request is not None:
                gap_s = None if last_end == -math.inf else start - last_end
                last_end = max(last_end, end)
                status = sorts[legs.sorts[leg]][1]
                place = self._place(legs, leg)
                on_request(Request(self._found.runs, start, end, gap_s, status, legs.url(leg), place))
            allowed = sorts[legs.sorts[leg]][0]
            if allowed is None:
                continue
            bound = bounds[legs.sorts[leg]]
            if len(latest) >= bound:
                before, other = latest[-int(bound)]
                if allowed.delay_s:
                    self._rule(delay, start - before - allowed.delay_s, allowed.delay_s, host, legs, leg, other)
                else:
                    self._rule(at_once, start - before, bound, host, legs, leg, other)
            while lifts and lifts[0] <= start:
                closed.lift(lifts[0])
                noted.lift(lifts.popleft())
            cooling = closed if bound == 1 else noted
            if cooling.is_so(start):
                slack_s, other = start - cooling.until, cooling.leg
                self._rule(Kind.COOLDOWN, slack_s, legs.refusals[other][0], host, legs, leg, other)
            if leg in legs.refusals:
                cooldown_s, known_s = legs.refusals[leg]
                closed.add(end, end + cooldown_s, leg)
                noted.add(max(end, known_s), end + cooldown_s, leg)
            bisect.insort(latest, (end, leg))
            if len(latest) > most:
                del latest[0]

    def _rule(self, kind: Kind, slack_s: float, allowed: float, host: str, legs: _Legs, leg: int, other: int) -> None:
        tally = self._found.tallies[kind]
        tally.asked += 1
        if slack_s >= -TOLERANCE_S:
            if slack_s < tally.slack_s:
                tally.slack_s, tally.host, tally.place = slack_s, host, self._place(legs, leg)
            return
        self._found.breach_count += 1
        if len(self._found.breaches) < self._most:
            url, other_url = legs.url(leg), legs.url(other)
            place, other_place = self._place(legs, leg), self._place(legs, other)
            self._found.breaches.append(Breach(kind, host, url, place, -slack_s, allowed, other_url, other_place))

    def _place(self, legs: _Legs, leg: int) -> str:
        return f"{self._source}:{legs.lines[leg]}"


def judge(
    legs: Iterable[RecordedLeg],
    allowed: Allowed | None = None,
    on_request: Callable[[Request], object] | None = None,
) -> Findings:
    """Return what a ``Judge`` finds in the legs of one run."""
    one = Judge(allowed, on_request=on_request)
    one.begin_run()
    for leg in legs:
        one.add(leg)
    return one.findings()


class _Legs:
    """The legs of one host and run, in columns: as objects they would take ten times the memory."""

    __slots__ = ("ends", "lifts", "lines", "refusals", "sorts", "starts", "texts", "urls_end")

    def __init__(self) -> None:
        self.starts = array("d")
        self.ends = array("d")
        self.lines = array("Q")
        self.sorts = array("I")
        self.texts = bytearray()
        self.urls_end = array("Q")
        self.refusals: dict[int, tuple[float, float]] = {}  # the cooldown in seconds, and when it was known
        self.lifts: set[float] = set()

    def add(self, leg: RecordedLeg, sort: int) -> None:
        self.starts.append(leg.start_s)
        self.ends.append(leg.end_s)
        self.lines.append(leg.line)
        self.sorts.append(sort)
        self.texts += leg.url.encode("utf-8", "surrogatepass")
        self.urls_end.append(len(self.texts))

    def url(self, leg: int) -> str:
        begin = self.urls_end[leg - 1] if leg else 0
        return self.texts[begin : self.urls_end[leg]].decode("utf-8", "surrogatepass")

    def in_order(self, bounds: Mapping[int, float]) -> list[int]:
        """Return the legs by their starts. Of those that started at once the one with the least bound was first.

        The frontier takes several in one go; with limits that differ it can't have been the other way round.
        """
        order = list(range(len(self.starts)))
        if len(set(bounds.values())) > 1:
            order.sort(key=lambda leg: bounds[self.sorts[leg]])
        order.sort(key=self.starts.__getitem__)
        return order


class _Closed:
    """Until when refusals close a host, as time goes on; ``after``: not yet at the very moment where one begins."""

    __slots__ = ("_after", "_coming", "leg", "until")

    def __init__(self, *, after: bool = False) -> None:
        self._after = after
        self._coming: list[tuple[float, float, int]] = []  # a heap: from when, until when, by which leg
        self.until = -math.inf
        self.leg = -1

    def add(self, begin: float, until: float, leg: int) -> None:
        heapq.heappush(self._coming, (begin, until, leg))

    def lift(self, at: float) -> None:
        """Forget the refusals up to then."""
        self._coming = [one for one in self._coming if one[0] > at]
        heapq.heapify(self._coming)
        self.until, self.leg = -math.inf, -1

    def is_so(self, now: float) -> bool:
        """Tell whether there was a refusal up to ``now``, which never goes back: see ``until`` and ``leg``."""
        coming = self._coming
        while coming and (coming[0][0] < now or (coming[0][0] == now and not self._after)):
            _, until, leg = heapq.heappop(coming)
            if until > self.until:
                self.until, self.leg = until, leg
        return self.leg >= 0


_UNLIMITED = Allowed(0.0, None)
_LONGEST_S = 1e12  # more is no time; NaN and integers that no float can hold aren't, either


def _seconds(fields: Mapping[str, Any], name: str) -> float | None:
    value = fields.get(name)
    if value is None or (type(value) is float and 0 <= value <= _LONGEST_S):
        return value
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= _LONGEST_S:
        raise ValueError(f"{name} is no number of seconds")
    return float(value)
