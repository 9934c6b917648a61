"""A runner over real shards of a small web on loopback: what it takes, when it ends, what it tells."""

from __future__ import annotations

import collections
import os
import pathlib
import threading
from typing import TYPE_CHECKING, Any

import pytest

from crawlpool import Job, SessionPool, open_job
from crawlpool.engines import choice, notes, tenancy
from crawlpool.engines import coordinator as coordinators
from crawlpool.engines.base import EngineSpec
from crawlpool.engines.choice import GIVEN_UP_AFTER, Tries, how_many
from crawlpool.engines.coordinator import Coordinator, new_run
from crawlpool.engines.library import Recipe, crawl_shards
from crawlpool.engines.looking import Looker, read_tries, write_tries
from crawlpool.engines.naming import check_name, engine_named
from crawlpool.engines.runner import Runner
from crawlpool.engines.threads import ThreadsEngine
from crawlpool.errors import ConfigError, JobError, SinkError
from crawlpool.shards import layout, manifest, segments
from crawlpool.shards.partition import Partitioner
from crawlpool.shards.segments import SegmentName
from crawlpool.shards.takeover import enter
from crawlpool.testing import Answer, Request, SiteServer, loopback_hosts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crawlpool.books import Progress
    from crawlpool.shards.held import Held

SHARDS = 4


def answer(request: Request) -> Answer:
    """Answer with the path."""
    return Answer(body=request.target.encode())


@pytest.fixture
def site() -> Iterator[SiteServer]:
    with SiteServer(answer, hosts=loopback_hosts(8), remember=True) as server:
        yield server


def urls_of(site: SiteServer, count: int) -> list[str]:
    """Return so many URLs over all hosts of a site."""
    hosts = loopback_hosts(8)
    return [site.url(f"/{number}", host=hosts[number % len(hosts)]) for number in range(count)]


def made(path: pathlib.Path, urls: list[str], shards: int = SHARDS) -> str:
    """Make a job of shards with all of its input handed out; return its folder."""
    path.mkdir()
    job = manifest.new(str(path), shards=shards, created_at=1.0, outputs=("results.jsonl",), lease_s=2.0)
    manifest.write(str(path), job)
    Partitioner(str(path), job).run(urls)
    notes.make_folder(str(path))
    return str(path)


def spec_of(folder: str, **more: Any) -> EngineSpec:
    """Return what a runner has to know."""
    return EngineSpec(folder, "run", SessionPool, crawl={"dedupe": True}, **more)


def run_to_the_end(folder: str, spec: EngineSpec) -> notes.RunnerNote:
    """Run a runner until nothing is left, and tell it so as a coordinator does."""
    notes.write_word(folder, notes.Word(spec.run))
    runner, found = Runner(spec), []
    thread = threading.Thread(target=lambda: found.append(runner.run()))
    thread.start()
    looker = Looker(folder, spec.run)
    for _ in range(400):
        looks = looker.look()
        if all(look.is_released and not look.segments for look in looks) or not thread.is_alive():
            break
        thread.join(0.05)
    notes.write_word(folder, notes.Word(spec.run, 1, notes.DRAIN))
    thread.join(20)
    assert not thread.is_alive()
    return found[0]  # type: ignore[no-any-return]


def to_its_end(job: Coordinator) -> Progress:
    """Have a coordinator do its job; return how far it has come."""
    job.begin()
    wait = threading.Event()
    for _ in range(400):
        if job.look():
            break
        wait.wait(0.02)
    return job.end()


def test_a_runner_does_all_shards_and_ends_when_it_is_told(tmp_path: pathlib.Path, site: SiteServer) -> None:
    """Each target of each shard has its record once; the runner's last note says what it did."""
    urls = urls_of(site, 40)
    folder = made(tmp_path / "job", urls)
    note = run_to_the_end(folder, spec_of(folder, at_once=2))
    assert note.has_ended and note.trouble is None and not note.failed
    with open_job(folder) as job:
        assert collections.Counter(record["url"] for record in job.records()) == collections.Counter(urls)
    assert sum(saved["report"]["ok"] for saved in note.released.values()) == 40
    assert {look.why for look in Looker(folder, "run").look()} == {"done"}


