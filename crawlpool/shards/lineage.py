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
    """Return what is to be done with a segment that was seen in an inbox.

    The tenures of its source are looked at after it was seen. Where the source has no folder here, or nobody has had it
    here, it is another machine's, and its segments count.

    Args:
        root: the job's folder.
        name: the segment's; of the input's nothing is said here.

    Raises:
        JobError: when a file of the source is damaged.
        SinkError: when one can't be read.
    """
    if name.source is None:
        return Standing.COUNTS
    now = tenure.newest(shard_folder(root, name.source))
    if now is None or now.epoch == name.epoch:
        return Standing.COUNTS
    if now.epoch < name.epoch:  # what is read of the folder is older than the segment; or there is no folder yet
        return Standing.LATER
    origin = origin_of(epoch_folder(root, name.source, now.epoch))
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
