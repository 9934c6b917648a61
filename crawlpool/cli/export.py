"""``crawlpool export``: writes the records of a job to a file, as JSON lines or as a table."""

from __future__ import annotations

import csv
import io
import json
import os
from typing import TYPE_CHECKING, Any

import click

from crawlpool.cli.exits import Exit
from crawlpool.cli.jobs import JOBS, gathered, new_file, write_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from crawlpool.jobs.records import JobRecord

_OUTCOMES = ("ok", "http_error", "failed", "disallowed", "skipped")

_EPILOG = """\b
A table for a spreadsheet:
  crawlpool export crawl -o crawl.csv
What failed, to be looked at by a program:
  crawlpool export crawl --outcome failed | jq -c '[.url, .error.kind]'
The URLs that are to be tried once more, elsewhere:
  crawlpool export crawl --outcome failed | jq -r .url > again.txt

Records come in the order of the input; in a job of many shards what a link or a redirect brought to another shard comes
where that had taken it in, and "body" names files by their paths in the job. Several jobs follow one another, and parts
of one are put in order as one. In a table kind and message of an error have columns of their own, and so have
the timings; lists and objects are JSON, and a cell that a spreadsheet would run as a formula begins with an apostrophe.

\b
Exit codes:
  0  written
  3  the job or the file can't be read or written, or something is gone of what the job had; or there is no job
  2  the command line is wrong
"""


def export_command() -> click.Command:
    """Return the command ``crawlpool export``."""
    return click.Command(
        "export",
        callback=_export,
        params=[
            JOBS,
            click.Option(
                ["-o", "--output"],
                metavar="DEST",
                default="-",
                help="Where to: a path that ends in .jsonl or .csv, or - for JSON lines on standard output (the "
                "default). A file that is there is replaced, when the new one is whole.",
            ),
            click.Option(["--outcome"], type=click.Choice(_OUTCOMES), help="Only what ended so."),
            click.Option(["--host"], metavar="HOST", help="Only what is of this host."),
        ],
        help="Write the records of a job, of all that is done. JOB is its folder; it may run meanwhile. Several are "
        "written as one.",
        short_help="Write the records of a job as JSON lines or a table.",
        epilog=_EPILOG,
    )


def _export(jobs: tuple[str, ...], output: str, outcome: str | None, host: str | None) -> Exit:
    from crawlpool.shards.reading import open_job

    ending = os.path.splitext(output)[1].lower()
    if output != "-" and ending not in (".jsonl", ".csv"):
        what = f"-o {output!r}: '-' (standard output) and paths that end in .jsonl or .csv work"
        raise click.UsageError(what, click.get_current_context())
    with open_job(*jobs) as opened:
        found = opened.records(outcome=outcome, host=host)
        pieces = table_of(found) if ending == ".csv" else lines_of(found)
        if output == "-":
            write_bytes(pieces)
        else:
            for job in jobs:
                _check_apart(job, output)
            with new_file(output) as fd:
                for piece in gathered(pieces):
                    view = memoryview(piece)
                    while view:
                        view = view[os.write(fd, view) :]
    _check_whole(jobs)
    return Exit.OK


def _check_whole(jobs: Iterable[str]) -> None:
    """Raise ``JobError`` when records are missing that a job had: what is there is written by now."""
    from crawlpool.errors import JobError
    from crawlpool.redact import one_line
    from crawlpool.shards.whole import missing_at_rest

    for job in jobs:
        for shard, what in missing_at_rest(job).items():
            raise JobError(f"{one_line(job)}: shard {shard:04d} isn't whole, the rest was written: {what}")


def _check_apart(job: str, output: str) -> None:
    """Refuse to replace a file of the job itself."""
    folder = os.path.realpath(job)
    if os.path.lexists(output) and os.path.realpath(output).startswith(os.path.join(folder, "")):
        what = f"-o {output!r}: it is there, in the job itself; files of a job aren't replaced"
        raise click.UsageError(what, click.get_current_context())


def lines_of(records: Iterable[JobRecord]) -> Iterator[bytes]:
    """Yield each record as a line of JSON, as the job has it."""
    from crawlpool.record import to_line

    for record in records:
        yield to_line(fields_of(record))


def table_of(records: Iterable[JobRecord]) -> Iterator[bytes]:
    """Yield the head of a table in CSV, and a row for each record; UTF-8."""
    from crawlpool.record import EMPTY
    from crawlpool.wire import TIMINGS

    parts = {"error": ("kind", "message"), "timings": TIMINGS}
    yield _row([f"{key}.{part}" if part else key for key in EMPTY for part in parts.get(key, ("",))])
    for record in records:
        fields = fields_of(record)
        cells: list[Any] = []
        for key in EMPTY:
            value = fields.get(key)
            if key in parts:
                cells += [value.get(part) if isinstance(value, dict) else None for part in parts[key]]
            else:
                cells.append(value)
        yield _row([cell_of(cell) for cell in cells])


def fields_of(record: JobRecord) -> dict[str, Any]:
    """Return what a record says; of a shard's with its files by their paths in the folder of the whole job."""
    from crawlpool.shards.layout import within_job

    fields = dict(record)
    below = within_job(record.folder) if fields.get("body") else ""
    if below:
        fields["body"] = [{**place, "file": f"{below}/{place['file']}"} for place in fields["body"]]
    return fields


def cell_of(value: Any) -> str:
    """Return a value as the text of a cell, which no spreadsheet takes for a formula."""
    from crawlpool.escape import cell, json_bytes

    if value is None or value == []:
        return ""
    if isinstance(value, str):
        return cell(value)
    # Numbers have no apostrophe: they are some, the negative ones too.
    return json_bytes(json.dumps(value, ensure_ascii=False)).decode()


def _row(cells: list[str]) -> bytes:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue().encode("utf-8")
