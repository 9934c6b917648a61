"""Names in a sharded job: each is made and understood in one place, and nothing else is taken for one."""

from __future__ import annotations

import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlpool.errors import JobError, SinkError
from crawlpool.shards import layout


@given(number=st.integers(0, 10**9))
def test_names_come_back_as_their_numbers(number: int) -> None:
    """The name made of an epoch or a tenure is understood as the same number."""
    assert layout.epoch_of(layout.epoch_name(number)) == number
    assert layout.tenure_of(layout.tenure_name(number)) == number


@pytest.mark.parametrize(
    ("path", "is_begun"),
    [
        ("shards", False),
        ("shards/0003/inbox", False),
        ("shards/0003/inbox/from-0001-e0001-00000001.seg", False),
        ("shards/0003/inbox/.from-0001-e0001-00000001.seg.Xy12", False),
        ("shards/0003/inbox/input-00000001.seg", True),
        ("shards/0003/e0001", True),
        ("shards/0003/tenure-00000001", True),
        ("elsewhere/0003/e0001", False),
    ],
)
def test_what_was_carried_to_a_folder_is_no_job_yet(tmp_path: pathlib.Path, path: str, is_begun: bool) -> None:
    """Segments of other parts may lie there before the part is begun; anything else is of a job that was."""
    (tmp_path / path).mkdir(parents=True)
    assert layout.is_begun(str(tmp_path)) is is_begun
    (tmp_path / "input.json").touch()
    assert layout.is_begun(str(tmp_path)) is path.startswith("shards")


@pytest.mark.parametrize(
    "name",
    ["e1", "E0001", "e0001~", "e\uff10\uff10\uff10\uff11", ".e0001", "tenure-1", "tenure-0000000001", ""],
)
def test_other_names_are_none(name: str) -> None:
    """A name that isn't written exactly so is that of something else."""
    assert layout.epoch_of(name) is None
    assert layout.tenure_of(name) is None


def test_shards_and_tenures_are_found_in_their_order(tmp_path: pathlib.Path) -> None:
    """What is there is listed by number; strangers are passed over, and a folder that isn't there has nothing."""
    root = str(tmp_path)
    assert layout.shards_there(root) == [] and layout.tenures_there(layout.shard_folder(root, 7)) == []
    for shard in (12345, 7, 0):
        assert layout.make_inbox(root, shard) == layout.inbox_folder(root, shard)
    (tmp_path / "shards" / "00007").mkdir()
    (tmp_path / "shards" / "lost+found").mkdir()
    assert layout.shards_there(root) == [0, 7, 12345]
    folder = pathlib.Path(layout.shard_folder(root, 7))
    for name in ("tenure-00000010", "tenure-00000009", ".tenure-00000011", "e0001"):
        (folder / name).touch()
    assert layout.tenures_there(str(folder)) == [9, 10]
    assert layout.epoch_folder(root, 7, 2) == str(folder / "e0002")
    layout.make_inbox(root, 7)


def test_what_a_worker_tells_lies_beside_what_it_is_told(tmp_path: pathlib.Path) -> None:
    """A worker's two files have its name, and lie in one folder."""
    root = str(tmp_path)
    assert layout.runner_file(root, "w-1") == str(tmp_path / "runners" / "w-1.json")
    assert layout.runner_stop(root, "w-1") == str(tmp_path / "runners" / "w-1.stop")
    assert layout.runners_folder(root) == str(tmp_path / "runners")


def test_a_folder_of_something_else_is_refused(tmp_path: pathlib.Path) -> None:
    """A new folder is taken, one with a list of suffixes put there, and one of a sharded job; no other."""
    layout.check_root(str(tmp_path))
    for name in ("suffixes.dat", ".suffixes.dat", "lock", "job.toml"):
        (tmp_path / name).touch()
    layout.check_root(str(tmp_path))
    (tmp_path / "notes.txt").touch()
    with pytest.raises(JobError, match=r"has other files \(notes.txt\)"):
        layout.check_root(str(tmp_path))
    (tmp_path / "ledger.sqlite3").touch()
    with pytest.raises(JobError, match="is a job without shards"):
        layout.check_root(str(tmp_path))
    (tmp_path / "manifest.json").touch()
    layout.check_root(str(tmp_path))


def test_trouble_is_one_line_that_names_the_folder(tmp_path: pathlib.Path) -> None:
    """What the system says of a folder comes out as the project's errors."""
    (tmp_path / "shards").touch()
    with pytest.raises(JobError, match="shards: Not a directory"):
        layout.shards_there(str(tmp_path))
    with pytest.raises(SinkError, match="shards/0001: Not a directory"):
        layout.make_inbox(str(tmp_path), 1)
    with pytest.raises(SinkError, match="gone: No such file"):
        layout.check_root(str(tmp_path / "gone"))
