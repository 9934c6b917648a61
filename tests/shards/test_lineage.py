"""Which segments count: those that the shard's ledger knows to have been, whoever wrote them."""

from __future__ import annotations

import pathlib

import pytest

from crawlpool import AddressRules, SessionPool
from crawlpool.engines.choice import is_runnable
from crawlpool.engines.looking import Looker
from crawlpool.errors import JobError
from crawlpool.shards import atomic, layout, segments, tenure
from crawlpool.shards.lineage import Standing, origin_of, standing
from crawlpool.shards.owner import Owner
from crawlpool.shards.segments import SegmentName
from crawlpool.shards.tenure import Tenure
from tests.shards.web import Fleet


def at(root: pathlib.Path, number: int, epoch: int) -> None:
    """Have shard 3 be owned by somebody who uses an epoch's folder."""
    folder = layout.shard_folder(str(root), 3)
    (root / "shards" / "0003" / layout.epoch_name(epoch)).mkdir(parents=True, exist_ok=True)
    assert tenure.make(folder, Tenure(number, Owner.here(), epoch=epoch))


def came_from(root: pathlib.Path, epoch: int, said: object) -> None:
    """Have an epoch's folder say where it came from."""
    atomic.put_json(f"{layout.epoch_folder(str(root), 3, epoch)}/{layout.ORIGIN}", said)


def test_a_segment_of_the_epoch_in_use_counts(tmp_path: pathlib.Path) -> None:
    """So does one of a shard that nobody has had here: another machine's; and the input's, of which others say it."""
    name = SegmentName(3, 1, 7)
    assert standing(str(tmp_path), name) is Standing.COUNTS
    at(tmp_path, 1, 1)
    assert standing(str(tmp_path), name) is Standing.COUNTS
    assert standing(str(tmp_path), SegmentName.of_input(1)) is Standing.COUNTS


def test_a_segment_of_an_earlier_epoch_counts_as_far_as_it_was_known(tmp_path: pathlib.Path) -> None:
    """Up to the batch that the copied ledger knew, of any epoch before; beyond it never was."""
    at(tmp_path, 5, 5)
    came_from(tmp_path, 5, {"from": 2, "batches": {"1": 7, "2": 3}})
    found = [standing(str(tmp_path), SegmentName(3, epoch, batch)) for epoch, batch in ((1, 7), (1, 8), (2, 3), (2, 4))]
    assert found == [Standing.COUNTS, Standing.VOID, Standing.COUNTS, Standing.VOID]
    assert standing(str(tmp_path), SegmentName(3, 4, 1)) is Standing.VOID  # of an epoch that nothing came of


def test_a_segment_whose_epoch_is_not_known_yet_waits(tmp_path: pathlib.Path) -> None:
    """Where the folder says less than the segment, or nothing of where it came from, it is looked at again later."""
    at(tmp_path, 1, 1)
    assert standing(str(tmp_path), SegmentName(3, 2, 1)) is Standing.LATER
    at(tmp_path, 2, 2)
    assert standing(str(tmp_path), SegmentName(3, 1, 1)) is Standing.LATER


def test_a_damaged_origin_is_named(tmp_path: pathlib.Path) -> None:
    """What can't be read decides nothing."""
    at(tmp_path, 2, 2)
    came_from(tmp_path, 2, {"from": 1})
    with pytest.raises(JobError, match=r"origin\.json: is damaged"):
        origin_of(layout.epoch_folder(str(tmp_path), 3, 2))


def test_a_run_takes_in_what_counts_removes_what_never_was_and_leaves_the_rest(tmp_path: pathlib.Path) -> None:
    """Of three segments of a shard that was taken over one is taken in, one goes, and one waits for a later run."""
    fleet = Fleet(tmp_path / "job", 4)
    fleet.feed([])
    root = pathlib.Path(fleet.root)
    at(root, 5, 5)
    came_from(root, 5, {"from": 2, "batches": {"2": 3}})
    inbox = layout.make_inbox(fleet.root, 0)
    for epoch, batch in ((2, 3), (2, 4), (6, 1)):
        row = [None, "127.0.0.1", 0.0, f"-http://127.0.0.1:1/{epoch}/{batch}", None, 100 * epoch + batch, 1]
        segments.write(inbox, SegmentName(3, epoch, batch), [row], fleet.manifest.sharding_id)
    (look,) = (look for look in Looker(fleet.root, "run").look() if look.shard == 0)
    assert (look.segments, look.later) == (2, 1)
    (root / "shards" / "0000" / "e0001").mkdir()
    with SessionPool(threads=1, addresses=AddressRules("deny")) as pool:
        report = pool.new_crawl(job=fleet.job(0)).run(())
    assert (report.found, report.failed) == (1, 1)
    assert [str(name) for name in segments.names(inbox)] == ["from-0003-e0006-00000001.seg"]


def test_a_shard_isnt_taken_for_what_cannot_be_judged_yet(tmp_path: pathlib.Path) -> None:
    """Nobody would get on with it; once its source says where it came from, or is damaged, somebody is to take it."""
    fleet = Fleet(tmp_path / "job", 4)
    fleet.feed([])
    root = pathlib.Path(fleet.root)
    at(root, 1, 1)
    at(root, 2, 2)
    name = SegmentName(3, 1, 1)
    segments.write(layout.make_inbox(fleet.root, 0), name, [], fleet.manifest.sharding_id)
    looker = Looker(fleet.root, "run")

    def seen() -> tuple[int, int, bool]:
        look = looker.look()[0]
        return look.segments, look.later, is_runnable(look, "run")

    assert seen() == (0, 1, False)
    assert list(looker.unjudged()) == [0]
    assert f"0000/inbox/{name}: can't be judged: of epoch 1 of shard 3 nothing is known" in looker.unjudged()[0]
    came_from(root, 2, {"from": 1})
    assert seen() == (1, 0, True)
    came_from(root, 2, {"from": 1, "batches": {"1": 1}})
    assert seen() == (1, 0, True)
    assert looker.unjudged() == {}
