"""Which shard a runner takes next, when a job is done, and when a shard is left alone: policy without I/O.

What is known of a shard is a ``Look``, made of one reading of its folder. All is decided of looks and of nothing else.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

#: After so many tenures in a row that ended without a release and settled no target more, a shard is left alone.
GIVEN_UP_AFTER = 5
#: After so many it is run by itself: what ends a process takes all shards with it that it has open, and these aren't to
#: be blamed for it.
ALONE_AFTER = 2
#: A process that uses so much of a core doesn't wait for hosts: threads of an interpreter have one between them.
BUSY_CORES = 0.75
#: A line of an inbox, roughly: a segment of so many bytes more is one target more to be fetched.
_LINE_BYTES = 120


class Why(str, enum.Enum):
    """Why the owner of a shard let go of it."""

    DONE = "done"
    #: Nothing is left but what waits for hosts that are held.
    HELD = "held"
    #: It was told to, or the process ends.
    DRAINED = "drained"
    #: It couldn't go on: its disk is full, say.
    FAILED = "failed"

    def __str__(self) -> str:
        return self.value


@dataclasses.dataclass(frozen=True)
class Look:
    """What one reading of a shard's folder has told.

    Args:
        shard: its number.
        tenure: the number of the newest tenure; 0 where there is none.
        is_held: whether that has an owner who may be alive.
        is_released: whether its owner has let go of it.
        pending: targets that wait, as the one who let go has told; ``None`` where he couldn't.
        why: why it was let go; ``None`` where nobody has told.
        run: which run of the command that was in.
        inbox_bytes: size of the segments in its inbox that count.
        segments: how many there are.
        tries: tenures that ended without a release, in a row and to no avail, in this run of the command.
        later: segments beside these of which nobody can say yet whether they count: the shard isn't taken for them.
    """

    shard: int
    tenure: int = 0
    is_held: bool = False
    is_released: bool = False
    pending: int | None = 0
    why: Why | None = None
    run: str = ""
    inbox_bytes: int = 0
    segments: int = 0
    tries: int = 0
    later: int = 0

    @property
    def is_broken_off(self) -> bool:
        """Whether its last owner is gone, and hasn't let go."""
        return self.tenure > 0 and not self.is_held and not self.is_released

    @property
    def work(self) -> int:
        """About how many targets wait."""
        return (self.pending or 0) + self.inbox_bytes // _LINE_BYTES


def is_given_up(look: Look) -> bool:
    """Tell whether a shard has ended its owners so often that it is left alone."""
    return look.tries >= GIVEN_UP_AFTER


def is_suspect(look: Look) -> bool:
    """Tell whether a shard may be what ends its owners, so that it is run alone."""
    return look.tries >= ALONE_AFTER


def is_runnable(look: Look, run: str, *, again: bool = False) -> bool:
    """Tell whether somebody should take a shard.

    What was let go of with a reason that holds until somebody looks after it (held hosts, a full disk) is left alone
    for the rest of this run; but for held hosts where something new has come.

    Args:
        look: what is known of it.
        run: names this run of the command.
        again: whether this run is to take up failed targets of what was done before.
    """
    if look.is_held or is_given_up(look):
        return False
    if look.is_broken_off:
        return True
    if again and look.is_released and look.run != run:
        return True
    if look.is_released and look.run == run:
        if look.why is Why.FAILED:
            return False
        if look.why is Why.HELD:
            return look.segments > 0
    return look.segments > 0 or look.pending is None or look.pending > 0


def in_order(
    looks: Iterable[Look], run: str, name: str, apart_from: Collection[int] = (), *, again: bool = False
) -> list[Look]:
    """Return the shards that a runner may take, the one with most to do first: the last to end is to be a small one.

    Of equals each runner begins with another one, so that not all of them ask for the same.

    Args:
        looks: what is known.
        run: names this run of the command.
        name: of the runner.
        apart_from: shards that it has already.
        again: as in ``is_runnable``.
    """
    mine = [look for look in looks if look.shard not in apart_from and is_runnable(look, run, again=again)]

    def rank(look: Look) -> tuple[bool, bool, int, bytes]:
        # What was broken off may be any size: it comes first, as somebody has waited for it longest.
        return is_suspect(look), not look.is_broken_off, -look.work.bit_length(), _mixed(name, look.shard)

    return sorted(mine, key=rank)


