"""What is told at the end: what happened, whether the books balance, and what to do next."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

from crawlpool.cli.exits import Ending
from crawlpool.cli.job import outputs_of
from crawlpool.observe.pace import duration
from crawlpool.sinks.human import in_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crawlpool.books import Progress
    from crawlpool.cli.exits import Exit
    from crawlpool.cli.settings import RunSettings
    from crawlpool.cli.watch import Watch
    from crawlpool.models import Report


@dataclasses.dataclass(frozen=True)
class Left:
    """Whether a run left work.

    Args:
        is_work: whether it did.
        way_on: what goes on with it; ``None`` where there is no job that would.
        blocked: hosts whose targets wait in a job, as they don't want us.
        by_operator: hosts whose targets wait there, as an operator holds them.
    """

    is_work: bool
    way_on: str | None = None
    blocked: tuple[str, ...] = ()
    by_operator: tuple[str, ...] = ()


#: How a run came to its end, in words.
HOW = {
    Ending.DONE: "done",
    Ending.INTERRUPTED: "interrupted",
    Ending.OUT_OF_TIME: "stopped by --run-for",
    Ending.TOO_MANY_FAILURES: "stopped by --max-failures",
    Ending.NO_ROOM: "stopped by --min-free",
    Ending.ENGINE_GONE: "stopped, as its workers ended",
}

#: What may help against the errors of a kind.
HINTS = {
    "invalid_url": "correct the lines, or give --default-scheme for URLs without one; a redirect's bad target is a "
    "fault of its server",
    "dns": "check the names; --resolve gives addresses by hand",
    "connect": "the hosts refuse or can't be reached; try again later",
    "tls": "--ca-bundle trusts further certificates",
    "proxy": "check --proxy and the environment's proxies",
    "timeout": "raise --connect-timeout or --read-timeout, or ask less at once (--in-flight, --threads, --per-host)",
    "deadline": "raise --max-time for big or slow pages, --max-wait for busy hosts",
    "truncated": "the connections broke; try again, with more --retries",
    "too_large": "raise --max-size",
    "blocked_address": "what isn't public is asked only where an input line names that very host, or by "
    "--allow-net NET (see --private)",
    "redirect": "the redirects have no end, or --max-redirects is low",
    "internal": "a fault of crawlpool: please report it",
}
STATUS_HINTS = {
    401: "a login is needed: --auth, --header or --cookies",
    403: "the server refuses; look at what it wants before asking again",
    407: "the proxy wants a login: USER:PASS@ before its host in --proxy",
    429: "the server asks for fewer requests: raise --delay, or lower --per-host",
    503: "the server is overloaded: try again later, with a longer --delay",
}
#: Why hosts were left alone, by the reason in the records.
LEFT_ALONE = {
    "held_by_operator": "held by the operator",
    "host_skipped": "skipped by the operator",
    "held": "held, as nearly all of their last answers were 401, 403, 429 or a challenge",
    "host_unreachable": "given up, as they could not be reached",
    "crashes": "given up, as the process ended again and again with their URLs in flight (the handler? the memory?)",
    "robots_unreachable": "not asked, as their robots.txt could not be had",
}
SHOWN = 6


def faults_of(progress: Progress) -> int:
    """Return how many targets ended by a fault of crawlpool; what ends the process each time is none of ours."""
    return progress.kinds.get("internal", 0) - sum(progress.left_alone.get("crashes", {}).values())


def books_of(report: Report, others: str = "other parts") -> str:
    """Return the books as one line: ``12 inputs + 0 found = 10 ok + …``.

    Args:
        report: the books.
        others: what targets may have come from by redirects, or gone to, which is a term, too.
    """
    sign = "=" if report.is_balanced else "≠"
    ends = (
        f"{report.ok:,} ok + {report.http_error:,} http_error + {report.failed:,} failed"
        f" + {report.disallowed:,} disallowed + {report.skipped:,} skipped"
    )
    pending = f" + {report.pending:,} pending" if report.pending else ""
    moved = report.moved_in - report.moved_out
    came = f" + {moved:,} from {others}" if moved > 0 else ""
    went = f" + {-moved:,} to {others}" if moved < 0 else ""
    return f"{report.inputs:,} inputs + {report.found:,} found{came} {sign} {ends}{went}{pending}"


def summary_of(
    settings: RunSettings,
    progress: Progress,
    watch: Watch,
    ending: Ending,
    *,
    before: Report,
    left: Left,
    code: Exit,
    rested: Mapping[str, int],
) -> str:
    """Return the text of the summary.

    Args:
        settings: of the run.
        progress: the last snapshot of the crawl.
        watch: what else was counted.
        ending: why the run took no further input.
        before: the books before this run: of earlier ones of its job.
        left: whether it left work, and how to go on with that.
        code: what the command ends with.
        rested: proxies that failed and rested, and how often.
    """
    report = progress.report
    elapsed_s = max(report.elapsed_s - before.elapsed_s, 1e-9)
    asked = report.ok + report.http_error + report.failed - before.ok - before.http_error - before.failed
    in_all = " in all" if before.inputs else ""
    lines = [
        f"{HOW[ending]} after {duration(elapsed_s)}: {books_of(report)}",
        f"{asked / elapsed_s:.1f} URLs/s; {in_bytes(report.body_bytes)} of bodies{in_all}, "
        f"{in_bytes(round((report.body_bytes - before.body_bytes) / elapsed_s))}/s; "
        f"{report.legs:,} requests{in_all}, {report.retries:,} of them retries{robots_of(report)}",
    ]
    if before.inputs:
        is_idle = report.legs == before.legs and report.settled == before.settled and not left.is_work
        nothing = "; nothing was left to be fetched" if is_idle else ""
        lines.append(f"{before.settled:,} of these URLs were done before this run{nothing}")
    if watch.duplicates:
        lines.append(f"skipped as duplicates: {watch.duplicates:,}; their records say of which line (duplicate_of)")
    if progress.statuses:
        lines.append(f"HTTP errors: {counts(progress.statuses)}")
    if progress.kinds:
        lines.append(f"errors: {counts(progress.kinds)}")
    for reason, hosts in sorted(_left_alone(progress).items()):
        lines.append(f"hosts {LEFT_ALONE[reason]}: {counts(hosts)}")
    if rested:
        lines.append(f"proxies that failed, and rested: {counts(rested)}")
    if progress.slowest and elapsed_s >= 1:
        lines.append("slowest hosts: " + ", ".join(f"{h.host} {h.mean_s:.2f} s" for h in progress.slowest[:3]))
    lines += [f"next: {advice}" for advice in advice_of(settings, progress, watch, left, elapsed_s)]
    if code:
        lines.append(f"exit code {int(code)}")
    return "\n".join(lines)


def fields_of(progress: Progress, ending: Ending, code: Exit) -> dict[str, Any]:
    """Return the same as fields, for the log as JSON."""
    return {
        **dataclasses.asdict(progress.report),
        "ending": ending.value,
        "error_kinds": dict(progress.kinds),
        "http_errors": {str(status): count for status, count in progress.statuses.items()},
        "left_alone": _left_alone(progress),
        "exit_code": int(code),
    }


def advice_of(settings: RunSettings, progress: Progress, watch: Watch, left: Left, elapsed_s: float) -> list[str]:
    """Return what may be done next, most pressing first; nothing when all went well."""
    advice: list[str] = []
    report = progress.report
    if left.is_work and left.way_on is not None:
        waiting = f"{report.pending:,} URLs wait" if report.pending else "some of the input wasn't read"
        advice.append(f"{waiting}: {left.way_on}")
        if left.blocked:
            advice.append(
                f"held, as they don't want us: {_some(left.blocked)}: ask their owners, or try later and slower; "
                "--on-block record asks on whatever they answer"
            )
        if left.by_operator:
            advice.append(
                f"held by the operator: {_some(left.by_operator)}: 'crawlpool host' with --release lets them go"
            )
    elif left.is_work:
        by_operator = sum(_left_alone(progress).get("held_by_operator", {}).values())
        if watch.held > by_operator:
            advice.append(
                f"{watch.held - by_operator:,} URLs of held hosts were skipped: ask their owners, or try later and "
                "slower; --on-block record asks on whatever they answer"
            )
        if by_operator:
            advice.append(
                f"{by_operator:,} URLs of hosts that the operator held were skipped: give those whose records say held "
                "to another run, when their hosts may be asked again"
            )
        if watch.dropped or not watch.held:
            dropped = f"the {watch.dropped:,} URLs whose records say interrupted, and " if watch.dropped else ""
            advice.append(f"give {dropped}any input lines without a record, which were not read, to the next run")
    for kind in sorted(progress.kinds, key=lambda k: -progress.kinds[k])[:3]:
        is_other = kind == "internal" and not faults_of(progress)
        is_of_redirect = kind == "invalid_url" and not watch.bad_lines  # its Location is none
        if kind in HINTS and not is_other and not is_of_redirect:
            advice.append(f"{kind}: {HINTS[kind]}")
    for status in sorted(progress.statuses, key=lambda s: -progress.statuses[s])[:3]:
        if status in STATUS_HINTS:
            advice.append(f"{status}: {STATUS_HINTS[status]}")
    if skipped := sum(progress.left_alone.get("host_skipped", {}).values()):
        advice.append(f"{skipped:,} URLs of hosts that the operator skipped: their records say host_skipped (reason)")
    if report.disallowed:
        advice.append(f"robots.txt forbids {report.disallowed:,}: their records say why (reason)")
    if report.failed or report.http_error:
        files = [output for output in outputs_of(settings) if output.lower().endswith(".jsonl")]
        where = f"in {_as_it_is(files[0])}" if files else "in the records"
        word = "failed" if report.failed else "http_error"
        advice.append(f'which ones: look for "outcome":"{word}" {where}')
    capacity = settings.transport.in_flight
    in_flight = watch.busy_s / max(elapsed_s, 1e-9)
    if elapsed_s >= 5 and in_flight < capacity / 2 and watch.waited_s > watch.busy_s:
        advice.append(
            f"on average {in_flight:.1f} requests were under way, of {capacity} that may be: {settings.pace.advice()}"
        )
    return advice


def _as_it_is(file: str) -> str:
    """Return the name that an output has now: until a job is complete it ends in .open."""
    return f"{file}.open" if not os.path.exists(file) and os.path.exists(f"{file}.open") else file


def _left_alone(progress: Progress) -> dict[str, dict[str, int]]:
    """Return which hosts were left alone, and why: those that the operator held apart from those that blocked us."""
    found = dict(progress.left_alone)
    held = found.pop("held", {})
    by_operator = {host: count for host, count in held.items() if host in progress.told and progress.told[host].is_held}
    for reason, hosts in (
        ("held", {h: c for h, c in held.items() if h not in by_operator}),
        ("held_by_operator", by_operator),
    ):
        if hosts:
            found[reason] = hosts
    return found


def counts(found: Mapping[Any, int]) -> str:
    """Return how often each thing was there, the commonest first."""
    ranked = sorted(found.items(), key=lambda item: (-item[1], str(item[0])))
    shown = ", ".join(f"{what} ×{count:,}" for what, count in ranked[:SHOWN])
    rest = sum(count for _, count in ranked[SHOWN:])
    return f"{shown}, others ×{rest:,}" if rest else shown


def _some(hosts: Sequence[str]) -> str:
    more = f" and {len(hosts) - SHOWN:,} more" if len(hosts) > SHOWN else ""
    return ", ".join(hosts[:SHOWN]) + more


def robots_of(report: Report) -> str:
    """Return what is told of requests for robots.txt, to be put behind those for targets; nothing for none."""
    return f"; {report.robots_legs:,} more for robots.txt" if report.robots_legs else ""
