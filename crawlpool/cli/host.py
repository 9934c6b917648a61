"""``crawlpool host``: holds, releases or skips one host of a run or a job, or asks it more slowly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from crawlpool.cli.answer import write_answer
from crawlpool.cli.exits import Exit
from crawlpool.cli.values import Seconds
from crawlpool.redact import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The word by which a host has the run's own limits again.
OWN = "run"

_EPILOG = """\b
A run that can be spoken to:
  crawlpool run urls.txt --control /tmp/crawl.sock -o pages.jsonl
The owner of a host calls; nothing more is sent to it, and its URLs wait:
  crawlpool host /tmp/crawl.sock www.example.org --hold
They agree to one request every ten seconds:
  crawlpool host /tmp/crawl.sock www.example.org --delay 10
  crawlpool host /tmp/crawl.sock www.example.org --release
Leave it out, and go on with the others:
  crawlpool host /tmp/crawl.sock www.example.org --skip

Of a job, by its folder; where it doesn't run, the next run heeds what was said:
  crawlpool host crawl www.example.org --release

A host is told by its name or address, without scheme and port. One that the run hasn't met yet is told all the same.

\b
Exit codes:
  0  done
  3  there is no such socket or job, nobody listens there, no answer came within 5 seconds, or a job can't be written
  2  the command line is wrong
"""


#: Why a host of a job of many shards can't be spoken of, and what can be done.
_NO_SHARDS = (
    "{0} is a job of many shards, whose workers take no word about single hosts; what works: drain its run (Ctrl-C), "
    "and 'crawlpool resume {0}' with --delay or --per-host, which hold for all hosts; one that refuses us is left alone"
)


class DelayOrOwn(Seconds):
    """A number of seconds, or the word for the run's own limits."""

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Return how the value is called in the help."""
        return f"S|{OWN}"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or the word; fail for what is neither."""
        return OWN if value == OWN else super().convert(value, param, ctx)


def host_command() -> click.Command:
    """Return the command ``crawlpool host``."""
    from crawlpool.limits import DAY_S

    options: list[click.Parameter] = [
        click.Argument(["control"], metavar="CONTROL"),
        click.Argument(["host"], metavar="HOST"),
        click.Option(["--hold"], is_flag=True, help="Send nothing more to it; what there is of it waits."),
        click.Option(
            ["--release"],
            is_flag=True,
            help="Let it go on: whatever holds it, a refusal's pause too, counts no more.",
        ),
        click.Option(["--skip"], is_flag=True, help="End all that waits for it, and all that comes, as skipped."),
        click.Option(
            ["--delay"],
            type=DelayOrOwn(zero=True, most=DAY_S),
            help=f"Ask it one request at a time, the next so long after the last ended; 0 for no delay, {OWN} for "
            "the run's own limits again.",
        ),
    ]
    return click.Command(
        "host",
        callback=_host,
        params=options,
        help="Hold, release or skip one host of a run, or ask it more slowly. CONTROL is what the run was given as "
        "--control, or a folder with a socket named 'control' in it; a job's, too, which doesn't need to run.",
        short_help="Hold, release, skip or slow down one host of a run or a job.",
        epilog=_EPILOG,
    )


def _host(control: str, host: str, hold: bool, release: bool, skip: bool, delay: float | str | None) -> Exit:
    from crawlpool.cli.control import ControlError, Refused, ask
    from crawlpool.cli.jobs import is_job, is_sharded

    given = {"hold": hold, "release": release, "skip": skip, "delay": delay is not None}
    actions = [action for action, is_given in given.items() if is_given]
    context = click.get_current_context()
    if len(actions) != 1:
        wrong = "nothing is" if not actions else f"{' and '.join(f'--{action}' for action in actions)} are"
        raise click.UsageError(f"one of --hold, --release, --skip and --delay is needed, and {wrong} given", context)
    if is_sharded(control):
        raise click.UsageError(_NO_SHARDS.format(one_line(control)), context)
    request: dict[str, Any] = {"do": actions[0], "host": host}
    if delay is not None:
        request["delay_s"] = None if delay == OWN else delay
    try:
        said = text_of(actions[0], ask(control, request)["host"])
    except Refused as error:
        raise click.UsageError(str(error), context) from None
    except ControlError:
        if not is_job(control):
            raise
        said = _at_rest(control, request, context)
    write_answer([said])
    return Exit.OK


def _at_rest(job: str, request: dict[str, Any], context: click.Context) -> str:
    """Say it to a job that doesn't run; return how the host stands."""
    from crawlpool.cli.desk import fields_of
    from crawlpool.errors import ConfigError
    from crawlpool.jobs.orders import order_host

    try:
        standing = order_host(job, request["host"], request["do"], request.get("delay_s"))
    except ConfigError as error:
        raise click.UsageError(str(error), context) from None
    return f"{text_of(request['do'], fields_of(standing))}. The job doesn't run; the next run heeds it"


def text_of(action: str, standing: Mapping[str, Any]) -> str:
    """Return how a host stands now, in one line.

    Args:
        action: what was done.
        standing: what the run says.
    """
    number = standing["waiting"]
    waiting = f"{number:,} URL{'s' if number != 1 else ''}{' or more' if standing['has_more'] else ''}"
    delay_s = standing["delay_s"]
    if action == "skip":
        said = f"skipped; {waiting} that waited for it, and all that come, end as skipped"
    else:
        is_left = standing["is_held"] or standing["is_skipped"]
        state = "held" if standing["is_held"] else "skipped" if standing["is_skipped"] else "released"
        parts = [state] if action != "delay" or is_left else []
        if delay_s is not None:
            paced = f"one request at a time, the next {delay_s:g} s after the last ended" if delay_s else "no delay"
            parts.append(paced)
        elif action == "delay":
            parts.append("asked by the run's own limits")
        said = f"{', '.join(parts)}; {waiting} wait{'s' if number == 1 else ''} for it"
    unknown = "" if standing["is_known"] else " (the run knows no URL of it so far)"
    return f"{standing['host']}: {said}{unknown}"
