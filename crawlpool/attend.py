"""What the I/O thread does by itself: plain legs of a map, from the queue to the result, without waking a worker.

To hand a small answer to a worker costs more than to finish it: two threads that want the interpreter at once take it
from each other all the time. So where nothing of the user's runs and nothing waits on the way (no auth, no hook, no
handler, no pipe to write to), the thread that moved the bytes finishes the answer and begins the next leg. All else is
the workers', but that a host refuses: that is told at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crawlpool.errors import PoolClosed
from crawlpool.politeness import REFUSALS
from crawlpool.settle import refusal_from

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from crawlpool.clock import Clock
    from crawlpool.leg import Leg
    from crawlpool.pool import BlockingPool
    from crawlpool.session import Session
    from crawlpool.transport.base import Completion, Lane

_AT_ONCE = 64


class Attendant:
    """The I/O thread's part in the work of a pool's workers. Called by that thread only.

    Args:
        pool: whose session for the I/O thread is used.
        take: ``Frontier.take_now``.
        start, settle: the workers' own, for legs taken and for what has ended.
        make_lane: makes the lane of a session.
    """

    def __init__(
        self,
        pool: BlockingPool,
        take: Callable[[int, Callable[[Leg], bool]], list[Leg]],
        start: Callable[[Session, Lane, list[Leg]], list[Any]],
        settle: Callable[..., None],
        make_lane: Callable[[Session], Any],
    ) -> None:
        self._pool = pool
        self._take = take
        self._start = start
        self._settle = settle
        self._make_lane = make_lane
        self._session: Session | None = None
        self._lane: Any = None

    def __call__(self, ended: Sequence[Any]) -> Sequence[Any]:
        """Finish and settle what can be finished here, begin what follows; return the rest."""
        try:
            session = self._own_session()
        except PoolClosed:
            return ended
        # Asked each time: an auth that was set meanwhile, a site, a mounted adapter may run a user's code.
        if session.plan() is None or self._pool._shared.mounts.current:
            return ended
        finish = self._lane.finished_plain
        mine: list[Completion] = []
        rest: list[Any] = []
        for transfer in ended:
            done = finish(transfer) if is_instant(transfer) else None
            if done is None:
                rest.append(transfer)
            else:
                mine.append(done)
        if not mine:
            return rest
        self._settle(session, mine)
        legs = self._take(max(_AT_ONCE, len(mine)), may_begin)  # fewer than have ended would have workers woken
        if legs:
            # What comes to nothing at once frees its host: the workers see to what can begin there, we don't come back.
            self._settle(session, [*self._start(session, self._lane, legs), *self._lane.send_off()], comes_back=False)
        return rest

    def go_on(self) -> None:
        """Begin what may be begun, though nothing has ended: room was made for it."""
        try:
            session = self._own_session()
            is_plain = session.plan() is not None and not self._pool._shared.mounts.current
        except PoolClosed:
            return
        legs = self._take(_AT_ONCE, may_begin if is_plain else _none)
        if legs:
            self._settle(session, [*self._start(session, self._lane, legs), *self._lane.send_off()], comes_back=False)

    def _own_session(self) -> Session:
        if self._session is None or self._session.lifeline.is_closed:
            self._session = self._pool.session
            self._lane = self._make_lane(self._session)
        return self._session


_REFUSED = frozenset(str(status).encode() for status in REFUSALS)


def tell_refusals(ended: Sequence[Any], clock: Clock, tell: Callable[[Leg], None]) -> None:
    """Tell of hosts that refuse, as soon as their answers are there.

    A worker comes to them later: until then a host that is asked several things at once would be asked on.

    Args:
        ended: transfers that have ended.
        clock: for a ``Retry-After`` that is a date.
        tell: ``Frontier.refused``.
    """
    for transfer in ended:
        leg: Leg = transfer.exchange.token
        if leg.seat.limits is None or not transfer.head:
            continue
        line = transfer.head[0]  # HTTP/1.1 429, or HTTP/2 429
        if line[9:12] in _REFUSED or line[7:10] in _REFUSED:
            try:
                came = refusal_from(transfer.adapter.answer(transfer), clock.wall())
            except Exception:  # the worker finds it again, and takes its time
                continue
            if came is not None:
                leg.came = came
                tell(leg)


def is_instant(transfer: Any) -> bool:
    """Tell whether an ended transfer may be finished by the I/O thread, as far as can be told before its answer is."""
    return (
        transfer.is_quick
        and transfer.code == 0
        and transfer.error is None
        and transfer.stopped is None
        and transfer.exchange.token.run.is_instant
        and not transfer.exchange.token.seat.asks_user
    )


def _none(leg: Leg) -> bool:
    """Want no leg: then they are the workers'."""
    return False


def may_begin(leg: Leg) -> bool:
    """Tell whether the I/O thread may begin a leg."""
    return (
        leg.run.is_instant
        and leg.request is None
        and leg.verdict is None
        and (leg.rules is None or not leg.rules.is_heavy)
        and leg.is_plain()
    )
