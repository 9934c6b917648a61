"""``crawlpool explain``: each request, each wait and each decision of one URL of a job."""

from __future__ import annotations

import json

import click

from crawlpool.cli.answer import write_answer
from crawlpool.cli.exits import Exit
from crawlpool.cli.jobs import JOBS, Pending, not_in, tell_pending

_EPILOG = """\b
Why did this one fail, and what was tried?
  crawlpool explain crawl https://example.org/page
How long did it wait, and for what?
  crawlpool explain crawl https://example.org/page --json | jq '.legs[].waits'

The URL is the one that was asked for, in whatever spelling, and not where a redirect led. Times are UTC. While a job
runs, the requests of a URL are told as soon as its record is there; of one that waits, what it waits for.

\b
Exit codes:
  0  told
  7  there is nothing to tell yet: the URL isn't in the part of the input that was read so far, or no shard has taken it
  3  the job doesn't have the URL, or is damaged; or there is no job
  2  the command line is wrong
"""


def explain_command() -> click.Command:
    """Return the command ``crawlpool explain``."""
    return click.Command(
        "explain",
        callback=_explain,
        params=[
            JOBS,
            click.Argument(["url"], metavar="URL"),
            click.Option(["--json", "as_json"], is_flag=True, help="Write one JSON object."),
        ],
        help="Tell what became of one URL of a job, and why: each request that it took, what it waited for, what "
        "robots.txt said and in which line, redirects, retries and their causes, over all shards of the job. "
        "JOB is its folder; it may run meanwhile. Where several are given, the first that has it counts.",
        short_help="Tell each request, wait and decision of one URL of a job.",
        epilog=_EPILOG,
    )


def _explain(jobs: tuple[str, ...], url: str, as_json: bool) -> Exit:
    from crawlpool.cli.explain_text import lines_of
    from crawlpool.shards.explaining import explained
    from crawlpool.shards.reading import open_job

    with open_job(*jobs) as opened:
        found = explained(opened, url)
        if found is None:
            error = not_in(opened, url)
            if isinstance(error, Pending):
                return tell_pending(error)
            raise error
    if as_json:
        write_answer([json.dumps(found)])
    else:
        write_answer(lines_of(found))
    return Exit.OK
