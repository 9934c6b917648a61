"""One run of a job of shards, as the command tells of it: engines that fail, runs that go on, what isn't asked for."""

from __future__ import annotations

import dataclasses
import importlib.util
import pathlib
from typing import TYPE_CHECKING, Any

import pytest

from crawlpool.cli import main, sharded
from crawlpool.cli import resume as resuming
from crawlpool.engines import coordinator
from crawlpool.engines.base import EngineState
from crawlpool.engines.naming import engine_named
from crawlpool.errors import EngineError
from crawlpool.shards import layout, tenure
from crawlpool.shards.owner import Owner
from crawlpool.testing import SiteServer, loopback_hosts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crawlpool.engines.base import EngineSpec

Capture = pytest.CaptureFixture[str]
HOSTS, COUNT = 6, 18
NO_DASK = importlib.util.find_spec("distributed") is None
needs_dask = pytest.mark.skipif(NO_DASK, reason="distributed isn't installed")


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the command look more often than it does: it has nothing else to do for most of these tests."""
    monkeypatch.setattr(sharded, "_LOOK_S", 0.05)
    monkeypatch.setattr(coordinator, "LOOK_S", 0.1)


@pytest.fixture
def site() -> Iterator[SiteServer]:
    with SiteServer(lambda request: request.target.encode(), hosts=loopback_hosts(HOSTS)) as server:
        yield server


def command(site: SiteServer, folder: pathlib.Path, *more: str) -> list[str]:
    """Return the command that crawls all hosts of a site as a job of shards."""
    hosts = loopback_hosts(HOSTS)
    urls = folder / "urls.txt"
    urls.write_text("".join(f"{site.url(f'/{n}', host=hosts[n % HOSTS])}\n" for n in range(COUNT)))
    return ["run", str(urls), "--job", str(folder / "job"), "--shards", "4", "--progress", "none", *more]


def break_off(job: pathlib.Path) -> None:
    """Have each shard of a job look as if its owner had been killed."""
    here = Owner.here()
    gone = dataclasses.replace(here, pid=2**22 - 1, started=1)
    for shard in layout.shards_there(str(job)):
        folder = layout.shard_folder(str(job), shard)
        last = tenure.newest(folder)
        assert last is not None
        made = tenure.Tenure(last.number + 1, gone, last.epoch)
        assert tenure.make(folder, made)


class BadEngine:
    """An engine that can't be brought up, or is over as soon as it is."""

    def __init__(self, error: str | None = None, **state: Any) -> None:
        self.error = error
        self.state = EngineState(**state)

    def start(self, spec: EngineSpec) -> None:
        if self.error is not None:
            raise EngineError(self.error)

    def watch(self) -> EngineState:
        return self.state

    def drain(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def join(self, timeout_s: float) -> bool:
        return True


def test_an_engine_that_cannot_be_had_is_told_with_what_to_do_next(
    site: SiteServer, tmp_path: pathlib.Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why, what goes on with the job, and 7; the command that is named does go on with it."""
    monkeypatch.setattr(sharded, "engine_named", lambda name: BadEngine("the Dask scheduler h:1: nobody\nlistens"))
    job = tmp_path / "job"
    assert main(command(site, tmp_path)) == 7
    _, *lines = capfd.readouterr().err.splitlines()
    assert lines == [
        "crawlpool: the Dask scheduler h:1: nobody\\nlistens",
        f"           next: 'crawlpool resume {job}' goes on, with any --engine and any number of --workers",
        "           exit code 7",
    ]
    monkeypatch.setattr(sharded, "engine_named", engine_named)
    assert main(["resume", str(tmp_path / "job")]) == 0
    assert "before this run" not in capfd.readouterr().err


@pytest.mark.parametrize("is_quiet", [False, True])
def test_an_engine_that_is_gone_is_what_the_end_is_told_to_be(
    is_quiet: bool, site: SiteServer, tmp_path: pathlib.Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is done: the summary begins with what has happened, and says what goes on with the rest; 7."""
    engine = BadEngine(is_over=True, trouble="the Dask scheduler is gone")
    monkeypatch.setattr(sharded, "engine_named", lambda name: engine)
    assert main(command(site, tmp_path, *["-q"] * is_quiet)) == 7
    err = capfd.readouterr().err
    if is_quiet:
        assert err == "crawlpool: the Dask scheduler is gone\n"
        return
    assert "crawlpool: the Dask scheduler is gone; stopped after " in err
    assert "done after" not in err
    assert err.count("the Dask scheduler is gone") == 1
    assert f"'crawlpool resume {tmp_path / 'job'}' goes on, with any --engine" in err
    assert err.endswith("exit code 7\n")


@needs_dask
def test_numbers_of_one_have_no_plural(
    site: SiteServer, tmp_path: pathlib.Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One worker is one worker."""
    monkeypatch.setattr(sharded, "engine_named", lambda name: BadEngine("no"))
    for count, said in (("1", "by 1 worker of dask;"), ("2", "by 2 workers of dask;")):
        assert main(command(site, tmp_path, "--engine", "dask", "--workers", count)) == 7
        assert said in capfd.readouterr().err


def test_what_was_done_before_a_kill_is_not_told_as_this_run_s(
    site: SiteServer, tmp_path: pathlib.Path, capfd: Capture
) -> None:
    """The books of shards whose owners were killed are those of their ledgers; requests for robots.txt are told."""
    assert main(command(site, tmp_path, "--delay", "0.01")) == 0
    err = capfd.readouterr().err
    assert f"{COUNT} requests, 0 of them retries; {HOSTS} more for robots.txt; 4 shards\n" in err
    assert "before this run" not in err
    break_off(tmp_path / "job")
    assert main(["resume", str(tmp_path / "job"), "--progress", "none"]) == 0
    err = capfd.readouterr().err
    assert f"({COUNT} URLs are done)" in err
    assert f"{COUNT} of these URLs were done before this run; nothing was left to be fetched\n" in err
    assert "0.0 URLs/s; " in err
    assert f"{COUNT} inputs + 0 found = {COUNT} ok + " in err


@pytest.mark.parametrize("shards", ["4", "1"])
def test_a_job_that_is_complete_asks_for_no_credential(
    shards: str, site: SiteServer, tmp_path: pathlib.Path, capfd: Capture
) -> None:
    """Nothing will be sent by it: there is nothing to do, and that is what is told. To take failures again, it does."""
    job = str(tmp_path / "job")
    more = ["--auth", "me:s3cr3t@127.0.0.1", "--header", "X-Key: s3cr3t"]
    assert main(command(site, tmp_path, "--shards", shards, *more)) == 0
    asked = site.request_count
    capfd.readouterr()
    assert main(["resume", job]) == 0
    err = capfd.readouterr().err
    assert "give again" not in err
    assert "nothing was left to be fetched" in err
    assert site.request_count == asked
    assert main(["resume", job, "--retry-failed"]) == 2
    err = capfd.readouterr().err
    assert "give again:" in err and "--auth 'USER:PASS@127.0.0.1'" in err and "--header 'X-Key: VALUE'" in err


def test_a_job_with_something_left_asks_for_its_credentials(
    site: SiteServer, tmp_path: pathlib.Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where something has come only after it was looked at: without them nothing is sent."""
    job = tmp_path / "job"
    assert main(command(site, tmp_path, "--auth", "me:s3cr3t@127.0.0.1")) == 0
    asked = site.request_count
    break_off(job)
    capfd.readouterr()
    assert main(["resume", str(job)]) == 2
    assert "give again:\n" in capfd.readouterr().err  # by the command line's own check, before anything is opened
    monkeypatch.setattr(resuming, "is_complete", lambda path: True)
    assert main(["resume", str(job)]) == 2
    err = capfd.readouterr().err
    assert "give again: " in err and "--auth 'USER:PASS@127.0.0.1'" in err
    assert site.request_count == asked
