"""Whether a segment that a shard has handed over counts: not where an owner wrote it whom the shard has left behind.

A batch is committed, then the lease is asked, then its segment is written. So of a shard that was taken over, the new
owner's ledger has each batch of which there is a segment: its commit was there before the lease could end, and the copy
was made after that. ``origin.json`` in a new epoch's folder says which batches its ledger knew, epoch by epoch, those
of epochs further back, too, of which no folder may be left. What isn't among them has no right to be there, whoever
wrote it and however; it is the second lock on that door.
"""

from __future__ import annotations

import dataclasses
import enum
import os
from typing import TYPE_CHECKING

from crawlpool.errors import JobError
from crawlpool.redact import one_line
from crawlpool.shards import atomic, tenure
from crawlpool.shards.layout import ORIGIN, epoch_folder, shard_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crawlpool.shards.segments import SegmentName


class Standing(enum.Enum):
    """What is to be done with a segment."""

    COUNTS = "counts"  # it is to be imported
    VOID = "void"  # it never was: it is to be removed
    LATER = "later"  # that isn't known yet: its source is being taken over


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where the folder of an epoch came from.

    Args:
        epoch: the one that it was copied from; ``None`` where there was none.
        batches: the highest batch of each epoch that the copied ledger knew.
    """

    epoch: int | None
    batches: dict[int, int]


def standing(root: str, name: SegmentName) -> Standing:
    """Return what is to be done with a segment that was seen in an inbox, as ``Standings.of`` does for one alone."""
    return Standings(root).of(name)


class Standings:
    """What is to be done with each of many segments that were seen in inboxes. Each source is looked at once.

    The tenures of a source have to be looked at after its segment was seen. Of one that is seen later, by the same
    ``Standings``, ``LATER`` may be said in vain: so it is for who wants to know what there is to do, and not for who
    does it.

    Args:
        root: the job's folder.
        epochs: that are known to be in use, by shard: these needn't be looked up.

    Not thread-safe.
    """

    def __init__(self, root: str, epochs: Mapping[int, int] | None = None) -> None:
        self._root = root
        self._epochs: dict[int, int | None] = {**(epochs or {})}  # ``None`` of a shard that nobody has had here
        self._origins: dict[int, Origin | None] = {}

    def of(self, name: SegmentName) -> Standing:
        """Return what is to be done with a segment.

        Where its source has no folder here, or nobody has had it here, it is another machine's, and its segments count.

        Args:
            name: the segment's; of the input's nothing is said here.

        Raises:
            JobError: when a file of the source is damaged.
            SinkError: when one can't be read.
        """
        source = name.source
        if source is None:
            return Standing.COUNTS
        if source not in self._epochs:
            now = tenure.newest(shard_folder(self._root, source))
            self._epochs[source] = None if now is None else now.epoch
        epoch = self._epochs[source]
        if epoch is None or epoch == name.epoch:
            return Standing.COUNTS
        if epoch < name.epoch:  # what is read of the folder is older than the segment; or there is no folder yet
            return Standing.LATER
        if source not in self._origins:
            self._origins[source] = origin_of(epoch_folder(self._root, source, epoch))
        origin = self._origins[source]
        if origin is None:
            return Standing.LATER
        return Standing.COUNTS if name.number <= origin.batches.get(name.epoch, 0) else Standing.VOID


def origin_of(folder: str) -> Origin | None:
    """Return where an epoch's folder came from; ``None`` of one that is the first, or isn't there.

    Raises:
        JobError: when that is damaged.
    """
    path = os.path.join(folder, ORIGIN)
    found = atomic.get_json(path)
    if found is None:
        return None
    try:
        return Origin(found["from"], {int(epoch): int(batch) for epoch, batch in found["batches"].items()})
    except (KeyError, TypeError, ValueError, AttributeError):
        raise JobError(f"{one_line(path)}: is damaged") from None
