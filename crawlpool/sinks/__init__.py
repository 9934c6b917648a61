"""Where records go; ``open_sink`` makes the sink for a destination as the command line names it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from crawlpool.errors import ConfigError, SinkError
from crawlpool.sinks.base import Sink
from crawlpool.sinks.bodies import BodiesSink
from crawlpool.sinks.human import HumanSink
from crawlpool.sinks.jsonl import STDOUT, JsonlSink
from crawlpool.sinks.warc import ROTATE_BYTES, WarcSink

if TYPE_CHECKING:
    from collections.abc import Container

__all__ = ["BodiesSink", "HumanSink", "JsonlSink", "Sink", "WarcSink", "is_destination", "open_sink"]

WARC_SUFFIX = ".warc.gz"


def is_destination(destination: str) -> bool:
    """Tell whether there is a sink for a destination."""
    return destination == STDOUT or destination.endswith("/") or destination.lower().endswith((".jsonl", WARC_SUFFIX))


def open_sink(
    destination: str,
    *,
    headers: Container[str] | None = None,
    run: int = 1,
    for_humans: bool = False,
    rotate_bytes: int | None = ROTATE_BYTES,
    credentials: bool = False,
) -> Sink:
    """Open the sink for a destination.

    Args:
        destination: ``-`` for standard output, a path that ends in ``.jsonl`` for records, in ``.warc.gz`` for
            exchanges, or in ``/`` for a folder of bodies.
        headers: the names of response headers that the records keep; ``None`` for none.
        run: the ordinal of the run.
        for_humans: whether ``-`` gets short lines for eyes instead of records.
        rotate_bytes: how long a WARC file becomes; see ``WarcSink``.
        credentials: whether WARC files hold credentials.

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
    if destination.lower().endswith(WARC_SUFFIX):
        return WarcSink(destination, rotate_bytes=rotate_bytes, credentials=credentials)
    if destination.endswith("/"):
        return BodiesSink(destination)
    raise ConfigError(
        f"output={destination!r}: '-' (standard output), paths that end in .jsonl or {WARC_SUFFIX}, "
        "and folders that end in / work"
    )
