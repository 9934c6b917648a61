"""What other threads hand to the I/O thread: transfers to begin, to end, to go on with; and how they wake it."""

from __future__ import annotations

import collections
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from crawlpool.transport.curl.transfer import Transfer
    from crawlpool.transport.lifeline import LegEnd


class Orders:
    """The queue of orders of one I/O thread. Every public method is anybody's.

    Args:
        wake: ends the thread's wait for sockets.
    """

    _thread: threading.Thread

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        # Guards _commands, _is_asleep and _is_stopping. It can be taken again by its holder: the garbage collector may
        # run under it and drop a streamed answer or a session, whose end is told here.
        self._lock = threading.RLock()
        self._commands: collections.deque[tuple[str, Any, Any]] = collections.deque()
        self._is_asleep = False
        self._is_stopping = False

    def submit(self, transfers: list[Transfer]) -> bool:
        """Have transfers begun; return whether they were taken: not when the thread is about to end."""
        return self._tell([("begin", None, transfers)])

    def command(self, what: str, transfer: Transfer, argument: Any = None) -> None:
        """Have something done to a transfer: ``end`` it, ``resume`` it, ``release`` its bytes."""
        self._tell([(what, transfer, argument)])

    def call(self, function: Callable[[], None]) -> bool:
        """Have a function called by the thread; return whether it will be: not when the thread is about to end."""
        return self._tell([("call", None, function)])

    def stop(self, *, waits: bool = True) -> None:
        """End everything, and wait for the thread unless it is the caller."""
        self._tell([], stops=True)
        if waits and threading.current_thread() is not self._thread:
            self._thread.join()

    def end(self, transfer: Transfer, why: LegEnd) -> None:
        """End a transfer; it is told to whoever waits for it."""
        self.command("end", transfer, why)

    def resume(self, transfer: Transfer) -> None:
        """Have a paused transfer go on."""
        self.command("resume", transfer)

    def is_alive(self) -> bool:
        """Tell whether the thread still runs."""
        return self._thread.is_alive()

    def is_current_thread(self) -> bool:
        """Tell whether this is the I/O thread."""
        return threading.get_ident() == self._thread.ident

    def _tell(self, commands: list[tuple[str, Any, Any]], *, stops: bool = False) -> bool:
        with self._lock:
            if self._is_stopping and not stops:
                return False
            self._is_stopping = self._is_stopping or stops
            self._commands.extend(commands)
            is_asleep, self._is_asleep = self._is_asleep, False
        if is_asleep:
            self._wake()
        return True
