"""A round of the partitioning: targets of many shards, held until they are enough to be written as one segment each."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

from crawlpool import disk
from crawlpool.errors import SinkError
from crawlpool.redact import one_line
from crawlpool.shards import segments
from crawlpool.shards.atomic import TEMPORARY
from crawlpool.shards.inputs import InputState
from crawlpool.shards.layout import inbox_folder, make_inbox, shards_there
from crawlpool.shards.segments import SegmentName

if TYPE_CHECKING:
    from crawlpool.shards.manifest import Manifest

#: Bytes of lines after which a round ends: so many for each shard, within these bounds. The more shards the smaller
#: their segments, and each of them costs two waits for the disk.
_BYTES_A_SHARD, _LEAST_BYTES, _MOST_BYTES = 64 << 10, 16 << 20, 128 << 20


def round_bytes(shards: int) -> int:
    """Return after how many bytes of lines a round of so many shards ends."""
    return min(max(_BYTES_A_SHARD * shards, _LEAST_BYTES), _MOST_BYTES)


class Round:
    """Targets by shard, as lines of segments. Belongs to one thread at a time."""

    def __init__(self) -> None:
        self.lines: dict[int, bytearray] = {}
        self.counts: dict[int, int] = {}
        self.bytes = 0

    def add(self, shard: int, line: bytes) -> None:
        """Put a row that ``segments.line_of`` has made a line of to those of its shard."""
        lines = self.lines.get(shard)
        if lines is None:
            self.lines[shard] = bytearray(line)
            self.counts[shard] = 1
        else:
            lines += line
            self.counts[shard] += 1
        self.bytes += len(line)

    def write(self, root: str, manifest: Manifest, number: int) -> None:
        """Write a segment for each shard that has targets; all of them are on the disk when this returns.

        None of them counts until ``input.json`` names the round.

        Args:
            root: the job's folder.
            manifest: the job's.
            number: of the round.

        Raises:
            SinkError: when one can't be written.
        """
        name = SegmentName.of_input(number)
        for shard in sorted(self.lines):
            inbox = make_inbox(root, shard)
            segments.write_lines(inbox, name, self.lines[shard], self.counts[shard], manifest.sharding_id)

    def counted_in(self, state: InputState, shards: int) -> InputState:
        """Return a state with this round's segments counted; how far the input was read is left as it was.

        Args:
            state: what was before.
            shards: how many the job has.
        """
        if not self.lines:
            return state
        numbers, rows = [*state.segments] or [0] * shards, [*state.rows] or [0] * shards
        for shard, count in self.counts.items():
            numbers[shard] += 1
            rows[shard] += count
        return dataclasses.replace(state, rounds=state.rounds + 1, segments=tuple(numbers), rows=tuple(rows))


def forget_uncounted(root: str, rounds: int) -> int:
    """Remove the segments of rounds that never counted, as a crash left them; return how many they were.

    They are gone for good before this returns: the next round that has their number may hold other targets, and none
    at all for a shard that has such a segment.

    Args:
        root: the job's folder.
        rounds: how many rounds count.

    Raises:
        JobError: when an inbox can't be read.
        SinkError: when one of them can't be removed.
    """
    removed = 0
    for shard in shards_there(root):
        inbox = inbox_folder(root, shard)
        left = [str(name) for name in segments.names(inbox) if name.source is None and name.number > rounds]
        left += [name for name in _begun(inbox) if name.startswith(f"{TEMPORARY}input-")]
        try:
            for name in left:
                disk.remove(os.path.join(inbox, name))
            if left:
                disk.sync_folder(inbox)
        except OSError as error:
            raise SinkError(f"{one_line(inbox)}: {error.strerror or error}") from error
        removed += len(left)
    return removed


def _begun(inbox: str) -> list[str]:
    try:
        return [name for name in os.listdir(inbox) if name.startswith(TEMPORARY)]
    except FileNotFoundError:
        return []
