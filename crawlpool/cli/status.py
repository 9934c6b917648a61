"""``crawlpool status``: how far a run or a job is, and which of its hosts aren't asked as the others are."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from crawlpool.cli.answer import write_answer
from crawlpool.cli.exits import Exit
from crawlpool.cli.job_status import hosts_lines, lines_of_job, status_of_job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

#: Seconds from one look to the next with ``--watch``.
EVERY_S = 1.0

_EPILOG = """\b
Of a run that was started with --control /tmp/crawl.sock:
  crawlpool status /tmp/crawl.sock
Each second, until it ends:
  crawlpool status /tmp/crawl.sock --watch
Which hosts are held?
  crawlpool status /tmp/crawl.sock --json | jq -r '.held[].host'
Of a job, whether it runs or not: how it ended, what is left, and what to do next:
  crawlpool status crawl
Of several jobs together, such as the parts of one:
  crawlpool status part-1 part-2

\b
Exit codes:
  0  told; with --watch: told until the run ended
  3  there is no such socket or job, nobody listens there, or no answer came within 5 seconds; or of a job that nobody
     runs something is gone
  2  the command line is wrong
"""


def status_command() -> click.Command:
    """Return the command ``crawlpool status``."""
    options: list[click.Parameter] = [
        click.Argument(["controls"], nargs=-1, required=True, metavar="CONTROL..."),
        click.Option(["--json", "as_json"], is_flag=True, help="Write one JSON object; with --watch one a line."),
        click.Option(["--watch"], is_flag=True, help="Tell it again each second, until the run ends."),
    ]
    return click.Command(
        "status",
        callback=_status,
        params=options,
        help="Tell how far a run is, and which hosts are held, skipped, slowed down or given up. CONTROL is what the "
        "run was given as --control, or a folder with a socket named 'control' in it, or a job's folder: of one with "
        "many shards all of them and their workers are told, and several jobs together.",
        short_help="Tell how far a run is that goes on.",
        epilog=_EPILOG,
    )


def _status(controls: tuple[str, ...], as_json: bool, watch: bool) -> Exit:
    from crawlpool.cli.control import ControlError

    is_first = True
    while True:
        try:
            found, as_lines, goes_on = _look(controls)
        except ControlError:
            if is_first:
                raise
            return Exit.OK  # it has been there, and is no more
        is_over = not (watch and goes_on)
        write_answer([json.dumps(found)] if as_json else [*([] if is_first else [""]), *as_lines(found)])
        if is_over:
            return Exit.FILES if found.get("missing") else Exit.OK
        is_first = False
        time.sleep(EVERY_S)


def _look(controls: Sequence[str]) -> tuple[dict[str, Any], Callable[[Mapping[str, Any]], Iterable[str]], bool]:
    """Return what there is to tell, how it is made lines of, and whether it goes on."""
    from crawlpool.cli.control import ControlError, ask
    from crawlpool.cli.jobs import is_job, is_sharded

    control = controls[0]
    if len(controls) > 1 or is_sharded(control):
        from crawlpool.cli.shards_status import lines_of_jobs, status_of_jobs

        found = status_of_jobs(controls)
        return found, lines_of_jobs, found["state"] == "running"
    try:
        return ask(control, {"do": "status"})["status"], lines_of, True
    except ControlError:
        if not is_job(control):
            raise
        found = status_of_job(control)
        return found, lines_of_job, found["state"] == "running"


def lines_of(found: Mapping[str, Any]) -> list[str]:
    """Return a status as lines of text."""
    from crawlpool.observe.pace import duration

    left = "" if found["eta_s"] is None else f"; about {duration(found['eta_s'])} left"
    ends = {outcome: found[outcome] for outcome in ("ok", "http_error", "failed", "disallowed", "skipped")}
    done = ", ".join(f"{count:,} {outcome}" for outcome, count in ends.items())
    total = "" if found["total"] is None else f" of {found['total']:,}"
    lines = [
        f"running for {duration(found['elapsed_s'])}: {sum(ends.values()):,}{total} URLs done: {done}",
        f"{found['queued']:,} waiting, {found['running']:,} under way; {found['rate']:.1f} URLs/s{left}",
    ]
    lines += hosts_lines(found)
    return lines