def test_a_runner_drains_for_another_run_of_the_command(tmp_path: pathlib.Path, site: SiteServer) -> None:
    """A runner that reads the word of another run takes no shard any more, and says why it ends."""
    folder = made(tmp_path / "job", urls_of(site, 8))
    notes.write_word(folder, notes.Word("another"))
    note = Runner(spec_of(folder)).run()
    assert note.has_ended
    assert note.trouble == "another run of the command has the job"
    assert all(look.tenure == 0 for look in Looker(folder, "run").look())


def test_two_shards_are_open_and_no_more_while_one_is_being_opened(
    tmp_path: pathlib.Path, site: SiteServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often a runner looks meanwhile: what it will be busy with isn't known before that one has begun."""
    folder = made(tmp_path / "job", urls_of(site, 40))
    opens = threading.Event()
    entered: list[str] = []
    looks: list[tuple[bool, int]] = []

    def enter_late(held: Held, **more: Any) -> Any:
        entered.append(held.folder)
        assert opens.wait(20)
        return enter(held, **more)

    def asked(*args: Any, is_opening: bool, **more: Any) -> int:
        looks.append((is_opening, len(entered)))
        if [is_opening for is_opening, _ in looks].count(True) == 3:
            opens.set()
        return how_many(*args, is_opening=is_opening, **more)

    monkeypatch.setattr(tenancy, "enter", enter_late)
    monkeypatch.setattr(tenancy, "BEGIN_S", 60.0)
    monkeypatch.setattr(choice, "how_many", asked)
    run_to_the_end(folder, spec_of(folder))
    assert [is_opening for is_opening, _ in looks[:4]] == [False, True, True, True]
    assert max(count for _, count in looks[:4]) <= 2
    assert len(entered) == SHARDS


def test_a_shard_that_cannot_go_on_is_named_and_others_go_on(
    tmp_path: pathlib.Path, site: SiteServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard for which there is no room fails, with a reason; the others are done."""
    urls = urls_of(site, 40)
    folder = made(tmp_path / "job", urls)
    bad = layout.shards_there(folder)[0]

    def entered(held: Held, **more: Any) -> Any:
        if held.folder == layout.shard_folder(folder, bad):
            raise SinkError(f"{held.folder}: No space left on device")
        return enter(held, **more)

    monkeypatch.setattr(tenancy, "enter", entered)
    note = run_to_the_end(folder, spec_of(folder))
    assert list(note.failed) == [bad]
    assert "No space left" in note.failed[bad]
    looker = Looker(folder, "run")
    looks = {look.shard: look for look in looker.look()}
    assert looks.pop(bad).why == "failed"
    assert {look.why for look in looks.values()} == {"done"}
    assert list(looker.failures()) == [bad]


def test_shards_whose_own_files_are_damaged_keep_no_other_from_going_on(
    tmp_path: pathlib.Path, site: SiteServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many they are, as after files of another job were carried to all inboxes but one; each is named."""
    urls = urls_of(site, 8)
    folder = made(tmp_path / "job", urls, shards=6)
    monkeypatch.setattr(coordinators, "LOOK_S", 0.2)
    *bad, good = layout.shards_there(folder)
    assert len(bad) >= 3
    row = (None, "h.example", 0.0, "-http://h.example/", None, None, 1)
    for shard in bad:  # with so many rows that they are taken first
        segments.write(layout.inbox_folder(folder, shard), SegmentName(0, 1, 1), [row] * 100, "6:of:another")
    job = Coordinator(ThreadsEngine(), EngineSpec(folder, new_run(), SessionPool, at_once=1), urls)
    to_its_end(job)
    assert job.troubles().runners == {}
    assert sorted(job.troubles().failed) == bad
    assert [look.why for look in Looker(folder, "run").look() if look.shard == good] == ["done"]


def test_a_shard_that_has_ended_its_owners_is_left_alone_for_this_run(tmp_path: pathlib.Path) -> None:
    """What is written down of tries counts for the run that it was in, and is no more than it says."""
    folder = str(tmp_path)
    assert read_tries(folder, "run") == Tries("run")
    write_tries(folder, Tries("run", GIVEN_UP_AFTER - 1, 7))
    assert read_tries(folder, "run").count == GIVEN_UP_AFTER - 1
    assert read_tries(folder, "another") == Tries("another", 0, 7)
    (tmp_path / "tries.json").write_text("[")
    assert read_tries(folder, "run") == Tries("run")


def test_a_coordinator_hands_out_and_ends_when_all_is_done(tmp_path: pathlib.Path, site: SiteServer) -> None:
    """The books of all shards balance at the end; a second coordinator finds nothing to do and starts no engine."""
    folder = str(tmp_path / "job")
    os.mkdir(folder)
    manifest.write(folder, manifest.new(folder, shards=SHARDS, created_at=1.0, outputs=("results.jsonl",)))
    spec = EngineSpec(folder, new_run(), SessionPool)
    coordinator = Coordinator(ThreadsEngine(), spec, urls_of(site, 40))
    progress = to_its_end(coordinator)
    assert coordinator.is_done and coordinator.is_input_done
    assert (progress.report.inputs, progress.report.ok, progress.report.pending) == (40, 40, 0)
    assert coordinator.troubles().failed == {}
    again = Coordinator(None, EngineSpec(folder, new_run(), SessionPool), urls_of(site, 40))  # type: ignore[arg-type]
    again.begin()
    assert again.look() and again.is_done
    assert again.end().report.ok == 40


def test_a_run_ends_without_a_segment_that_nobody_can_judge(
    tmp_path: pathlib.Path, site: SiteServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its shard isn't taken for it, again and again; the segment is named at the end, and stays where it is."""
    monkeypatch.setattr(coordinators, "LOOK_S", 0.2)
    folder = made(tmp_path / "job", urls_of(site, 8))
    run_to_the_end(folder, spec_of(folder))
    first, other = layout.shards_there(folder)[:2]
    name = SegmentName(other, 7, 1)  # of an epoch that its shard will not come to
    inbox = layout.inbox_folder(folder, first)
    segments.write(inbox, name, [], manifest.read(folder).sharding_id)
    job = Coordinator(ThreadsEngine(), EngineSpec(folder, new_run(), SessionPool), [])
    to_its_end(job)
    assert job.is_done
    assert list(job.troubles().failed) == [first]
    assert f"{name}: can't be judged" in job.troubles().failed[first]
    assert layout.tenures_there(layout.shard_folder(folder, first)) == [1]
    assert segments.names(inbox) == [name]


def test_a_pool_crawls_a_job_of_shards(tmp_path: pathlib.Path, site: SiteServer) -> None:
    """``crawl(job=Job(path, shards=K))`` runs the shards on the pool itself, which goes on afterwards."""
    urls = urls_of(site, 24)
    with SessionPool() as pool:
        report = pool.crawl(urls, job=Job(str(tmp_path / "job"), shards=SHARDS))
        assert (report.inputs, report.ok, report.is_complete) == (24, 24, True)
        again = pool.crawl(urls, job=str(tmp_path / "job"), engine="threads")
        assert again.ok == 24
        assert pool.get(urls[0]).text == "/0"
        with pytest.raises(JobError, match="begun with other settings: shards was 4, now 5"):
            pool.crawl(urls, job=Job(str(tmp_path / "job"), shards=5))
    assert len(site.requests) == 25


def test_what_workers_cannot_have_is_refused(tmp_path: pathlib.Path) -> None:
    """Handlers of a script, sinks and callbacks can't reach workers, and are refused before anything is made."""
    job = Job(str(tmp_path / "job"), shards=2)
    with SessionPool() as pool:
        recipe = Recipe(SessionPool, {})
        for handler, options in (
            (lambda result, crawl: None, {}),
            (None, {"sinks": [object()]}),
            (None, {"on_result": print}),
        ):
            with pytest.raises(ConfigError):
                crawl_shards(pool, recipe, [], handler, job, engine="threads", workers=None, **options)
        with pytest.raises(ConfigError, match="engine"):
            pool.crawl([], job=job, engine="spark")
        with pytest.raises(ConfigError, match="job"):
            pool.crawl([], engine="threads")
        with pytest.raises(ConfigError, match=r"SessionPool\.crawl"):
            pool.new_crawl(job=job)
    assert not (tmp_path / "job").exists()


@pytest.mark.parametrize("name", ["threads", "dask", "dask://host:8786", "dask://tls://host:1", "dask:///a/b.json"])
def test_names_of_engines(name: str) -> None:
    """These name engines."""
    check_name(name)


@pytest.mark.parametrize("name", ["", "Dask", "dask://", "dask://host", "dask://h:0", "dask://u:p@h:1", "ray", "a\nb"])
def test_other_names_are_none(name: str) -> None:
    """Anything else is refused in one line."""
    with pytest.raises(ConfigError) as caught:
        engine_named(name)
    assert "\n" not in str(caught.value)
