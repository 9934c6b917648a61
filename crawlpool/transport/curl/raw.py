"""A streamed body as urllib3 shows it: read by its user's thread, decoded by urllib3, ended when it is dropped."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, Any

from urllib3.response import HTTPResponse

from crawlpool.transport.curl.faults import fault_of
from crawlpool.transport.lifeline import LegEnd

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from crawlpool.transport.curl.stream import BodyStream
    from crawlpool.transport.curl.transfer import Transfer


class StreamReader(io.RawIOBase):
    """The file that urllib3 reads the body from. One that is dropped unread ends its transfer."""

    def __init__(self, transfer: Transfer, stream: BodyStream) -> None:
        super().__init__()
        self.transfer = transfer
        self._stream = stream

    def readable(self) -> bool:
        """Say yes."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return so many bytes, fewer at the end only; all for a negative size.

        Raises:
            requests.RequestException: when the body didn't come whole.
        """
        pieces, got = [], 0
        while size < 0 or got < size:
            piece = self.read1(-1 if size < 0 else size - got)
            if not piece:
                break
            pieces.append(piece)
            got += len(piece)
        return b"".join(pieces)

    def read1(self, size: int = -1) -> bytes:
        """Return what is there, at most so many bytes; waits for the first. Empty at the end."""
        piece = self._stream.read_some(None if size < 0 else size)
        if not piece:
            fault = fault_of(self.transfer)
            if fault is not None:
                raise fault
        return piece

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` with what is there."""
        piece = self.read1(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        """Take no more; a transfer that still goes on is ended, and its connection closed."""
        if not self.closed:
            if self._stream.drop():
                self.transfer.ender.end(self.transfer, LegEnd.CANCELLED)
            super().close()

    def __del__(self) -> None:
        self.close()


class StreamedAnswer(HTTPResponse):
    """urllib3's answer over a ``StreamReader``: errors of ours stay what they are."""

    def hold_to(self, deadline_at: float) -> None:
        """Have the transfer end at a moment (monotonic seconds) if the body isn't whole by then."""
        reader: Any = self._fp
        reader.transfer.deadline_at = deadline_at

    @contextlib.contextmanager
    def _error_catcher(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.close()
            raise

    def stream(self, amt: int | None = 2**16, decode_content: bool | None = None) -> Generator[bytes, None, None]:
        """Yield the body; chunks of a chunked answer as they come, as urllib3 does."""
        if not self.chunked:
            yield from super().stream(amt, decode_content)
            return
        while not self._fp.closed:  # type: ignore[union-attr]
            piece = self.read1(amt, decode_content=decode_content)
            if piece:
                yield piece
