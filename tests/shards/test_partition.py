"""The input cut into shards: each seed comes to one shard, once, in its order, whatever breaks off the cutting."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import pathlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlpool.errors import InputError, JobError, SinkError
from crawlpool.jobs.entries import row_of_seed
from crawlpool.models import Target
from crawlpool.shards import segments
from crawlpool.shards.inputs import input_state, is_visible
from crawlpool.shards.layout import inbox_folder, shards_there
from crawlpool.shards.manifest import Manifest
from crawlpool.shards.partition import Partitioner
from crawlpool.shards.rounds import round_bytes
from crawlpool.source import BadLine
from tests.disks import Crash, Faults, instead
from tests.shards.made import made

HOSTS = [f"h{n}.example{n % 5}.org" for n in range(12)] + ["127.0.0.1", "[::1]", "münchen.example"]
URLS = st.builds("http://{}/{}".format, st.sampled_from(HOSTS), st.integers(0, 9))
TARGETS = st.builds(
    lambda url, n, meta, rank: Target(url, n=n, input=url, meta=meta, priority=rank),
    URLS,
    st.integers(1, 99),
    st.none() | st.dictionaries(st.text(), st.integers(), max_size=2),
    st.integers(-5, 5),
)
SEEDS = st.lists(URLS | TARGETS | st.just("no URL") | st.just(5) | st.just("http://u:p@h0.example0.org/"), max_size=60)


@pytest.fixture(scope="module", autouse=True)
def _no_waits_for_the_disk() -> Iterator[None]:
    """Don't wait for the disk: here it is processes that die, and what they wrote is there."""
    with instead({"sync_file": lambda fd: None, "sync_folder": lambda path: None}):
        yield


def rows_of(seeds: list[Any]) -> list[tuple[Any, ...]]:
    """Return the rows that a job without shards has of seeds."""
    return [row_of_seed(None, seed, ordinal) for ordinal, seed in enumerate(seeds, 1)]  # type: ignore[arg-type]


def read_back(folder: pathlib.Path, manifest: Manifest) -> dict[int, list[tuple[Any, ...]]]:
    """Return what counts of the segments of each shard, in the order of importing; check what is said of them."""
    root, found = str(folder), {}
    state = input_state(root)
    for shard in shards_there(root):
        inbox = inbox_folder(root, shard)
        names = [name for name in segments.names(inbox) if is_visible(name, state)]
        found[shard] = [row for name in names for row in segments.read(f"{inbox}/{name}", manifest.sharding_id)]
        assert state.segments_of(shard) == len(names) and state.rows_of(shard) == len(found[shard])
    return found


def check_whole(parts: list[tuple[pathlib.Path, Manifest]], seeds: list[Any]) -> None:
    """Check that all folders together have each seed once, in its shard, in the order of the input."""
    everything = []
    for folder, manifest in parts:
        sharding = manifest.sharding(str(folder))
        for shard, rows in read_back(folder, manifest).items():
            assert shard in manifest.mine()
            assert {sharding.shard_of_row(row) for row in rows} <= {shard}
            assert [row[0] for row in rows] == sorted(row[0] for row in rows)
            everything += rows
        state = input_state(str(folder))
        digest = hashlib.blake2b("".join(row[3] for row in rows_of(seeds)).encode("ascii"), digest_size=16)
        assert (state.is_done, state.items, state.digest) == (True, len(seeds), digest.hexdigest())
    assert sorted(everything, key=lambda row: row[0]) == rows_of(seeds)


@given(seeds=SEEDS, shards=st.integers(1, 9), most_bytes=st.sampled_from([1, 300, 1 << 20]))
def test_each_seed_comes_to_one_shard_once_in_its_order(
    tmp_path_factory: pytest.TempPathFactory, seeds: list[Any], shards: int, most_bytes: int
) -> None:
    """Read back, the segments hold the rows of a job without shards: all, each once, in the order of the input."""
    folder = tmp_path_factory.mktemp("job", numbered=True)
    manifest = made(folder, shards=shards)
    assert Partitioner(str(folder), manifest, most_bytes=most_bytes).run(iter(seeds))
    check_whole([(folder, manifest)], seeds)


