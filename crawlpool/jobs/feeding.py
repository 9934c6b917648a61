"""The input of a job on its way to the ledger: what was read before is skipped, and has to be the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from crawlpool.errors import JobError
from crawlpool.jobs.entries import row_of_seed
from crawlpool.redact import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from crawlpool.crawl import Crawl
    from crawlpool.jobs.clerk import Clerk
    from crawlpool.jobs.job import OpenJob
    from crawlpool.leg import Run
    from crawlpool.models import Target
    from crawlpool.source import BadLine


class ReadBefore(NamedTuple):
    """What earlier runs of a job have read of its input.

    Args:
        path: the job's folder, for messages.
        items: how many items.
        digest: their digest, as ``fresh_rows`` counts it; ``None`` of none.
    """

    path: str
    items: int
    digest: str | None


class Counted(Protocol):
    """Who counts the items of an input and their digest, of those passed over, too."""

    hasher: Any
    items: int


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
    note = crawl.group.inputs.note  # type: ignore[union-attr]
    before = ReadBefore(job.job.path, job.items_read, job.input_digest)
    for row in fresh_rows(crawl, seeds, before, clerk, note, lambda: crawl.is_draining):
        if not clerk.take_in(row):
            return
    if not crawl.is_draining and is_at_end(seeds):
        clerk.end_input()


def fresh_rows(
    run: Run,
    seeds: Iterable[object],
    before: ReadBefore,
    counted: Counted,
    note: Callable[[str], None],
    is_stopped: Callable[[], bool],
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of those seeds that weren't read before.

    Args:
        run: whose seeds they are.
        seeds: the input from its start.
        before: how much of it was read.
        counted: told of what was read before; whoever takes a row counts that in.
        note: called with the host of each seed, before its row is yielded: they are committed together.
        is_stopped: asked before each seed.

    Raises:
        JobError: when it isn't the input that was read before.
        Exception: what iterating ``seeds`` raises.
    """
    ordinal = 0
    for seed in seeds:
        if is_stopped():
            return
        ordinal += 1
        row = row_of_seed(run, seed, ordinal)
        note(row[1])
        if ordinal > before.items:
            yield row
            continue
        counted.hasher.update(row[3].encode("ascii"))
        counted.items += 1
        if ordinal == before.items and counted.hasher.hexdigest() != before.digest:
            raise _other(before, f"the first {ordinal:,} entries aren't those that were read before")
    if ordinal < before.items and not is_stopped() and is_at_end(seeds):
        raise _other(before, f"it has {ordinal:,} entries, and {before.items:,} of it were read before")


def is_at_end(seeds: Iterable[object]) -> bool:
    """Tell whether the end of the seeds that was come to is that of the input, and not where somebody stopped it."""
    return bool(getattr(seeds, "is_exhausted", True))


def _other(before: ReadBefore, why: str) -> JobError:
    return JobError(f"{one_line(before.path)}: this isn't the input that the job was begun with: {why}")
