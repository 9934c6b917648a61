"""Ctrl-C and SIGTERM: the first drains, the second stops at once, whatever the main thread is doing.

A handler in Python runs in the main thread, between two of its instructions: it may not take a lock, and it doesn't
run while that thread waits in a C call for long. So the handlers here do nothing. The interpreter's C handler writes
the signal's number to a socket (``signal.set_wakeup_fd``), and a thread of ours reads it and acts.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
#: What a second signal leaves to threads that hang before the process ends without them.
LAST_RESORT_S = 0.8
#: The same where nobody presses for it: it is to be sure that they hang.
HANG_S = 3.0
_JOIN_S = 2.0
_STDERR = 2
_END = b"\0"


def end_now(exit_code: int) -> None:
    """End the process, whatever its threads are at; a terminal gets its cursor back, and a word."""
    with contextlib.suppress(OSError):
        if os.isatty(_STDERR):
            os.write(_STDERR, b"\x1b[?25h\r\x1b[2Kcrawlpool: stopped at once; exit code %d\n" % exit_code)
    os._exit(exit_code)


class Interrupts:
    """Handles signals within its ``with`` block.

    Args:
        drain: called at the first signal, in a thread of this object.
        stop: called at the second one, in another thread of its own.
        exit_code: what the process ends with when the block isn't left soon after the second signal.
        last_resort: ends the process; ``end_now`` unless a test gives something else.

    Enter and leave it in the main thread. In any other thread, where Python lets nobody handle signals, it does
    nothing.
    """

    def __init__(
        self,
        drain: Callable[[], None],
        stop: Callable[[], None],
        exit_code: int,
        last_resort: Callable[[int], Any] = end_now,
    ) -> None:
        self._drain = drain
        self._stop = stop
        self._exit_code = exit_code
        self._last_resort = last_resort
        self._over = threading.Event()  # guards itself
        self._before: dict[int, Any] = {}
        self._old_fd = -1
        self._ends: tuple[socket.socket, socket.socket] | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is not threading.main_thread():
            return self
        self._ends = socket.socketpair()
        writing = self._ends[1]
        writing.setblocking(False)  # set_wakeup_fd demands it
        self._thread = threading.Thread(target=self._watch, name="crawlpool-signals", daemon=True)
        self._thread.start()
        self._old_fd = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:
            # A shell starts background jobs with SIGINT ignored; who sends one to this very process means it.
            self._before[number] = signal.signal(number, _do_nothing)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ends is None or self._thread is None:
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_fd)
        self._over.set()
        self._ends[1].send(_END)
        self._thread.join(_JOIN_S)
        for end in self._ends:
            end.close()

    def hasten(self, exit_code: int) -> None:
        """Stop as at the second signal, without one: the time for what was under way is over. Returns at once.

        Args:
            exit_code: what the process ends with when the block isn't left soon; the job that it worked on goes on
                from there, as after a kill.
        """
        hang = (exit_code, HANG_S)
        threading.Thread(target=self._stop_soon, args=hang, name="crawlpool-hasten", daemon=True).start()

    def _stop_soon(self, exit_code: int, patience_s: float) -> None:
        # Its own thread: what is stopped may tell somebody's code, which may hang.
        threading.Thread(target=self._stop, name="crawlpool-stop", daemon=True).start()
        if self._ends is not None and not self._over.wait(patience_s):
            self._last_resort(exit_code)

    def _watch(self) -> None:
        assert self._ends is not None
        reading = self._ends[0]
        count = 0
        while received := reading.recv(64):
            for number in received:
                if number == _END[0]:
                    return
                if number not in SIGNALS:  # the C handler writes every signal that has a handler in Python
                    continue
                count += 1
                if count == 1:
                    threading.Thread(target=self._drain, name="crawlpool-drain", daemon=True).start()
                elif count == 2:
                    self._stop_soon(self._exit_code, LAST_RESORT_S)


def _do_nothing(number: int, frame: object) -> None:
    """Be there, so that the signal doesn't end the process."""
