"""Tests of crawlpool.sinks.bodies: names that no server has a say in, and files that are there or aren't."""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import stat
import threading

import pytest

from crawlpool.errors import ConfigError, SinkError
from crawlpool.models import BodyPlace, Outcome, Result, Target
from crawlpool.sinks import bodies
from crawlpool.sinks.bodies import EXTENSIONS, BodiesSink, extension_of
from crawlpool.sinks.marks import Mark
from tests.disks import ERRORS, Crash, Faults, PowerLoss
from tests.sinks.results import result_of


def files_in(folder: pathlib.Path) -> dict[str, bytes]:
    """Return the files of a folder and those below, by their paths in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def page(body: bytes = b"hello", content_type: str | None = "text/html") -> Result:
    """Return the result of a page."""
    result = result_of(body=body)
    assert result.response is not None
    result.response.headers.pop("Content-Type")
    if content_type is not None:
        result.response.headers["Content-Type"] = content_type
    return result


def test_each_body_is_a_file_named_by_its_number(tmp_path: pathlib.Path) -> None:
    """Decoded bodies in order; the record says where; modes are private; without a body there is no file."""
    sink = BodiesSink(f"{tmp_path}/bodies/")
    results = [page(b"one"), page(b"two", "application/json; charset=utf-8"), page(b""), page(b"three", None)]
    sink.write_all([*results, Result(Target("http://h/"), Outcome.FAILED)])
    sink.close()
    expected = {"00/00/00000001.html": b"one", "00/00/00000002.json": b"two", "00/00/00000003.bin": b"three"}
    assert files_in(tmp_path / "bodies") == expected
    assert [result.bodies for result in results] == [
        (BodyPlace("bodies/00/00/00000001.html", 0, 3),),
        (BodyPlace("bodies/00/00/00000002.json", 0, 3),),
        (),
        (BodyPlace("bodies/00/00/00000003.bin", 0, 5),),
    ]
    assert results[0].record["body"] == [{"file": "bodies/00/00/00000001.html", "offset": 0, "length": 3}]
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "bodies" / "00").stat().st_mode) == 0o700
        assert stat.S_IMODE((tmp_path / "bodies" / "00/00/00000001.html").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "content_type",
    ["text/../../x", "../etc/passwd", "text/html/../x", "application/x-sh", "", "TEXT/HTML\0", "a" * 5000],
)
def test_no_content_type_makes_a_name(content_type: str) -> None:
    """An extension comes from the table or is ``.bin``."""
    assert extension_of(page(content_type=content_type).response) == ".bin"
    assert extension_of(page(content_type=" Text/HTML ;x=/../").response) == ".html"
    assert all(name.startswith(".") and name[1:].isalnum() for name in EXTENSIONS.values())


def test_a_folder_holds_a_thousand(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next folder begins then; the number in the name goes on."""
    monkeypatch.setattr(bodies, "_PER_FOLDER", 3)
    sink = BodiesSink(f"{tmp_path}/b/")
    sink.write_all([page() for _ in range(11)])
    assert [name[:14] for name in files_in(tmp_path / "b")] == [
        *(f"00/00/{n:08}" for n in (1, 2)),
        *(f"00/01/{n:08}" for n in (3, 4, 5)),
        *(f"00/02/{n:08}" for n in (6, 7, 8)),
        *(f"01/00/{n:08}" for n in (9, 10, 11)),
    ]


def test_without_a_job_the_folder_must_be_empty(tmp_path: pathlib.Path) -> None:
    """Bodies of two runs are never mixed; what lies there stays. A parent that is missing is told."""
    (tmp_path / "b").mkdir()
    BodiesSink(f"{tmp_path}/b/").write(page())
    with pytest.raises(SinkError, match="isn't empty"):
        BodiesSink(f"{tmp_path}/b/")
    assert len(files_in(tmp_path / "b")) == 1
    with pytest.raises(SinkError, match="its folder does not exist"):
        BodiesSink(f"{tmp_path}/none/b/")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SinkError):
        BodiesSink(f"{tmp_path}/file/")


def test_many_threads_write_at_once(tmp_path: pathlib.Path) -> None:
    """Each body has a number and a file of its own."""
    sink = BodiesSink(f"{tmp_path}/b/")
    mine = [[page(b"%d %d" % (n, m)) for m in range(50)] for n in range(4)]
    threads = [threading.Thread(target=sink.write_all, args=(results,)) for results in mine]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(files_in(tmp_path / "b")) == 200
    for result in itertools.chain(*mine):
        assert result.response is not None
        assert (tmp_path / result.bodies[0].file).read_bytes() == result.response.content


