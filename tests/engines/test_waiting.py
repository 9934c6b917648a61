"""What the Dask engine does where its scheduler has no workers; and of a script that every worker would run."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import subprocess
import sys
import types
from typing import Any

import pytest

from crawlpool import Job, SessionPool
from crawlpool.engines import dask, guard, notes
from crawlpool.engines.base import EngineSpec
from crawlpool.engines.dask import SAID_S, WORKERS_S, DaskEngine
from crawlpool.errors import EngineError
from tests.cli.command import environment
from tests.kit import HandClock

pytestmark = pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="distributed isn't installed")


class Client:
    """A client of a scheduler that has the workers that a test gives it."""

    status = "running"

    def __init__(self) -> None:
        self.scheduler = types.SimpleNamespace(identity=None)
        self.workers: dict[str, Any] = {}
        self.sent: list[str] = []

    def sync(self, what: Any, **how: Any) -> dict[str, Any]:
        return {"workers": dict(self.workers)}

    def submit(self, run: Any, spec: EngineSpec, *, workers: list[str], **how: Any) -> Any:
        self.sent += workers
        return types.SimpleNamespace(status="pending", cancel=lambda force: None, release=lambda: None)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def engine(clock: HandClock) -> DaskEngine:
    """Return an engine that has just been connected, and whose thread the test is."""
    engine = DaskEngine("h:1", clock)
    engine._client, engine._spec = Client(), EngineSpec("folder", "run", dict)
    engine._began_at = engine._say_at = clock.monotonic()
    return engine


def test_a_scheduler_without_workers_is_told_now_and_then_and_given_up(
    engine: DaskEngine, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The state says what is waited for, the log every ten seconds; after a minute it is over, with a reason."""
    began = clock.monotonic()
    while not engine._look():
        assert engine.watch().waits_for == "the scheduler has no workers yet"
        clock.tick(0.5)
    assert clock.monotonic() == began + WORKERS_S + 0.5
    lines = [record for record in caplog.records if record.message == "the scheduler has no workers yet"]
    assert len(lines) == WORKERS_S / SAID_S + 1
    assert {record.scheduler for record in lines} == {"h:1"}  # type: ignore[attr-defined]
    assert engine._trouble == "the scheduler has had no workers for 60 s"


def test_workers_that_have_come_may_go_and_come_again(engine: DaskEngine, clock: HandClock) -> None:
    """Once there was one no time is too long to wait for the next; each gets a runner, and then nothing is told."""
    client: Any = engine._client
    clock.tick(WORKERS_S - 1)
    assert not engine._look()
    client.workers = {"tcp://w:1": {}}
    assert not engine._look()
    assert (engine.watch().waits_for, client.sent) == (None, ["tcp://w:1"])
    client.workers = {}
    for _ in range(3):
        clock.tick(WORKERS_S * 10)
        assert not engine._look()
        assert engine.watch().waits_for == "the scheduler has no workers any more"
    client.workers = {"tcp://w:2": {}}
    assert not engine._look()
    assert (engine.watch().waits_for, client.sent) == (None, ["tcp://w:1", "tcp://w:2"])


# A script without a guard --------------------------------------------------------------------------------------------


def test_a_process_that_only_imports_the_script_leaves_without_a_word(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It makes nothing and raises no error of its own; where the job is there it leaves a sign, that is found once."""
    job = str(tmp_path / "job")
    monkeypatch.setattr(guard, "is_importing", lambda: True)
    with SessionPool() as pool:
        for wanted in (job, Job(job, shards=2)):
            with pytest.raises(SystemExit):
                pool.crawl(["http://127.0.0.1:1/"], job=wanted, engine="dask")
        assert not os.path.exists(job)
        os.mkdir(job)
        notes.make_folder(job)
        with pytest.raises(SystemExit):
            pool.crawl(["http://127.0.0.1:1/"], job=job, engine="dask")
    assert [guard.has_left(job), guard.has_left(job)] == [True, False]


def test_a_cluster_whose_workers_run_the_script_is_told_what_to_do(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One error that names the guard, and shows nothing of Dask's; a sign from another time doesn't count."""
    job = str(tmp_path)
    notes.make_folder(job)

    def fail(engine: DaskEngine, spec: EngineSpec) -> None:
        if is_left:
            with pytest.raises(SystemExit):
                guard.leave(job)
        raise RuntimeError("Nanny failed to start.")

    monkeypatch.setattr(dask.DaskEngine, "_connect", fail)
    is_left = True
    with pytest.raises(EngineError, match='if __name__ == "__main__":') as caught:
        DaskEngine().start(EngineSpec(job, "run", dict))
    assert caught.value.__suppress_context__ and "Nanny" not in str(caught.value)
    with pytest.raises(SystemExit):
        guard.leave(job)
    is_left = False
    with pytest.raises(EngineError, match="Nanny failed"):
        DaskEngine().start(EngineSpec(job, "run", dict))


def test_a_script_without_the_line_is_known_by_its_text(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no process could say so; what is run as a module isn't imported by workers, and is never to blame."""
    script = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", script)
    assert not guard.is_lacking()
    script.__file__ = str(tmp_path / "script.py")
    assert not guard.is_lacking()
    for text, is_lacking in (("run()\n", True), ("if __name__ == '__main__':\n    run()\n", False)):
        (tmp_path / "script.py").write_text(text)
        assert guard.is_lacking() is is_lacking
    (tmp_path / "script.py").write_text("run()\n")
    script.__spec__ = importlib.util.spec_from_loader("x", None)
    assert not guard.is_lacking()


def test_a_spawned_process_knows_that_it_imports_the_script(tmp_path: pathlib.Path) -> None:
    """While it does, and not before or afterwards; no other process does."""
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing\n"
        "from crawlpool.engines import guard\n"
        "print(__name__, guard.is_importing(), flush=True)\n"
        "def run():\n"
        "    print('run', guard.is_importing(), flush=True)\n"
        "if __name__ == '__main__':\n"
        "    process = multiprocessing.get_context('spawn').Process(target=run)\n"
        "    process.start()\n"
        "    process.join()\n"
    )
    ran = subprocess.run(
        [sys.executable, str(script)], env=environment(), capture_output=True, text=True, check=True, timeout=50
    )
    assert ran.stdout.splitlines() == ["__main__ False", "__mp_main__ True", "run False"]
