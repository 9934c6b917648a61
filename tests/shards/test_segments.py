"""Segments: what was written comes back, in its order; and of a file that isn't whole comes nothing."""

from __future__ import annotations

import errno
import pathlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlpool.errors import JobError, SinkError
from crawlpool.shards import segments
from crawlpool.shards.segments import SegmentName
from tests.disks import Crash, Faults, PowerLoss

TEXT = st.text(st.characters(codec=None))  # halves of surrogate pairs, too
ROWS = st.tuples(
    st.none() | st.integers(1, 2**63 - 1),
    TEXT,
    st.floats(allow_nan=False, allow_infinity=False),
    TEXT,
    st.none() | TEXT,
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([0, 1]),
)
NAMES = st.builds(SegmentName.of_input, st.integers(1, 10**9)) | st.builds(
    SegmentName, st.integers(0, 9999), st.integers(1, 10**5), st.integers(1, 10**9)
)
ONE = SegmentName.of_input(1)
PLAIN: list[tuple[Any, ...]] = [(n, "a.example", 0.0, f"=http://a.example/{n}", None, n * 7, 0) for n in range(1, 6)]


def folder_of(factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return a new folder."""
    return factory.mktemp("inbox", numbered=True)


@given(rows=st.lists(ROWS, max_size=20), name=NAMES)
def test_rows_come_back_in_their_order(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[Any, ...]], name: SegmentName
) -> None:
    """Whatever the rows hold, they are read as they were written."""
    inbox = folder_of(tmp_path_factory)
    segments.write(str(inbox), name, iter(rows), "8:abc")
    assert segments.names(str(inbox)) == [name]
    assert list(segments.read(str(inbox / str(name)), "8:abc")) == rows
    assert [path.name for path in inbox.iterdir()] == [str(name)]


@given(name=NAMES)
def test_names_come_back(name: SegmentName) -> None:
    """The name of a file is taken apart as it was put together."""
    assert SegmentName.parse(str(name)) == name


@pytest.mark.parametrize(
    "text",
    [
        "input-1.seg",
        "input-000000001.seg",
        "input-00000001.seg~",
        ".input-00000001.seg",
        "from-0001-00000001.seg",
        "from-1-e0001-00000001.seg",
        "from-00001-e0001-00000001.seg",
        "from-0001-e0001-00000001",
        "input-0000000\u0661.seg",
    ],
)
def test_other_files_are_no_segments(tmp_path: pathlib.Path, text: str) -> None:
    """What has another name lies there unheeded: one that is being written, and a stranger's."""
    (tmp_path / text).touch()
    assert SegmentName.parse(text) is None
    assert segments.names(str(tmp_path)) == []


def test_names_are_in_the_order_of_importing(tmp_path: pathlib.Path) -> None:
    """The input's come first, by round; then those of other shards, by shard, epoch and batch."""
    wanted = [SegmentName.of_input(2), SegmentName.of_input(10), SegmentName(0, 2, 1), SegmentName(3, 1, 9)]
    wanted += [SegmentName(3, 1, 10), SegmentName(3, 2, 1), SegmentName(10, 1, 1)]
    for name in reversed(wanted):
        segments.write(str(tmp_path), name, [])
    assert segments.names(str(tmp_path)) == wanted
    assert segments.names(str(tmp_path / "gone")) == []


@given(data=st.data())
def test_any_damage_is_told(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """A byte changed, lost or added anywhere, or an end that is missing: nothing is yielded, and the file is named."""
    inbox = folder_of(tmp_path_factory)
    segments.write(str(inbox), ONE, PLAIN, "8:abc")
    path = inbox / str(ONE)
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    how = data.draw(st.sampled_from(["change", "cut", "lose", "add", "append", "zeros"]))
    bytes_ = data.draw(st.binary(min_size=1, max_size=3))
    damaged = {
        "change": whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :],
        "cut": whole[:at],
        "lose": whole[:at] + whole[at + 1 :],
        "add": whole[:at] + bytes_ + whole[at:],
        "append": whole + bytes_,
        "zeros": whole[:at] + bytes(len(whole) - at),
    }[how]
    path.write_bytes(damaged)
    got: list[Any] = []
    if damaged == whole:
        return
    with pytest.raises(JobError, match=r"input-00000001.seg: is damaged") as caught:
        got.extend(segments.read(str(path)))
    assert got == [] and "\n" not in str(caught.value)


def test_a_segment_under_anothers_name_is_told(tmp_path: pathlib.Path) -> None:
    """A file that was copied to another name would be imported twice: it says itself which one it is."""
    segments.write(str(tmp_path), ONE, PLAIN)
    (tmp_path / str(ONE)).rename(tmp_path / "input-00000002.seg")
    with pytest.raises(JobError, match=r"input-00000002.seg: is damaged: it is input-00000001.seg"):
        list(segments.read(str(tmp_path / "input-00000002.seg")))


def test_a_segment_of_another_sharding_is_refused(tmp_path: pathlib.Path) -> None:
    """One that was carried here from a job with other shards would bring hosts that belong elsewhere."""
    segments.write(str(tmp_path), ONE, PLAIN, "8:abc")
    with pytest.raises(JobError, match=r"another list of suffixes \(8:abc, here 16:abc\)"):
        list(segments.read(str(tmp_path / str(ONE)), "16:abc"))
    assert list(segments.read(str(tmp_path / str(ONE)))) == PLAIN


def test_a_segment_of_another_job_is_refused(tmp_path: pathlib.Path) -> None:
    """Shards and suffixes may be the same: another crawl's targets are none of this one's."""
    segments.write(str(tmp_path), ONE, PLAIN, "8:abc:1234")
    with pytest.raises(segments.Foreign, match=r"of another job, or of a part .* \(8:abc:1234, here 8:abc:9\)") as told:
        list(segments.read(str(tmp_path / str(ONE)), "8:abc:9"))
    assert str(told.value).startswith(f"{tmp_path}/{ONE}: ")
    with pytest.raises(segments.Foreign, match="another number of shards"):
        list(segments.read(str(tmp_path / str(ONE)), "8:abd:1234"))


def test_a_later_segment_is_refused_as_such(tmp_path: pathlib.Path) -> None:
    """Whoever has an old crawlpool is told that, and not that the file is damaged."""
    (tmp_path / str(ONE)).write_bytes(b'{"v":2}\n')
    with pytest.raises(JobError, match=r"written by a later crawlpool \(version 2, here 1\)"):
        list(segments.read(str(tmp_path / str(ONE))))


def test_one_that_is_gone_is_told_as_gone(tmp_path: pathlib.Path) -> None:
    """Who has imported it removes it: that is no damage. A folder in its place is."""
    with pytest.raises(FileNotFoundError):
        list(segments.read(str(tmp_path / str(ONE))))
    (tmp_path / str(ONE)).mkdir()
    with pytest.raises(JobError, match="Is a directory"):
        list(segments.read(str(tmp_path / str(ONE))))
    with pytest.raises(JobError, match="Not a directory"):
        (tmp_path / "file").touch()
        segments.names(str(tmp_path / "file"))


def test_the_same_name_again_replaces(tmp_path: pathlib.Path) -> None:
    """What a crash has left, half or whole, is written anew."""
    segments.write(str(tmp_path), ONE, PLAIN * 50)
    (tmp_path / f".{ONE}").write_bytes(b"x" * 100_000)
    segments.write(str(tmp_path), ONE, PLAIN)
    assert list(segments.read(str(tmp_path / str(ONE)))) == PLAIN
    assert [path.name for path in tmp_path.iterdir()] == [str(ONE)]


def test_a_crash_at_any_moment_leaves_the_old_one_or_the_new(tmp_path: pathlib.Path) -> None:
    """Whichever step the process dies or fails at, whoever reads finds one of the two whole; writing again works."""
    calls = Faults()
    with calls.installed():
        segments.write(str(tmp_path), ONE, PLAIN)
    assert calls.calls == ["open_file", "cut", "write", "write", "write", "sync_file", "rename", "sync_folder"]
    for at in range(1, len(calls.calls) + 1):
        for error in (None, errno.EIO):
            segments.write(str(tmp_path), ONE, PLAIN[:2])
            with pytest.raises(Crash if error is None else SinkError), Faults(at, error, half=True).installed():
                segments.write(str(tmp_path), ONE, PLAIN)
            assert list(segments.read(str(tmp_path / str(ONE)))) in (PLAIN[:2], PLAIN)


@given(data=st.data())
def test_what_was_written_outlives_a_loss_of_power(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Once ``write`` has returned no loss of power takes the segment; before, it is there whole or not at all."""
    inbox, left = folder_of(tmp_path_factory), folder_of(tmp_path_factory)
    power = PowerLoss(inbox)
    with power.installed():
        segments.write(str(inbox), ONE, PLAIN)
        at = data.draw(st.none() | st.integers(1, 8))
        if at is not None:
            with pytest.raises(Crash), Faults(at).installed():
                segments.write(str(inbox), SegmentName.of_input(2), PLAIN)
    power.lose(left, lambda most: data.draw(st.integers(0, most)))
    for name in segments.names(str(left)):
        assert list(segments.read(str(left / str(name)))) == PLAIN
    assert ONE in segments.names(str(left))


def test_a_segment_in_another_shards_inbox_is_refused(tmp_path: pathlib.Path) -> None:
    """It says itself which shard it is for: put into another one's folder, that one would crawl hosts of its."""
    name = SegmentName(6, 1, 1)
    for shard in ("0001", "0003"):
        (tmp_path / shard / "inbox").mkdir(parents=True)
    segments.write(str(tmp_path / "0001" / "inbox"), name, [], "8:x")
    written, moved = tmp_path / "0001" / "inbox" / str(name), tmp_path / "0003" / "inbox" / str(name)
    assert list(segments.read(str(written), "8:x")) == []
    written.rename(moved)
    with pytest.raises(JobError, match="is for shard 0001"):
        list(segments.read(str(moved), "8:x"))