def is_done(
    before: Sequence[Look], after: Sequence[Look], *, is_input_done: bool, run: str, again: bool = False
) -> bool:
    """Tell whether a job has nothing left that this run of the command could do.

    Only an owner puts anything into an inbox, and before it lets go. So when nobody owns a shard both before and after
    the inboxes were read, and no tenure is new, then nothing is on its way.

    Args:
        before: looks whose tenures were read before the inboxes.
        after: looks whose tenures were read after them, of the same shards in the same order.
        is_input_done: whether all of the input had been handed out before that.
        run: names this run of the command.
        again: as in ``is_runnable``.
    """
    if not is_input_done or any(look.is_held or is_runnable(look, run, again=again) for look in (*before, *after)):
        return False
    return [look.tenure for look in before] == [look.tenure for look in after]


class Patience:
    """How long the end of a job waits for segments that can't be judged yet.

    What their shards say of themselves may only be late: a network file system shows it up to a minute after it was
    written. Where it never comes the run ends without them.

    Args:
        most_s: seconds for which nothing else is left to do, and they are waited for.

    Not thread-safe.
    """

    def __init__(self, most_s: float) -> None:
        self._most_s = most_s
        self._since_s: float | None = None

    def is_over(self, looks: Iterable[Look], now_s: float, *, is_done: bool) -> bool:
        """Tell whether the job is at its end.

        Args:
            looks: what is known of its shards.
            now_s: by a monotonic clock.
            is_done: whether nothing else is left to do.
        """
        if not is_done or not any(look.later for look in looks):
            self._since_s = None
            return is_done
        if self._since_s is None:
            self._since_s = now_s
        return now_s - self._since_s >= self._most_s


@dataclasses.dataclass(frozen=True)
class Tries:
    """How often a shard has ended its owners in vain, as it is written down beside it.

    Args:
        run: names the run of the command that it was in: another one begins anew.
        count: tenures in a row that ended without a release and settled nothing.
        settled: targets that had their outcome when it was last known.
    """

    run: str = ""
    count: int = 0
    settled: int = 0

    def begun(self, run: str, *, is_broken_off: bool) -> Tries:
        """Return how it is when somebody takes the shard, before anything of it is opened: that may be what ends it.

        Args:
            run: names this run of the command.
            is_broken_off: whether the owner before hadn't let go.
        """
        if run != self.run or not is_broken_off:
            return Tries(run, 0, self.settled)
        return dataclasses.replace(self, count=self.count + 1)

    def got_on(self, settled: int) -> Tries:
        """Return how it is once it is known how many targets have their outcome."""
        return dataclasses.replace(self, count=0, settled=settled) if settled > self.settled else self

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {"run": self.run, "count": self.count, "settled": self.settled}

    @classmethod
    def of_json(cls, found: Mapping[str, Any]) -> Tries:
        """Return what ``as_json`` has given; of anything else, none."""
        try:
            return cls(str(found["run"]), int(found["count"]), int(found["settled"]))
        except (KeyError, TypeError, ValueError):
            return cls()


def how_many(
    is_open: int,
    at_once: int,
    running: int,
    in_flight: int,
    cores: float = 0.0,
    *,
    is_held_back: bool = False,
    is_opening: bool = False,
) -> int:
    """Return how many more shards a runner should open: none while those that are open keep its pool busy.

    As many more as there are: a polite crawl is at its pace after a few looks, and one that isn't has one or two open.
    More of them than are needed cost much: each commits for itself, and a group of two results costs as much as one of
    twenty. So where it is the interpreter or the disk that is busy, as hosts answer at once, no more are opened either,
    but for the next one: a shard takes a moment to be opened, and another to end. It is the same until each that is
    open has begun to fetch, as nobody can tell before what it will keep busy: who opened more meanwhile would have half
    a job open, at no use, while others run out of shards.

    Args:
        is_open: shards that are open.
        at_once: how many may be.
        running: requests that are under way for these.
        in_flight: how many may be.
        cores: how many cores the process has used since the last look.
        is_held_back: whether requests had to wait since then, as too many results weren't committed yet.
        is_opening: whether one that is open hasn't begun to fetch.
    """
    if is_open and running * 2 > in_flight:
        return 0
    wanted = 2 if is_opening or is_held_back or cores > BUSY_CORES else max(2 * is_open, 1)
    return max(min(wanted, at_once) - is_open, 0)


def next_look_s(idle_looks: int) -> float:
    """Return after how long a runner that finds nothing looks again: soon at first, then every five seconds.

    Args:
        idle_looks: how many looks in a row have found nothing.
    """
    return min(0.2 * 1.5 ** min(idle_looks, 12), 5.0)


def _mixed(name: str, shard: int) -> bytes:
    return hashlib.blake2b(f"{name} {shard}".encode(), digest_size=8).digest()
