"""The command in a process of its own, as a user runs it, and what must be left of it: nothing."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = pathlib.Path(__file__).parent.parent.parent
PATIENCE_S = 600.0
#: The exit codes of a run that has done all of its work: some pages of the site aren't there.
WELL = (0, 8)


@dataclasses.dataclass
class Ran:
    """How a command ended."""

    code: int
    told: str
    seconds: float


def environ() -> dict[str, str]:
    """Return the environment of every process of a proof: no proxies, and the package from this tree."""
    left = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and not k.startswith("CRAWLPOOL_")}
    return {**left, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def start(*args: str, within: Sequence[str] = ()) -> subprocess.Popen[str]:
    """Start ``crawlpool`` with these arguments, in a session of its own; ``within`` another command, if given."""
    return subprocess.Popen(
        [*within, sys.executable, "-m", "crawlpool", *args],
        cwd=ROOT,
        env=environ(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str], began_s: float, patience_s: float = PATIENCE_S) -> Ran:
    """Wait until a command has ended; one that doesn't is killed, with all that it has started."""
    try:
        _, told = process.communicate(timeout=patience_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        _, told = process.communicate()
        raise AssertionError(f"the command didn't end in {patience_s:g} s: {told[-2000:]}") from None
    return Ran(process.returncode, told, time.monotonic() - began_s)


def run(*args: str, well: Sequence[int] = WELL, within: Sequence[str] = ()) -> Ran:
    """Run ``crawlpool`` to its end.

    Args:
        args: its arguments.
        well: the exit codes that it may have.
        within: as ``start`` takes it.
    """
    began_s = time.monotonic()
    ran = ended(start(*args, within=within), began_s)
    assert ran.code in well, f"exit code {ran.code} of {args}: {ran.told[-3000:]}"
    return ran


def left_of(group: int) -> list[str]:
    """Return the processes of a session that are there still, as ``ps`` shows them; zombies don't count."""
    found = subprocess.run(["ps", "-eo", "sid,pid,stat,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 3) for line in found.splitlines()[1:]]
    return [row[3] for row in rows if len(row) == 4 and row[0] == str(group) and row[2][0] != "Z"]


def check_gone(group: int, patience_s: float = 30.0) -> None:
    """Raise unless nothing is left of a session soon: no worker, no nanny, no scheduler."""
    end_s = time.monotonic() + patience_s
    while (left := left_of(group)) and time.monotonic() < end_s:
        time.sleep(0.2)
    if left:
        os.killpg(group, signal.SIGKILL)
    assert not left, f"processes were left over: {left}"


def summary(ran: Ran) -> dict[str, Any]:
    """Return the books of a command that told of its end as JSON (``--log-format json``)."""
    import json

    for line in reversed(ran.told.splitlines()):
        if line.startswith("{"):
            told: dict[str, Any] = json.loads(line)
            if told.get("event") == "finished":
                return told
    raise AssertionError(f"it told nothing of its end: {ran.told[-2000:]}")
