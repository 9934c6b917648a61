"""``crawlpool audit``: reads the legs that runs have kept, and says whether a host was asked faster than allowed."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import click

from crawlpool.cli.answer import write_answer
from crawlpool.cli.exits import Exit
from crawlpool.cli.jobs import is_job
from crawlpool.cli.values import Seconds
from crawlpool.limits import DAY_S

if TYPE_CHECKING:
    from crawlpool.audit import Allowed, Judge

#: Breaches told one by one: as text, and as JSON. All are counted.
SHOWN, LISTED = 20, 1000
_LONGEST_LINE = 1 << 20
_HOW = "crawlpool run URLS -vv --log-format json 2> run.log"

_EPILOG = f"""\b
Record a run, and judge it:
  {_HOW}
  crawlpool audit run.log
What one host saw, request by request:
  crawlpool audit run.log --host example.org --evidence
Would it have kept a delay of two seconds, too?
  crawlpool audit run.log --delay 2
A job has recorded all that is done, without a log:
  crawlpool audit crawl

Each log is judged by itself, and each run in it: their clocks have nothing to do with each other. The runs of a job are
judged as one, shard by shard where it has many: all requests to a host are in one. Lines of other kinds are skipped.
Times are those of the crawler, each on the strict side: the host saw what is written here, or less.

\b
Exit codes:
  0  no breach
  4  a host was asked faster, or more at once, than allowed
  3  trouble with a log or a job: broken lines, or no request is recorded in it
  2  the command line is wrong
"""


def audit_command() -> click.Command:
    """Return the command ``crawlpool audit``."""
    options: list[click.Parameter] = [
        click.Argument(["logs"], nargs=-1, required=True, metavar="LOG|JOB..."),
        click.Option(["--host"], metavar="HOST", help="Judge this host only."),
        click.Option(["--evidence"], is_flag=True, help="List each request to the host of --host."),
        click.Option(
            ["--delay"],
            type=Seconds(zero=True, most=DAY_S),
            help="Judge by this delay, one request at a time, and not by the limits that held.",
        ),
        click.Option(
            ["--per-host"],
            type=click.IntRange(1),
            metavar="N",
            help="Judge by so many at once, and not by the limits that held.",
        ),
        click.Option(["--json", "as_json"], is_flag=True, help="Write one JSON object."),
    ]
    return click.Command(
        "audit",
        callback=_audit,
        params=options,
        help="Prove from the logs of runs, or from jobs, that no host was asked faster, or more at once, than allowed; "
        "or name the request that was, and by how much. LOG is what 'crawlpool run -vv --log-format json' wrote to "
        "standard error; it may be packed with gzip, and - is standard input. JOB is a job's folder.",
        short_help="Prove from its log, or its job, that a run was polite.",
        epilog=_EPILOG,
    )


def _audit(
    logs: tuple[str, ...], host: str | None, evidence: bool, delay: float | None, per_host: int | None, as_json: bool
) -> Exit:
    # What judges and what reads are imported here: ``run`` needs neither.
    from crawlpool.audit import Judge
    from crawlpool.cli.audit_text import as_text, fields_of
    from crawlpool.shards.parts import check_apart
    from crawlpool.source import InputFileError
    from crawlpool.source.reader import place_of

    if evidence and host is None:
        raise click.UsageError("--evidence lists the requests to one host: say which with --host", _context())
    allowed = _allowed(delay, per_host)
    wanted = None if host is None else host.strip().lower().rstrip(".")
    requests: list[Any] = []
    check_apart([log for log in logs if is_job(log)])
    judge = Judge(allowed, LISTED if as_json else SHOWN, requests.append if evidence else None)
    reading = Reading(judge, wanted)
    for log in logs:
        reading.read(log)
    found = judge.findings()
    where = place_of(logs[0]) if len(logs) == 1 else f"{len(logs)} logs"
    if not found.legs:
        if reading.legs:
            raise InputFileError(f"no request to {wanted!r} is recorded, of {reading.legs:,} to other hosts", where)
        broken = f" ({reading.broken:,} broken)" if reading.broken else ""
        if all(map(is_job, logs)):
            raise InputFileError(f"no request is recorded in it so far{broken}", where)
        raise InputFileError(f"no request is recorded in its lines{broken}; this records them: {_HOW}", where)
    if as_json:
        listed = requests if evidence else None
        write_answer([json.dumps(fields_of(found, reading.broken, allowed, listed))])
    else:
        write_answer(as_text(found, reading.broken, allowed, requests))
    if found.breach_count:
        return Exit.FAILED
    return Exit.FILES if reading.broken else Exit.OK  # what could not be read isn't proved


def _allowed(delay: float | None, per_host: int | None) -> Allowed | None:
    """Return the limits that the options give, as ``run`` understands them; ``None`` where they give none."""
    from crawlpool.audit import Allowed
    from crawlpool.cli.pace import pace_of

    if delay is None and per_host is None:
        return None
    given = {"delay": delay, "per_host": per_host, "rate": None, "ignore_robots": False}
    limits = pace_of(_context(), given).limits
    return Allowed(limits.delay_s, limits.concurrency, limits.max_cooldown_s)


@dataclasses.dataclass
class Reading:
    """Reads logs for a judge.

    Args:
        judge: who takes the legs.
        host: the one whose legs it gets; ``None`` for all.
        legs: how many there were, of all hosts.
        broken: lines that are cut off, too long, or a leg's without what a leg has.
    """

    judge: Judge
    host: str | None = None
    legs: int = 0
    broken: int = 0

    def read(self, log: str) -> None:
        """Give all legs of one log, or of a job, to the judge.

        Raises:
            InputFileError: when a log can't be read.
            JobError: when a job can't be.
        """
        if is_job(log):
            self._read_job(log)
            return
        from crawlpool.audit import RecordedLeg
        from crawlpool.source.reader import StopSignal, opened, place_of, split_lines

        name = place_of(log)
        judge, host = self.judge, self.host
        judge.begin_run(name)
        with opened(log, StopSignal()) as read:
            for number, line in enumerate(split_lines(read, _LONGEST_LINE), 1):
                # Most lines are of other kinds, and to parse one is the dear part: what is in it is looked at first.
                text = line if isinstance(line, bytes) else line.head
                if not text.startswith(b"{"):
                    continue
                if text is not line or not text.rstrip().endswith(b"}"):
                    self.broken += 1
                    continue
                if b'"leg ended"' not in text and b'"started"' not in text:
                    continue
                try:
                    fields = json.loads(text.decode())  # of bytes it would first guess the encoding
                    event = fields["event"]
                    if event == "started" and fields.get("logger", _TELLER) == _TELLER:
                        judge.begin_run(name)
                    elif event == "leg ended":
                        leg = RecordedLeg.of(fields, number)
                        self.legs += 1
                        if host is None:
                            judge.add(leg)
                        elif leg.host == host:  # what else was asked of its address isn't looked at
                            judge.add(leg._replace(address=None))
                except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                    self.broken += 1

    def _read_job(self, path: str) -> None:
        from crawlpool.jobs.judging import JobLegs
        from crawlpool.shards.judging import read_legs

        legs = JobLegs(self.judge, self.host)
        read_legs(path, legs, self.host)
        self.legs += legs.legs
        self.broken += legs.broken


_TELLER = "crawlpool.cli"  # who says that a run has started: ``crawlpool.observe.telling``


def _context() -> click.Context:
    return click.get_current_context()
