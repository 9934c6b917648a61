"""``crawlpool verify``: looks at all of a job, and says whether its ledger, its records and its bodies agree."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import click

from crawlpool.cli.answer import write_answer
from crawlpool.cli.exits import Exit
from crawlpool.cli.jobs import JOBS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crawlpool.jobs.verify import Verified
    from crawlpool.shards.reading import JobsReader

#: Flaws told one by one: as text, and as JSON. All are counted.
SHOWN, LISTED = 20, 1000

_EPILOG = """\b
Is everything there, and as it was written?
  crawlpool verify crawl
Before a copy is trusted:
  cp -r crawl /backup/ && crawlpool verify /backup/crawl

Looked at are the ledger (as SQLite checks a file, and its books), the records (one for each URL that is done, where the
ledger says, and nothing else), WARC files (each record with its digest, a response for each that the records tell of)
and bodies (by their SHA-256). Of a job of many shards each is looked at so, and then whether each has taken in what of
the input it was given, whether no entry of the input is there twice, and whether what one has handed over has arrived.
A job that runs meanwhile is judged by what it had committed.

\b
Exit codes:
  0  whole
  3  something is wrong, and what is told with file and offset; or there is no job
  2  the command line is wrong
"""


def verify_command() -> click.Command:
    """Return the command ``crawlpool verify``."""
    return click.Command(
        "verify",
        callback=_verify,
        params=[JOBS, click.Option(["--json", "as_json"], is_flag=True, help="Write one JSON object.")],
        help="Prove that a job is what was written: that its ledger, its records and the bodies that it keeps agree, "
        "and no byte of these files was changed; or name what is wrong. JOB is its folder; parts of one job "
        "are held against each other.",
        short_help="Prove that ledger, records and bodies of a job agree.",
        epilog=_EPILOG,
    )


def _verify(jobs: tuple[str, ...], as_json: bool) -> Exit:
    from crawlpool.jobs.reading import JobReader
    from crawlpool.jobs.verify import verify
    from crawlpool.shards.reading import open_job
    from crawlpool.shards.verify import verify_jobs

    most = LISTED if as_json else SHOWN
    with open_job(*jobs) as opened:
        if isinstance(opened, JobReader):
            found = verify(opened, most_flaws=most)
        else:
            found = verify_jobs(opened, most_flaws=most)
        apart = [] if isinstance(opened, JobReader) else list(not_held_against(opened))
    if as_json:
        write_answer([json.dumps({"is_whole": found.is_whole, **dataclasses.asdict(found), "apart": apart})])
    else:
        write_answer([*lines_of(found), *apart])
    return Exit.OK if found.is_whole else Exit.FILES


def not_held_against(jobs: JobsReader) -> Iterator[str]:
    """Yield what ``whole`` doesn't speak of: parts that weren't given, and jobs that have nothing to do with others."""
    from crawlpool.redact import one_line

    if len(jobs.groups) > 1:
        yield f"{len(jobs.groups):,} different jobs: none was held against another"
    for group in jobs.groups:
        manifest = group[0].manifest
        if manifest is None or manifest.part is None:
            continue
        of = manifest.part[1]
        there = {
            root.manifest.part[0] for root in group if root.manifest is not None and root.manifest.part is not None
        }
        others = ", ".join(f"{which}/{of}" for which in range(1, of + 1) if which not in there)
        if others:
            paths = " and ".join(one_line(root.path) for root in group)
            yield f"{paths}: without the job's other parts ({others}), and so what they handed over isn't accounted for"


def lines_of(found: Verified) -> Iterator[str]:
    """Yield what was found as lines of text."""
    shards, on_its_way = getattr(found, "shards", 0), getattr(found, "on_its_way", 0)
    counts = [f"{shards:,} shards"] * bool(shards)
    counts += [f"{found.targets:,} targets", f"{found.records:,} records"]
    counts += [f"{found.handed_over:,} handed over"] * bool(found.handed_over)
    counts += [f"{on_its_way:,} on their way"] * bool(on_its_way)
    counts += [f"{found.pending:,} waiting"] * bool(found.pending)
    counts += [f"{found.items:,} items"] * bool(found.items)
    counts += [f"{found.responses:,} responses in WARC files"] * bool(found.responses)
    counts += [f"{found.bodies:,} bodies compared"] * bool(found.bodies)
    if found.is_whole:
        yield f"whole: {', '.join(counts)}"
        return
    yield f"{found.flaw_count:,} flaw{'' if found.flaw_count == 1 else 's'}: {', '.join(counts)}"
    for flaw in found.flaws:
        yield f"  {flaw}"
    more = found.flaw_count - len(found.flaws)
    if more:
        yield f"and {more:,} more"
