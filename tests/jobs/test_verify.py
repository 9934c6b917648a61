"""A job is verified: whole as it was written, and not after a byte of its files was changed, a line or a file lost."""

from __future__ import annotations

import collections
import gzip
import itertools
import json
import pathlib
import random
import sqlite3
from collections.abc import Callable

import pytest

from crawlpool import HostLimits, Job, JobError, RetryPolicy, SessionPool, Target, open_job
from crawlpool.jobs.verify import Verified, verify
from crawlpool.testing import Answer, SiteServer
from tests.gates import Gate, Threads, until
from tests.jobs.made import EVERYTHING, FREE, PAGES, copied, crawl_site, page, records_of

Change = Callable[[pathlib.Path], None]


@pytest.fixture(scope="module")
def crawled(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return a job that is complete."""
    folder = tmp_path_factory.mktemp("jobs") / "job"
    crawl_site(folder)
    return folder


@pytest.fixture
def job(crawled: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """Return a copy of the job, to be changed."""
    return copied(crawled, tmp_path / "job")


def found_in(folder: pathlib.Path) -> Verified:
    """Return what is found in a job."""
    with open_job(folder) as reader:
        return verify(reader)


def told(folder: pathlib.Path) -> list[str]:
    """Return the flaws of a job."""
    return [str(flaw) for flaw in found_in(folder).flaws]


def test_what_was_written_is_whole(job: pathlib.Path) -> None:
    """Everything is counted: a response for each answer and each redirect, each body in both outputs."""
    found = found_in(job)
    assert (found.flaws, found.is_whole) == ((), True)
    assert (found.targets, found.records, found.items, found.pending) == (PAGES + 7, PAGES + 7, PAGES + 7, 0)
    answers = PAGES + 4  # the pages, and of the others all that was sent
    assert (found.responses, found.bodies) == (answers + 1, 2 * answers)


@pytest.mark.parametrize("name", ["results.jsonl", "pages.warc.gz", "bodies/00/00/00000003.html"])
def test_a_changed_byte_is_found(job: pathlib.Path, name: str) -> None:
    """Wherever it is; the file is named, and often the place."""
    whole = (job / name).read_bytes()
    chance = random.Random(3)
    for at in [0, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(25))]:
        changed = bytearray(whole)
        changed[at] ^= 1 << chance.randrange(8)
        (job / name).write_bytes(changed)
        flaws = told(job)
        assert flaws, f"byte {at} of {name}"
        assert any(flaw.startswith(name) for flaw in flaws)
    (job / name).write_bytes(whole)
    assert told(job) == []


def test_a_changed_byte_of_the_ledger_is_no_traceback(crawled: pathlib.Path, job: pathlib.Path) -> None:
    """It is a flaw, an error of one line, or nothing that counts: SQLite's pages have no digest."""
    whole = (crawled / "ledger.sqlite3").read_bytes()
    chance, noticed = random.Random(8), 0
    for at in [*range(100), *(chance.randrange(len(whole)) for _ in range(60))]:
        changed = bytearray(whole)
        changed[at] ^= 1 << chance.randrange(8)
        (job / "ledger.sqlite3").write_bytes(changed)
        try:
            flaws = told(job)
        except JobError as error:
            flaws = [str(error)]
        assert all("\n" not in flaw for flaw in flaws)
        noticed += bool(flaws)
    assert noticed >= 20


def _jsonl(change: Callable[[list[bytes]], list[bytes]]) -> Change:
    def do(job: pathlib.Path) -> None:
        path = job / "results.jsonl"
        path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))

    return do


def _ledger(*statements: str) -> Change:
    def do(job: pathlib.Path) -> None:
        with sqlite3.connect(job / "ledger.sqlite3") as database:
            for statement in statements:
                assert database.execute(statement).rowcount
        database.close()

    return do


def _first_page(lines: list[bytes]) -> int:
    return next(number for number, line in enumerate(lines) if b'"outcome":"ok"' in line)


