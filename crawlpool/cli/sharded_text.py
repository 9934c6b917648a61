"""What is told at the end of a run of a job of shards: the books of all, what went wrong where, what to do next."""

from __future__ import annotations

import dataclasses
import shlex
from typing import TYPE_CHECKING, Any

from crawlpool.cli.exits import Ending
from crawlpool.cli.shards_status import carrying
from crawlpool.cli.summary import HINTS, HOW, LEFT_ALONE, SHOWN, STATUS_HINTS, books_of, counts, faults_of, robots_of
from crawlpool.observe.pace import duration
from crawlpool.redact import one_line
from crawlpool.sinks.human import in_bytes
from crawlpool.source.reader import STDIN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crawlpool.books import Progress
    from crawlpool.cli.exits import Exit
    from crawlpool.cli.settings import RunSettings
    from crawlpool.engines.coordinator import Troubles
    from crawlpool.models import Report
    from crawlpool.shards.manifest import Manifest
    from crawlpool.shards.refused import Refused


@dataclasses.dataclass(frozen=True)
class Told:
    """What else is told of a run's end.

    Args:
        ending: why it took no further input.
        troubles: what went wrong.
        is_work_left: whether it left work.
        code: what the command ends with.
        items: how many items of the input were handed out.
        manifest: of the job.
        elapsed_s: seconds that the run took.
        refused: segments that can't be taken in, in shards that couldn't go on.
    """

    ending: Ending
    troubles: Troubles
    is_work_left: bool
    code: Exit
    items: int
    manifest: Manifest
    elapsed_s: float
    refused: Sequence[Refused] = ()


def summary_of(settings: RunSettings, progress: Progress, before: Report, told: Told) -> str:
    """Return the text of the summary.

    Args:
        settings: of the run.
        progress: how far the job is at its end.
        before: the books before this run.
        told: what else is known.
    """
    report = progress.report
    elapsed_s = max(told.elapsed_s, 1e-9)
    in_all = " in all" if before.inputs else ""
    others = "other shards" if told.manifest.part is None else "other parts"
    asked = report.ok + report.http_error + report.failed - before.ok - before.http_error - before.failed
    lines = [
        f"{_how(told)} after {duration(elapsed_s)}: {books_of(report, others)}",
        f"{asked / elapsed_s:.1f} URLs/s; {in_bytes(report.body_bytes)} of bodies{in_all}, "
        f"{in_bytes(round(max(report.body_bytes - before.body_bytes, 0) / elapsed_s))}/s; "
        f"{counted(report.legs, 'request')}{in_all}, {report.retries:,} of them retries{robots_of(report)}; "
        f"{counted(told.manifest.shards, 'shard')}",
    ]
    if before.inputs:
        is_idle = report.legs == before.legs and report.settled == before.settled and not told.is_work_left
        nothing = "; nothing was left to be fetched" if is_idle else ""
        lines.append(f"{before.settled:,} of these URLs were done before this run{nothing}")
    if report.moved_out:
        lines.append(f"redirects that led to another shard's host: {report.moved_out:,}")
    if progress.statuses:
        lines.append(f"HTTP errors: {counts(progress.statuses)}")
    if progress.kinds:
        lines.append(f"errors: {counts(progress.kinds)}")
    for reason, hosts in sorted(progress.left_alone.items()):
        lines.append(f"hosts {LEFT_ALONE[reason]}: {counts(hosts)}")
    if progress.slowest and elapsed_s >= 1:
        lines.append("slowest hosts: " + ", ".join(f"{h.host} {h.mean_s:.2f} s" for h in progress.slowest[:3]))
    lines += trouble_of(told.troubles, is_engine_told=told.ending is Ending.ENGINE_GONE)
    lines += [f"next: {advice}" for advice in _advice(settings, progress, told)]
    if told.code:
        lines.append(f"exit code {int(told.code)}")
    return "\n".join(lines)


