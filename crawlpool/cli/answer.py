"""The answer of a command that says something once: to standard output, whatever that is."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def write_answer(lines: Iterable[str]) -> None:
    """Write lines to standard output; what its encoding lacks, and what a terminal would obey, becomes an escape.

    Raises:
        SinkError: when it can't be written to: closed, full, a pipe that nobody reads any more.
    """
    from crawlpool.errors import SinkError  # here: ``--help`` needs none of that
    from crawlpool.escape import for_terminal

    stream = sys.stdout
    if stream is None:
        raise SinkError("stdout: it was closed when the program started")
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        for line in lines:
            stream.write(for_terminal(line).encode(encoding, "backslashreplace").decode(encoding) + "\n")
        stream.flush()
    except (OSError, ValueError) as error:
        raise SinkError(f"stdout: {getattr(error, 'strerror', None) or error}") from error
