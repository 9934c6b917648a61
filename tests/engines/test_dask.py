"""The Dask engine with a cluster of its own: the short form of the proofs in ``tests/cluster``."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from crawlpool.engines import dask, notes
from crawlpool.engines.base import EngineSpec
from crawlpool.engines.dask import DaskEngine
from crawlpool.engines.naming import engine_named
from crawlpool.errors import EngineError, MissingExtra
from tests.cluster import command
from tests.cluster.records import count_of
from tests.cluster.same import Same, looks
from tests.gates import until

needs_dask = pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="distributed isn't installed")


@needs_dask
@pytest.mark.timeout(300)  # two commands, one with a cluster whose processes import all there is
def test_a_worker_is_killed_and_the_records_are_those_of_one_crawl(tmp_path: pathlib.Path) -> None:
    """Two workers, one killed in the midst: the same records as without shards, books balanced, no process left."""
    said: list[str] = []
    with Same(tmp_path, 300, 24, 6, said.append, ("--delay", "0.05", "--ignore-robots")) as same:
        same.plain()
        job = same.job("dask")
        process = command.start(*same.args(job, "--shards", "6", "--engine", "dask", "--workers", "2"))
        killed = 0
        for _ in looks(120.0, 0.1):
            told = [notes.read_note(job, name) for name in notes.names(job)]
            pids = [note.pid for note in told if note is not None and note.shards and not note.has_ended]
            if process.poll() is not None or (pids and count_of(job) > 20):
                break
        for pid in pids[:1]:
            assert pid != process.pid
            os.kill(pid, signal.SIGKILL)
            killed = pid
        ran = command.ended(process, time.monotonic(), 200)
        assert ran.code in command.WELL, ran.told[-3000:]
        command.check_gone(process.pid)
        assert killed, "it was over before anything could be killed"
        same._balanced("dask", ran)
        same.compare("dask", job)
        assert command.summary(ran)["workers_lost"] == 1


def test_without_distributed_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine that isn't installed is refused with the command that installs it."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "distributed" else find(name))
    with pytest.raises(MissingExtra, match=r"pip install 'crawlpool\[dask\]'"):
        engine_named("dask")


@needs_dask
def test_a_scheduler_file_that_is_not_there_is_told(tmp_path: pathlib.Path) -> None:
    """No engine comes up without a scheduler; the message names what is missing, and nothing is left."""
    engine = DaskEngine(str(tmp_path / "none.json"))
    with pytest.raises(EngineError, match="no such scheduler file"):
        engine.start(EngineSpec(str(tmp_path), "run", dict))
    assert engine.join(1.0)


def test_a_task_shows_no_credential() -> None:
    """What Dask logs of a task that failed, its arguments, has no secret."""
    spec = EngineSpec("folder", "run", lambda: "s3cr3t", crawl={"auth": "s3cr3t"}, job={"x": "s3cr3t"})
    assert "s3cr3t" not in repr(spec)
    assert "lambda" not in repr(spec)


def test_a_worker_of_a_cluster_of_our_own_outlives_ctrl_c() -> None:
    """What workers load first has them ignore SIGINT, which a terminal sends to all: the command drains them."""
    before = signal.getsignal(signal.SIGINT)
    assert threading.current_thread() is threading.main_thread()
    sys.modules.pop("crawlpool.engines.preload", None)
    with contextlib.ExitStack() as back:
        back.callback(signal.signal, signal.SIGINT, before)
        importlib.import_module("crawlpool.engines.preload")
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_what_never_answers_as_a_scheduler_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Something that takes a connection and says nothing that Dask understands holds a run up for a bounded time."""
    monkeypatch.setattr(dask, "CONNECT_S", 0.02)
    monkeypatch.setattr(dask, "ANSWER_S", 0.0)
    silence = threading.Event()
    with pytest.raises(EngineError, match="doesn't speak as a Dask scheduler"):
        dask._connected(silence.wait)
    silence.set()
    until(lambda: not [one for one in threading.enumerate() if one.name == "crawlpool-dask-connect"])


def test_what_a_client_raises_is_raised_and_what_it_is_is_returned() -> None:
    """Beyond the bound nothing is changed of how a client comes to be."""
    with pytest.raises(ZeroDivisionError):
        dask._connected(lambda: 1 // 0)
    assert dask._connected(dict, name="n") == {"name": "n"}


@pytest.mark.parametrize(
    ("content", "said"), [("{", "can't be read"), ("[]", "names no address"), ('{"address": 5}', "names no address")]
)
def test_a_scheduler_file_that_is_none_is_told_at_once(content: str, said: str, tmp_path: pathlib.Path) -> None:
    """What Dask would fail on in its own words, or wait for, is one line that says what is wrong."""
    path = tmp_path / "scheduler.json"
    path.write_text(content)
    with pytest.raises(EngineError, match=said):
        dask.check_scheduler_file(str(path))


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_what_begins_with_a_cluster_never_sees_ctrl_c() -> None:
    """Processes that are started meanwhile have SIGINT blocked from their first instruction on."""
    command = ["grep", "SigBlk", "/proc/self/status"]
    with dask._no_ctrl_c():
        within = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    after = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    bit = 1 << (signal.SIGINT - 1)
    assert int(within.split()[1], 16) & bit
    assert not int(after.split()[1], 16) & bit