def counted(count: int, what: str) -> str:
    """Return how many of something there are, in words: ``1 worker``, ``2 workers``."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def way_on(settings: RunSettings) -> str:
    """Return what goes on with the job, as it is told."""
    command = f"crawlpool resume {one_line(shlex.quote(settings.job or ''))}"
    again = ", with the same standard input from its start," if STDIN in settings.inputs else ""
    return f"'{command}'{again} goes on, with any --engine and any number of --workers"


def _how(told: Told) -> str:
    if told.ending is Ending.ENGINE_GONE and told.troubles.engine is not None:
        return f"{one_line(told.troubles.engine)}; stopped"
    return HOW[told.ending]


def trouble_of(troubles: Troubles, *, is_engine_told: bool = False) -> list[str]:
    """Return a line for each thing that went wrong with shards and workers.

    Args:
        troubles: what went wrong.
        is_engine_told: whether what is wrong with the engine is told already.
    """
    lines: list[str] = []
    if troubles.engine is not None and not is_engine_told:
        lines.append(f"engine: {troubles.engine}")
    if troubles.lost:
        whose = "its shards" if troubles.lost == 1 else "their shards"
        lines.append(f"workers lost: {troubles.lost:,}; {whose} went on elsewhere")
    for name, why in sorted(troubles.runners.items())[:SHOWN]:
        lines.append(f"worker {one_line(name)} ended early: {one_line(str(why))}")
    for shard, why in sorted(troubles.failed.items())[:SHOWN]:
        lines.append(f"shard {shard:04d} could not go on: {one_line(why)}")
    if len(troubles.failed) > SHOWN:
        lines.append(f"and {counted(len(troubles.failed) - SHOWN, 'shard')} more could not")
    if troubles.given_up:
        named = ", ".join(f"{shard:04d}" for shard in sorted(troubles.given_up)[:SHOWN])
        more = f" and {len(troubles.given_up) - SHOWN:,} more" if len(troubles.given_up) > SHOWN else ""
        what = "shard left alone, as its" if len(troubles.given_up) == 1 else "shards left alone, as their"
        lines.append(f"{what} workers ended again and again: {named}{more}")
    return lines


def _advice(settings: RunSettings, progress: Progress, told: Told) -> list[str]:
    advice: list[str] = []
    report = progress.report
    if told.is_work_left:
        for one in told.refused[:3]:
            advice.append(f"{one.path} isn't taken in: {one.remedy}")
        waiting = report.pending + max(told.items - report.inputs, 0) if told.manifest.part is None else report.pending
        what = f"{counted(waiting, 'URL')} {'waits' if waiting == 1 else 'wait'}" if waiting else "work is left"
        if waiting or not _is_to_be_carried(told):
            advice.append(f"{what}: {way_on(settings)}")
    if told.troubles.foreign:
        files = f"{counted(told.troubles.foreign, 'file')} of targets {'is' if told.troubles.foreign == 1 else 'are'}"
        advice.append(f"{files} for other parts: {carrying(settings.job or '')}")
    for kind in sorted(progress.kinds, key=lambda k: -progress.kinds[k])[:3]:
        if kind in HINTS and not (kind == "internal" and not faults_of(progress)):
            advice.append(f"{kind}: {HINTS[kind]}")
    for status in sorted(progress.statuses, key=lambda s: -progress.statuses[s])[:3]:
        if status in STATUS_HINTS:
            advice.append(f"{status}: {STATUS_HINTS[status]}")
    if report.disallowed:
        advice.append(f"robots.txt forbids {report.disallowed:,}: their records say why (reason)")
    if report.settled and not told.is_work_left:
        advice.append(f"all records in one file: crawlpool export {one_line(shlex.quote(settings.job or ''))}")
    return advice


def _is_to_be_carried(told: Told) -> bool:
    """Tell whether nothing is left but what is for other parts: to go on here does nothing for it."""
    found = told.troubles
    is_well = not (found.failed or found.given_up or found.runners or found.engine)
    return found.foreign > 0 and is_well and told.ending is Ending.DONE


def fields_of(progress: Progress, told: Told) -> dict[str, Any]:
    """Return the same as fields, for the log as JSON."""
    troubles = told.troubles
    failed: Mapping[str, str] = {str(shard): why for shard, why in troubles.failed.items()}
    return {
        **dataclasses.asdict(progress.report),
        "ending": told.ending.value,
        "error_kinds": dict(progress.kinds),
        "http_errors": {str(status): count for status, count in progress.statuses.items()},
        "left_alone": {reason: dict(hosts) for reason, hosts in progress.left_alone.items()},
        "shards": told.manifest.shards,
        "shards_failed": failed,
        "shards_given_up": sorted(troubles.given_up),
        "workers_lost": troubles.lost,
        "exit_code": int(told.code),
    }
