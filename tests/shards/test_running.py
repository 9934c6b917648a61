"""How the run of a shard begins, waits and ends: by its input, its lease, and who stops it."""

from __future__ import annotations

import json
import math
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from crawlpool import AddressRules, SessionPool, open_job
from crawlpool.errors import CrawlPoolError, JobError, LeaseLost, SinkError
from crawlpool.jobs.clerk import Clerk
from crawlpool.shards import layout, segments
from crawlpool.shards.segments import SegmentName
from crawlpool.testing import Answer, SiteServer, loopback_hosts
from tests.shards.web import OPTIONS, Fleet, Web, alike, follow, new_pool, whole

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

PATIENCE_S = 30.0
HOSTS = loopback_hosts(6)


class Lease:
    """A lease that is held until it is told otherwise."""

    ends_at = math.inf

    def __init__(self) -> None:
        self.is_mine = True
        self.asked = 0

    def is_held(self) -> bool:
        self.asked += 1
        return self.is_mine


@pytest.fixture
def site() -> Iterator[SiteServer]:
    """Hosts whose paths say what they do: ``/to/N/path`` redirects to host N."""

    def answer(request: Any) -> Answer:
        parts = request.path.split("/", 3)
        if parts[1] == "to":
            return Answer(302, {"Location": server.url(f"/{parts[3]}", HOSTS[int(parts[2])])})
        return Answer(200, {}, request.path.encode())

    with SiteServer(answer, hosts=HOSTS) as server:
        yield server


@pytest.fixture
def pool() -> Iterator[SessionPool]:
    with SessionPool(threads=4, addresses=AddressRules("allow")) as made:  # so redirects may lead to any of the hosts
        yield made


def others(fleet: Fleet, site: SiteServer) -> tuple[int, list[int]]:
    """Return a host whose shard isn't that of host 0, and the shards of both."""
    sharding = fleet.manifest.sharding(fleet.root)
    shards = [sharding.shard_of(host) for host in HOSTS]
    other = next(n for n, shard in enumerate(shards) if shard != shards[0])
    return other, [shards[0], shards[other]]


def test_a_run_goes_on_until_the_input_is_done(tmp_path: pathlib.Path, site: SiteServer, pool: SessionPool) -> None:
    """Without ``until_idle`` a shard that has nothing to do waits for more, takes it when it comes, and then ends."""
    fleet = Fleet(tmp_path / "job", 2)
    shard = fleet.manifest.sharding(fleet.root).shard_of(HOSTS[0])
    layout.make_inbox(fleet.root, shard)
    os.makedirs(fleet.folder(shard))
    crawl = pool.new_crawl(job=fleet.job(shard, until_idle=False))
    idle = threading.Event()
    look = crawl._inbox.look  # type: ignore[attr-defined]
    crawl._inbox.look = lambda: (look(), idle.set())[0]  # type: ignore[attr-defined]
    reports: list[Any] = []
    thread = threading.Thread(target=lambda: reports.append(crawl.run(())))
    thread.start()
    assert idle.wait(PATIENCE_S)
    assert thread.is_alive()
    fleet.feed([site.url(f"/{n}", HOSTS[0]) for n in range(3)])
    thread.join(PATIENCE_S)
    assert [(one.inputs, one.ok, one.is_complete) for one in reports] == [(3, 3, True)]
    with open_job(fleet.folder(shard)) as job:
        assert job.is_input_done and job.mark("results.jsonl").is_complete


def test_an_idle_run_ends_after_its_time(tmp_path: pathlib.Path, pool: SessionPool) -> None:
    """With ``idle_s`` a run ends when nothing came for so long, though the input isn't done: it isn't complete then."""
    fleet = Fleet(tmp_path / "job", 2)
    layout.make_inbox(fleet.root, 0)
    os.makedirs(fleet.folder(0))
    report = pool.new_crawl(job=fleet.job(0, until_idle=False, idle_s=0.01)).run(())
    assert (report.inputs, report.is_complete) == (0, False)
    with open_job(fleet.folder(0)) as job:
        assert not job.is_input_done
        assert not job.mark("results.jsonl").is_complete


