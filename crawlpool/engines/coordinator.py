"""Who watches a sharded job: has its lock, hands its input out, has an engine run it, and knows when it is done.

Killed at any moment it leaves a job that goes on with the next one: all that counts is in the folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import threading
from typing import TYPE_CHECKING, Any

from crawlpool.clock import SYSTEM_CLOCK, Clock
from crawlpool.engines import choice, notes
from crawlpool.engines.looking import Looker
from crawlpool.engines.watching import Runners, Watcher
from crawlpool.shards.partition import Partitioner
from crawlpool.shards.whole import missing_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crawlpool.books import Progress
    from crawlpool.engines.base import Engine, EngineSpec, EngineState
    from crawlpool.models import Target
    from crawlpool.source import BadLine

#: How often shards are looked at for the end, once all input is handed out; and how long their runners have then.
LOOK_S, END_S = 1.0, 60.0
#: How long a segment is waited for at the end that can't be judged, on a file system of several machines: they show
#: each other what they write a minute late.
LATER_S = 90.0
#: A target of an input that comes slowly is handed on so soon.
FLUSH_S = 1.0
#: When all is to end, runners that tell nothing any more are waited for so long: the engine lets go of them then.
_MUTE_S = 20.0


def new_run() -> str:
    """Return a name for a run of the command, which no other one has."""
    return secrets.token_hex(6)


class Coordinator:
    """Has one job run to its end by an engine.

    ``begin``, then ``look`` about once a second until it says that all is over, then ``end``: all three by one thread.
    ``drain`` and ``stop`` may be called by any.

    Args:
        engine: runs the shards.
        spec: what there is to run. The caller has the job's lock, and its manifest is written.
        seeds: the input from its start.
        clock: where time comes from.

    Raises:
        JobError: when there is no such job, or it is damaged.
        SinkError: when its folder can't be written to.
    """

    def __init__(
        self,
        engine: Engine,
        spec: EngineSpec,
        seeds: Iterable[str | Target | BadLine],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._engine = engine
        self._spec = spec
        self._seeds = seeds
        self._clock = clock
        self._looker = Looker(spec.folder, spec.run)
        self._partitioner = Partitioner(spec.folder, self._looker.manifest, flush_s=FLUSH_S)
        notes.make_folder(spec.folder)
        notes.forget_others(spec.folder, spec.run)
        self._watcher = Watcher(spec.folder, spec.run, clock)
        self._looker.look()
        self._know()
        #: The books before this run.
        self.before = self._watcher.progress().report
        # Guards _order, which only ever goes from run to drain to stop.
        self._lock = threading.Lock()
        self._order = notes.RUN
        self._said: tuple[str, float] = ("", 0.0)  # what was told to runners last, and when; the looking thread's
        self._counter = 0
        self._look_at = 0.0
        self._heard_at = clock.monotonic()  # when a runner was last heard of, or there was no need to hear of any
        self._is_done = False
        self._is_begun = False
        self._runners = Runners()
        self._state: EngineState | None = None
        # On a file system of one machine what was written before a segment is seen before it.
        self._patience = choice.Patience(LATER_S if self._looker.manifest.is_shared else LOOK_S)
        self._missing: dict[int, str] = {}  # what of a job that seems to be done isn't there
        self._failure: BaseException | None = None  # of the partitioning thread, written before it ends
        self._thread = threading.Thread(target=self._partition, name="crawlpool-partitioner", daemon=True)

    # The way of a run --------------------------------------------------------------------------------------------

    def is_idle(self) -> bool:
        """Tell whether the job has nothing left that a run could do; then ``begin`` won't begin anything either.

        Before ``begin``; reads the folder.
        """
        self._is_done = self._find_out()
        return self._is_done

    def begin(self) -> None:
        """Bring up the engine, and begin to hand the input out.

        Raises:
            EngineError: when the engine can't be brought up.
        """
        if self._is_done or self.is_idle():  # a job that has nothing left needs no engine
            return
        self._say()
        self._engine.start(self._spec)
        self._is_begun = True
        self._thread.start()

    def look(self) -> bool:
        """See how far all is, and tell runners what to do; return whether it is over.

        Call it about once a second; it takes as long as reading a few small files, and now and then all inboxes.
        """
        if not self._is_begun:
            return True
        now = self._clock.monotonic()
        order = self._order
        if self._said[0] != order or now >= self._said[1] + notes.EVERY_S:
            self._say()
        self._runners = self._watcher.look()
        self._state = self._engine.watch()
        if self._state.is_over:
            return True
        if order != notes.RUN:
            if self._runners.up:
                self._heard_at = now
            return now > self._heard_at + _MUTE_S  # what is left tells nothing: stopped, or cut off
        self._heard_at = now
        if self._state.trouble is not None and not self._state.runners and not self._runners.up:
            return False  # it may get better: the engine says when it won't
        is_all_out = not self._thread.is_alive() and self._failure is None
        # While a runner tells of a shard that it has open nothing is done, and the folders needn't be asked.
        if is_all_out and now >= self._look_at and not any(note.shards for note in self._runners.up):
            self._look_at = now + LOOK_S
            self._is_done = self._find_out()
        if self._failure is not None or self._is_done:
            self.drain()
        return False

    def drain(self) -> None:
        """Take no more input and no more shards; what is under way is finished."""
        self._order_all(notes.DRAIN)

    def stop(self) -> None:
        """Break off what is under way, too."""
        self._order_all(notes.STOP)

    def end(self, timeout_s: float = END_S) -> Progress:
        """Wait until all has ended; return how far the job is, by what the last owners have told.

        Args:
            timeout_s: how long runners get; one that takes longer is left to its own, and the folder with it.

        Raises:
            BaseException: what the input raised, or ended a runner in this process.
            SinkError: when the input couldn't be handed out.
        """
        if not self._is_begun:
            return self._watcher.progress()
        self.drain()
        self._say()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._engine.join(timeout_s)
        self._runners = self._watcher.look()
        self._looker.look()
        self._know()
        failure = self._failure or getattr(self._engine, "failure", None)
        if failure is not None:
            raise failure
        return self._watcher.progress()

    def _order_all(self, order: str) -> None:
        with self._lock:
            if self._order == order or self._order == notes.STOP:
                return
            self._order = order
        self._partitioner.stop()
        stop = getattr(self._seeds, "stop", None)
        if stop is not None:
            stop()
        if order == notes.STOP:
            self._engine.stop()
        else:
            self._engine.drain()

    def _say(self) -> None:
        self._counter += 1
        order = self._order
        notes.write_word(self._spec.folder, notes.Word(self._spec.run, self._counter, order))
        self._said = (order, self._clock.monotonic())

    def _partition(self) -> None:
        try:
            self._partitioner.run(self._seeds)
        except BaseException as error:
            self._failure = error

    def _find_out(self) -> bool:
        before = self._looker.look()
        is_input_done = self._looker.state.is_done
        after = self._looker.look_at_tenures()
        again = self._spec.retry is not None
        is_done = choice.is_done(before, after, is_input_done=is_input_done, run=self._spec.run, again=again)
        is_done = self._patience.is_over(before, self._clock.monotonic(), is_done=is_done)
        if is_done:
            self._missing = missing_of(self._spec.folder, self._looker.manifest, self._looker.state)
            self._missing.update(self._looker.unjudged())
        return is_done

    def _know(self) -> None:
        for shard, saved in self._looker.reports():
            self._watcher.know(shard, saved)
        for shard, saved in self._looker.ledgers():  # else all of that would count as done by the next run
            self._watcher.know_committed(shard, saved)

    # What there is to be told ------------------------------------------------------------------------------------

    def progress(self) -> Progress:
        """Return how far the job is, all runs together, as of the last look."""
        return self._watcher.progress()

    @property
    def runners(self) -> Runners:
        """The runners, as of the last look."""
        return self._runners

    @property
    def engine_state(self) -> EngineState | None:
        """How the engine was at the last look; ``None`` before the first."""
        return self._state

    @property
    def is_done(self) -> bool:
        """Whether nothing was left that this run could do."""
        return self._is_done

    @property
    def is_input_done(self) -> bool:
        """Whether all of the input was handed out."""
        return self._partitioner.state.is_done

    @property
    def items(self) -> int:
        """How many items of the input were handed out."""
        return self._partitioner.state.items

    @property
    def is_draining(self) -> bool:
        """Whether it was told to end, or does so by itself."""
        return self._order != notes.RUN

    def troubles(self) -> Troubles:
        """Return what went wrong, as of now; reads the folder."""
        with contextlib.suppress(Exception):
            self._looker.look()
        return Troubles(
            {**self._missing, **self._runners.failed, **self._looker.failures()},
            frozenset(self._runners.given_up),
            self._runners.troubles,
            self._state.lost if self._state is not None else 0,
            self._state.trouble if self._state is not None else None,
            self._looker.foreign(),
        )


@dataclasses.dataclass(frozen=True)
class Troubles:
    """What went wrong in a run.

    Args:
        failed: shards that couldn't go on, and why.
        given_up: shards that were left alone, as they ended their owners too often.
        runners: runners that ended early, and why.
        lost: how many were lost without a word.
        engine: what is wrong with the engine itself.
        foreign: segments that wait here for shards of other parts.
    """

    failed: dict[int, str] = dataclasses.field(default_factory=dict)
    given_up: frozenset[int] = frozenset()
    runners: dict[str, Any] = dataclasses.field(default_factory=dict)
    lost: int = 0
    engine: str | None = None
    foreign: int = 0
