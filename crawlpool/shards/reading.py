"""Jobs read back together: one of many shards, several, or both; while they run or afterwards, and nothing is locked.

Each shard has a ledger of its own, in the folder of the epoch that counts. Its results are read a page at a time, and a
page counts when the same epoch still does after it was read: what a former owner wrote after its shard was taken over
is so never told.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from crawlpool.jobs.reading import JobReader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from crawlpool.jobs.reading import JobRun
    from crawlpool.jobs.records import JobRecord
    from crawlpool.models import Outcome, Report, Target


def open_job(path: str | os.PathLike[str], *more: str | os.PathLike[str]) -> JobReader | JobsReader:
    """Open a job to read it, or several as one; nothing of them is locked or changed, and they may run meanwhile.

    Args:
        path: of its folder; the job may be one of many shards.
        more: of further jobs, such as the other parts of a job (``--shard 2/4``).

    Returns:
        The reader, a context manager: a ``JobReader`` of one job with one ledger, else a ``JobsReader``.

    Raises:
        JobError: when there is no job, it can't be read, or a later version has written it.
    """
    raise NotImplementedError


class JobsReader:
    """Jobs of many shards, or several jobs, open to be read as one. Made by ``open_job``.

    Args:
        paths: of their folders; one without shards may be among them.

    Raises:
        JobError: as ``open_job`` does; and so does every method when something is damaged or gone: it names the shard.

    Not thread-safe: let each thread open its own.
    """

    def __init__(self, paths: Sequence[str | os.PathLike[str]]) -> None:
        self.paths = tuple(os.fspath(path) for path in paths)

    def records(self, *, outcome: str | Outcome | None = None, host: str | None = None) -> Iterator[JobRecord]:
        """Yield the records of what is settled.

        Those of a job of many shards come in the order of the input, as do those of several parts of one; what was
        found, or handed over by another shard, comes where its shard had taken it in. Other jobs follow one another.

        Args:
            outcome: only those that ended so.
            host: only those of this host.

        Raises:
            ValueError: for an outcome that there isn't.
        """
        raise NotImplementedError

    def __iter__(self) -> Iterator[JobRecord]:
        return self.records()

    def get(self, url: str | Target) -> JobRecord | None:
        """Return the record of a URL, in whatever spelling, wherever its redirects have led it.

        Returns:
            ``None`` where the jobs don't have it, or not yet.

        Args:
            url: as it was asked for, not where a redirect led; or a target, for one with a method, headers or data.
        """
        raise NotImplementedError

    def items(self) -> Iterator[dict[str, Any]]:
        """Yield what handlers have emitted, shard by shard."""
        raise NotImplementedError

    @property
    def report(self) -> Report:
        """The books of all shards and jobs together; they balance with what is ``pending``, or on its way."""
        raise NotImplementedError

    @property
    def is_input_done(self) -> bool:
        """Whether all of the input was shared out among the shards."""
        raise NotImplementedError

    @property
    def runs(self) -> tuple[JobRun, ...]:
        """The runs of all shards, by shard, each in order."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of all files. May be called again."""
        raise NotImplementedError

    def __enter__(self) -> JobsReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
