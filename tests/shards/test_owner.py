"""Owners: who this process is, and when another one is known to be dead."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from crawlpool.shards import owner as owners
from crawlpool.shards.owner import Owner
from tests.gates import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
TELL = """
import dataclasses, json, sys
from crawlpool.shards.owner import Owner
print(json.dumps(dataclasses.asdict(Owner.here())), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other() -> Iterator[tuple[subprocess.Popen[str], Owner]]:
    """Give another process, and who it says that it is."""
    import json

    child = subprocess.Popen([sys.executable, "-c", TELL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        yield child, Owner(**json.loads(child.stdout.readline()))
    finally:
        child.kill()
        child.communicate()


def test_this_process_is_alive_and_of_this_place() -> None:
    """What it says of itself it finds true; two owners in one process aren't the same."""
    me = Owner.here()
    assert me.is_of_this_place
    assert not me.is_dead()
    assert (me.pid, me.started > 0) == (os.getpid(), True)
    assert me != Owner.here()
    assert str(me) == f"process {os.getpid()} on {me.host}"


def test_a_process_that_is_gone_is_dead(other: tuple[subprocess.Popen[str], Owner]) -> None:
    """While it lives it isn't, not even stopped; killed it is at once, also before anybody has waited for it."""
    child, owner = other
    assert not owner.is_dead()
    child.send_signal(signal.SIGSTOP)
    assert not owner.is_dead()
    child.send_signal(signal.SIGKILL)
    until(owner.is_dead)  # it isn't waited for yet
    child.wait()
    assert owner.is_dead()


def test_a_number_that_was_given_again_is_another_process() -> None:
    """The process that had it is dead, though one with its number lives."""
    me = Owner.here()
    assert dataclasses.replace(me, started=me.started - 1).is_dead()


@pytest.mark.parametrize(
    "changed", [{"boot": "another"}, {"boot": ""}, {"pid_space": 1}, {"pid_space": 0}, {"started": 0}]
)
def test_a_process_of_another_place_is_never_known_to_be_dead(changed: dict[str, object]) -> None:
    """Another machine, an earlier start of this one, another container, or who knows: its number says nothing here."""
    gone = dataclasses.replace(Owner.here(), pid=2**22 + 1)
    assert gone.is_dead()
    assert not dataclasses.replace(gone, **changed).is_dead()  # type: ignore[arg-type]


def test_a_process_that_cannot_be_seen_is_not_known_to_be_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system hides the processes of others, one that is there counts as alive."""
    me = Owner.here()
    monkeypatch.setattr(owners, "_seen", lambda pid: None)
    assert not me.is_dead()


def test_where_there_is_no_proc_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """On systems without /proc an owner has no place and is never dead; leases alone decide."""
    monkeypatch.setattr(owners, "_place", lambda pid: ("", 0))
    me = Owner.here()
    assert not me.is_of_this_place
    assert not dataclasses.replace(me, pid=2**22 + 1).is_dead()


def test_a_first_thread_that_ended_is_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose first thread is over and that has others may send; with none left it is dead."""
    me = Owner.here()
    monkeypatch.setattr(owners, "_seen", lambda pid: ("Z", me.started))
    monkeypatch.setattr(owners, "_threads", lambda pid: 2)
    assert not me.is_dead()
    monkeypatch.setattr(owners, "_threads", lambda pid: 1)
    assert me.is_dead()
