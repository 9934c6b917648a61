"""The input of a sharded job, cut into shards in one pass: read once, in bounded memory, and handed on round by round.

A round's segments are written and synced first; then ``input.json`` names the round, and how far the input was read.
So after a crash between the two nothing is lost, and nothing counts twice: what the input has from there on is read
again, into a round of the same number.
"""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from typing import TYPE_CHECKING, cast

from crawlpool.address import InputHosts
from crawlpool.clock import LOOK_S, SYSTEM_CLOCK, Clock
from crawlpool.jobs.feeding import ReadBefore, fresh_rows, is_at_end
from crawlpool.shards.inputs import InputState, input_state, put_input_state
from crawlpool.shards.rounds import Round, forget_uncounted, round_bytes
from crawlpool.shards.segments import line_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crawlpool.leg import Run
    from crawlpool.models import Target
    from crawlpool.shards.manifest import Manifest
    from crawlpool.source import BadLine


class Partitioner:
    """Cuts the input of one job into shards. One thread calls ``run``; the other methods may be called from any.

    Args:
        folder: the job's. Whoever makes this has the job's lock, until ``run`` has returned.
        manifest: the job's.
        flush_s: seconds after which a target is handed on in any case; ``None``: when a round is full, or the input at
            its end.
        most_bytes: of lines, after which a round is full; ``None`` for what suits the number of shards. Twice that is
            held in memory at most: one round is written while the next one is read.
        clock: by which ``flush_s`` is measured.

    Raises:
        JobError: when what lies in the folder isn't whole.
        SinkError: when what a crash has left there can't be removed.
    """

    def __init__(
        self,
        folder: str,
        manifest: Manifest,
        *,
        flush_s: float | None = None,
        most_bytes: int | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._folder = folder
        self._manifest = manifest
        self._sharding = manifest.sharding(folder)
        self._flush_s = flush_s
        self._most_bytes = most_bytes if most_bytes is not None else round_bytes(manifest.shards)
        self._clock = clock
        self._state = input_state(folder)
        forget_uncounted(folder, self._state.rounds)
        self._hosts = InputHosts(self._state.hosts)
        # Guards all that follows. _news is waited on by the thread that writes, _room by the one that reads.
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._round = Round()
        self._count = _Count()
        self._first_at: float | None = None  # when the round's first target came
        self._is_asked = False
        self._is_stopped = False
        self._is_ending = False
        self._is_done = False
        self._failure: BaseException | None = None

    @property
    def state(self) -> InputState:
        """How far the input was read, as ``input.json`` says it."""
        return self._state

    @property
    def failure(self) -> BaseException | None:
        """What keeps segments from being written; ``run`` raises it as soon as the source gives it anything."""
        return self._failure

    def run(self, seeds: Iterable[str | Target | BadLine]) -> bool:
        """Read seeds to their end, and hand each to its shard.

        Args:
            seeds: the input from its start; what was read before is passed over. Where all of it was, it isn't touched.

        Returns:
            Whether all of the input was read. Not where ``stop`` was called, or where an ``is_exhausted`` of ``seeds``
            is false.

        Raises:
            JobError: when it isn't the input that was read before.
            SinkError: when a segment can't be written; all that ``state`` tells counts still.
            Exception: what iterating ``seeds`` raises; what came before is handed on.
        """
        if self._state.is_done:
            return True
        writer = threading.Thread(target=self._write, name="crawlpool-partitioner", daemon=True)
        writer.start()
        is_done = False
        try:
            is_done = self._read(seeds)
        finally:
            with self._lock:
                self._is_ending, self._is_done = True, is_done
                self._news.notify()
            writer.join()
        if self._failure is not None:
            raise self._failure
        return is_done

    def flush(self) -> None:
        """Hand on what was read, at once, though the round isn't full. Doesn't wait for it."""
        with self._lock:
            self._is_asked = True
            self._news.notify()

    def stop(self) -> None:
        """Have ``run`` return after what was read is handed on; a source that waits has to be stopped, too."""
        with self._lock:
            self._is_stopped = True
            self._room.notify()

    # The thread that reads ---------------------------------------------------------------------------------------

    def _read(self, seeds: Iterable[object]) -> bool:
        """Put each seed to those of its shard; return whether all of the input was read."""
        state, count, mine = self._state, self._count, self._mine()
        before = ReadBefore(self._folder, state.items, state.digest)
        shard_of = self._sharding.shard_of_row
        # No crawl: a row is made of what the seed alone says.
        run = cast("Run", None)
        for row in fresh_rows(run, seeds, before, count, self._hosts.note, lambda: self._is_stopped):
            shard = shard_of(row)
            line = line_of(row) if mine[shard] else b""
            with self._lock:
                while self._round.bytes >= self._most_bytes and not (self._is_stopped or self._failure):
                    self._news.notify()
                    self._room.wait(LOOK_S)
                if self._is_stopped or self._failure is not None:
                    return False
                count.add(row[3])
                if line:
                    self._round.add(shard, line)
                if self._first_at is None:
                    self._first_at = self._clock.monotonic()
                    self._news.notify()
        return not self._is_stopped and is_at_end(seeds)

    def _mine(self) -> list[bool]:
        mine = self._manifest.mine()
        return [shard in mine for shard in range(self._manifest.shards)]

    # The thread that writes --------------------------------------------------------------------------------------

    def _write(self) -> None:
        is_over = False
        try:
            while not is_over:
                with self._lock:
                    while not self._is_due():
                        self._news.wait(self._left_s())
                    full, self._round = self._round, Round()
                    self._first_at, self._is_asked = None, False
                    items, digest = self._count.items, self._count.hasher.hexdigest()
                    is_over = self._is_ending
                    is_done = self._is_done
                    self._room.notify()
                self._hand_on(full, items, digest, is_done)
        except BaseException as error:  # of whatever kind: the thread that reads is to tell it
            with self._lock:
                self._failure = error
                self._room.notify()

    def _is_due(self) -> bool:
        if self._is_ending or self._is_asked or self._round.bytes >= self._most_bytes:
            return True
        return self._left_s() == 0

    def _left_s(self) -> float | None:
        """Return how long the round may still wait; ``None`` for as long as it likes."""
        if self._flush_s is None or self._first_at is None:
            return None
        return max(self._first_at + self._flush_s - self._clock.monotonic(), 0)

    def _hand_on(self, full: Round, items: int, digest: str, is_done: bool) -> None:
        """Write a round, and then that it counts."""
        before = self._state
        if items < before.items or (items == before.items and not is_done):
            return  # nothing but what earlier runs have read
        full.write(self._folder, self._manifest, before.rounds + 1)
        fresh = self._hosts.fresh
        hosts = (*before.hosts, *(fresh.popleft() for _ in range(len(fresh))))
        state = dataclasses.replace(
            full.counted_in(before, self._manifest.shards), items=items, digest=digest, is_done=is_done, hosts=hosts
        )
        put_input_state(self._folder, state)
        self._state = state


class _Count:
    """How many items were read, and their digest; guarded by the lock of its owner once there are new ones."""

    def __init__(self) -> None:
        self.hasher = hashlib.blake2b(digest_size=16)
        self.items = 0

    def add(self, line: str) -> None:
        """Count an item, whose target is ``line``."""
        self.hasher.update(line.encode("ascii"))
        self.items += 1
