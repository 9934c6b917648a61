"""What an answer keeps of the wire where somebody asks for it: the bytes of both headers, and the body as it came.

An exchange that ``keeps_wire`` gives its response a ``Kept`` as ``response.kept``. All others have none: nothing is
kept and nothing costs. A hook that sends again (digest auth) goes by an adapter's ``send``, which knows no exchange; so
the thread that runs hooks says by ``keeping`` that it wants to keep.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_here = threading.local()


class Kept:
    """The bytes of one exchange. Belongs to whoever has the response.

    Args:
        head: the final answer's status line and header as they came, the blank line included.
        request_head: the request's line and header as they were sent, the blank line included.
        body: the answer's body with chunks undone and codings not; ``None`` until it has been read, and where it
            wasn't whole.

    Besides: ``protocol`` is ``h2`` where the headers weren't text on the wire, and are given here as HTTP/1.1 has them;
    ``started_s`` is when the leg began, seconds since 1970, set by who sent it.
    """

    __slots__ = ("body", "head", "protocol", "request_head", "started_s")

    def __init__(self, head: bytes, request_head: bytes, body: bytes | None = None) -> None:
        self.protocol: str | None = None
        if head[:6] == b"HTTP/2":
            self.protocol = "h2"
            head, request_head = _as_http1(head, request_head)
        self.head = head
        self.request_head = request_head
        self.body = body
        self.started_s: float | None = None


@contextlib.contextmanager
def keeping() -> Iterator[None]:
    """Have what this thread sends meanwhile, by whichever adapter, keep the wire."""
    before = keeps_here()
    _here.keeps = True
    try:
        yield
    finally:
        _here.keeps = before


def keeps_here() -> bool:
    """Tell whether the calling thread is within ``keeping``."""
    return getattr(_here, "keeps", False)


def final_head(lines: Sequence[bytes]) -> bytes:
    """Return the final answer's header of header lines that interim answers and trailers may surround.

    Args:
        lines: with their line ends, as they were read; a status line first.
    """
    start = 0
    for at, line in enumerate(lines):
        if line in (b"\r\n", b"\n"):
            status = lines[start][:13].split()[1:2]
            if not status or status[0][:1] != b"1" or status[0] == b"101":
                return b"".join(lines[start : at + 1])
            start = at + 1
    return b"".join(lines[start:])


def _as_http1(head: bytes, request_head: bytes) -> tuple[bytes, bytes]:
    """Return the headers of an exchange by HTTP/2, which libcurl tells as text, with the first lines of HTTP/1.1."""
    line, _, fields = head.partition(b"\n")
    status = line.split()[1].decode("ascii")
    reason = http.client.responses.get(int(status), "")
    asked, _, rest = request_head.partition(b"\r\n")
    return f"HTTP/1.1 {status} {reason}\r\n".encode() + fields, asked.rpartition(b" ")[0] + b" HTTP/1.1\r\n" + rest
