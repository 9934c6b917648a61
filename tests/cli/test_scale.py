"""``--engine``, ``--shards``, ``--shard``, ``--workers``, ``--lease``: what goes together, and what comes of it."""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import shutil
import signal
from collections import Counter

import pytest

from crawlpool import open_job
from crawlpool.cli import main, scale
from crawlpool.cli.scale import Scale
from crawlpool.shards import manifest
from crawlpool.testing import Answer, Request, SiteServer, loopback_hosts
from tests.cli.command import NO_LAST_RESORT, finish, start, wait_until

Capture = pytest.CaptureFixture[str]

pytestmark = pytest.mark.transports("curl")
HOSTS = 8
COUNT = 60


def answer(request: Request) -> Answer:
    """Answer after a moment; one page isn't there."""
    return Answer(404 if request.path == "/7" else 200, {}, request.target.encode(), delay_s=0.005)


@pytest.fixture
def web(tmp_path: pathlib.Path) -> SiteServer:
    return SiteServer(answer, hosts=loopback_hosts(HOSTS))


def listed(web: SiteServer, path: pathlib.Path, count: int = COUNT) -> str:
    """Write so many URLs over all hosts to a file; return its name."""
    hosts = loopback_hosts(HOSTS)
    path.write_text("".join(f"{web.url(f'/{n}', host=hosts[n % HOSTS])}\n" for n in range(count)))
    return str(path)


def records(*jobs: pathlib.Path) -> Counter[int]:
    """Return how many records each line has in jobs."""
    found: Counter[int] = Counter()
    for job in jobs:
        with open_job(str(job)) as reader:
            found.update(record["n"] for record in reader.records())
    return found


EACH_ONCE = Counter(range(1, COUNT + 1))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--engine", "spark", "--job", "j"], "'spark'"),
        (["--engine", "dask://nowhere", "--job", "j"], "dask://HOST:PORT"),
        (["--engine", "dask"], "--engine dask needs --job"),
        (["--shards", "4"], "--shards needs --job"),
        (["--shard", "1/2"], "--shard needs --job"),
        (["--lease", "9"], "--lease needs --job"),
        (["--shard", "3/2", "--job", "j"], "'3/2' is no part"),
        (["--shard", "0/2", "--job", "j"], "'0/2' is no part"),
        (["--shard", "2", "--job", "j"], "'2' is no part"),
        (["--shard", "1/9", "--shards", "4", "--job", "j"], "there are no 9 parts"),
        (["--shards", "0", "--job", "j"], "--shards"),
        (["--lease", "0.5", "--job", "j"], "less than 1 seconds"),
        (["--workers", "3", "--job", "j"], "--workers needs --engine dask"),
        (["--engine", "dask://127.0.0.1:1", "--rate", "5/s", "--job", "j"], "--workers says how many"),
        (["--shards", "4", "--job", "j", "-o", "-"], "'-': a job of shards writes into its folder"),
        (["--shards", "4", "--job", "j", "-o", "/elsewhere/r.jsonl"], "crawlpool export"),
        (["--shards", "4", "--job", "j", "--save-cookies", "c.txt"], "--save-cookies"),
        (["--shards", "4", "--job", "j", "--control", "c"], "--control"),
        (["--shared-disk", "--job", "j"], "--shared-disk is for jobs of shards"),
    ],
)
def test_what_does_not_go_together_is_told(
    tmp_path: pathlib.Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch, options: list[str], said: str
) -> None:
    """A wrong option ends with 2 and one line that names it, and makes nothing."""
    monkeypatch.chdir(tmp_path)
    assert main(["run", "http://127.0.0.1:1/", *options]) == 2
    err = capfd.readouterr().err
    assert said in err
    assert "Traceback" not in err
    assert os.listdir(tmp_path) == []


def test_a_job_of_shards_from_its_start_to_its_end(web: SiteServer, tmp_path: pathlib.Path, capfd: Capture) -> None:
    """Each line has its record, the books are of all shards; again nothing is fetched, and other shards are refused."""
    job = tmp_path / "job"
    with web:
        urls = listed(web, tmp_path / "urls.txt")
        command = ["run", urls, "--job", str(job), "--shards", "5", "--log-format", "json"]
        assert main(command) == 8
        told = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
        assert told[0]["shards"] == 5
        assert (told[-1]["inputs"], told[-1]["ok"], told[-1]["http_error"]) == (COUNT, COUNT - 1, 1)
        assert records(job) == EACH_ONCE
        asked = web.request_count
        for again in (["run", urls, "--job", str(job)], ["resume", str(job)]):
            assert main(again) == 8
            assert f"{COUNT} inputs + 0 found = {COUNT - 1} ok + 1 http_error" in capfd.readouterr().err
        assert main([*command[:4], "--shards", "6"]) == 3
        assert "shards was 5, now 6" in capfd.readouterr().err
        assert web.request_count == asked


