"""Jobs of shards of which something is lost, damaged or foreign: what is told of it, and what to do is said."""

from __future__ import annotations

import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from crawlpool.shards import layout, segments
from crawlpool.shards.segments import SegmentName
from tests.cli.command import Run, runner
from tests.shards.told import Told

ROW = [None, "h.example", 0.0, "-http://h.example/", None, None, 1]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Return what runs a command: its exit code, and what it said on both streams."""
    return runner(capfd)


@pytest.fixture
def part(tmp_path: pathlib.Path) -> Told:
    """Return the first of two parts, of four shards, of which nothing was crawled."""
    fleet = Told(tmp_path / "part", 4, (1, 2))
    fleet.feed([])
    return fleet


# The manifest --------------------------------------------------------------------------------------------------------

URL = "http://127.0.0.1:1/"
COMMANDS: list[Callable[[str], list[str]]] = [
    lambda job: ["run", URL, "--job", job],
    lambda job: ["run", URL, "--job", job, "--shards", "4"],
    lambda job: ["resume", job],
    *(lambda job, name=name: [name, job] for name in ("status", "export", "verify", "audit")),  # type: ignore[misc]
    *(lambda job, name=name: [name, job, URL] for name in ("explain", "cat")),  # type: ignore[misc]
    lambda job: ["status", job, job + "-too"],
]


@pytest.mark.parametrize("content", [None, b"", b'{"v":1}'], ids=["missing", "empty", "other"])
def test_a_lost_manifest_is_told_by_every_command(run: Run, part: Told, content: bytes | None) -> None:
    """One line that names the file, and 3; nobody says that there is no job, and no new one is made over the data."""
    root = pathlib.Path(part.root)
    segments.write(layout.make_inbox(part.root, 0), SegmentName.of_input(1), [ROW])
    shutil.copytree(root, f"{root}-too")
    path = root / "manifest.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    before = sorted(root.rglob("*"))
    for command in COMMANDS:
        code, out, err = run(*command(part.root))
        assert (code, out, err.count("\n")) == (3, "", 1), command("JOB")
        assert f"{path}: is {'missing' if content is None else 'damaged'}" in err
        assert "this is the job's manifest: put it back from a copy" in err
    assert sorted(root.rglob("*")) == before
    assert content is None or path.read_bytes() == content


def test_a_part_is_begun_where_segments_were_carried_before(run: Run, tmp_path: pathlib.Path) -> None:
    """Who fetches from other parts first has no job there yet, and makes it then."""
    job = tmp_path / "job"
    job.mkdir()
    name = SegmentName(0, 1, 1)
    segments.write(layout.make_inbox(str(job), 1), name, [ROW], "5:elsewhere:x")
    code, _, err = run("run", tmp_path / "none.txt", "--job", job, "--shards", "4", "--shard", "2/2")
    assert (code, "none.txt" in err, "manifest" in err) == (3, True, False)
    assert "manifest" not in run("status", job)[2]


# Segments ------------------------------------------------------------------------------------------------------------


def status(run: Run, *jobs: object) -> dict[str, Any]:
    """Return what status says of jobs."""
    code, out, err = run("status", *jobs, "--json")
    assert (code, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    return found


def lying_in(part: Told, source: int, sharding_id: str, *, is_damaged: bool) -> str:
    """Have a segment in the inbox of shard 0, which was given up; return its path."""
    name = SegmentName(source, 1, 1)
    inbox = layout.make_inbox(part.root, 0)
    segments.write(inbox, name, [ROW], sharding_id)
    path = pathlib.Path(inbox) / str(name)
    if is_damaged:
        path.write_bytes(path.read_bytes().replace(b"h.example", b"i.example", 1))
    part.tell(0, epoch=0, reason=f"/elsewhere/{name}: is bad")
    return str(path)


@pytest.mark.parametrize(
    ("source", "is_foreign", "why", "remedy"),
    [
        (1, True, "is of another job", "move this file out of the job"),
        (1, False, "is damaged", "copy this file again from part 2/2, which wrote it; or move it out of the job"),
        (2, False, "is damaged", "put this file back from a copy of the job"),
    ],
)
def test_status_says_what_helps_against_a_segment_that_is_not_taken_in(
    run: Run, part: Told, source: int, is_foreign: bool, why: str, remedy: str
) -> None:
    """What is to be done with the file, and not to go on with the job, which comes to the same end again."""
    here = part.manifest.sharding_id
    path = lying_in(part, source, f"{here}0" if is_foreign else here, is_damaged=not is_foreign)
    found = status(run, part.root)
    assert [one["file"] for one in found["refused"]] == [path]
    assert f"{path}: {why}" in found["refused"][0]["why"]
    assert found["next"].startswith(f"{path}: {remedy}")
    assert found["next"].endswith("; and then begin the same crawl with this job again: it goes on where it was")
    out = run("status", part.root)[1]
    assert out.count("from-000") == 2  # why the shard was given up, and what to do
    part.tell(0, epoch=0)
    assert status(run, part.root)["refused"] == []  # a run that looks at it will say it


def test_status_of_a_part_that_has_nothing_left_but_what_is_for_others(run: Run, part: Told) -> None:
    """To go on with it does nothing: the files are to be moved or copied, once. What was copied counts once."""
    other = Told(pathlib.Path(part.root).parent / "other", 4, (2, 2))
    other.feed([])
    assert other.manifest.sharding_id == part.manifest.sharding_id
    layout.make_inbox(part.root, 0)
    part.tell(0, epoch=0)
    name = SegmentName(0, 1, 1)
    segments.write(layout.make_inbox(part.root, 1), name, [ROW, ROW], part.manifest.sharding_id)
    found = status(run, part.root)
    assert (found["on_its_way"], found["elsewhere"], found["state"]) == (2, 2, "interrupted")
    files = f"{part.root}/shards/*/inbox/from-*.seg"
    assert found["next"].startswith(f"move or copy {files} to the same place in the parts that they are for, unless")
    assert "2 on their way to a shard, 2 of them to shards of other parts\n" in run("status", part.root)[1]
    shutil.copy(f"{layout.inbox_folder(part.root, 1)}/{name}", layout.make_inbox(other.root, 1))
    both = status(run, part.root, other.root)
    assert (both["on_its_way"], both["elsewhere"]) == (2, 0)
    assert [one["state"] for one in both["jobs"]] == ["complete", "interrupted"]


def test_a_segment_whose_end_is_lost_does_not_keep_status_from_telling(run: Run, part: Told) -> None:
    """How many targets it has isn't known; that it is damaged is told, and the job isn't called complete."""
    path = pathlib.Path(lying_in(part, 1, part.manifest.sharding_id, is_damaged=False))
    path.write_bytes(path.read_bytes()[:-9])
    part.tell(0, epoch=0)
    found = status(run, part.root)
    assert (found["state"], found["on_its_way"]) == ("interrupted", 0)
    assert [one["file"] for one in found["refused"]] == [str(path)]