def _other(key: str, value: object) -> Change:
    """Have the record of a page say something else."""

    def change(lines: list[bytes]) -> list[bytes]:
        at = _first_page(lines)
        fields = json.loads(lines[at])
        before = json.dumps(fields[key], separators=(",", ":"))
        after = json.dumps(value, separators=(",", ":"))
        lines[at] = lines[at].replace(f'"{key}":{before}'.encode(), f'"{key}":{after}'.encode())
        return lines

    return _jsonl(change)


def _rename(name: str, new: str) -> Change:
    return lambda job: (job / name).rename(job / new) and None


def _append(name: str, data: bytes) -> Change:
    def do(job: pathlib.Path) -> None:
        with (job / name).open("ab") as file:
            file.write(data)

    return do


@pytest.mark.parametrize(
    ("change", "flaw"),
    [
        (_jsonl(lambda lines: lines[1:]), "should stand there: no line begins there"),
        (_jsonl(lambda lines: [*lines[:-1], lines[-1][:-9]]), "bytes of what counts are gone"),
        (_jsonl(lambda lines: [lines[0], b"x" * (len(lines[1]) - 1) + b"\n", *lines[2:]]), "the line is n"),
        (_append("results.jsonl", b"{}\n"), "3 bytes follow that don't count"),
        (_other("status", 201), "its status is 201, and in the ledger 200"),
        (_other("attempts", 7), "something in its "),
        (_other("outcome", "no"), "the line is no record"),
        (_other("url", "http://x/"), "the line has "),
        (_rename("results.jsonl", "results.jsonl.open"), "results.jsonl: is there as results.jsonl.open"),
        (_rename("results.jsonl", "gone"), "the job's file is gone"),
        (_rename("pages.warc.gz", "gone"), "pages.warc.gz: the file is gone"),
        (_rename("bodies/00/00/00000003.html", "gone"), "bodies/00/00/00000003.html at 0: the body of target"),
        (_append("pages-00002.warc.gz", b"x"), "pages-00002.warc.gz: is no part of what counts"),
        (_append("pages.warc.gz", gzip.compress(b"x")), "bytes follow that don't count"),
        (_ledger("DELETE FROM settled WHERE id = 3"), "target 3 is settled and has no result"),
        (_ledger("DELETE FROM settled WHERE id = 3"), "there is a record that no target has"),
        (_ledger("UPDATE target SET state = 0 WHERE id = 3"), "target 3 waits and has a result"),
        (_ledger("DELETE FROM target WHERE id = 3"), "the books have 19 inputs + found, and there are 18"),
        (_ledger("UPDATE settled SET info = json_set(info, '$[6]', 1) WHERE id = 3"), "no line begins there"),
        (
            _ledger("UPDATE settled SET info = json_set(info, '$[6]', 99999999) WHERE id = 3"),
            "should stand there: it is beyond what counts",
        ),
        (
            _ledger(
                "UPDATE settled SET info = json_set((SELECT info FROM settled WHERE id = 4), '$[0]', 3) WHERE id = 3"
            ),
            "it is the place of another one",
        ),
        (_ledger("UPDATE settled SET info = 'x' WHERE id = 3"), "what came of target 3 is no JSON"),
        (
            _ledger("UPDATE settled SET info = json_set(info, '$[8]', 'x') WHERE id = 3"),
            "result of target 3 can't be read",
        ),
        (
            _ledger("UPDATE settled SET info = json_set(info, '$[8]', json('[[1]]')) WHERE id = 3"),
            "the legs of a target can't be read",
        ),
        (
            _ledger("UPDATE job SET value = json_set(value, '$.ended.ok', 3) WHERE key = 'books'"),
            "the books have 3 ok, and there are 15",
        ),
        (_ledger("UPDATE job SET value = '{}' WHERE key = 'books'"), "the books have 0 ok"),
        (_ledger("UPDATE job SET value = 'x' WHERE key = 'books'"), "the value of 'books' is no JSON"),
        (_ledger('UPDATE sink SET mark = \'{"part": 1, "length": 10}\''), "it is beyond what counts"),
    ],
)
def test_each_flaw_is_told(job: pathlib.Path, change: Change, flaw: str) -> None:
    """What is wrong, and where; and it is never an exception."""
    change(job)
    flaws = told(job)
    assert any(flaw in one for one in flaws), flaws


