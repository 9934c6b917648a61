"""Records for eyes: one short line for one URL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

from crawlpool.redact import one_line, redact_text, redact_url
from crawlpool.sinks.base import Combiner, json_of_item

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crawlpool.models import Result

MAX_URL_CHARS = 200


class HumanSink:
    """Writes a line such as ``200   20.0 kB   0.08 s  https://host/page`` for each result.

    In front stands the status, or the outcome where there was no answer; ``→`` leads to the URL after redirects; the
    error follows. Nothing that a server or an input line says can move the cursor or colour the terminal.

    Args:
        stream: where the lines go, a text file; it is flushed after each batch and stays open.

    Thread-safe, as long as nobody else writes to the stream.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._lines = Combiner(self._write_all, one_line(str(getattr(stream, "name", "stream"))).strip("<>"))

    def write(self, result: Result) -> None:
        """Write the line of ``result``. Raises ``SinkError`` when this or an earlier line can't be written."""
        self._lines.put(f"{line_of(result)}\n".encode())

    def emit(self, item: Mapping[str, Any]) -> None:
        """Write an item of a handler, shortened to a line.

        Raises:
            ConfigError: when it isn't a mapping that JSON can say.
            SinkError: as ``write`` does.
        """
        self._lines.put(f"item  {one_line(redact_text(json_of_item(item)))}\n".encode())

    def flush(self) -> None:
        """Return when all lines are out. Raises ``SinkError`` when they can't be."""
        self._lines.flush()

    def close(self) -> None:
        """Flush and take no more; the stream stays open. May be called again."""
        self._lines.close()

    def _write_all(self, data: memoryview) -> int:
        text = bytes(data).decode()
        # A terminal that has no arrow or umlaut shows an escape; that is no reason to stop a crawl.
        self._stream.write(text.encode(self._encoding, "backslashreplace").decode(self._encoding))
        self._stream.flush()
        return len(data)


def line_of(result: Result) -> str:
    """Return the line of a result, without its newline; thread-safe."""
    response = result.response
    word = str(response.status_code) if response is not None else result.outcome.value
    content = getattr(response, "_content", None)
    size = in_bytes(len(content)) if isinstance(content, bytes) else "-"
    elapsed = "-" if result.elapsed_s is None else f"{result.elapsed_s:.2f} s"
    parts = [f"{word:<10} {size:>9} {elapsed:>9} ", one_line(redact_url(result.target.url), MAX_URL_CHARS)]
    if result.redirects and response is not None:
        parts += ["→", one_line(redact_url(response.url), MAX_URL_CHARS)]
    if result.error is not None:
        parts.append(f" {result.error_kind}: {one_line(redact_text(str(result.error)) or type(result.error).__name__)}")
    elif result.reason:
        parts.append(f" {one_line(result.reason)}")
    return " ".join(parts)


def in_bytes(count: int) -> str:
    """Return a size for eyes, in powers of 1,000: ``312 B``, ``20.5 kB``, ``1.2 GB``."""
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 999.95:
            return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