def test_a_drained_run_publishes_what_it_has_handed_over(
    tmp_path: pathlib.Path, site: SiteServer, pool: SessionPool
) -> None:
    """A drain ends the run with what waits left for the next one; what was handed over by then is with its shard."""
    fleet = Fleet(tmp_path / "job", 4)
    other, (mine, its) = others(fleet, site)
    fleet.feed([site.url(f"/to/{other}/{n}", HOSTS[0]) for n in range(40)])
    crawl: Any = pool.new_crawl(job=fleet.job(mine))
    committed, is_drained = crawl._clerk._committed, []

    def drained(entries: Any, has_come: bool) -> None:
        committed(entries, has_come)
        if entries and not is_drained:
            is_drained.append(True)
            crawl.drain()

    crawl._clerk._committed = drained
    report = crawl.run(())
    assert report.moved_out > 0 and report.moved_out + report.pending == 40 and report.is_balanced
    rows = [
        row
        for name in segments.names(layout.inbox_folder(fleet.root, its))
        if name.source == mine
        for row in segments.read(os.path.join(layout.inbox_folder(fleet.root, its), str(name)))
    ]
    assert len(rows) == report.moved_out
    books = fleet.run(pool)
    assert (books.ok, books.moved_out, books.moved_in, books.is_complete) == (40, 40, 40, True)


def test_a_lost_lease_stops_a_run_before_its_next_request(
    tmp_path: pathlib.Path, site: SiteServer, pool: SessionPool
) -> None:
    """No request is sent and nothing is committed by a lease that has ended; the next owner finds all of it waiting."""
    fleet = Fleet(tmp_path / "job", 2)
    shard = fleet.manifest.sharding(fleet.root).shard_of(HOSTS[0])
    fleet.feed([site.url(f"/{n}", HOSTS[0]) for n in range(5)])
    lease = Lease()
    crawl: Any = pool.new_crawl(job=fleet.job(shard, lease=lease))
    hand_out = crawl._clerk._refill

    def lost_first() -> None:
        lease.is_mine = lease.is_mine and not crawl._job.waiting  # as soon as there is anything to be sent
        hand_out()

    crawl._clerk._refill = lost_first
    with pytest.raises(LeaseLost, match=f"shard {shard}"):
        crawl.run(())
    assert site.request_count == 0
    report = fleet.report_of(shard)
    assert (report.settled, report.pending) == (0, 5)
    assert fleet.run(pool).ok == 5


def test_a_lost_lease_commits_nothing_more(tmp_path: pathlib.Path, site: SiteServer, pool: SessionPool) -> None:
    """What was fetched under a lease that ended before its commit counts for nobody: not even that the run ended."""
    fleet = Fleet(tmp_path / "job", 4)
    other, (mine, its) = others(fleet, site)
    fleet.feed([site.url("/here", HOSTS[0]), site.url(f"/to/{other}/there", HOSTS[0])])
    lease = Lease()
    crawl: Any = pool.new_crawl(job=fleet.job(mine, lease=lease))
    keep = crawl._clerk.keep

    def too_late(entries: Any) -> bool:
        lease.is_mine = False
        return bool(keep(entries))

    crawl._clerk.keep = too_late
    with pytest.raises(LeaseLost):
        crawl.run(())
    with open_job(fleet.folder(mine)) as job:
        assert (job.report.settled, job.report.moved_out, job.report.pending) == (0, 0, 2)
        assert job.runs[-1].ended_at_s is None
    assert [name for name in segments.names(layout.inbox_folder(fleet.root, its)) if name.source is not None] == []
    assert fleet.run(pool).ok == 2


def test_a_lease_that_was_lost_ends_running_transfers(tmp_path: pathlib.Path, pool: SessionPool) -> None:
    """``lost`` is for who sees the lease's end: a transfer that runs is broken off, and the run raises."""
    begun = threading.Event()

    def answer(request: Any) -> Answer:
        begun.set()
        server.shutdown.wait(PATIENCE_S)
        return Answer(200)

    with SiteServer(answer, hosts=HOSTS[0]) as server:
        fleet = Fleet(tmp_path / "job", 1)
        fleet.feed([server.url("/slow", HOSTS[0])])
        crawl: Any = pool.new_crawl(job=fleet.job(0))
        loses = threading.Thread(target=lambda: (begun.wait(PATIENCE_S), crawl.lost()))
        loses.start()
        with pytest.raises(LeaseLost):
            crawl.run(())
        loses.join()


