"""What of a sharded job is on its way: targets that were shared out, found or handed over, and aren't taken in.

Such a target lies in the outbox of the shard that sends it, or in a segment in the inbox of the one that it is for. For
a moment, and for longer after a crash, it may lie in both, or in a segment that was taken in already: it counts once.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, NamedTuple

from crawlpool.errors import JobError
from crawlpool.ledger.shard_reading import ShardTables
from crawlpool.redact import one_line
from crawlpool.shards import layout, segments
from crawlpool.shards.inputs import input_state
from crawlpool.shards.parts import Part
from crawlpool.shards.segments import SegmentName

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crawlpool.jobs.reading import JobReader
    from crawlpool.shards.inputs import InputState
    from crawlpool.shards.parts import Root, Shelf

_TRAILER_BYTES = 512


class OnItsWay(NamedTuple):
    """What is on its way in one job.

    Args:
        inputs: targets of the input that were shared out, and aren't taken in.
        between: targets on their way from one shard to another: links that were found, and what was handed over.
        elsewhere: of these, those that lie in segments for shards of other folders.
        unread: shards for which there are segments of which it can't be told how many targets they have, as they are
            damaged; none of these is counted.
    """

    inputs: int = 0
    between: int = 0
    elsewhere: int = 0
    unread: frozenset[int] = frozenset()

    @property
    def all(self) -> int:
        """All of them."""
        return self.inputs + self.between


def on_its_way(root: Root, shelf: Shelf, others: Sequence[Root] = ()) -> OnItsWay:
    """Return what is on its way in a job; nothing in one without shards.

    Args:
        root: the job.
        shelf: has its ledgers, and those of the others.
        others: the other parts of the job, where they are here: what was copied to them isn't counted twice.

    Raises:
        JobError: when something of it is damaged or gone, other than a segment between two shards.
    """
    if root.manifest is None:
        return OnItsWay()
    state = input_state(root.path)
    inputs = between = elsewhere = 0
    unread: set[int] = set()
    mine = set(root.manifest.mine())
    for part in root.parts():
        taken = shelf.look(part, lambda reader: reader.report.inputs, 0)
        inputs += max(state.rows_of(part.shard or 0) - taken, 0)
        between += _in_outbox(root, part, shelf)
    for shard, folder, name in waiting_segments(root, shelf, others):
        if name.source is not None:
            try:
                rows = rows_in(os.path.join(folder, str(name))) or 0
            except JobError:
                unread.add(shard)
                continue
            between += rows
            elsewhere += rows if shard not in mine else 0
    return OnItsWay(inputs, between, elsewhere, frozenset(unread))


def waiting_segments(root: Root, shelf: Shelf, others: Sequence[Root] = ()) -> Iterator[tuple[int, str, SegmentName]]:
    """Yield the segments in the inboxes of a job that weren't taken in, those for shards of other folders, too.

    Each with the shard that it is for, and the path of its inbox.

    Args:
        root: the job.
        shelf: has its ledgers, and those of the others.
        others: the other parts of the job, where they are here: what was copied to one is yielded there alone.

    Raises:
        JobError: when something of it is damaged or gone.
    """
    state = input_state(root.path)
    parts = {part.shard: part for one in (*others, root) for part in one.parts()}
    for shard in layout.shards_there(root.path):
        part = parts.get(shard)
        for folder, name in waiting_in(root.path, shard, state):
            if part is not None and part.root != root.path and _is_there(part, name):
                continue
            if part is None or not has_imported(part, shelf, name):
                yield shard, folder, name


def _is_there(part: Part, name: SegmentName) -> bool:
    return os.path.lexists(os.path.join(layout.inbox_folder(part.root, part.shard or 0), str(name)))


def waiting_in(root: str, shard: int, state: InputState) -> Iterator[tuple[str, SegmentName]]:
    """Yield the segments in the inbox of a shard that count, taken in or not; each with the path of the inbox.

    Args:
        root: the job's folder.
        shard: whose inbox.
        state: how far the input was shared out, read before.

    Raises:
        JobError: when the inbox can't be read.
    """
    folder = layout.inbox_folder(root, shard)
    for name in segments.names(folder):
        if name.source is not None or name.number <= state.rounds:  # else it is being written, or a crash has left it
            yield folder, name


def has_imported(part: Part, shelf: Shelf, name: SegmentName) -> bool:
    """Tell whether a shard has taken a segment in."""
    return shelf.look(part, lambda reader: ShardTables(reader.ledger).has_imported(str(name)), False)


def rows_in(path: str) -> int | None:
    """Return how many targets a segment has by its trailer; ``None`` where it is gone. The rest isn't looked at.

    Raises:
        JobError: when it can't be read, or has no trailer.
    """
    try:
        with open(path, "rb") as file:
            file.seek(max(os.fstat(file.fileno()).st_size - _TRAILER_BYTES, 0))
            last = file.read().splitlines()[-1:]
        return int(json.loads(last[0])["rows"])
    except FileNotFoundError:
        return None
    except OSError as error:
        raise JobError(f"{one_line(path)}: {error.strerror or error}") from error
    except (ValueError, TypeError, KeyError, IndexError, RecursionError):
        raise JobError(f"{one_line(path)}: is damaged: it isn't what was written") from None


def _in_outbox(root: Root, part: Part, shelf: Shelf) -> int:
    """Return how many rows wait in the outbox of a shard and in no segment."""

    def look(reader: JobReader) -> tuple[int, list[tuple[int, str, int]]]:
        tables = ShardTables(reader.ledger)
        named = [
            (one.shard, str(SegmentName(part.shard, one.epoch, one.batch)), tables.count_of(one))
            for one in tables.publishing()
        ]
        return tables.count_outbox(), named

    count, named = shelf.look(part, look, (0, []))
    for shard, name, rows in named:
        is_there = os.path.lexists(os.path.join(layout.inbox_folder(root.path, shard), name))
        parsed = SegmentName.parse(name)
        to = Part(root.path, shard)
        if is_there or (parsed is not None and to in root.parts() and has_imported(to, shelf, parsed)):
            count -= rows
    return count