def test_a_job_of_shards_goes_on_after_it_was_drained(web: SiteServer, tmp_path: pathlib.Path) -> None:
    """Ctrl-C finishes what is under way and ends with 7; 'resume' does the rest, and no line is done twice."""
    job = tmp_path / "job"
    with web:
        urls = listed(web, tmp_path / "urls.txt")
        command = ["run", urls, "--job", str(job), "--shards", "4", "--delay", "0.05", "--progress", "none"]
        command.append("--ignore-robots")
        process = start(command, before=NO_LAST_RESORT)
        wait_until(lambda: web.request_count > 10, "requests came", process)
        process.send_signal(signal.SIGINT)
        code, _, err = finish(process)
        assert code == 7
        assert "interrupted: finishing" in err
        assert f"'crawlpool resume {job}' goes on, with any --engine" in err
        code, _, err = finish(start(["resume", str(job), "--progress", "none"]))
        assert code == 8
        assert records(job) == EACH_ONCE
        assert web.request_count == COUNT


def test_two_parts_are_two_jobs_of_one_input(web: SiteServer, tmp_path: pathlib.Path, capfd: Capture) -> None:
    """Each part does the hosts of its own shards, and says so; a part can't be gone on with as another one."""
    jobs = [tmp_path / f"part{number}" for number in (1, 2)]
    with web:
        urls = listed(web, tmp_path / "urls.txt")
        for number, job in enumerate(jobs, 1):
            assert main(["run", urls, "--job", str(job), "--shards", "6", "--shard", f"{number}/2"]) in (0, 8)
            assert f"6 shards, of which 3 are of part {number}/2" in capfd.readouterr().err
        assert records(*jobs) == EACH_ONCE
        assert all(0 < sum(records(job).values()) < COUNT for job in jobs)
        assert web.request_count == COUNT
        assert main(["run", urls, "--job", str(jobs[0]), "--shard", "2/2"]) == 3
        assert "the job was begun with other settings: --shard was 1/2, now 2/2" in capfd.readouterr().err


