"""The command as tests run it: in this process, or in one of its own where a process's behaviour matters."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from crawlpool.cli import main
from tests.house import ROOT

#: The longest that anything here is waited for; nothing comes near it unless it hangs.
PATIENCE_S = 50.0
#: For ``start``: a process that is stopped comes to its end, however slow the machine is, and isn't cut short.
NO_LAST_RESORT = f"import crawlpool.cli.signals\ncrawlpool.cli.signals.LAST_RESORT_S = {PATIENCE_S}\n"


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a command that is run from the sources."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "", **more}


def start(arguments: Sequence[str], *, before: str = "", **how: Any) -> subprocess.Popen[bytes]:
    """Start ``crawlpool`` in a process of its own, its three streams piped unless ``how`` says otherwise.

    Args:
        arguments: of the command.
        before: Python code that runs first in the process.
        how: further arguments of ``Popen``; ``env`` as a whole.
    """
    for name in ("stdin", "stdout", "stderr"):
        how.setdefault(name, subprocess.PIPE)
    how.setdefault("env", environment())
    program = ["-c", f"{before}\nimport sys\nfrom crawlpool.cli import main\nsys.exit(main())"] if before else []
    return subprocess.Popen([sys.executable, *(program or ["-m", "crawlpool"]), *arguments], **how)


def finish(process: subprocess.Popen[bytes], given: bytes | None = None) -> tuple[int, str, str]:
    """Wait for the end of a process; return exit code, standard output and standard error."""
    try:
        out, err = process.communicate(given, timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"the command hangs; it said: {err!r}") from None
    return process.returncode, (out or b"").decode(), (err or b"").decode()


def wait_until(is_true: Callable[[], bool], what: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a process has done something that another one can see; no longer than the process lives."""
    until = time.monotonic() + PATIENCE_S
    while not is_true():
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            raise AssertionError(f"waited in vain until {what}: {process.communicate()!r}")
        time.sleep(0.005)


#: What runs a command in this process: its exit code, and what it said on both streams.
Run = Callable[..., tuple[int, str, str]]


def runner(streams: pytest.CaptureFixture[str]) -> Run:
    """Return what runs the command in this process, with arguments of any type."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        said = streams.readouterr()
        return code, said.out, said.err

    return run


def records_of(text: str | pathlib.Path) -> list[dict[str, Any]]:
    """Return the records of a text or file in the order of the input."""
    lines = (text.read_text("utf-8") if isinstance(text, pathlib.Path) else text).splitlines()
    return sorted((json.loads(line) for line in lines), key=lambda record: record["n"])
