"""A dead man's switch: the system kills the process when nobody has put the moment off, whatever the process is at.

Between the last look at the fence and the system call that sends there are some microseconds, and a process that is
stopped just there and woken an hour later sends. No program can look and send in one step. But the system can be told
beforehand: a timer of its own with the signal KILL ends a process in the middle of its sleep, and it never wakes.

On Linux alone, where ``timer_create`` takes that signal (timer_create(2); a stopped process is killed, signal(7)).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crawlpool.clock import Clock

_SIGEV_SIGNAL, _TIMER_ABSTIME = 0, 1
_NANO = 1_000_000_000


class _Event(ctypes.Structure):
    """``struct sigevent``, as 64-bit Linux has it."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("rest", ctypes.c_byte * 48),
    )


class _Setting(ctypes.Structure):
    """``struct itimerspec``."""

    _fields_ = (
        ("every_s", ctypes.c_long),
        ("every_ns", ctypes.c_long),
        ("at_s", ctypes.c_long),
        ("at_ns", ctypes.c_long),
    )


class Switch:
    """Kills this process at a moment, unless that is put off.

    Args:
        clock: by which the moments are told.

    Raises:
        OSError: where there is no such thing.

    Thread-safe: each call is one of the system's. A forked child has none (fork(2)).
    """

    def __init__(self, clock: Clock) -> None:
        if sys.platform != "linux" or ctypes.sizeof(ctypes.c_void_p) != 8:
            raise OSError("only 64-bit Linux kills a process by a timer")
        self._clock = clock
        self._library = _library()
        self._timer = ctypes.c_void_p()
        self._pid = os.getpid()
        event = _Event(signo=signal.SIGKILL, notify=_SIGEV_SIGNAL)
        # By a clock that stands still while the machine sleeps: then no other machine's worker waits for this one's.
        # The fence goes by the other one, and is closed when the machine wakes.
        self._call("timer_create", time.CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(self._timer))

    def put_off(self, until: float) -> None:
        """Have the process killed at ``until`` by the clock, and not before; infinity for never."""
        setting = _Setting()
        if until < float("inf"):
            now = time.monotonic()  # first: stopped between the two looks, it is rather killed too early
            at_ns = max(int((now + until - self._clock.monotonic()) * _NANO), 1)
            setting.at_s, setting.at_ns = divmod(at_ns, _NANO)
        self._set(setting)

    def close(self) -> None:
        """Never kill it. May be called again."""
        self._set(_Setting())

    def _set(self, setting: _Setting) -> None:
        if os.getpid() == self._pid:
            self._call("timer_settime", self._timer, _TIMER_ABSTIME, ctypes.byref(setting), None)

    def _call(self, name: str, *args: Any) -> None:
        if getattr(self._library, name)(*args) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def _library() -> Any:
    for name in (None, "librt.so.1"):  # before glibc 2.34 timers lay in a library of their own
        try:
            library = ctypes.CDLL(name, use_errno=True)
            library.timer_create  # noqa: B018
        except (OSError, AttributeError):
            continue
        return library
    raise OSError("the C library has no timers")
