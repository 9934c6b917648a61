"""The command ``crawlpool``. What it needs is imported when it is needed: ``--help`` must not wait for requests."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["main"]

_INTERRUPTED = 7  # Exit.WORK_LEFT: what says so isn't imported yet


def main(argv: list[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: its arguments without the program's name; ``None`` for those of the process, which then is the command's
            own: its standard streams are made safe, and no traceback is printed at its end.

    Returns:
        The exit code; see the ``--help`` of each command. It never raises an ``Exception``.
    """
    try:
        with contextlib.nullcontext() if argv is not None else _leaving_at_once():
            from crawlpool.cli.app import run_command

        return run_command(argv)
    except KeyboardInterrupt:  # before the run handles signals itself
        return _INTERRUPTED


@contextlib.contextmanager
def _leaving_at_once() -> Iterator[None]:
    """Have Ctrl-C end the process while modules are imported.

    Nothing is begun yet that would have to be ended. A ``KeyboardInterrupt`` could come out of any line of an import:
    where it is in a callback Python prints and forgets it, and some modules take it for a missing extra.
    """
    try:
        is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if is_default:  # a shell starts background jobs with SIGINT ignored
            signal.signal(signal.SIGINT, lambda number, frame: os._exit(_INTERRUPTED))
    except ValueError:  # not in the main thread, where Python lets nobody handle signals
        is_default = False
    try:
        yield
    finally:
        if is_default:
            signal.signal(signal.SIGINT, signal.default_int_handler)