def test_hosts_of_the_input_may_be_asked_from_the_first_moment_on(
    tmp_path: pathlib.Path, site: SiteServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits from a run before is asked only when it is known which hosts, not public, the input had named."""
    fleet = Fleet(tmp_path / "job", 2)
    shard = fleet.manifest.sharding(fleet.root).shard_of(HOSTS[0])
    fleet.feed([site.url("/", HOSTS[0])])
    begun: list[bool] = []
    start = Clerk.start

    def noted(clerk: Clerk) -> None:
        begun.append(crawl.group.inputs.permits(HOSTS[0]))
        start(clerk)

    monkeypatch.setattr(Clerk, "start", noted)
    with SessionPool(threads=1) as pool:
        crawl: Any = pool.new_crawl(job=fleet.job(shard))
        assert crawl.run(()).ok == 1
    assert begun == [True]


def test_seeds_are_refused(tmp_path: pathlib.Path, pool: SessionPool) -> None:
    """A shard's targets come from its inbox alone."""
    fleet = Fleet(tmp_path / "job", 2)
    os.makedirs(fleet.folder(0))
    with pytest.raises(CrawlPoolError, match="come from its inbox"):
        pool.new_crawl(job=fleet.job(0)).run(["http://127.0.0.1/"])


def test_a_shard_is_opened_in_the_folder_of_an_epoch_of_its_own(tmp_path: pathlib.Path) -> None:
    """Another folder, a shard of another part, an impossible time: refused in one line that names it."""
    fleet = Fleet(tmp_path / "job", 4, part=(1, 2))
    with pytest.raises(JobError, match=r"elsewhere: isn't the folder of an epoch"):
        type(fleet.job(0))(str(tmp_path / "elsewhere"), root=fleet.root, shard=0, manifest=fleet.manifest)
    with pytest.raises(CrawlPoolError, match="shard=1"):
        fleet.job(1)
    with pytest.raises(CrawlPoolError, match="idle_s"):
        fleet.job(0, idle_s=-1)


def test_a_damaged_segment_ends_the_run_with_its_name(
    tmp_path: pathlib.Path, site: SiteServer, pool: SessionPool
) -> None:
    """Nothing of a segment is taken in that isn't what was written."""
    fleet = Fleet(tmp_path / "job", 1)
    fleet.feed([site.url("/", HOSTS[0])])
    path = os.path.join(layout.inbox_folder(fleet.root, 0), "input-00000001.seg")
    with open(path, "r+b") as file:
        file.seek(-3, os.SEEK_END)
        file.write(b"!")
    with pytest.raises(JobError, match=r"input-00000001\.seg: is damaged"):
        pool.new_crawl(job=fleet.job(0)).run(())
    assert fleet.report_of(0).inputs == 0


def test_an_inbox_that_cannot_be_written_ends_the_run_and_keeps_what_is_for_it(
    tmp_path: pathlib.Path, site: SiteServer, pool: SessionPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk under another's inbox: the run says so, and the next one gets out what this one couldn't."""
    fleet = Fleet(tmp_path / "job", 4)
    other, (mine, _) = others(fleet, site)
    fleet.feed([site.url(f"/to/{other}/there", HOSTS[0])])

    def full(*given: Any) -> None:
        raise SinkError("x.seg: No space left on device")

    monkeypatch.setattr(segments, "write", full)
    with pytest.raises(SinkError, match="No space left"):
        pool.new_crawl(job=fleet.job(mine)).run(())
    monkeypatch.undo()
    assert fleet.report_of(mine).moved_out == 1
    pool.new_crawl(job=fleet.job(mine)).run(())
    assert fleet.run(pool).ok == 1


def test_a_link_to_another_shard_is_sent_once_in_a_run(
    tmp_path: pathlib.Path, site: SiteServer, pool: SessionPool
) -> None:
    """Each page links to the same: one row gets out, and where two runs send it the other shard takes one of them."""
    fleet = Fleet(tmp_path / "job", 4)
    other, (mine, its) = others(fleet, site)
    link = site.url("/linked", HOSTS[other])

    def handler(result: Any, crawl: Any) -> None:
        with lock:  # one after the other, and each but the first when the first is committed
            if not added:
                come = crawl._publisher.come
                crawl._publisher.come = lambda: (come(), is_sent.set())
            elif not is_sent.is_set():
                assert is_sent.wait(PATIENCE_S)
            added.append(crawl.add(link))

    lock, is_sent, added = threading.Lock(), threading.Event(), list[bool]()
    fleet.feed([site.url(f"/{n}", HOSTS[0]) for n in range(5)])
    books = fleet.run(pool, handler)
    assert sum(added[:5]) == 1
    for n in (1, 2):  # as by two owners of the shard, neither of which knows of the other's
        row = [None, HOSTS[other], 0.0, "-" + link, None, 17, 1]
        segments.write(layout.make_inbox(fleet.root, its), SegmentName(mine, 1, 90 + n), [row])
    books = fleet.run(pool, handler)
    assert (books.found, books.ok) == (2, 7)  # by another digest it was new, once
    assert books.is_balanced


def test_shards_run_side_by_side_on_one_pool(tmp_path: pathlib.Path) -> None:
    """Several shards at once over one pool's workers come to the same records as one crawl."""
    with Web(4) as web:
        seeds = web.seeds((302, 308), 3)
        expected, _, _ = whole(web, tmp_path / "one", seeds)
        fleet = Fleet(tmp_path / "many", 12)
        fleet.feed(seeds)
        trouble: list[BaseException] = []

        def run(shard: int) -> None:
            try:
                pool.new_crawl(follow, job=fleet.job(shard), **OPTIONS).run(())
            except BaseException as error:
                trouble.append(error)

        with new_pool(web) as pool:
            while shards := fleet.waiting():
                threads = [threading.Thread(target=run, args=(shard,)) for shard in shards]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                assert trouble == []
            assert pool._workforce.frontier._owing._most == math.inf
        assert alike(fleet.records()) == expected


def test_two_parts_come_to_the_whole_once_their_segments_are_exchanged(tmp_path: pathlib.Path) -> None:
    """``1/2`` and ``2/2`` in folders of their own: what each has for the other is carried over, and nothing is left."""
    with Web(4) as web:
        seeds = web.seeds((302,), 3)
        expected, _, _ = whole(web, tmp_path / "one", seeds)
        parts = [Fleet(tmp_path / str(n), 4, part=(n, 2)) for n in (1, 2)]
        for part in parts:
            part.feed(seeds)
        with new_pool(web) as pool:
            for _ in range(20):
                for part in parts:
                    part.run(pool, **OPTIONS)
                if not _exchanged(parts):
                    break
        assert alike(record for part in parts for record in part.records()) == expected


def _exchanged(parts: list[Fleet]) -> bool:
    has_any = False
    for here, there in (parts, reversed(parts)):
        for shard in there.manifest.mine():
            inbox = layout.inbox_folder(here.root, shard)
            for name in segments.names(inbox):
                has_any = True
                os.rename(os.path.join(inbox, str(name)), os.path.join(layout.make_inbox(there.root, shard), str(name)))
    return has_any


def test_a_segment_that_was_taken_in_is_not_taken_in_again(
    tmp_path: pathlib.Path, site: SiteServer, pool: SessionPool
) -> None:
    """The same segment, written once more: its name says that it was here, and it goes."""
    fleet = Fleet(tmp_path / "job", 1)
    fleet.feed([site.url("/", HOSTS[0])])
    path = os.path.join(layout.inbox_folder(fleet.root, 0), "input-00000001.seg")
    with open(path, "rb") as file:
        content = file.read()
    assert fleet.run(pool).inputs == 1
    assert not os.path.exists(path)
    with open(path, "wb") as file:
        file.write(content)
    report = fleet.run(pool)
    assert (report.inputs, report.skipped, os.path.exists(path)) == (1, 0, False)
    assert json.loads(content.splitlines()[-1])["rows"] == 1
