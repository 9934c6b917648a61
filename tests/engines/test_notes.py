"""What runners and the coordinator tell of themselves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from crawlpool.books import HostTimes, Progress
from crawlpool.engines import notes
from crawlpool.engines.notes import Freshness, RunnerNote, Word
from crawlpool.engines.watching import STALE_S, Watcher, merged
from crawlpool.models import Report
from tests.kit import HandClock

if TYPE_CHECKING:
    import pathlib


def progress(ok: int = 0, *, host: str = "a.example", legs: int | None = None, running: int = 0) -> Progress:
    report = Report(inputs=ok + running, ok=ok, legs=ok if legs is None else legs, elapsed_s=ok / 10)
    slow = (HostTimes(host, ok, ok / 100),)
    return Progress(report, 1, running, slow, {"timeout": 1}, {503: ok}, {"held": {host: ok}})


@pytest.fixture
def job(tmp_path: pathlib.Path) -> str:
    notes.make_folder(str(tmp_path))
    return str(tmp_path)


def test_what_a_runner_tells_is_read_as_it_was(job: str) -> None:
    """A runner's note comes back from its file as it was written, progress included."""
    saved = notes.saved_progress(progress(5, running=2))
    note = RunnerNote("r-1", "run", 3, "running", "host", 7, {4: saved}, {5: saved}, {6: "no room"}, (8,), None, 2.5, 9)
    notes.write_note(job, note)
    assert notes.read_note(job, "r-1") == note
    assert notes.progress_of(note.shards[4]) == progress(5, running=2)
    assert notes.names(job) == ["r-1"]
    notes.write_word(job, Word("run", 2, notes.DRAIN))
    assert notes.read_word(job) == Word("run", 2, notes.DRAIN)
    assert notes.names(job) == ["r-1"], "the coordinator is no runner"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"name": 1}', b'{"shards": 3}', b'{"run":"r","counter":"x"}'])
def test_a_damaged_note_is_no_note(job: str, content: bytes) -> None:
    """A file that is torn or none of ours tells nothing, and raises nothing."""
    for name in ("r-1", notes.COORDINATOR):
        with open(f"{job}/runners/{name}.json", "wb") as file:
            file.write(content)
    assert notes.read_word(job) is None
    assert notes.read_note(job, "r-1") is None
    assert Watcher(job, "run").look().notes == ()


def test_a_note_that_cannot_be_written_is_nobodys_end(tmp_path: pathlib.Path) -> None:
    """Where there is no folder, or no room, a note is left out."""
    notes.write_note(str(tmp_path / "gone"), RunnerNote("r-1", "run"))
    assert notes.names(str(tmp_path / "gone")) == []


def test_notes_of_earlier_runs_go(job: str) -> None:
    """A coordinator takes away what runners of other runs have left, and nothing else."""
    for name, run in (("r-1", "old"), ("r-2", "new")):
        notes.write_note(job, RunnerNote(name, run))
    notes.forget_others(job, "new")
    assert notes.names(job) == ["r-2"]


def test_what_does_not_change_grows_old_by_the_readers_clock() -> None:
    """How old something is counts from when its reader first saw it so; wall clocks of others aren't asked."""
    clock = HandClock()
    fresh = Freshness(clock)
    assert fresh.age_s("a", 1) == 0
    clock.tick(5)
    assert fresh.age_s("a", 1) == 5
    assert fresh.age_s("a", 2) == 0
    clock.tick(1)
    fresh.forget_all_but(set())
    assert fresh.age_s("a", 2) == 0


def test_progress_of_shards_adds_up() -> None:
    """The progress of all is the sum of each one's, with the slowest hosts of all."""
    found = merged([progress(2, host="a.example"), progress(7, host="b.example", running=3)])
    assert (found.report.ok, found.report.inputs, found.running, found.queued) == (9, 12, 3, 2)
    assert [host.host for host in found.slowest] == ["b.example", "a.example"]
    assert found.kinds == {"timeout": 2}
    assert found.statuses == {503: 9}
    assert found.left_alone == {"held": {"a.example": 2, "b.example": 7}}
    assert merged([]).report.settled == 0


def test_a_watcher_counts_each_shard_once(job: str) -> None:
    """A shard that went from one runner to another counts as its last one tells, and what others tell late doesn't."""
    watcher = Watcher(job, "run")
    watcher.know(1, notes.saved_progress(progress(1)))
    watcher.know(2, notes.saved_progress(progress(4)))
    assert watcher.progress().report.ok == 5
    notes.write_note(job, RunnerNote("r-1", "run", 1, shards={1: notes.saved_progress(progress(3, running=2))}))
    notes.write_note(job, RunnerNote("r-2", "another", 1, shards={2: notes.saved_progress(progress(100))}))
    assert [note.name for note in watcher.look().notes] == ["r-1"]
    assert (watcher.progress().report.ok, watcher.progress().running) == (7, 2)
    notes.write_note(job, RunnerNote("r-1", "run", 2, released={1: notes.saved_progress(progress(6))}))
    notes.write_note(job, RunnerNote("r-3", "run", 1, shards={1: notes.saved_progress(progress(5, running=1))}))
    watcher.look()
    assert watcher.progress().report.ok == 10, "what r-3 had read of it was of before"
    assert watcher.progress().running == 0 or watcher.progress().report.ok == 10


def test_a_runner_that_tells_nothing_any_more_is_stale(job: str) -> None:
    """One whose counter stands still is told apart from one that goes on, and from one that has ended."""
    clock = HandClock()
    watcher = Watcher(job, "run", clock)
    notes.write_note(job, RunnerNote("r-1", "run", 1))
    notes.write_note(job, RunnerNote("r-2", "run", 1, "ended"))
    assert [note.name for note in watcher.look().up] == ["r-1"]
    clock.tick(STALE_S + 1)
    assert watcher.look().stale == {"r-1"}
    assert watcher.look().up == ()
    notes.write_note(job, RunnerNote("r-1", "run", 2, failed={7: "no room"}, given_up=(3,), trouble="it ended"))
    found = watcher.look()
    assert (found.stale, found.failed, found.given_up) == (frozenset(), {7: "no room"}, {3})
    assert found.troubles == {"r-1": "it ended"}
    path = f"{job}/runners/r-1.json"
    with open(path, "rb") as file:
        assert json.loads(file.read())["counter"] == 2
