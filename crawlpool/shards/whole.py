"""Whether the folder of a job has all that was put into it: looked at before a job is called done.

What is deleted from a folder is nothing that anybody waits for, so that a run could end well without it. Here what was
handed out is held against what has come in, and each shard's files against what its ledger says of them. ``verify``
looks at every record; this looks at names, lengths and counts, and takes some milliseconds a shard.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from crawlpool.errors import CrawlPoolError
from crawlpool.ledger.lock import holder_of
from crawlpool.ledger.reading import LedgerReader
from crawlpool.ledger.schema import NAME
from crawlpool.shards import layout, segments, tenure
from crawlpool.shards import manifest as manifests
from crawlpool.shards.inputs import input_state, is_visible
from crawlpool.sinks.marks import OPEN_SUFFIX, part_name

if TYPE_CHECKING:
    from crawlpool.shards.inputs import InputState
    from crawlpool.shards.manifest import Manifest


def missing_of(root: str, manifest: Manifest, state: InputState) -> dict[int, str]:
    """Return of each shard of which something is missing what that is, in one line.

    Args:
        root: the job's folder, of which nobody runs a shard.
        manifest: its manifest.
        state: how far its input was handed out.
    """
    found: dict[int, str] = {}
    there = set(layout.shards_there(root))
    for shard in manifest.mine():
        rows = state.rows_of(shard)
        if rows or shard in there:
            try:
                what = _missing(root, manifest, shard, rows)
            except CrawlPoolError as error:
                what = str(error)
            if what:
                found[shard] = f"{what}; 'crawlpool verify' tells all that is missing"
    return found


def missing_at_rest(root: str) -> dict[int, str]:
    """Return the same of a job that may run; while it does, of none, and of no shard that was broken off.

    Args:
        root: the job's folder, with shards or without.

    Raises:
        JobError: when its manifest is damaged.
    """
    if not manifests.is_sharded(root) or holder_of(root) is not None:
        return {}
    state, manifest = input_state(root), manifests.read(root)
    before = _at_rest(root, state)
    found = missing_of(root, manifest, state)
    after = _at_rest(root, state) if found else before  # somebody may have taken a shard meanwhile
    if holder_of(root) is not None:  # it goes on from just now, and moves things about
        return {}
    return {shard: what for shard, what in found.items() if before.get(shard, 0) == after.get(shard, 0) is not None}


def _at_rest(root: str, state: InputState) -> dict[int, int | None]:
    """Return how many tenures each shard has had; ``None`` where something goes on, or waits for its owner."""
    found: dict[int, int | None] = {}
    for shard in layout.shards_there(root):
        last = tenure.newest(layout.shard_folder(root, shard))
        waits = any(is_visible(name, state) for name in segments.names(layout.inbox_folder(root, shard)))
        number = 0 if last is None else last.number if last.is_released else None
        found[shard] = None if waits else number
    return found


def _missing(root: str, manifest: Manifest, shard: int, rows: int) -> str:
    folder = layout.shard_folder(root, shard)
    last = tenure.newest(folder) if os.path.isdir(folder) else None
    if last is None or not last.epoch:
        return f"it was given {rows:,} entries of the input, and has none of them" if rows else ""
    epoch = layout.epoch_folder(root, shard, last.epoch)
    path = os.path.join(epoch, NAME)
    if not os.path.isfile(path):
        return f"{layout.epoch_name(last.epoch)}/{NAME} is gone"
    with contextlib.closing(LedgerReader(path)) as ledger:
        taken = int((ledger.value("books") or {}).get("inputs", 0))
        if taken != rows:
            return f"it was given {rows:,} entries of the input, and has {taken:,} of them"
        for name in manifest.outputs:
            mark = ledger.mark(name)
            if mark is None or name.endswith("/") or not mark["length"]:
                continue
            last_part = os.path.join(epoch, os.path.dirname(name), part_name(os.path.basename(name), mark["part"]))
            length = max(map(_length_of, (last_part, last_part + OPEN_SUFFIX)))
            if length < mark["length"]:
                what = "is gone" if length < 0 else f"has {length:,} bytes of {mark['length']:,}"
                return f"{layout.epoch_name(last.epoch)}/{name} {what}"
    return ""


def _length_of(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1
