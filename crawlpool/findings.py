"""What the judge of ``crawlpool audit`` has found: how often each rule was asked, how closely it was kept."""

from __future__ import annotations

import dataclasses
import enum
import math
from typing import NamedTuple


class Kind(enum.Enum):
    """The rules: those of a host, and those of an address that hosts share."""

    DELAY = "delay"
    AT_ONCE = "at_once"
    COOLDOWN = "cooldown"
    ADDRESS_DELAY = "address_delay"
    ADDRESS_AT_ONCE = "address_at_once"


@dataclasses.dataclass(frozen=True, slots=True)
class Breach:
    """A leg that started too early, by ``by_s`` seconds, and the one that it should have waited for.

    ``host`` is the one that was asked, or the address where it is that which was asked too early.

    ``allowed`` is what the rule asks for: the seconds of the delay or the cooldown, or the legs at once.
    """

    kind: Kind
    host: str
    url: str
    place: str
    by_s: float
    allowed: float
    other_url: str
    other_place: str


@dataclasses.dataclass(slots=True)
class Tally:
    """How often a rule was asked, and the leg that kept it most closely: ``slack_s`` later than it had to start."""

    asked: int = 0
    slack_s: float = math.inf
    host: str = ""
    place: str = ""


class Request(NamedTuple):
    """One request of a host that is looked at: ``gap_s`` counts from the latest end of an earlier one's answer.

    A negative gap says that another one was under way. ``run`` counts from 1.
    """

    run: int
    start_s: float
    end_s: float
    gap_s: float | None
    status: int | None
    url: str
    place: str


@dataclasses.dataclass(slots=True)
class Findings:
    """What a judge has found: all counts, and the first breaches."""

    legs: int = 0
    without_limits: int = 0
    runs: int = 0
    hosts: int = 0
    breach_count: int = 0
    breaches: list[Breach] = dataclasses.field(default_factory=list)
    tallies: dict[Kind, Tally] = dataclasses.field(default_factory=lambda: {kind: Tally() for kind in Kind})

    @property
    def judged(self) -> int:
        """How many legs had limits to be judged by."""
        return self.legs - self.without_limits