def test_records_that_changed_places_are_found(job: pathlib.Path) -> None:
    """Two records of one length say each what the other should: of the first that isn't so the difference is told."""
    lines = (job / "results.jsonl").read_bytes().splitlines(keepends=True)
    records = collections.defaultdict[int, list[int]](list)
    for number, line in enumerate(lines):
        if b'"item":' not in line[:32]:
            records[len(line)].append(number)
    first, second = next(numbers[:2] for numbers in records.values() if len(numbers) > 1)
    lines[first], lines[second] = lines[second], lines[first]
    (job / "results.jsonl").write_bytes(b"".join(lines))
    assert [flaw for flaw in told(job) if "isn't what the ledger has: its url is" in flaw] == told(job)


def test_a_response_that_belongs_to_another_record_is_found(job: pathlib.Path) -> None:
    """A record whose body lies where another one's does, of which the digests are right, too."""
    pages = [record for record in records_of(job) if record["url"][-2:] in {f"/{n}" for n in range(10)}]
    places = [json.dumps(record["body"][0], separators=(",", ":")) for record in pages]
    # Of the same length, so that nothing else changes: where they lie depends on how long each request took.
    place, wrong = next(pair for pair in itertools.combinations(places, 2) if len(pair[0]) == len(pair[1]))
    data = (job / "results.jsonl").read_bytes()
    (job / "results.jsonl").write_bytes(data.replace(place.encode(), wrong.encode()))
    assert any("which is the place of another one" in flaw for flaw in told(job))


BIG = b"the same payload " * 200
ODD: dict[str, Answer | bytes] = {
    "/same": Answer(200, {"Content-Type": "text/html"}, BIG),
    "/again": Answer(200, {"Content-Type": "text/plain"}, BIG),
    "/packed": Answer(200, {"Content-Encoding": "gzip"}, gzip.compress(BIG)),
    "/torn": Answer(200, {"Content-Encoding": "gzip"}, gzip.compress(BIG)[:40]),
    "/empty": b"",
    "/none": Answer(204),
    "/unchanged": Answer(304),
    "/loop": Answer(302, {"Location": "/loop"}, b"x"),
    "/forbidden": Answer(302, {"Location": "/secret"}, BIG),
    "/moved": Answer(301, {"Location": "/same"}, BIG),
    "/large": Answer(200, {}, b"x" * 200_000),
    "/busy": Answer(503, {}, BIG),
    "/robots.txt": b"User-agent: *\nDisallow: /secret\n",
}


@pytest.mark.above_transports
def test_odd_answers_are_whole(tmp_path: pathlib.Path) -> None:
    """Payloads that came before, empty and broken ones, redirects that lead nowhere, other methods: no flaw."""
    retry = RetryPolicy(attempts=2, backoff_s=0.001, budget=None)
    with SiteServer(ODD) as server, SessionPool(threads=3, retry=retry, max_body_bytes=100_000) as pool:
        urls = [server.url(path) for path in ODD]
        more = [
            Target(urls[0], "HEAD"),
            Target(urls[1], "POST", data=b"x"),
            f"{urls[0]}?a b\x1b",
            Target(urls[3], meta=["m"]),
        ]
        outputs = ("pages.warc.gz", "bodies/", "all.jsonl", str(tmp_path / "elsewhere.jsonl"))
        report = pool.crawl(
            [*urls, *more], job=Job(str(tmp_path / "job"), outputs=outputs), limits=HostLimits(concurrency=3)
        )
        assert report.settled == len(urls) + len(more)
    found = found_in(tmp_path / "job")
    assert (found.flaws, found.records) == ((), report.settled)
    with open_job(tmp_path / "job") as reader:
        for record in reader:
            content = record.content
            assert content is None or record["bytes"] in (None, len(content))
    lines = (tmp_path / "elsewhere.jsonl").read_bytes()
    (tmp_path / "elsewhere.jsonl").write_bytes(lines.replace(b'"attempts":1', b'"attempts":2', 1))
    assert ["something in its" in flaw for flaw in told(tmp_path / "job")] == [True]


