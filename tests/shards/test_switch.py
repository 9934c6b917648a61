"""The dead man's switch: it kills who doesn't put it off, and nobody else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from crawlpool.fence import LEASE_CLOCK
from crawlpool.shards import keeper as keepers
from crawlpool.shards import switch as switches
from crawlpool.shards.keeper import LeaseKeeper
from crawlpool.shards.switch import Switch
from tests.gates import PATIENCE_S
from tests.house import ROOT

linux = pytest.mark.skipif(sys.platform != "linux" or sys.maxsize < 2**32, reason="64-bit Linux alone has it")
# A file system fails, and the process lives: its lease ends, which it notices by itself.
LIVES = """
import sys, threading
from crawlpool.shards import tenure
from crawlpool.shards.keeper import LeaseKeeper
def fails(fd, one):
    raise OSError(5, "Input/output error")
with LeaseKeeper(1.0, kills_stopped=True) as keeper:
    tenure.rewrite = fails
    held = keeper.claim(sys.argv[1])
    threading.Event().wait(1.3)
    print(held.is_held(), keeper.fence().may_send())
"""
ARMED = """
import threading
from crawlpool.fence import LEASE_CLOCK
from crawlpool.shards.switch import Switch
switch = Switch(LEASE_CLOCK)
for _ in range(5):
    switch.put_off(LEASE_CLOCK.monotonic() + 30)
switch.put_off(LEASE_CLOCK.monotonic() - 1)
threading.Event().wait(30)
"""


def run(program: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a program that knows crawlpool; return what came of it."""
    return subprocess.run(
        [sys.executable, "-c", program, *args],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@linux
def test_who_does_not_put_it_off_is_killed() -> None:
    """At the moment that was said last; one in the past is now."""
    assert run(ARMED).returncode == -signal.SIGKILL


@linux
def test_a_process_that_runs_is_not_killed_for_a_lost_lease(tmp_path: os.PathLike[str]) -> None:
    """It closes its fence and ends what is under way by itself; then nobody need be killed for that."""
    done = run(LIVES, str(tmp_path))
    assert (done.returncode, done.stdout.split()) == (0, ["False", "False"]), done.stderr


@linux
def test_a_switch_that_is_closed_or_put_off_for_ever_kills_nobody() -> None:
    """It may be closed again; a forked child has none, and touches its parent's no more."""
    switch = Switch(LEASE_CLOCK)
    switch.put_off(LEASE_CLOCK.monotonic() + 1000)
    switch.put_off(float("inf"))
    switch._pid = -1
    switch.put_off(LEASE_CLOCK.monotonic() - 1)  # in a child: nothing
    switch._pid = os.getpid()
    switch.close()
    switch.close()


def test_where_there_is_no_such_thing_a_keeper_goes_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere than on Linux, and where the C library has no timers."""
    monkeypatch.setattr(switches.sys, "platform", "darwin")
    with pytest.raises(OSError, match="only 64-bit Linux"):
        Switch(LEASE_CLOCK)
    with LeaseKeeper(kills_stopped=True) as keeper:
        assert keeper._switch is None
    monkeypatch.undo()
    monkeypatch.setattr(switches.ctypes, "CDLL", lambda *args, **named: object())
    with pytest.raises(OSError, match="no timers"):
        switches._library()
    assert keepers.Switch is Switch
