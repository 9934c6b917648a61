"""The command ``crawlpool``. What it needs is imported when it is needed: ``--help`` must not wait for requests."""

from __future__ import annotations

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: its arguments without the program's name; ``None`` for those of the process, which then is the command's
            own: its standard streams are made safe, and no traceback is printed at its end.

    Returns:
        The exit code; see ``crawlpool run --help``. It never raises an ``Exception``.
    """
    try:
        from crawlpool.cli.app import run_command

        return run_command(argv)
    except KeyboardInterrupt:  # before the run handles signals itself
        return 7
