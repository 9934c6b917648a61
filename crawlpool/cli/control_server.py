"""Serves a run's control socket: one thread, few clients, short lines, and nobody who takes their time."""

from __future__ import annotations

import os
import selectors
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Any

from crawlpool.cli.control import LONGEST_REQUEST, PATIENCE_S, ControlError, line_of, said_in
from crawlpool.events import logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

#: Clients at once; others wait to be accepted.
MOST_CLIENTS = 16
_CREDENTIALS = struct.Struct("iII")  # of Linux: process, user, group
_log = logger("control")


class _Client:
    """One connection: what came of its request, and what is left of the answer."""

    def __init__(self, connection: socket.socket, ends_at: float) -> None:
        self.connection = connection
        self.ends_at = ends_at
        self.got = bytearray()
        self.left = b""


class ControlServer:
    """Answers requests within its ``with`` block, in a thread ``crawlpool-control``.

    Args:
        listening: the socket, which doesn't block; whoever made it closes it.
        answer: returns what is answered to a request; called in the thread.
        tick: called there each second.
    """

    def __init__(
        self,
        listening: socket.socket,
        answer: Callable[[dict[str, Any]], dict[str, Any]],
        tick: Callable[[], object] = lambda: None,
    ) -> None:
        self._listening = listening
        self._answer = answer
        self._tick = tick
        self._ends: tuple[socket.socket, socket.socket] | None = None
        self._thread: threading.Thread | None = None
        # The thread's own from here on.
        self._selector = selectors.DefaultSelector()
        self._clients: dict[socket.socket, _Client] = {}
        self._accepts = False
        self._accepts_from = 0.0  # where a connection couldn't be accepted it isn't tried all the time

    def __enter__(self) -> ControlServer:
        self._ends = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="crawlpool-control", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._ends is not None
        assert self._thread is not None
        self._ends[1].send(b"x")
        self._thread.join()  # it never waits for a client, and ``answer`` for nobody
        for end in self._ends:
            end.close()

    def _serve(self) -> None:
        assert self._ends is not None
        self._selector.register(self._ends[0], selectors.EVENT_READ)
        tick_at = 0.0
        try:
            while True:
                now = time.monotonic()
                if now >= tick_at:
                    self._guarded(self._tick)
                    tick_at = now + 1.0
                self._drop_slow(now)
                self._accept_while_there_is_room(now)
                for key, _ in self._selector.select(tick_at - now):
                    if key.fileobj is self._ends[0]:
                        return
                    if key.fileobj is self._listening:
                        self._accept()
                    else:
                        self._serve_client(self._clients[key.fileobj])  # type: ignore[index]
        finally:
            for client in list(self._clients.values()):
                self._drop(client)
            self._selector.close()

    def _accept_while_there_is_room(self, now: float) -> None:
        has_room = len(self._clients) < MOST_CLIENTS and now >= self._accepts_from
        if has_room and not self._accepts:
            self._selector.register(self._listening, selectors.EVENT_READ)
        elif self._accepts and not has_room:
            self._selector.unregister(self._listening)
        self._accepts = has_room

    def _accept(self) -> None:
        try:
            connection, _ = self._listening.accept()
        except BlockingIOError:  # they went away
            return
        except OSError:  # there is no descriptor left
            self._accepts_from = time.monotonic() + 1.0
            return
        connection.setblocking(False)
        client = _Client(connection, time.monotonic() + PATIENCE_S)
        self._clients[connection] = client
        if is_of_other_user(connection):
            client.left = line_of({"ok": False, "error": "the run is another user's"})
        self._selector.register(connection, selectors.EVENT_WRITE if client.left else selectors.EVENT_READ)

    def _serve_client(self, client: _Client) -> None:
        try:
            if not client.left:
                piece = client.connection.recv(LONGEST_REQUEST)
                client.got += piece
                if b"\n" not in client.got and len(client.got) < LONGEST_REQUEST and piece:
                    return
                client.left = self._answer_to(bytes(client.got))
                self._selector.modify(client.connection, selectors.EVENT_WRITE)
            client.left = client.left[client.connection.send(client.left) :]
        except BlockingIOError:
            return
        except OSError:
            client.left = b""
        if not client.left:
            self._drop(client)

    def _answer_to(self, got: bytes) -> bytes:
        line, end, _ = got.partition(b"\n")
        if not end:
            return line_of({"ok": False, "error": f"a request is one line of less than {LONGEST_REQUEST} bytes"})
        try:
            request = said_in(line)
        except ControlError as error:
            return line_of({"ok": False, "error": str(error)})
        answer = self._guarded(lambda: self._answer(request))
        return line_of(answer if answer is not None else {"ok": False, "error": "a fault of crawlpool: see its log"})

    def _guarded(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except Exception:  # the run goes on, and so does this thread
            _log.exception("the control socket failed")
            return None

    def _drop_slow(self, now: float) -> None:
        for client in list(self._clients.values()):
            if now >= client.ends_at:
                self._drop(client)

    def _drop(self, client: _Client) -> None:
        del self._clients[client.connection]
        self._selector.unregister(client.connection)
        client.connection.close()


def is_of_other_user(connection: socket.socket) -> bool:
    """Tell whether the other end is another user's process, where the system says so; else its mode has to do."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return False
    try:
        _, user, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size))
    except (OSError, struct.error):
        return False
    return bool(user != os.geteuid())