@given(seeds=SEEDS, shards=st.integers(1, 9), data=st.data())
def test_the_parts_together_are_the_whole(
    tmp_path_factory: pytest.TempPathFactory, seeds: list[Any], shards: int, data: st.DataObject
) -> None:
    """Parts 1/n to n/n, each cut by itself from the same input, hold each seed once over all of them."""
    of = data.draw(st.integers(1, shards))
    parts = []
    for which in range(1, of + 1):
        folder = tmp_path_factory.mktemp("part", numbered=True)
        manifest = made(folder, shards=shards, part=(which, of))
        assert Partitioner(str(folder), manifest, most_bytes=300).run(iter(seeds))
        parts.append((folder, manifest))
    check_whole(parts, seeds)


@given(seeds=SEEDS, data=st.data())
def test_a_crash_at_any_step_loses_and_doubles_nothing(
    tmp_path_factory: pytest.TempPathFactory, seeds: list[Any], data: st.DataObject
) -> None:
    """Wherever a process dies, as often as it does, and however the rounds fall then: the next one goes on whole."""
    folder = tmp_path_factory.mktemp("job", numbered=True)
    manifest = made(folder, shards=4)
    for _ in range(data.draw(st.integers(1, 3))):
        at, error = data.draw(st.integers(1, 60)), data.draw(st.sampled_from([None, errno.ENOSPC]))
        with Faults(at, error, half=data.draw(st.booleans())).installed():
            with contextlib.suppress(Crash, SinkError):
                Partitioner(str(folder), manifest, most_bytes=data.draw(st.sampled_from([1, 300, 2000]))).run(seeds)
        read_back(folder, manifest)
    assert Partitioner(str(folder), manifest, most_bytes=data.draw(st.sampled_from([1, 300, 2000]))).run(seeds)
    check_whole([(folder, manifest)], seeds)


def test_a_segment_of_a_round_that_never_counted_is_taken_away(tmp_path: pathlib.Path) -> None:
    """The round of that number may give the shard nothing the next time: then its old segment must not count."""
    folder, seeds = tmp_path, [f"http://h{n}.example/" for n in range(30)]
    manifest = made(folder, shards=4)
    real = segments.write_lines
    count = [0]

    def dies(*args: Any) -> None:
        count[0] += 1
        if count[0] == 4:
            raise Crash
        real(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "write_lines", dies)
        with pytest.raises(Crash):
            Partitioner(str(folder), manifest).run(seeds)
    left = sorted(path.name for path in folder.glob("shards/*/inbox/*"))
    assert left == ["input-00000001.seg"] * 3
    assert all(rows == [] for rows in read_back(folder, manifest).values())
    Partitioner(str(folder), manifest)
    assert list(folder.glob("shards/*/inbox/*")) == []
    (folder / "shards" / "0000" / "inbox" / "from-0001-e0001-00000001.seg").touch()
    (folder / "shards" / "0000" / "inbox" / ".from-0001-e0001-00000002.seg").touch()
    (folder / "shards" / "0000" / "inbox" / ".input-00000001.seg").touch()
    Partitioner(str(folder), manifest)
    assert sorted(path.name for path in folder.glob("shards/0000/inbox/*")) == [
        ".from-0001-e0001-00000002.seg",
        "from-0001-e0001-00000001.seg",
    ]


# Going on -------------------------------------------------------------------------------------------------------


def urls(count: int, host: str = "h") -> list[str]:
    """Return URLs of as many hosts."""
    return [f"http://{host}{n}.example/" for n in range(count)]


class Ends:
    """An input that isn't at its end where it ends: somebody stopped it."""

    is_exhausted = False

    def __init__(self, seeds: list[str]) -> None:
        self.seeds = seeds

    def __iter__(self) -> Iterator[str]:
        return iter(self.seeds)


