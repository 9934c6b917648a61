"""The ledgers of a job for the judge of ``crawlpool audit``: one, or that of each shard.

A host lies in one shard, and so do all requests to it: those of a target whose redirects lead on to another shard stay
in the ledger of the first. So each shard is judged by itself, and memory doesn't grow with their number. Its owners
were processes of perhaps several machines: between two of their runs the clocks tell as much as they agree.

One request may lie elsewhere: a robots.txt that redirects to a host of another shard is followed where it was asked
for. It is judged there, and not against the requests of that host's own shard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crawlpool.errors import JobError
from crawlpool.jobs.reading import JobReader
from crawlpool.redact import one_line
from crawlpool.shards.parts import Part, Root, named

if TYPE_CHECKING:
    from crawlpool.jobs.judging import JobLegs


def read_legs(path: str, legs: JobLegs, host: str | None = None) -> None:
    """Give all legs of a job to a judge, ledger by ledger.

    Args:
        path: of the job's folder.
        legs: takes them.
        host: the one whose requests are wanted; ``None`` for all. Of a job of many shards only its own is read then.

    Raises:
        JobError: when there is no job, or something of it is damaged or gone; or a shard changed its owner meanwhile.
    """
    root = Root(path)
    home = None if host is None or root.sharding is None else root.sharding.shard_of(host)
    for part in root.parts():
        if part.shard is None or home is None or part.shard == home:
            _read(part, legs)


def _read(part: Part, legs: JobLegs) -> None:
    """Give the legs of one ledger to a judge.

    What was given can't be taken back: so one whose owner changes, with the folder that is read going, is an end.

    Raises:
        JobError: when it is damaged or gone, or was taken over meanwhile; the message names it.
    """
    with named(part):
        folder = part.folder()
        if folder is None:
            return
        try:
            with JobReader(folder) as reader:
                legs.read(reader, one_line(part.name))
        except JobError as error:
            if part.folder() == folder:
                raise
            raise JobError("the shard has changed its owner meanwhile: audit it once more") from error
