"""Segments that no owner of a shard takes in, and what helps: to go on with the job doesn't, as they lie there still.

A shard that meets such a segment is given up, with the reason. So only the inboxes of shards that were given up are
looked at here, for each of their segments has to be read to its end.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from crawlpool.errors import JobError
from crawlpool.redact import one_line
from crawlpool.shards import layout, segments
from crawlpool.shards.inputs import input_state, is_visible

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
        for name in segments.names(inbox):
            path = os.path.join(inbox, str(name))
            if not is_visible(name, state):
                continue
            try:
                for _ in segments.read(path, manifest.sharding_id):
                    break  # all of it was checked before the first one came
            except FileNotFoundError:
                pass  # it was taken in meanwhile
            except segments.Foreign as error:
                yield Refused(one_line(path), str(error), "move this file out of the job")
            except JobError as error:
                yield Refused(one_line(path), str(error), _remedy(manifest, name))


def _remedy(manifest: Manifest, name: SegmentName) -> str:
    if manifest.part is None or name.source is None or name.source in manifest.mine():
        return "put this file back from a copy of the job"
    which, of = name.source % manifest.part[1] + 1, manifest.part[1]
    return f"copy this file again from part {which}/{of}, which wrote it; or move it out of the job until that is done"
