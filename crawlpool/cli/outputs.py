"""The sinks of a run: opened after everything else was checked, so that a mistyped option cuts no file to nothing."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from crawlpool.cli.job import STDOUT, check_job, outputs_of
from crawlpool.cli.settings import ALL
from crawlpool.errors import ConfigError, SinkError
from crawlpool.record import EVERY_HEADER
from crawlpool.redact import one_line
from crawlpool.sinks import HumanSink, Sink, open_sink
from crawlpool.source import is_url

if TYPE_CHECKING:
    from crawlpool.cli.settings import RunSettings
    from crawlpool.observe import Telling


def check_outputs(settings: RunSettings) -> None:
    """Refuse an output that is an input, or another output by another name: opening it would cut it to nothing.

    Raises:
        ConfigError: naming the output.
    """
    inputs = [given for given in settings.inputs if given != STDOUT and not is_url(given)]
    if settings.job is not None:
        check_job(settings.job, settings.inputs, settings.outputs)
    outputs = outputs_of(settings)
    kept = [name for name in (settings.cookies, settings.save_cookies) if name is not None]
    for number, output in enumerate(outputs):
        for other in (*inputs, *kept, *outputs[:number]):
            if _is_same(output, other):
                raise ConfigError(f"--output {one_line(output)!r} is the same file as {one_line(other)!r}")


def open_sinks(settings: RunSettings, telling: Telling) -> list[Sink]:
    """Open the outputs of a run; on a terminal standard output gets short lines for eyes unless ``-o`` names it.

    A job writes its own files; then only standard output is opened here.

    Raises:
        SinkError: when one can't be opened; those opened before are closed.
    """
    if not settings.outputs and is_terminal():
        return [HumanSink(telling.beside(sys.stdout) if _is_where_told() else sys.stdout)]
    headers = EVERY_HEADER if settings.record_headers == (ALL,) else settings.record_headers
    sinks: list[Sink] = []
    try:
        for output in settings.outputs or (STDOUT,) if settings.job is None else _copies(settings):
            sinks.append(
                open_sink(
                    output,
                    headers=headers,
                    rotate_bytes=settings.rotate_bytes,
                    credentials=settings.warc_credentials,
                )
            )
    except BaseException:
        close_sinks(sinks)
        raise
    return sinks


def _copies(settings: RunSettings) -> list[str]:
    return [output for output in settings.outputs if output == STDOUT]


def close_sinks(sinks: list[Sink]) -> SinkError | None:
    """Close all of them; return the first error."""
    first: SinkError | None = None
    for sink in sinks:
        try:
            sink.close()
        except SinkError as error:
            first = first or error
    return first


def is_terminal() -> bool:
    """Tell whether standard output is a terminal."""
    try:
        return sys.stdout is not None and sys.stdout.isatty()
    except ValueError:  # closed
        return False


def _is_where_told() -> bool:
    """Tell whether standard output and standard error are one terminal, where a bar would be drawn over."""
    try:
        return os.fstat(sys.stdout.fileno()).st_rdev == os.fstat(sys.stderr.fileno()).st_rdev
    except (OSError, ValueError, AttributeError):
        return False


def _is_same(one: str, other: str) -> bool:
    try:
        if os.path.exists(one) and os.path.exists(other):
            return os.path.samefile(one, other) and os.path.isfile(one)
    except (OSError, ValueError):
        return False
    return os.path.abspath(one) == os.path.abspath(other)