def test_an_item_must_be_json(tmp_path: pathlib.Path) -> None:
    """As with other sinks a handler's fault is told at once; it isn't written."""
    sink = BodiesSink(f"{tmp_path}/b/")
    sink.emit({"a": 1})
    with pytest.raises(ConfigError):
        sink.emit({"a": object()})
    assert files_in(tmp_path) == {}


# -- in a job ----------------------------------------------------------------------------------------------------------


class Job:
    """What a job does with bodies, and what its ledger has of them."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder, self.mark = folder, Mark()
        self.committed: list[tuple[str, bytes]] = []

    def live(self, contents: list[bytes], *, is_last: bool = False, content_type: str = "text/html") -> None:
        """Open the folder at the mark and write the bodies in groups of two, each committed."""
        sink = BodiesSink(f"{self.folder}/b/", mark=self.mark)
        groups = [contents[at : at + 2] for at in range(0, len(contents), 2)]
        for group in groups:
            results = [page(content, content_type) for content in group]
            sink.write_all(results)
            self._commit(sink, sink.sync(), results)
        if is_last:
            self._commit(sink, sink.complete(), [])
        sink.close()

    def _commit(self, sink: BodiesSink, mark: Mark, results: list[Result]) -> None:
        self.mark = mark
        self.committed += [(r.bodies[0].file, r.response.content) for r in results if r.response is not None]
        sink.committed(mark)

    def check(self) -> None:
        """Hold that what was committed is there, and nothing else."""
        assert files_in(self.folder) == dict(self.committed)
        assert self.mark.length == len(self.committed)


def test_after_a_crash_at_any_call_only_what_was_committed_is_there(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written and not committed goes, though it had another extension; the next one takes its number."""
    monkeypatch.setattr(bodies, "_PER_FOLDER", 2)
    for at in itertools.count(1):
        folder = tmp_path / str(at)
        folder.mkdir()
        job, faults = Job(folder), Faults(at, half=True)
        with faults.installed(), contextlib.suppress(Crash):
            job.live([b"1", b"22", b"333", b"4444", b"55555"], content_type="text/css")
        job.live([b"a", b"b", b"c"], is_last=True)
        job.check()
        assert job.mark.is_complete
        if at > len(faults.calls):
            return


def test_after_a_failure_every_call_fails(tmp_path: pathlib.Path) -> None:
    """A full disk at any call is a ``SinkError``, then and later; opened anew what was committed is there."""
    for at in itertools.count(1):
        probe, folder = Faults(at), tmp_path / f"probe{at}"
        folder.mkdir()
        with probe.installed(), contextlib.suppress(Crash):
            Job(folder).live([b"1", b"22", b"333"])
        if len(probe.calls) < at:
            return
        folder = tmp_path / str(at)
        folder.mkdir()
        job = Job(folder)
        with Faults(at, ERRORS[probe.calls[-1]][0], half=True).installed(), pytest.raises(SinkError, match="b/"):
            job.live([b"1", b"22", b"333"])
        job.live([b"last"])
        job.check()


def test_a_failed_sink_says_so_again(tmp_path: pathlib.Path) -> None:
    """Every later call raises the same."""
    sink = BodiesSink(f"{tmp_path}/b/", mark=Mark())
    with Faults(1, ERRORS["write"][0]).installed(), pytest.raises(SinkError) as first:
        sink.write(page())
    for call in (lambda: sink.write(page()), sink.flush, sink.sync, sink.complete, sink.close):
        with pytest.raises(SinkError) as again:
            call()
        assert str(again.value) == str(first.value)


def test_what_is_synced_survives_a_loss_of_power(tmp_path: pathlib.Path) -> None:
    """Nothing unsynced need survive: bytes and names of what ``sync`` returned for do."""
    sink = BodiesSink(f"{tmp_path}/b/", mark=Mark())
    sink.write(page(b"before"))
    sink.sync()
    folder = tmp_path / "b" / "00" / "00"
    power = PowerLoss(folder)
    with power.installed():
        sink.write_all([page(b"one"), page(b"two")])
        sink.sync()
        sink.write(page(b"three"))
    left = tmp_path / "left"
    left.mkdir()
    power.lose(left, lambda most: 0)
    assert list(files_in(left).values()) == [b"before", b"one", b"two"]