def test_many_flaws_are_counted(job: pathlib.Path) -> None:
    """Only the first are told."""
    (job / "results.jsonl").write_bytes(b"x" * (job / "results.jsonl").stat().st_size)
    with open_job(job) as reader:
        found = verify(reader, most_flaws=3)
    assert (len(found.flaws), found.flaw_count > PAGES, found.is_whole) == (3, True, False)


def test_a_job_is_whole_while_it_runs_and_when_it_was_killed(tmp_path: pathlib.Path) -> None:
    """What isn't committed yet doesn't count; what a killed process has left beyond that is no flaw."""
    with Gate() as gate, SiteServer({"/": page, "/held": gate}) as server, SessionPool(threads=2) as pool:
        settled = collections.deque[object]()
        seeds = [server.url("/held"), *(server.url(f"/?{n}") for n in range(5))]
        crawl = pool.new_crawl(job=Job(str(tmp_path / "job"), outputs=EVERYTHING), on_result=settled.append, **FREE)
        with gate, Threads() as threads:
            threads.start(lambda: crawl.run(seeds))
            gate.wait_for()
            until(lambda: len(settled) == 5)
            running = found_in(tmp_path / "job")
            killed = copied(tmp_path / "job", tmp_path / "killed")
            gate.open()
    assert (running.flaws, running.records, running.pending, running.bodies) == ((), 5, 1, 10)
    for name in ("results.jsonl.open", "pages.warc.gz.open"):
        _append(name, b'{"torn": ')(killed)
    assert found_in(killed).flaws == ()
    assert found_in(tmp_path / "job").flaws == ()
    assert found_in(tmp_path / "job").records == 6


def test_a_job_whose_failed_targets_are_taken_again_is_whole(tmp_path: pathlib.Path) -> None:
    """Before their second end and after it; the first answers stay in WARC."""
    answer = [Answer(500)]
    with SiteServer({"/fails": lambda request: answer[0], "/": page}) as server, SessionPool(retry=False) as pool:
        seeds = [server.url("/fails"), *(server.url(f"/?{n}") for n in range(5))]
        pool.crawl(seeds, job=Job(str(tmp_path / "job"), outputs=EVERYTHING), **FREE)
        assert found_in(tmp_path / "job").flaws == ()
        again = Job(str(tmp_path / "job"), outputs=EVERYTHING, retry=["500"])
        opened = again.open()
        opened.close()
        assert found_in(tmp_path / "job").flaws == ()
        answer[0] = Answer(200, {}, b"well")
        assert pool.crawl(seeds, job=again, **FREE).ok == 6
    found = found_in(tmp_path / "job")
    assert (found.flaws, found.records, found.responses) == ((), 6, 7)


def test_several_parts_are_looked_at(tmp_path: pathlib.Path) -> None:
    """Each file of a WARC output, of which the last alone has a digest in the ledger."""
    with SiteServer(page) as server, SessionPool() as pool:
        job = Job(str(tmp_path / "job"), outputs=["pages.warc.gz"], rotate_bytes=2000)
        pool.crawl([server.url(f"/{n}") for n in range(PAGES)], job=job, **FREE)
    parts = sorted((tmp_path / "job").glob("*.warc.gz"))
    assert len(parts) > 2
    assert (found_in(tmp_path / "job").flaws, found_in(tmp_path / "job").responses) == ((), PAGES)
    whole = parts[0].read_bytes()  # of the names the first is pages-00002
    parts[0].write_bytes(whole[:500] + bytes([whole[500] ^ 1]) + whole[501:])
    assert any(flaw.startswith(parts[0].name) for flaw in told(tmp_path / "job"))
    parts[0].unlink()
    assert any(f"{parts[0].name}: the file is gone" in flaw for flaw in told(tmp_path / "job"))
