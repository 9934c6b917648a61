"""One run of ``crawlpool plan``: the input is read and counted by host, and what follows from that is told."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from crawlpool.cli.answer import write_answer
from crawlpool.cli.exits import Exit
from crawlpool.cli.pace import Pace, pace_of
from crawlpool.cli.plan_shards import wanted_shares
from crawlpool.cli.plan_text import LeftOut, document_of, number_of, text_of
from crawlpool.cli.settings import source_of
from crawlpool.cli.signals import Interrupts
from crawlpool.cli.watch import check_input, tell_bad_line
from crawlpool.leg import host_of
from crawlpool.observe.reading import ReadingDisplay
from crawlpool.plan import Terms, plan_of
from crawlpool.seen import Seen
from crawlpool.source import BadLine, Source, SourceSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crawlpool.models import Target
    from crawlpool.observe import Telling

#: Lines from one look at the clock to the next.
_LOOK_LINES = 4096


@dataclasses.dataclass(frozen=True)
class PlanSettings:
    """What ``crawlpool plan`` was told.

    Args:
        inputs: files, URLs, ``-``.
        source: how they are read.
        dedupes: whether what stands there again is left out.
        pace: how hard hosts would be asked.
        terms: the same for the arithmetic, with requests in flight and the time of an answer.
        top: how many hosts are shown.
        is_json: whether the plan is one JSON object.
        is_quiet: whether bad lines aren't told one by one.
        log_format: how they are told.
        shards: into how many shards the URLs would be cut; ``None`` for what suits the workers.
        workers: how many would run these; where both are ``None`` shards aren't spoken of.
    """

    inputs: tuple[str, ...]
    source: SourceSettings
    dedupes: bool
    pace: Pace
    terms: Terms
    top: int
    is_json: bool
    is_quiet: bool
    log_format: str
    shards: int | None = None
    workers: int | None = None


def plan_settings_of(ctx: click.Context, given: Mapping[str, Any]) -> PlanSettings:
    """Return the settings that the options make.

    Raises:
        click.UsageError: when something is missing, or doesn't go together.
    """
    source = source_of(ctx, given)
    pace = pace_of(ctx, given)
    terms = Terms(
        limits=pace.limits,
        # As in a run: with any transport that takes the options so many requests run at once.
        in_flight=given["in_flight"] or given["threads"],
        rate=pace.rate,
        answer_s=given["answer_time"],
        robots=not pace.ignores_robots,
    )
    return PlanSettings(
        tuple(given["inputs"]),
        source,
        given["duplicates"] == "skip",
        pace,
        terms,
        given["top"],
        given["json"],
        given["quiet"],
        given["log_format"],
        given["shards"],
        given["workers"],
    )


def plan(settings: PlanSettings, telling: Telling) -> Exit:
    """Read the input and write the plan to standard output. Nothing is fetched or resolved.

    Args:
        settings: what the command was told.
        telling: where bad lines go, and how far the reading is.

    Returns:
        The exit code.

    Raises:
        InputFileError: when an input can't be read to its end; then there is no plan.
        SinkError: when standard output can't be written to.
        ConfigError: when standard input is given twice.
    """
    check_input(settings.inputs, settings.source)
    count = _Count(settings, telling)
    with Interrupts(count.stop, count.stop, Exit.WORK_LEFT):
        count.read()
        found = None if count.is_stopped else plan_of(count.per_host, settings.terms, settings.top)
        shares = None
        if found is not None:
            shares = wanted_shares(count.per_host, settings.terms, settings.shards, settings.workers)
    if found is None:
        read = number_of(count.urls, "URL")
        telling.warn("interrupted", f"interrupted after {read}: there is no plan of a part of the input")
        return Exit.WORK_LEFT
    left_out = LeftOut(count.bad_lines, count.duplicates)
    is_json = settings.is_json
    write_answer([document_of(found, left_out, shares) if is_json else text_of(found, settings.pace, left_out, shares)])
    return Exit.FAILED if count.bad_lines else Exit.OK


class _Count:
    """Counts the URLs of each host. One thread reads; ``stop`` may be called from any."""

    def __init__(self, settings: PlanSettings, telling: Telling) -> None:
        self._source = Source(settings.inputs, settings.source)
        self._telling = telling
        self._is_stopped = False
        self._seen = Seen(None, remembers=settings.dedupes)
        self.per_host: dict[str, int] = {}
        self.urls = self.bad_lines = self.duplicates = 0

    @property
    def is_stopped(self) -> bool:
        """Whether it was stopped: then the counts are those of a part."""
        return self._is_stopped

    def stop(self) -> None:
        """End the reading, also where it waits for standard input."""
        self._is_stopped = True
        self._source.stop()

    def read(self) -> None:
        """Count all lines.

        Raises:
            InputFileError: when an input can't be read, or not to its end.
        """
        display = ReadingDisplay(self._telling)
        try:
            for item in self._source:
                if isinstance(item, BadLine):
                    self.bad_lines += 1
                    others = "; further bad lines are only counted"
                    tell_bad_line(self._telling, item.error, self.bad_lines, others)
                    continue
                self._add(item)
                if not self.urls % _LOOK_LINES:
                    display.update(self.urls, len(self.per_host))
        finally:
            display.stop()

    def _add(self, target: Target) -> None:
        if self._seen.duplicate_of(target) is not None:
            self.duplicates += 1
            return
        host = host_of(target.url)
        self.per_host[host] = self.per_host.get(host, 0) + 1
        self.urls += 1
