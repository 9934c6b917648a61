"""What a shard has for others gets out in segments: each row in one of them, under a name that it keeps."""

from __future__ import annotations

import gzip
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from crawlpool import AddressRules, SessionPool
from crawlpool.ledger.store import Batch
from crawlpool.ledger.transfer import BATCHES, PUBLISHING, Outgoing, Transfer
from crawlpool.shards import layout, outbox, segments
from crawlpool.shards.segments import SegmentName
from crawlpool.testing import Answer, SiteServer, loopback_hosts
from tests.shards.web import Fleet

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator


@pytest.fixture
def fleet(tmp_path: pathlib.Path) -> Fleet:
    made = Fleet(tmp_path / "job", 3)
    made.feed([])
    return made


@pytest.fixture
def pool() -> Iterator[SessionPool]:
    with SessionPool(threads=2, addresses=AddressRules("allow")) as made:
        yield made


def with_rows(fleet: Fleet, count: int, values: dict[str, str] | None = None) -> None:
    """Have shard 0 have rows for the two others."""
    os.makedirs(fleet.folder(0), exist_ok=True)
    opened = fleet.job(0).open()
    rows = [(1 + n % 2, json.dumps([n, "h.example", 0.0, "-http://h.example/", None, n, 1])) for n in range(count)]
    opened.ledger.commit(Batch(transfer=Transfer(sent=rows), values=values or {}))
    opened.close()


def numbers(fleet: Fleet, shard: int) -> dict[str, list[int]]:
    """Return what lies in an inbox: of each segment the first column of its rows."""
    inbox = layout.inbox_folder(fleet.root, shard)
    found = {}
    for name in segments.names(inbox):
        rows = segments.read(os.path.join(inbox, str(name)), fleet.manifest.sharding_id)
        found[str(name)] = [row[0] for row in rows]
    return found


def test_rows_get_out_in_their_order_and_in_bounded_segments(
    fleet: Fleet, pool: SessionPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each shard gets its own; a batch has so many rows at most; nothing is left, and no number is given twice."""
    monkeypatch.setattr(outbox, "MOST_ROWS", 2)
    with_rows(fleet, 7)
    pool.new_crawl(job=fleet.job(0)).run(())
    assert numbers(fleet, 1) == {
        "from-0000-e0001-00000001.seg": [0, 2],
        "from-0000-e0001-00000003.seg": [4, 6],
    }
    assert numbers(fleet, 2) == {"from-0000-e0001-00000002.seg": [1, 3], "from-0000-e0001-00000004.seg": [5]}
    with_rows(fleet, 1)
    pool.new_crawl(job=fleet.job(0)).run(())
    assert "from-0000-e0001-00000005.seg" in numbers(fleet, 1)
    opened = fleet.job(0).open()
    assert (opened.ledger.has_outbox(), opened.ledger.value(PUBLISHING)) == (False, "[]")
    assert json.loads(opened.ledger.value(BATCHES) or "") == {"1": 5}
    opened.close()


def test_a_batch_keeps_the_name_that_it_was_given_whoever_writes_it(fleet: Fleet, pool: SessionPool) -> None:
    """The next owner, in a folder of another epoch, writes it again under the same name; new batches have new ones."""
    pending = [Outgoing(4, 1, 1, 1, 3)]
    with_rows(fleet, 4, {PUBLISHING: json.dumps(pending), BATCHES: '{"1":4}'})
    os.rename(fleet.folder(0), layout.epoch_folder(fleet.root, 0, 2))
    job = fleet.job(0)
    second = type(job)(
        layout.epoch_folder(fleet.root, 0, 2), root=fleet.root, shard=0, manifest=fleet.manifest, until_idle=True
    )
    pool.new_crawl(job=second).run(())
    assert numbers(fleet, 1) == {"from-0000-e0001-00000004.seg": [0, 2]}
    assert numbers(fleet, 2) == {"from-0000-e0002-00000001.seg": [1, 3]}


def test_no_inbox_is_written_by_a_lease_that_has_ended(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked between the commit that numbers a batch and its writing: what it lets through is in every copy."""
    order: list[str] = []
    with_rows(fleet, 1)
    opened = fleet.job(0).open()

    def hand_in(chore: Any) -> bool:
        order.append("commit")
        chore.done(None)
        return True

    monkeypatch.setattr(type(opened), "check_held", lambda self: order.append("lease"))
    monkeypatch.setattr(segments, "write", lambda *given: order.append("write"))
    publisher = outbox.Publisher(opened, hand_in, lambda: None, lambda error: order.append(repr(error)))  # type: ignore[arg-type]
    opened.ledger.commit(Batch())
    assert not publisher.is_empty
    publisher.start()
    publisher.hurry()
    while len(order) < 4 and publisher._thread.is_alive():
        publisher._thread.join(0.01)
    opened.ledger.commit(Batch(transfer=Transfer(published=[Outgoing(1, 1, 1, 0, 99)])))
    publisher.finish()
    assert order[:4] == ["commit", "lease", "write", "commit"]
    opened.close()


def test_the_exchanges_of_a_target_that_is_handed_over_are_kept_where_they_were_made(
    tmp_path: pathlib.Path, pool: SessionPool
) -> None:
    """Its redirects are in the WARC file of the shard that followed them, its last answer in that of its record."""
    hosts = loopback_hosts(6)

    def answer(request: Any) -> Answer:
        where = {"/a": server.url("/b", hosts[0]), "/b": server.url("/c", hosts[other])}
        to = where.get(request.path)
        return Answer(200, {}, b"there") if to is None else Answer(302, {"Location": to})

    with SiteServer(answer, hosts=hosts) as server:
        fleet = Fleet(tmp_path / "job", 4)
        sharding = fleet.manifest.sharding(fleet.root)
        mine = sharding.shard_of(hosts[0])
        other = next(n for n, host in enumerate(hosts) if sharding.shard_of(host) != mine)
        fleet.feed([server.url("/a", hosts[0])])
        its = sharding.shard_of(hosts[other])
        for shard in (mine, its):
            os.makedirs(fleet.folder(shard), exist_ok=True)
            outputs = ("pages.warc.gz", "results.jsonl")
            pool.new_crawl(job=fleet.job(shard, outputs=outputs)).run(())
    found = []
    for shard in (mine, its):
        name = next(name for name in os.listdir(fleet.folder(shard)) if name.startswith("pages"))
        with gzip.open(os.path.join(fleet.folder(shard), name)) as file:
            lines = file.read().split(b"\r\n")
        uris = [line.decode() for line in lines if line.startswith(b"WARC-Target-URI: ")]
        found.append([uri[-1] for uri in uris[::2]])
    assert found == [["a", "b"], ["c"]]
    assert SegmentName.parse("from-0000-e0001-00000001.seg") is not None
