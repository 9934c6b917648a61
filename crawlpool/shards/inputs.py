"""How far the input of a sharded job has been cut into shards: the file that says which segments of it count."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

from crawlpool.config import is_count
from crawlpool.errors import JobError
from crawlpool.redact import one_line
from crawlpool.shards import atomic
from crawlpool.shards.layout import INPUT

if TYPE_CHECKING:
    from crawlpool.shards.segments import SegmentName

VERSION = 1


@dataclasses.dataclass(frozen=True)
class InputState:
    """How far the input was read.

    Args:
        rounds: how many rounds of segments count; a segment of a later one is to be looked at by nobody.
        items: how many items of the input these hold, those of other parts included.
        digest: of these items; ``None`` of none.
        is_done: whether that is the whole input.
        hosts: the hosts that aren't public and that the input named, as ``address.InputHosts`` has them.
        segments: of each shard how many segments of the input it was given; nothing where it was given none yet.
        rows: of each shard how many targets these hold.

    What a shard has imported can be held against ``segments`` and ``rows``: then nothing has gone lost on the way.
    """

    rounds: int = 0
    items: int = 0
    digest: str | None = None
    is_done: bool = False
    hosts: tuple[str, ...] = ()
    segments: tuple[int, ...] = ()
    rows: tuple[int, ...] = ()

    def segments_of(self, shard: int) -> int:
        """Return how many segments of the input a shard was given."""
        return self.segments[shard] if shard < len(self.segments) else 0

    def rows_of(self, shard: int) -> int:
        """Return how many targets of the input a shard was given."""
        return self.rows[shard] if shard < len(self.rows) else 0


def input_state(folder: str) -> InputState:
    """Return how far the input of a job was read; where nothing was written of that yet, nothing was.

    Args:
        folder: the job's.

    Raises:
        JobError: when the file can't be read, is damaged, or was written by a later crawlpool.
    """
    path = os.path.join(folder, INPUT)
    found = atomic.get_json(path)
    if found is None:
        return InputState()
    version = found.pop("v", None)
    if isinstance(version, int) and version > VERSION:
        raise JobError(f"{one_line(path)}: was written by a later crawlpool (version {version}, here {VERSION})")
    try:
        lists = {name: tuple(found[name]) for name in ("hosts", "segments", "rows")}
        state = InputState(**{**found, **lists})
    except (KeyError, TypeError):
        raise JobError(f"{one_line(path)}: is damaged") from None
    numbers = (state.rounds, state.items, *state.segments, *state.rows)
    is_good = all(is_count(number, 0) for number in numbers) and all(isinstance(host, str) for host in state.hosts)
    if not (is_good and isinstance(state.is_done, bool) and (state.digest is None or isinstance(state.digest, str))):
        raise JobError(f"{one_line(path)}: is damaged")
    return state


def put_input_state(folder: str, state: InputState) -> None:
    """Write how far the input was read: it is on the disk when this returns. By who has the job's lock.

    Raises:
        SinkError: when it can't be written; then nothing has changed.
    """
    atomic.put_json(os.path.join(folder, INPUT), {"v": VERSION, **dataclasses.asdict(state)})


def is_visible(segment: SegmentName, state: InputState) -> bool:
    """Tell whether a segment may be imported, as far as the input decides that.

    One of the input counts as soon as its round does. Of one that another shard has handed over this says nothing: it
    does, unless an owner wrote it whom nobody knows any more.
    """
    return segment.source is not None or segment.number <= state.rounds