@pytest.mark.parametrize("here", [1, 2, 64, 10_000])
def test_how_many_shards_a_part_has_is_the_same_on_every_machine(here: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the number of parts alone, whatever cores and workers are there; of a whole job it goes by its workers."""
    monkeypatch.setattr(scale, "cores", lambda: here)
    for more in ({}, {"engine": "dask"}, {"engine": "dask", "workers": here}, {"engine": "dask://h:1"}):
        assert [Scale(part=(1, of), **more).count for of in (1, 2, 4, 5000)] == [32, 64, 128, 9999]
        assert Scale(part=(1, 2), shards=6, **more).count == 6
    assert Scale(engine="dask", workers=3).count == 96


def test_what_is_moved_to_the_other_part_is_work_left_until_it_is(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """A part that has targets for the other one ends with 7; once their files were moved both end with 0."""
    hosts = loopback_hosts(HOSTS)
    jobs = [tmp_path / f"part{number}" for number in (1, 2)]

    def turned(request: Request) -> Answer:
        there = server.url("/there", host=hosts[0])
        return Answer(200, {}, b"here") if request.path == "/there" else Answer(302, {"Location": there})

    with SiteServer(turned, hosts=hosts) as server:
        urls = listed(server, tmp_path / "urls.txt", HOSTS)
        command = ["run", urls, "--shards", "8", "--ignore-robots"]
        codes = [main([*command, "--job", str(job), "--shard", f"{number}/2"]) for number, job in enumerate(jobs, 1)]
        assert sorted(codes) == [0, 7]
        err = capfd.readouterr().err
        assert " files of targets are for other parts: move or copy " in err
        assert "resume these" in err and "'crawlpool resume" not in err  # which would come to the same end
        moved = 0
        for job, other in (jobs, jobs[::-1]):
            for shard in manifest.read(str(other)).mine():
                for segment in (job / "shards" / f"{shard:04d}" / "inbox").glob("from-*.seg"):
                    inbox = other / "shards" / f"{shard:04d}" / "inbox"
                    inbox.mkdir(parents=True, exist_ok=True)
                    segment.rename(inbox / segment.name)
                    moved += 1
                    last, to = inbox / segment.name, other
        assert moved
        whole = last.read_bytes()
        last.write_bytes(whole[:-5])
        assert main(["resume", str(to)]) == 3
        assert f"{last} isn't taken in: copy this file again from part " in capfd.readouterr().err
        last.write_bytes(whole)
        assert [main(["resume", str(job)]) for job in jobs] == [0, 0]
        err = capfd.readouterr().err
        assert " from other parts = " in err and " to other parts" in err and "≠" not in err
    assert records(*jobs) == Counter(range(1, HOSTS + 1))


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("shards/{shard}", "entries of the input, and has none of them"),
        ("shards/{shard}/e0001/ledger.sqlite3", "ledger.sqlite3 is gone"),
        ("shards/{shard}/e0001/results.jsonl", "results.jsonl is gone"),
    ],
)
def test_a_job_of_which_a_part_is_gone_is_not_done(
    gone: str, said: str, tmp_path: pathlib.Path, capfd: Capture
) -> None:
    """Whatever was deleted from the folder of a job that was complete: it ends with 3, and the shard is named."""
    job = tmp_path / "job"
    with SiteServer({"/": b"page"}, hosts=loopback_hosts(HOSTS)) as server:
        urls = tmp_path / "urls.txt"
        urls.write_text("".join(f"{server.url('/', host=host)}\n" for host in loopback_hosts(HOSTS)))
        assert main(["run", str(urls), "--job", str(job), "--shards", "4", "--ignore-robots"]) == 0
        assert main(["resume", str(job)]) == 0
        shard = sorted(path.name for path in (job / "shards").iterdir())[0]
        path = job / gone.format(shard=shard)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        capfd.readouterr()
        assert main(["resume", str(job)]) == 3
    err = capfd.readouterr().err
    assert f"shard {shard} could not go on" in err and said in err and "crawlpool verify" in err


def test_a_kind_of_failure_that_there_is_not_is_refused_before_anything(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """``--retry-failed`` is judged before a shard is opened, as in a job without shards."""
    job = tmp_path / "job"
    with SiteServer({"/": b"page"}) as server:
        assert main(["run", server.url("/"), "--job", str(job), "--shards", "4", "--ignore-robots"]) == 0
        assert main(["resume", str(job), "--retry-failed=bogus"]) == 2
        assert "--retry-failed" in (err := capfd.readouterr().err) and "'bogus'" in err
        assert main(["resume", str(job)]) == 0


def test_too_many_failures_over_all_shards_end_the_run(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """``--max-failures`` is judged on the sum: no shard alone has as many."""
    hosts = loopback_hosts(HOSTS)
    job = tmp_path / "job"
    with SiteServer(lambda request: Answer(404, delay_s=0.02), hosts=hosts) as server:
        urls = tmp_path / "urls.txt"
        urls.write_text("".join(f"{server.url(f'/{n}', host=hosts[n % HOSTS])}\n" for n in range(800)))
        command = ["run", str(urls), "--job", str(job), "--shards", "8", "--max-failures", "40", "--delay", "0.05"]
        assert main([*command, "--ignore-robots", "--progress", "none"]) == 4
        assert "too many failures (--max-failures)" in capfd.readouterr().err
        assert 40 < server.request_count < 800


def test_failed_urls_are_taken_again_in_every_shard(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """``--retry-failed`` opens each shard that is done, too, and a URL has one record in the end."""
    is_well = [False]
    hosts = loopback_hosts(HOSTS)
    job = tmp_path / "job"
    with SiteServer(lambda request: Answer(200 if is_well[0] else 404), hosts=hosts) as server:
        urls = tmp_path / "urls.txt"
        urls.write_text("".join(f"{server.url(f'/{n}', host=hosts[n % HOSTS])}\n" for n in range(COUNT)))
        assert main(["run", str(urls), "--job", str(job), "--shards", "4"]) == 8
        is_well[0] = True
        assert main(["resume", str(job), "--retry-failed=404"]) == 0
        assert f"{COUNT} inputs + 0 found = {COUNT} ok" in capfd.readouterr().err
        assert records(job) == EACH_ONCE
        assert server.request_count == 2 * COUNT


def test_a_job_without_shards_cannot_be_given_any(web: SiteServer, tmp_path: pathlib.Path, capfd: Capture) -> None:
    """A job keeps what it was made with; ``--overwrite`` begins anew, and removes nothing that isn't its own."""
    job = tmp_path / "job"
    with web:
        urls = listed(web, tmp_path / "urls.txt", 8)
        assert main(["run", urls, "--job", str(job), "--progress", "none"]) == 8
        capfd.readouterr()
        assert main(["run", urls, "--job", str(job), "--shards", "4"]) == 2
        assert "the job has no shards" in capfd.readouterr().err
        sharded = tmp_path / "sharded"
        assert main(["run", urls, "--job", str(sharded), "--shards", "4"]) == 8
        (sharded / "mine.txt").write_text("nobody else's")
        assert main(["resume", str(sharded), "--shared-disk"]) == 3
        assert "is_shared was false, now true" in capfd.readouterr().err
        asked = web.request_count
        assert main(["run", urls, "--job", str(sharded), "--shards", "3", "--overwrite"]) == 3
        assert "mine.txt" in capfd.readouterr().err
        (sharded / "mine.txt").unlink()
        assert main(["run", urls, "--job", str(sharded), "--shards", "3", "--overwrite"]) == 8
        assert web.request_count == asked + 8
        assert manifest.read(str(sharded)).shards == 3


@pytest.mark.parametrize("shards", [("4", None), (None, "4")])
def test_overwriting_takes_any_job_for_any_other(
    web: SiteServer, tmp_path: pathlib.Path, capfd: Capture, shards: tuple[str | None, str | None]
) -> None:
    """A job of shards goes for one without, and the other way; a run after that knows nothing of the one before."""
    job = tmp_path / "job"
    with web:
        urls = listed(web, tmp_path / "urls.txt", 8)
        for count in shards:
            asked = web.request_count
            more = () if count is None else ("--shards", count)
            assert main(["run", urls, "--job", str(job), *more, "--progress", "none", "--overwrite"]) == 8
            assert web.request_count == asked + 8
            assert manifest.is_sharded(str(job)) is (count is not None)
            assert (job / "ledger.sqlite3").exists() is (count is None)
    capfd.readouterr()


def test_no_credential_is_in_a_job_of_shards(web: SiteServer, tmp_path: pathlib.Path) -> None:
    """What requests need reaches them, and no file of the job has it."""
    job = tmp_path / "job"
    secret = "s3cr3t-t0k3n"
    seen: list[str] = []

    def look(request: Request) -> Answer:
        seen.append(str(request.fields))
        return Answer()

    with SiteServer(look, hosts=loopback_hosts(2)) as server:
        urls = tmp_path / "urls.txt"
        urls.write_text("".join(f"{server.url(f'/{n}', host=host)}\n" for n, host in enumerate(loopback_hosts(2))))
        command = ["run", str(urls), "--job", str(job), "--shards", "4", "--header", f"X-Key: {secret}"]
        assert main([*command, "--auth", f"me:{secret}pw@127.0.0.1:{server.port}"]) == 0
    assert any(secret in fields for fields in seen)
    files = [path for path in job.rglob("*") if path.is_file()]
    assert len(files) > 8
    assert not [path for path in files if secret.encode() in path.read_bytes()]


def test_an_engine_that_cannot_come_up_leaves_the_job_to_another(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """A scheduler that isn't there is told in one line, with 7: the job is made, and any engine goes on with it."""
    job = tmp_path / "job"
    with SiteServer(lambda request: b"x") as server:
        command = ["run", server.url("/"), "--job", str(job)]
        assert main([*command, "--engine", f"dask://{tmp_path}/none.json"]) == 7
        err = capfd.readouterr().err
        assert "no such scheduler file" in err and "Traceback" not in err
        assert main(["resume", str(job), "--engine", "threads"]) == 0


def test_dask_that_is_not_installed_is_told(capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The option that needs an extra names what installs it."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "distributed" else find(name))
    assert main(["run", "http://127.0.0.1:1/", "--engine", "dask", "--job", "j"]) == 2
    assert "pip install 'crawlpool[dask]'" in capfd.readouterr().err