def test_an_input_is_gone_on_with_where_it_was_left(tmp_path: pathlib.Path) -> None:
    """What was read is passed over; the end that somebody's stop made isn't the input's; a done one isn't touched."""
    manifest = made(tmp_path, shards=3)
    assert not Partitioner(str(tmp_path), manifest).run(Ends(urls(10)))
    state = input_state(str(tmp_path))
    assert (state.items, state.is_done, state.rounds) == (10, False, 1)
    assert not Partitioner(str(tmp_path), manifest).run(Ends(urls(4)))
    assert input_state(str(tmp_path)) == state
    partitioner = Partitioner(str(tmp_path), manifest)
    assert partitioner.run(urls(25))
    assert partitioner.state == input_state(str(tmp_path)) and partitioner.state.rounds == 2
    check_whole([(tmp_path, manifest)], urls(25))

    def untouched() -> Iterator[str]:
        raise AssertionError("it was read")
        yield

    assert Partitioner(str(tmp_path), manifest).run(untouched())


def test_another_input_is_refused(tmp_path: pathlib.Path) -> None:
    """One whose beginning differs, and one that is shorter than what was read, is that of another job."""
    manifest = made(tmp_path, shards=3)
    Partitioner(str(tmp_path), manifest).run(Ends(urls(10)))
    for other, told in (
        ([*urls(9), "http://x.example/", *urls(5)], "the first 10 entries"),
        (urls(9), "9 entries, and"),
    ):
        with pytest.raises(JobError, match=f"isn't the input that the job was begun with: .*{told}"):
            Partitioner(str(tmp_path), manifest).run(other)
    assert input_state(str(tmp_path)).items == 10


def test_an_input_that_fails_has_handed_on_what_came_before(tmp_path: pathlib.Path) -> None:
    """Its own error comes out; what it gave counts, and the input isn't done."""
    manifest = made(tmp_path, shards=3)

    def fails() -> Iterator[str]:
        yield from urls(7)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Partitioner(str(tmp_path), manifest).run(fails())
    state = input_state(str(tmp_path))
    assert (state.items, state.is_done) == (7, False)
    Partitioner(str(tmp_path), manifest).run(urls(9))
    check_whole([(tmp_path, manifest)], urls(9))


def test_hosts_that_arent_public_are_told_to_all_shards(tmp_path: pathlib.Path) -> None:
    """What a line of the input permits it permits in each shard and each part, and after a resume."""
    manifest = made(tmp_path, shards=3, part=(1, 3))
    lines = ["http://127.0.0.1/", "http://a.example/", "http://[::1]:8080/", "http://localhost/", "http://127.0.0.1/2"]
    Partitioner(str(tmp_path), manifest).run(Ends(lines))
    assert input_state(str(tmp_path)).hosts == ("127.0.0.1", "::1", "localhost")
    Partitioner(str(tmp_path), manifest).run([*lines, "http://localhost/b", "http://10.0.0.1/"])
    assert input_state(str(tmp_path)).hosts == ("127.0.0.1", "::1", "localhost", "10.0.0.1")


def test_a_bad_line_is_recorded_by_one_part(tmp_path: pathlib.Path) -> None:
    """Lines that are no URLs are spread over the shards by their ordinals: each has its one record."""
    bad = [BadLine(n, f"bad {n}", f"f:{n}", InputError("no scheme", f"f:{n}")) for n in range(1, 9)]
    parts = []
    for which in (1, 2):
        manifest = made(tmp_path / str(which), shards=4, part=(which, 2))
        Partitioner(str(tmp_path / str(which)), manifest).run(bad)
        parts.append((tmp_path / str(which), manifest))
    check_whole(parts, bad)
    assert [len(rows) for folder, manifest in parts for rows in read_back(folder, manifest).values()] == [2, 2, 2, 2]


# While the input waits ------------------------------------------------------------------------------------------


