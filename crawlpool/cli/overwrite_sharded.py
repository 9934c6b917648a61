"""``--overwrite`` of a job that may be one of shards: it goes, so that another can lie there, and nothing else goes."""

from __future__ import annotations

import contextlib
import os
import shutil

from crawlpool import disk
from crawlpool.cli import overwrite
from crawlpool.cli.job_file import NAME as JOB_FILE
from crawlpool.errors import JobError, SinkError
from crawlpool.redact import one_line

#: Folders in which nothing lies but what the job has made.
_KNOWN_BY = ("shards", "runners")


def clear(folder: str) -> None:
    """Remove a job, whatever its kind and that of the next, after asking where there is a terminal; none is no trouble.

    The manifest goes last: whatever comes between, the folder is known for a job's.

    Args:
        folder: the job's.

    Raises:
        JobError: when another process has the job or a shard of it, or the folder is no job.
        SinkError: when something can't be removed.
        click.Abort: when the answer is no.
    """
    from crawlpool.ledger.lock import JobLock
    from crawlpool.shards import layout, manifest, tenure
    from crawlpool.shards.refused import writers_of

    if not os.path.isdir(folder) or not manifest.is_sharded(folder):
        overwrite.clear(folder)
        return
    with JobLock(folder):
        shards = layout.shards_there(folder)
        for shard in shards:
            found = tenure.newest(layout.shard_folder(folder, shard))
            if found is not None and not found.is_released and not found.owner.is_dead():
                who = one_line(f"{found.owner} has shard {shard:04d}")
                raise JobError(f"{one_line(folder)}: {who}, or had it when last heard of: end it first")
            if writers_of(folder, shard):
                raise JobError(
                    f"{one_line(folder)}: has taken in what other parts of the job handed over, and they do so once "
                    "only: begin all parts anew, each in a new folder"
                )
        overwrite.ask(
            f"{one_line(folder)}: a job of {len(shards):,} shards; remove it, with its outputs, and begin anew?"
        )
        try:
            for name in _KNOWN_BY:
                with contextlib.suppress(FileNotFoundError):
                    shutil.rmtree(os.path.join(folder, name))
            for name in (layout.INPUT, layout.SUFFIXES, f"{JOB_FILE}.new", JOB_FILE, layout.MANIFEST):
                with contextlib.suppress(FileNotFoundError):
                    disk.remove(os.path.join(folder, name))
            disk.sync_folder(folder)
        except OSError as error:
            raise SinkError(f"{one_line(error.filename or folder)}: can't be removed: {error.strerror}") from error
