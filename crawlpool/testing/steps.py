"""The small language of faults: steps that a connection of a test server goes through, one after the other."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import select
import socket
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from crawlpool.config import check, is_count, is_seconds

if TYPE_CHECKING:
    import threading

    from crawlpool.clock import Shutdown

#: How often a wait looks whether the client has gone, the server stops, or ``release`` was called.
LOOK_S = 0.02
_GONE = getattr(select, "POLLRDHUP", 0) | getattr(select, "POLLHUP", 0) | getattr(select, "POLLERR", 0)

#: What a step sends: bytes, pieces of them, or a function that makes the pieces anew for each connection.
Data: TypeAlias = "bytes | Iterable[bytes] | Callable[[], Iterable[bytes]]"


class ScriptEnded(OSError):
    """A connection has gone through its script, or its client has gone; it is closed now, without more words."""


class Wire:
    """One connection of a test server, as steps have it.

    Args:
        connection: the socket.
        shutdown: the server's.
        released: set by the server's ``release``.
        count: called with the number of bytes of each piece that was sent.

    Belongs to the connection's thread.
    """

    def __init__(
        self,
        connection: socket.socket,
        shutdown: Shutdown,
        released: threading.Event,
        count: Callable[[int], None] = lambda sent: None,
    ) -> None:
        self.connection = connection
        self._shutdown, self._released, self._count = shutdown, released, count

    @property
    def is_released(self) -> bool:
        """Whether ``release`` was called: then nothing waits any more."""
        return self._released.is_set()

    def send(self, data: bytes) -> None:
        """Send bytes; it takes as long as the client doesn't read them.

        Raises:
            OSError: when the client has gone, or the server stops.
        """
        self.connection.sendall(data)
        self._count(len(data))

    def wait(self, seconds: float | None, event: threading.Event | None = None) -> None:
        """Wait so many seconds (``None``: for ever), until ``event`` is set or ``release`` is called.

        Raises:
            OSError: when the client has gone, or the server stops.
        """
        until = None if seconds is None else time.monotonic() + seconds
        while not self._released.is_set() and not (event is not None and event.is_set()):
            left = LOOK_S if until is None else min(until - time.monotonic(), LOOK_S)
            if left <= 0:
                return
            if self._shutdown.is_set or self._is_left():
                raise ScriptEnded("the client has gone, or the server stops")
            self._released.wait(left)

    def _is_left(self) -> bool:
        if hasattr(select, "POLLRDHUP"):
            poll = select.poll()
            poll.register(self.connection, select.POLLRDHUP)
            return any(found & _GONE for _, found in poll.poll(0))
        with contextlib.suppress(BlockingIOError):
            # The plain method also of a TLS socket: whether anything is there, not what.
            flags = socket.MSG_PEEK | getattr(socket, "MSG_DONTWAIT", 0)
            return flags != socket.MSG_PEEK and socket.socket.recv(self.connection, 1, flags) == b""
        return False


class Step(Protocol):
    """What a connection does next."""

    def play(self, wire: Wire) -> None:
        """Do it.

        Raises:
            OSError: when the connection is to be closed.
        """


@dataclasses.dataclass(frozen=True)
class Send:
    """Send bytes: all at once, or in pieces.

    Args:
        data: what; endless where it is an endless iterable. A function is called anew for each connection.
        piece_bytes: the size of each piece; ``None`` for as they come.
        every_s: seconds to wait before each piece but the first.
        bytes_per_s: the bandwidth; ``None`` for any.
        is_endless: whether only a release ends it.
    """

    data: Data
    piece_bytes: int | None = None
    every_s: float = 0.0
    bytes_per_s: float | None = None
    is_endless: bool = False

    def __post_init__(self) -> None:
        check(self.piece_bytes is None or is_count(self.piece_bytes), "piece_bytes", self.piece_bytes, "1 or more")
        check(is_seconds(self.every_s, zero=True), "every_s", self.every_s, "a number of seconds")
        data: Any = self.data
        is_data = callable(data) or isinstance(data, bytes)
        if not is_data and isinstance(data, Iterable):
            is_data = not isinstance(data, (str, bytearray, memoryview, Mapping))
        check(is_data, "data", data, "bytes, pieces of bytes, or a function that returns them")
        pace = self.bytes_per_s
        check(pace is None or is_seconds(pace), "bytes_per_s", pace, "a number above 0, or None")

    def play(self, wire: Wire) -> None:
        """Send it."""
        data: Any = self.data() if callable(self.data) else self.data
        for number, piece in enumerate(self._cut((data,) if isinstance(data, bytes) else data)):
            if number and self.every_s:
                wire.wait(self.every_s)
                if self.is_endless and wire.is_released:
                    return
            wire.send(piece)
            if self.bytes_per_s is not None:
                wire.wait(len(piece) / self.bytes_per_s)
            if self.is_endless and wire.is_released:
                return

    def _cut(self, pieces: Iterable[bytes]) -> Iterable[bytes]:
        size = self.piece_bytes
        if size is None and self.bytes_per_s is not None:
            size = max(1, int(self.bytes_per_s * LOOK_S))
        if size is None:
            return pieces
        return (piece[at : at + size] for piece in pieces for at in range(0, len(piece), size))


def drip(data: bytes = b"x", every_s: float = 0.05) -> Send:
    """Return a step that sends ``data`` again and again, with ``every_s`` seconds between; 0 for a flood.

    Raises:
        ConfigError: for what is no bytes, or no number of seconds.
    """
    check(isinstance(data, bytes), "data", data, "bytes")
    return Send(lambda: itertools.repeat(data), every_s=every_s, is_endless=True)


@dataclasses.dataclass(frozen=True)
class Wait:
    """Wait so many seconds; ``release`` ends it."""

    seconds: float

    def __post_init__(self) -> None:
        check(is_seconds(self.seconds, zero=True), "seconds", self.seconds, "0 or more; Hold() waits for ever")

    def play(self, wire: Wire) -> None:
        """Wait."""
        wire.wait(self.seconds)


@dataclasses.dataclass(frozen=True)
class Hold:
    """Do nothing: for ever, or until an event is set; ``release`` ends it, and so does the client by going.

    Args:
        until: a ``threading.Event``: what a test makes happen, in place of time.
    """

    until: threading.Event | None = None

    def __post_init__(self) -> None:
        is_event = self.until is None or callable(getattr(self.until, "is_set", None))
        check(is_event, "until", self.until, "a threading.Event, or None; Wait(seconds) waits for time")

    def play(self, wire: Wire) -> None:
        """Hold."""
        wire.wait(None, self.until)


@dataclasses.dataclass(frozen=True)
class Read:
    """Read from the client and throw it away: what comes first, or ``count`` bytes.

    Where a connection's script begins before its first request, this is how to wait for the client to speak.
    """

    count: int = 1

    def __post_init__(self) -> None:
        check(is_count(self.count), "count", self.count, "a number of bytes, 1 or more")

    def play(self, wire: Wire) -> None:
        """Read."""
        left = self.count
        while left > 0:
            piece = wire.connection.recv(65536)
            if not piece:
                raise ScriptEnded("the client has gone")
            left -= len(piece)


@dataclasses.dataclass(frozen=True)
class Reset:
    """End the connection by a reset (RST): what was sent before may be lost on its way."""

    def play(self, wire: Wire) -> None:
        """Reset."""
        wire.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise ScriptEnded("reset")


@dataclasses.dataclass(frozen=True)
class Close:
    """End the connection in order (FIN); over TLS without a word of TLS, as one does who cuts a connection."""

    def play(self, wire: Wire) -> None:
        """Close."""
        raise ScriptEnded("closed")


@dataclasses.dataclass(frozen=True)
class HalfClose:
    """Say that no more comes (FIN) and go on listening: the connection is closed when the client closes it."""

    def play(self, wire: Wire) -> None:
        """Close one half."""
        socket.socket.shutdown(wire.connection, socket.SHUT_WR)
        wire.wait(None)


@dataclasses.dataclass(frozen=True)
class Script:
    """What a route may answer with instead of an ``Answer``: steps, byte by byte.

    Args:
        steps: in their order.
        goes_on: whether the connection is good for another request afterwards; else it is closed.

    Raises:
        ConfigError: for what is no step.

    Immutable; may be played by many connections at once.
    """

    steps: tuple[Step, ...]
    goes_on: bool = False

    def __post_init__(self) -> None:
        given: Any = self.steps
        check(isinstance(given, (tuple, list)), "steps", given, "a tuple of steps")
        for number, step in enumerate(given):
            is_step = callable(getattr(step, "play", None)) and not isinstance(step, type)
            check(is_step, f"steps[{number}]", step, "a step such as Send(b'text'); in script() bytes will do")

    def play(self, wire: Wire) -> bool:
        """Go through the steps; return whether the connection goes on.

        Raises:
            OSError: when the client has gone, the server stops, or a step ends the connection.
        """
        for step in self.steps:
            step.play(wire)
        if not self.goes_on:
            raise ScriptEnded("the script is over")
        return True


def script(*steps: Step | bytes, goes_on: bool = False) -> Script:
    """Return a script of steps; bytes are sent as they are.

    Args:
        steps: in their order.
        goes_on: whether the connection is good for another request afterwards.

    Raises:
        ConfigError: for what is neither a step nor bytes.
    """
    return Script(tuple(Send(step) if isinstance(step, bytes) else step for step in steps), goes_on)


def head(status: int = 200, *fields: tuple[str, str], reason: str = "OK", length: int | None = None) -> bytes:
    """Return the head of an answer, for scripts: the status line, the fields as they are, the empty line.

    Args:
        status: the status code.
        fields: name and value of each header field.
        reason: the reason phrase.
        length: the Content-Length to claim; ``None`` for no such field.
    """
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in fields)]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
