"""The benchmark's own judgement: what counts as fetched, who is compared with whom, and what the tables say of it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import sys
from typing import TYPE_CHECKING, Any

import pytest
import requests

from bench import commands, results, tables, targets
from bench.contenders import CONTENDERS, REPOSITORY, Kind
from bench.measure import Measured, Round
from bench.process import RoundFailed, run
from bench.serving import CannotServe, serve
from bench.targets import Target
from bench.work import BadRound, Work
from bench.workloads import BY_SLUG, QUICK, WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGES = {"0.html": b"one page", "1.html": b"another"}
URLS = ["http://127.0.0.1:1/0.html?0", "http://127.0.0.1:1/1.html?1"]


@pytest.fixture
def work(tmp_path: pathlib.Path) -> Work:
    folder = tmp_path / "pages"
    folder.mkdir()
    for name, body in PAGES.items():
        (folder / name).write_bytes(body)
    return Work(list(URLS), str(folder), hosts=1, threads=2, in_flight=2, verify="")


def a_round(seconds: float, *, peak_bytes: int = 1, cpu_s: float = 1.0) -> Round:
    return Round(100, seconds, cpu_s, 1, peak_bytes, None)


def a_run(**rounds: Sequence[Round]) -> Measured:
    return Measured(BY_SLUG["one-http"], "nginx", {name: list(each) for name, each in rounds.items()})


@pytest.mark.parametrize(
    ("status", "body"), [(404, b"one page"), (200, b"one pagE"), (200, b"one pag"), (200, b"another"), (200, b"")]
)
def test_a_page_that_is_not_whole_fails_the_round(work: Work, status: int, body: bytes) -> None:
    """Status and every byte count, and that it is this URL's page and no other's."""
    work.begin()
    with pytest.raises(BadRound):
        work.take(URLS[0], status, body)


def test_each_page_arrives_once(work: Work) -> None:
    """A page that is missing, comes twice or was not asked for fails the round."""
    work.begin()
    work.take(URLS[0], 200, b"one page")
    for url in (URLS[0], "http://127.0.0.1:1/0.html?7"):
        with pytest.raises(BadRound, match="twice"):
            work.take(url, 200, b"one page")
    with pytest.raises(BadRound, match="1 of 2"):
        work.finish()
    work.take(URLS[1], 200, b"another")
    work.finish()


def test_a_client_whose_pages_differ_fails(tmp_path: pathlib.Path) -> None:
    """The whole way: a library that gets other pages than the work says ends its round with an error, not a figure."""
    quick = dataclasses.replace(BY_SLUG["one-http"], contenders={"session_per_thread": 1}, per_host=20)
    with serve(quick, tmp_path, bundled=True) as served:
        work, path = served.work_for("session_per_thread")
        arguments = [sys.executable, "-m", "bench.client", "session_per_thread", str(path)]
        report = json.loads(run(arguments, folder=REPOSITORY, timeout_s=60).output)
        assert report["seconds"] > 0 and report["peak_bytes"] > 1024 * 1024
        other = tmp_path / "other"
        other.mkdir()
        for page in pathlib.Path(work.folder).iterdir():
            (other / page.name).write_bytes(page.read_bytes()[:-1] + b"!")
        work.folder = str(other)
        work.write(path)
        with pytest.raises(RoundFailed, match="text differs"):
            run(arguments, folder=REPOSITORY, timeout_s=60)


def test_a_process_that_takes_too_long_is_ended() -> None:
    """A round that hangs is no round."""
    with pytest.raises(RoundFailed, match="more than 0 s"):
        run([sys.executable, "-c", "import time; time.sleep(60)"], folder=REPOSITORY, timeout_s=0.1)


def test_written_files_are_compared(work: Work, tmp_path: pathlib.Path) -> None:
    """Of a command that writes pages each has to be there, whole, and nothing else."""
    out = tmp_path / "out"
    commands.command("curl_parallel", work, tmp_path)
    (out / "0.html").write_bytes(b"one page")
    assert "1 files for 2" in str(commands.check("curl_parallel", work, tmp_path))
    (out / "1.html").write_bytes(b"anothe")
    assert "1.html" in str(commands.check("curl_parallel", work, tmp_path))
    (out / "1.html").write_bytes(b"another")
    assert commands.check("curl_parallel", work, tmp_path) is None


def test_written_records_are_compared(work: Work, tmp_path: pathlib.Path) -> None:
    """Of a command that writes records each URL has to have one, with status, length and digest."""

    def write(*records: dict[str, Any]) -> str | None:
        text = "".join(f"{json.dumps(record)}\n" for record in records)
        (tmp_path / "out" / "out.jsonl").write_text(text, "utf-8")
        return commands.check("scrapy", work, tmp_path)

    commands.command("scrapy", work, tmp_path)
    assert commands.check("scrapy", work, tmp_path) == "no out.jsonl was written"
    good = [
        {"url": url, "status": 200, "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
        for url, body in zip(URLS, PAGES.values(), strict=True)
    ]
    assert write(*good) is None
    assert write(good[0]) == "1 records are missing"
    assert "two records" in str(write(*good, good[0]))
    for name, value in (("status", 404), ("bytes", 3), ("sha256", good[0]["sha256"])):
        assert "differs" in str(write(good[0], {**good[1], name: value}))


def test_what_the_load_generator_says_is_read(work: Work) -> None:
    """Its count and time are taken; its errors, and pages that can't have been the right ones, are not passed over."""
    assert commands.wrk_found("  103342 requests in 2.02s, 1.97GB read\n", work) == (103342, 2.02)
    assert commands.wrk_found("  90 requests in 500.00ms, 720.00B read\n", work) == (90, 0.5)
    bad = (
        "",
        "9 requests in 1.00s, 1.0MB read\n  Non-2xx or 3xx responses: 9\n",
        "900 requests in 1.00s, 1.0KB read\n",
    )
    for said in bad:
        with pytest.raises(ValueError, match="wrk"):
            commands.wrk_found(said, work)


