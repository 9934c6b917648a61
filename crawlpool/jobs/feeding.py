"""The input of a job on its way to the ledger: what was read before is skipped, and has to be the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crawlpool.errors import JobError
from crawlpool.jobs.entries import row_of_seed
from crawlpool.redact import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crawlpool.crawl import Crawl
    from crawlpool.jobs.clerk import Clerk
    from crawlpool.jobs.job import OpenJob
    from crawlpool.models import Target
    from crawlpool.source import BadLine


def feed(crawl: Crawl, job: OpenJob, clerk: Clerk, seeds: Iterable[str | Target | BadLine]) -> None:
    """Read seeds to their end, as long as the crawl doesn't drain, and hand those that are new to the clerk.

    Standard input that is piped in again is passed over as far as it was read. Of what was read a digest is kept: the
    job of another input isn't gone on with.

    Args:
        crawl: whose input it is.
        job: which knows how much of it was read before; where all of it was, ``seeds`` isn't touched.
        clerk: takes the rest, waiting when there is much.
        seeds: the input from its start; where it has an ``is_exhausted`` that is false, its end isn't the input's.

    Raises:
        JobError: when it isn't the input that was read before.
        Exception: what iterating ``seeds`` raises.
    """
    if job.is_input_done:
        return
    ordinal, read_before = 0, job.items_read
    for seed in seeds:
        if crawl.is_draining:
            return
        ordinal += 1
        row = row_of_seed(crawl, seed, ordinal)
        crawl.group.inputs.note(row[1])  # type: ignore[union-attr]  # before the row goes: they are committed together
        if ordinal > read_before:
            if not clerk.take_in(row):
                return
            continue
        clerk.hasher.update(row[3].encode("ascii"))
        clerk.items += 1
        if ordinal == read_before and clerk.hasher.hexdigest() != job.input_digest:
            raise _other(job, f"the first {ordinal:,} entries aren't those that were read before")
    if crawl.is_draining or not getattr(seeds, "is_exhausted", True):
        return
    if ordinal < read_before:
        raise _other(job, f"it has {ordinal:,} entries, and {read_before:,} of it were read before")
    clerk.end_input()


def _other(job: OpenJob, why: str) -> JobError:
    return JobError(f"{one_line(job.job.path)}: this isn't the input that the job was begun with: {why}")
