"""What ``crawlpool status`` says of a job of which something is gone, and of one that is given twice."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shutil

import pytest

from crawlpool import AddressRules, SessionPool, open_job
from crawlpool.cli import main
from crawlpool.errors import JobError
from crawlpool.shards import layout, manifest, segments, tenure
from crawlpool.shards.keeper import LeaseKeeper
from crawlpool.shards.owner import Owner
from crawlpool.shards.parts import check_apart
from crawlpool.shards.segments import SegmentName
from crawlpool.testing import SiteServer, loopback_hosts
from tests.cli.command import Run, runner
from tests.shards.web import Fleet

Capture = pytest.CaptureFixture[str]
HOSTS = 8


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return a job of four shards that is complete."""
    folder = tmp_path_factory.mktemp("made")
    with SiteServer({"/": b"page"}, hosts=loopback_hosts(HOSTS)) as server:
        urls = folder / "urls.txt"
        urls.write_text("".join(f"{server.url('/', host=host)}\n" for host in loopback_hosts(HOSTS)))
        command = ["run", str(urls), "--job", str(folder / "job"), "--shards", "4", "--ignore-robots", "-q"]
        assert main(command) == 0
    return folder / "job"


@pytest.fixture
def job(made: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """Return a copy of it."""
    shutil.copytree(made, tmp_path / "job")
    return tmp_path / "job"


@pytest.fixture
def run(capfd: Capture) -> Run:
    """Return what runs a command: its exit code, and what it said on both streams."""
    return runner(capfd)


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("shards/{shard}", "entries of the input, and has none of them"),
        ("shards/{shard}/e0001/results.jsonl", "e0001/results.jsonl is gone"),
    ],
)
def test_a_job_of_which_a_part_is_gone_is_not_complete(gone: str, said: str, run: Run, job: pathlib.Path) -> None:
    """It ends with 3 and names the shard, as a run of it does; ``--json`` has the same as fields."""
    shard = layout.shards_there(str(job))[0]
    path = job / gone.format(shard=f"{shard:04d}")
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    code, out, err = run("status", job)
    assert (code, err) == (3, "")
    assert out.startswith("not whole: ")
    assert f"shard {shard:04d} isn't whole: " in out and said in out
    assert f"next: crawlpool verify {job}\n" in out
    code, out, _ = run("status", job, "--json")
    found = json.loads(out)
    assert (code, found["state"], [flaw["shard"] for flaw in found["missing"]]) == (3, "damaged", [shard])
    assert said in found["missing"][0]["what"]
    assert run("resume", job)[0] == 3


