"""Segments that no owner of a shard takes in, and what helps: to go on with the job doesn't, as they lie there still.

A shard that meets such a segment is given up, with the reason. So only the inboxes of shards that were given up are
looked at here, for each of their segments has to be read to its end.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

from crawlpool.errors import CrawlPoolError, JobError
from crawlpool.ledger.reading import LedgerReader
from crawlpool.ledger.schema import NAME as LEDGER
from crawlpool.ledger.shard_reading import ShardTables
from crawlpool.redact import one_line
from crawlpool.shards import layout, segments
from crawlpool.shards.inputs import input_state, is_visible
from crawlpool.shards.parts import Part

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from crawlpool.shards.manifest import Manifest
    from crawlpool.shards.segments import SegmentName


class Refused(NamedTuple):
    """A segment that isn't taken in.

    Args:
        path: of the file, as messages call it.
        why: what is wrong, with the path.
        remedy: what is to be done with the file before the job goes on.
    """

    path: str
    why: str
    remedy: str


def refused_in(root: str, manifest: Manifest, shards: Iterable[int]) -> Iterator[Refused]:
    """Yield the segments in inboxes of a job that are damaged, or belong elsewhere.

    Args:
        root: the job's folder.
        manifest: the job's.
        shards: whose inboxes are looked at: those that were given up. Each of their segments is read to its end.

    Raises:
        JobError: when an inbox can't be read.
    """
    state = input_state(root)
    for shard in sorted(shards):
        inbox = layout.inbox_folder(root, shard)
        names = segments.names(inbox)
        writers, digests = _known_of(root, shard, names)
        for name in names:
            path = os.path.join(inbox, str(name))
            if not is_visible(name, state):
                continue
            try:
                for _ in segments.read(path, manifest.sharding_id):
                    break  # all of it was checked before the first one came
                if name.source is not None and name.source not in manifest.mine():
                    segments.check_writer(path, name.source, writers)
                segments.check_content(path, digests.get(name, ""))
            except FileNotFoundError:
                pass  # it was taken in meanwhile
            except segments.Foreign as error:
                remedy = "move this file out of the job"
                if isinstance(error, segments.BegunAnew):
                    remedy += ", and begin all parts anew, as none can take in what this one hands over now"
                yield Refused(one_line(path), str(error), remedy)
            except JobError as error:
                yield Refused(one_line(path), str(error), _remedy(manifest, name))


def writers_of(root: str, shard: int) -> dict[int, str]:
    """Return who wrote what a shard has taken in of other folders, by source, as far as its ledger can be read."""
    return _known_of(root, shard, ())[0]


def _known_of(root: str, shard: int, names: Iterable[SegmentName]) -> tuple[dict[int, str], dict[SegmentName, str]]:
    """Return the same, and which of some segments were taken in before, with their digests."""
    with contextlib.suppress(CrawlPoolError, OSError):
        folder = Part(root, shard).folder()
        if folder is not None:
            with contextlib.closing(LedgerReader(os.path.join(folder, LEDGER))) as ledger:
                tables = ShardTables(ledger)
                digests = {name: digest for name in names if (digest := tables.digest_of(str(name))) is not None}
                return tables.writers(), digests
    return {}, {}


def _remedy(manifest: Manifest, name: SegmentName) -> str:
    if manifest.part is None or name.source is None or name.source in manifest.mine():
        return "put this file back from a copy of the job"
    which, of = name.source % manifest.part[1] + 1, manifest.part[1]
    return f"copy this file again from part {which}/{of}, which wrote it; or move it out of the job until that is done"