class Stream:
    """An input that waits before its last line until it is let go on, and tells that it does."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.waits, self.go_on = threading.Event(), threading.Event()

    def __iter__(self) -> Iterator[str]:
        yield from urls(self.count - 1)
        self.waits.set()
        assert self.go_on.wait(10)
        yield urls(self.count)[-1]


def begun(partitioner: Partitioner, stream: Stream, results: list[Any]) -> threading.Thread:
    """Run a partitioner in a thread until its stream waits; return the thread."""

    def run() -> None:
        try:
            results.append(partitioner.run(stream))
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert stream.waits.wait(10)
    return thread


def wait_for_items(folder: pathlib.Path, count: int) -> None:
    """Return when so many items count."""
    until = threading.Event()
    for _ in range(1000):
        if input_state(str(folder)).items >= count:
            return
        until.wait(0.01)
    raise AssertionError(input_state(str(folder)))


@pytest.mark.parametrize("flush_s", [None, 0.01])
def test_what_was_read_of_a_stream_is_handed_on_while_it_waits(tmp_path: pathlib.Path, flush_s: float | None) -> None:
    """By ``flush`` at once, by itself after the seconds given: nobody waits for the line after."""
    manifest, stream, results = made(tmp_path, shards=3), Stream(5), list[Any]()
    partitioner = Partitioner(str(tmp_path), manifest, flush_s=flush_s)
    thread = begun(partitioner, stream, results)
    if flush_s is None:
        partitioner.flush()
    wait_for_items(tmp_path, 4)
    assert sum(map(len, read_back(tmp_path, manifest).values())) == 4
    stream.go_on.set()
    thread.join()
    assert results == [True]
    check_whole([(tmp_path, manifest)], urls(5))


def test_a_stop_keeps_what_was_read(tmp_path: pathlib.Path) -> None:
    """After a stop no further line is taken, those before count, and the input isn't done."""
    manifest, stream, results = made(tmp_path, shards=3), Stream(5), list[Any]()
    partitioner = Partitioner(str(tmp_path), manifest)
    thread = begun(partitioner, stream, results)
    partitioner.stop()
    stream.go_on.set()
    thread.join()
    state = input_state(str(tmp_path))
    assert results == [False] and (state.items, state.is_done) == (4, False)
    assert Partitioner(str(tmp_path), manifest).run(urls(5))
    check_whole([(tmp_path, manifest)], urls(5))


def test_a_full_disk_is_told_at_the_next_line(tmp_path: pathlib.Path) -> None:
    """The reading ends with the error, which ``failure`` tells before; what counted before counts still."""
    manifest, stream, results = made(tmp_path, shards=3), Stream(5), list[Any]()
    partitioner = Partitioner(str(tmp_path), manifest)
    thread = begun(partitioner, stream, results)
    assert partitioner.failure is None
    with Faults(at=1, error=errno.ENOSPC).installed():
        partitioner.flush()
        for _ in range(1000):
            if partitioner.failure is not None:
                break
            threading.Event().wait(0.01)
    stream.go_on.set()
    thread.join()
    assert isinstance(results[0], SinkError) and results[0] is partitioner.failure
    assert "No space left" in str(results[0])
    assert input_state(str(tmp_path)).items == 0


def test_a_round_is_as_long_as_suits_the_shards() -> None:
    """Segments of many shards aren't tiny, and what is held in memory is bounded all the same."""
    assert [round_bytes(shards) >> 20 for shards in (1, 64, 320, 9999)] == [16, 16, 20, 128]


def test_memory_is_bounded_while_the_disk_is_slow(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one round is written the next one is read until it is full, and no further."""
    manifest = made(tmp_path, shards=2)
    is_writing, go_on, read = threading.Event(), threading.Event(), [0]
    real = segments.write_lines

    def slow(*args: Any) -> None:
        is_writing.set()
        assert go_on.wait(10)
        real(*args)

    monkeypatch.setattr(segments, "write_lines", slow)

    def seeds() -> Iterator[str]:
        for url in urls(400):
            read[0] += 1
            yield url

    partitioner = Partitioner(str(tmp_path), manifest, most_bytes=1000)
    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(partitioner.run(seeds())))
    thread.start()
    assert is_writing.wait(10)
    before = -1
    while before != read[0]:
        before = read[0]
        threading.Event().wait(0.05)
    assert read[0] < 100
    go_on.set()
    thread.join()
    assert results == [True]
    check_whole([(tmp_path, manifest)], urls(400))