def test_what_is_exported_of_a_job_that_is_not_whole_is_not_called_all(
    run: Run, made: pathlib.Path, job: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """The records that there are are written; that others are gone is said, and the exit code is 3."""
    code, out, err = run("export", job)
    assert (code, err) == (0, "")
    shard, all_lines = layout.shards_there(str(job))[0], out.splitlines()
    shutil.rmtree(job / "shards" / f"{shard:04d}")
    code, _, err = run("export", job, "-o", tmp_path / "x.jsonl")
    assert code == 3
    assert f"{job}: shard {shard:04d} isn't whole, the rest was written: " in err
    written = (tmp_path / "x.jsonl").read_text().splitlines()
    assert written and set(written) < set(all_lines)


def test_of_several_jobs_the_one_is_named_that_is_not_whole(run: Run, made: pathlib.Path, job: pathlib.Path) -> None:
    """The shard alone wouldn't say it; the state of all is that of the worst."""
    shard = layout.shards_there(str(job))[1]
    shutil.rmtree(job / "shards" / f"{shard:04d}")
    told = json.loads((job / "manifest.json").read_text())
    (job / "manifest.json").write_text(json.dumps({**told, "job_id": "another"}))
    code, out, _ = run("status", made, job)
    assert code == 3
    assert f"{job}: shard {shard:04d} isn't whole: " in out
    code, out, _ = run("status", made, job, "--json")
    found = json.loads(out)
    assert (code, found["state"]) == (3, "damaged")
    assert [(flaw["job"], flaw["shard"]) for flaw in found["missing"]] == [(str(job), shard)]


@pytest.mark.parametrize("is_dead", [False, True])
def test_what_somebody_runs_or_has_left_in_a_hurry_is_not_judged(is_dead: bool, run: Run, job: pathlib.Path) -> None:
    """Files may be on the move there, and only there; and of a job that is whole nothing is missing."""
    assert json.loads(run("status", job, "--json")[1])["missing"] == []
    shards = layout.shards_there(str(job))
    (job / "shards" / f"{shards[0]:04d}" / "e0001" / "results.jsonl").unlink()
    owner = dataclasses.replace(Owner.here(), **({"pid": 2**22 - 1, "started": 1} if is_dead else {}))
    for shard, missing in ((shards[1], [shards[0]]), (shards[0], [])):
        folder = layout.shard_folder(str(job), shard)
        last = tenure.newest(folder)
        assert last is not None
        assert tenure.make(folder, tenure.Tenure(last.number + 1, owner, last.epoch))
        code, out, _ = run("status", job, "--json")
        assert (code, [one["shard"] for one in json.loads(out)["missing"]]) == (3 if missing else 0, missing)


def test_a_job_is_read_once_however_it_is_called(run: Run, made: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Twice the same folder, also by a link or another spelling, would count all of it twice: it is refused by name."""
    link, other = tmp_path / "link", os.path.join(os.path.relpath(made), ".")
    link.symlink_to(made)
    for twice in (str(made), str(link), other):
        for command in (["status"], ["export"], ["verify"], ["audit"], ["status", "--json"]):
            code, out, err = run(*command, made, twice)
            assert (code, out) == (3, ""), command
            assert f"{twice}: the same job was given before" in err
            assert (twice == str(made)) == (f", as {made}" not in err)
        with pytest.raises(JobError, match="the same job was given before"):
            open_job(made, twice)


def test_a_copy_of_a_job_is_not_read_beside_it(run: Run, made: pathlib.Path, job: pathlib.Path) -> None:
    """All of it would count twice, and verify would call that whole; so would a part that was begun twice."""
    for command in (["status"], ["export"], ["verify"], ["audit"]):
        code, out, err = run(*command, made, job)
        assert (code, out) == (3, ""), command
        assert f"{job}: the same job was given before, as {made}: a copy" in err
    folders = [job.parent / name for name in ("a", "b", "c")]
    for number, folder in zip((1, 1, 2), folders, strict=True):
        folder.mkdir()
        part = manifest.new(str(folder), shards=4, created_at=0.0, outputs=("results.jsonl",), part=(number, 2))
        manifest.write(str(folder), part)
    with pytest.raises(JobError, match=r"/b: the same job was given before, as .*/a: a copy"):
        check_apart([str(folder) for folder in folders])
    check_apart([str(folder) for folder in folders[1:]])


def test_a_part_that_got_something_of_others_is_not_begun_anew(run: Run, tmp_path: pathlib.Path) -> None:
    """What others handed over they hand over once: with ``--overwrite`` it would be lost without a word."""
    fleet = Fleet(tmp_path / "part", 2, (1, 2))
    hosts = loopback_hosts(HOSTS)
    host = next(host for host in hosts if fleet.manifest.sharding(fleet.root).shard_of(host) == 0)
    with (
        SiteServer({"/": b"page"}, hosts=hosts) as web,
        SessionPool(threads=2, addresses=AddressRules("allow")) as pool,
    ):
        row = [None, host, 0.0, "-" + web.url("/", host=host), None, None, 1]
        segments.write(layout.make_inbox(fleet.root, 0), SegmentName(1, 1, 1), [row], fleet.manifest.sharding_id, "it")
        fleet.feed([])
        fleet.keeper = LeaseKeeper(600.0, has_threads=False)
        assert fleet.run(pool).ok == 1
        before = sorted(tmp_path.rglob("*"))
        code, out, err = run("run", web.url("/"), "--job", fleet.root, "--shards", "2", "--shard", "1/2", "--overwrite")
    assert (code, out) == (3, "")
    assert f"{fleet.root}: has taken in what other parts of the job handed over, and they do so once only" in err
    assert set(tmp_path.rglob("*")) >= set(before)
