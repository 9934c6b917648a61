"""``crawlpool cat``: writes the body of one URL of a job, or the header of its answer."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from crawlpool.cli.exits import Exit
from crawlpool.cli.jobs import JOBS, NotInJob, Pending, record_in, shown, tell_pending, write_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crawlpool.jobs.records import JobRecord

_PIECE_BYTES = 1 << 20

_EPILOG = """\b
A page as it was decoded:
  crawlpool cat crawl https://example.org/ > page.html
The header of its answer; on a terminal what it would obey is escaped:
  crawlpool cat crawl https://example.org/ --headers

The URL is the one that was asked for, in whatever spelling, and not where a redirect led. While a job runs it is there
as soon as its record is.

\b
Exit codes:
  0  written
  7  the URL isn't done yet, or isn't in the part of the input that was read so far
  3  the job doesn't have the URL or has kept no body of it, the body is damaged; or there is no job
  2  the command line is wrong
"""


def cat_command() -> click.Command:
    """Return the command ``crawlpool cat``."""
    return click.Command(
        "cat",
        callback=_cat,
        params=[
            JOBS,
            click.Argument(["url"], metavar="URL"),
            click.Option(["--headers"], is_flag=True, help="Write the header of the answer in place of the body."),
        ],
        help="Write the body that a job has kept of a URL to standard output, byte for byte as it was decoded. JOB is "
        "its folder; where several are given, the first that has it counts.",
        short_help="Write the body that a job has kept of a URL.",
        epilog=_EPILOG,
    )


def _cat(jobs: tuple[str, ...], url: str, headers: bool) -> Exit:
    from crawlpool.escape import harms_terminal, header_lines
    from crawlpool.jobs.records import why_no_body
    from crawlpool.shards.reading import open_job

    with open_job(*jobs) as opened:
        try:
            record = record_in(opened, url)
        except Pending as error:
            return tell_pending(error)
        if headers:
            data = _header_of(record)
            if not data:
                raise NotInJob(f"{shown(url)}: no header of an answer was kept")
        elif not record.has_body:
            raise NotInJob(f"{shown(url)}: {why_no_body(record)}")
        elif not sys.stdout.isatty():
            write_bytes(_pieces(record))
            return Exit.OK
        else:
            data = record.content or b""
        if sys.stdout.isatty() and headers:
            data = header_lines(data)
        elif sys.stdout.isatty() and harms_terminal(data):
            what = "control characters, which a terminal would obey"
            raise NotInJob(f"{shown(url)}: there are {what}: write it to a file or a pipe")
        write_bytes([data])
    return Exit.OK


def _header_of(record: JobRecord) -> bytes:
    head = record.head
    if head is None:
        head = "".join(f"{name}: {value}\r\n" for name, value in record.headers.items()).encode("utf-8", "replace")
    return head


def _pieces(record: JobRecord) -> Iterator[bytes]:
    with record.open() as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece
