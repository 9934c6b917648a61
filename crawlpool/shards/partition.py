"""The input of a sharded job, cut into shards in one pass: read once, in bounded memory, and handed on round by round.

A round's segments are written and synced first; then ``input.json`` names the round, and how far the input was read.
So after a crash between the two nothing is lost, and nothing counts twice: what the input has from there on is read
again, into a round of the same number.
"""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from typing import TYPE_CHECKING, Any, cast

from crawlpool.address import InputHosts
from crawlpool.clock import SYSTEM_CLOCK, Clock
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

    @property
    def state(self) -> InputState:
        """How far the input was read, as ``input.json`` says it."""
        return self._state

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
        raise NotImplementedError

    def flush(self) -> None:
        """Hand on what was read, at once, though the round isn't full. Doesn't wait for it."""
        raise NotImplementedError

    def stop(self) -> None:
        """Have ``run`` return after what was read is handed on; a source that waits has to be stopped, too."""
        raise NotImplementedError
