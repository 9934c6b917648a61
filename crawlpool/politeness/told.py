"""What an operator says of one host while a crawl runs: leave it alone for now, skip it, ask it with another delay."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import TYPE_CHECKING

from crawlpool.config import check, is_seconds
from crawlpool.limits import DAY_S, HostLimits

if TYPE_CHECKING:
    from typing import Any

_ANY = HostLimits(concurrency=None)


class Order(enum.Enum):
    """Whether a host is to be asked."""

    GO = "go"
    HOLD = "hold"
    SKIP = "skip"


@dataclasses.dataclass(frozen=True)
class Told:
    """What an operator says of one host.

    Args:
        order: whether it is asked: as ever, not for now, or not at all.
        delay_s: seconds from an answer to the next request, one at a time, in place of the run's limits; 0 for no
            delay, ``None`` for the run's own limits.
        is_over: whether a hold has come to its end, as nothing was left but what waited for held hosts.
        is_blocked: whether a hold is the crawl's own and no operator's, as the host's answers say that it doesn't want
            us; only where what it leaves is given back (``Group.gives_back``).

    Raises:
        ConfigError: for a delay that can't be.

    Thread-safe: it is immutable.
    """

    order: Order = Order.GO
    delay_s: float | None = None
    is_over: bool = False
    is_blocked: bool = False

    def __post_init__(self) -> None:
        is_fine = self.delay_s is None or (is_seconds(self.delay_s, zero=True) and self.delay_s <= DAY_S)
        check(is_fine, "delay_s", self.delay_s, "a number of seconds, 0 to 86400, or None for the crawl's own limits")

    @property
    def is_nothing(self) -> bool:
        """Whether the host is as any other."""
        return self.order is Order.GO and self.delay_s is None

    @property
    def is_operators(self) -> bool:
        """Whether an operator has said anything of it."""
        return not self.is_nothing and not (self.is_blocked and self.delay_s is None)

    @property
    def is_held(self) -> bool:
        """Whether the operator holds it."""
        return self.order is Order.HOLD and not self.is_blocked

    @property
    def is_skipped(self) -> bool:
        """Whether the operator skips it."""
        return self.order is Order.SKIP

    @property
    def waits(self) -> bool:
        """Whether what there is of it waits, however long."""
        return self.order is Order.HOLD and not self.is_over

    @property
    def ends(self) -> str | None:
        """Why what there is of it ends unsent, as the records say it; ``None`` where it doesn't."""
        if self.order is Order.SKIP:
            return "host_skipped"
        return "held" if self.order is Order.HOLD and self.is_over else None

    def ordered(self, order: Order) -> Told:
        """Return the same with another order."""
        return Told(order, self.delay_s)

    def delayed(self, delay_s: float | None) -> Told:
        """Return the same with another delay."""
        return dataclasses.replace(self, delay_s=delay_s)

    def blocked(self, is_blocked: bool) -> Told:
        """Return the same for a host that the crawl itself holds, or doesn't hold any more; no operator may."""
        return Told(Order.HOLD if is_blocked else Order.GO, self.delay_s, is_blocked=is_blocked)

    @property
    def fields(self) -> dict[str, Any]:
        """What an operator says, JSON-ready; ``of`` reads it."""
        order = Order.GO if self.is_blocked else self.order
        return {"order": order.value, "delay_s": self.delay_s}

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Told:
        """Return what ``fields`` was written of.

        Raises:
            ConfigError: when it isn't what ``fields`` writes.
        """
        check(isinstance(fields, Mapping), "order", fields, "what was said of a host, as fields")
        words = [order.value for order in Order]
        check(fields.get("order") in words, "order", fields.get("order"), f"one of {', '.join(words)}")
        return cls(Order(fields["order"]), fields.get("delay_s"))

    def limits(self, own: HostLimits | None, usual: HostLimits | None) -> HostLimits | None:
        """Return how hard the host may be asked; ``None`` for as hard as may be.

        Args:
            own: what would hold if nothing were said.
            usual: what holds for hosts that aren't exempt: from there a delay takes all else.
        """
        if self.order is not Order.GO:
            return own or _ANY  # nothing is sent; but somebody has to keep it back
        if self.delay_s is None:
            return own
        if self.delay_s:
            return dataclasses.replace(own or usual or _ANY, concurrency=1, delay_s=float(self.delay_s), adaptive=False)
        return None if own is None else dataclasses.replace(own, delay_s=0.0)


NOTHING = Told()


def on_hold(told: Mapping[str, Told]) -> set[str]:
    """Return the hosts whose targets wait because an operator says so, or because they are blocked and given back."""
    return {host for host, one in told.items() if one.waits}