def test_each_round_is_compared_with_its_neighbour() -> None:
    """A ratio is the median of rounds side by side: a slow minute that hit both doesn't count."""
    found = a_run(aiohttp=[a_round(1), a_round(10), a_round(1)], map_curl=[a_round(0.5), a_round(5), a_round(0.25)])
    assert found.ratio("map_curl", "aiohttp") == 2.0
    assert found.per_second("map_curl") == 200.0


def test_a_target_is_met_or_missed() -> None:
    """The fastest of ours against the fastest of theirs; a cost stays below its bound; who is missing is named."""
    speed = Target("one-http", "faster", ("map_curl", "map_curl_best"), ("aiohttp",), 2.0, 3.0)
    cost = Target("one-http", "cheaper", ("map_curl",), ("aiohttp",), 1.5, None, "peak_bytes")
    plain = Target("one-http", "small", ("map_curl",), (), 300 * tables.MIB, None, "peak_bytes")
    slow = [a_round(2, peak_bytes=100 * tables.MIB)]
    fast = [a_round(0.9, peak_bytes=200 * tables.MIB)]
    found = a_run(aiohttp=slow, map_curl=fast, map_curl_best=[a_round(0.5)])
    assert (speed.measure(found), cost.measure(found), plain.measure(found)) == (4.0, 2.0, 200 * tables.MIB)
    told = list(targets.lines([found], [speed, cost, plain]))
    assert told[1].endswith("4.00  met, and the aim")
    assert told[2].endswith("2.00  MISSED")
    assert told[3].endswith("≤ 300         200.00  met")
    without = a_run(aiohttp=slow)
    assert list(targets.lines([without], [cost]))[1].endswith("not measured: without map_curl")
    without.failed["map_curl"] = "a page was missing"
    assert list(targets.lines([without], [cost]))[1].endswith("FAILED: map_curl")
    assert list(targets.lines([], [cost]))[1].endswith("not measured")


def test_a_kept_run_can_be_read_again(tmp_path: pathlib.Path) -> None:
    """What is kept as JSON makes the same tables."""
    found = a_run(session_per_thread=[a_round(3), a_round(2)], aiohttp=[a_round(1), a_round(1)])
    found.failed["wrk"], found.absent["niquests"] = "no answer", "no interpreter has it"
    results.keep([found], tmp_path / "folder" / "run.json")
    [again] = results.load(tmp_path / "folder" / "run.json")
    assert again == found
    told = "\n".join(tables.lines(again))
    assert told == "\n".join(tables.lines(found))
    assert "FAILED: wrk, the ceiling: no answer" in told
    assert "left out: niquests.Session in threads: no interpreter has it" in told


def test_workloads_name_contenders_that_exist() -> None:
    """Each contender is in a workload, libraries and commands apart; each target's figures are measured somewhere."""
    used = {contender for workload in WORKLOADS for contender in workload.contenders}
    assert used == set(CONTENDERS)
    assert used >= QUICK
    for workload in WORKLOADS:
        kinds = {CONTENDERS[one].kind for one in workload.contenders}
        assert (kinds == {Kind.COMMAND}) == (workload.slug == "commands")
    for target in targets.TARGETS:
        assert {*target.ours, *target.base} <= set(BY_SLUG[target.workload].contenders)


def test_a_slow_contender_gets_whole_hosts() -> None:
    """One n-th of many hosts with all their pages, so that connections are used again as often as the others'."""
    many = dataclasses.replace(BY_SLUG["https-100"], contenders={"unpooled": 25, "aiohttp": 1})
    assert (many.share_of("unpooled"), many.share_of("aiohttp")) == ((4, 10), (100, 10))
    one = dataclasses.replace(BY_SLUG["one-http"], contenders={"unpooled": 4})
    assert one.share_of("unpooled") == (1, one.per_host // 4)


@pytest.mark.parametrize(("slug", "status"), [("cookies", 403), ("gzip", 406)])
def test_a_client_that_leaves_something_out_gets_no_page(slug: str, status: int, tmp_path: pathlib.Path) -> None:
    """The server sees to it that cookies are sent and that gzip is asked for: no contender can save itself that."""
    workload = dataclasses.replace(BY_SLUG[slug], hosts=min(2, BY_SLUG[slug].hosts), per_host=1)
    try:
        with serve(workload, tmp_path, bundled=False) as served:
            work, _ = served.work_for("aiohttp")
            url = work.urls[0]
            host = url.split("/")[2].partition(":")[0]
            own = {name: value for its, name, value in work.cookies if its == host}
            bare = requests.get(url, headers={"Accept-Encoding": "identity"}, timeout=10)
            good = requests.get(url, cookies=own, timeout=10)
    except CannotServe as error:
        pytest.skip(str(error))
    assert bare.status_code == status
    assert (good.status_code, good.content) == (200, work.page(url))
    if slug == "cookies":
        assert good.cookies.get("seen")
