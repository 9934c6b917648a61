"""Where records go; ``open_sink`` makes the sink for a destination as the command line names it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from crawlpool.errors import ConfigError, SinkError
from crawlpool.sinks.base import Sink
from crawlpool.sinks.human import HumanSink
from crawlpool.sinks.jsonl import STDOUT, JsonlSink

if TYPE_CHECKING:
    from collections.abc import Container

__all__ = ["HumanSink", "JsonlSink", "Sink", "open_sink"]


def open_sink(
    destination: str, *, headers: Container[str] | None = None, run: int = 1, for_humans: bool = False
) -> Sink:
    """Open the sink for a destination.

    Args:
        destination: ``-`` for standard output, or a path that ends in ``.jsonl``.
        headers: the names of response headers that the records keep; ``None`` for none.
        run: the ordinal of the run.
        for_humans: whether ``-`` gets short lines for eyes instead of records.

    Raises:
        ConfigError: for any other destination.
        SinkError: when it can't be opened.
    """
    if destination == STDOUT and for_humans:
        if sys.stdout is None:
            raise SinkError("stdout: it was closed when the program started")
        return HumanSink(sys.stdout)
    if destination == STDOUT or destination.lower().endswith(".jsonl"):
        return JsonlSink(destination, headers=headers, run=run)
    raise ConfigError(f"output={destination!r}: '-' (standard output) and paths that end in .jsonl work")
