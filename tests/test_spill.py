"""Tests of crawlpool.spill: the queue that goes to disk instead of blocking."""

from __future__ import annotations

import collections
import io
import os
import pathlib
import tempfile
import threading
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from crawlpool.errors import ConfigError, CrawlPoolError, PoolClosed
from crawlpool.models import Target
from crawlpool.spill import SpillQueue, pack, unpack

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
TEXT = st.text(st.characters(), max_size=10)
TARGET = st.builds(
    Target,
    url=TEXT,
    method=st.sampled_from(["GET", "POST"]),
    headers=st.none() | st.dictionaries(TEXT, TEXT, max_size=2),
    data=st.none() | TEXT | st.binary(max_size=10) | st.dictionaries(TEXT, TEXT, max_size=2),
    params=st.none() | TEXT | st.dictionaries(TEXT, TEXT | st.lists(TEXT, max_size=2), max_size=2),
    meta=JSON,
    priority=st.integers(-3, 3),
    depth=st.integers(0, 3),
    parent=st.none() | TEXT,
    n=st.none() | st.integers(1, 9),
    input=st.none() | TEXT,
)


@given(TARGET)
def test_a_target_comes_back_as_it_was(target: Target) -> None:
    """Every field of a target survives the way through the queue, bytes and half surrogates included."""
    assert unpack(pack(target)) == target


class QueueLaw(RuleBasedStateMachine):
    """What comes out is what a list would give, at limits that make nearly all of it go through files."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = SpillQueue(2, memory_bytes=200, segment_bytes=300)
        self.model: collections.deque[Target] = collections.deque()

    @rule(several=st.lists(TARGET, max_size=6))
    def put(self, several: list[Target]) -> None:
        for target in several:
            self.queue.put(target)
            self.model.append(target)

    @rule(count=st.integers(1, 8))
    def get(self, count: int) -> None:
        for _ in range(count):
            assert self.queue.get_nowait() == (self.model.popleft() if self.model else None)

    @rule(big=st.integers(1, 3))
    def put_big(self, big: int) -> None:
        target = Target("http://h/", meta="x" * (300_000 * big))
        self.queue.put(target)
        self.model.append(target)

    @invariant()
    def length(self) -> None:
        assert len(self.queue) == len(self.model)

    def teardown(self) -> None:
        while self.model:
            self.get(1)
        assert self.queue.get_nowait() is None
        self.queue.close()


TestQueueLaw = QueueLaw.TestCase
TestQueueLaw.settings = settings(max_examples=40, stateful_step_count=15, deadline=None)


class _Strange:
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("compared")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("meta", object()),
        ("meta", {"deep": [1, {2, 3}]}),
        ("meta", float("nan")),
        ("meta", _Strange()),
        ("meta", {(1, 2): 3}),
        ("headers", {"a": b"b"}),
        ("headers", 7j),
        ("data", iter([b"x"])),
        ("params", {"a": b"b"}),
        ("parent", b"http://h/"),
    ],
)
@pytest.mark.parametrize("load", [0, 5])
def test_what_is_not_json_is_refused_at_once(field: str, value: Any, load: int) -> None:
    """A field that JSON can't say is named when the target is put, whether the queue is empty or on disk."""
    queue = SpillQueue(1)
    for number in range(load):
        queue.put(Target(f"http://h/{number}"))
    with pytest.raises(ConfigError, match=f"^{field}: "):
        queue.put(Target("http://h/", **{field: value}))
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(ConfigError, match=r"^meta: "):
        queue.put(Target("http://h/", meta=circle))
    assert len(queue) == load
    queue.close()


def test_what_comes_out_does_not_depend_on_the_load() -> None:
    """A tuple comes out as a list from memory, too: a handler sees the same on a small crawl as on a large one."""
    queue = SpillQueue(1)
    for _ in range(4):
        queue.put(Target("http://h/", meta=(1, 2)))
    assert [queue.get_nowait().meta for _ in range(4)] == [[1, 2]] * 4  # type: ignore[union-attr]
    queue.close()


def _files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_disk_space_is_given_back_as_it_is_read() -> None:
    """A queue that is never empty holds no file that was read to its end; an emptied or closed one holds none."""
    before = _files()
    queue = SpillQueue(10, memory_bytes=1000, segment_bytes=10_000)
    for number in range(3000):
        queue.put(Target(f"http://h/{number}"))
    most = _files() - before
    assert most >= 5
    for number in range(3000):
        queue.put(Target(f"http://h/{number}"))
        assert queue.get_nowait() is not None
        assert _files() - before <= most + 1
    while queue.get_nowait():
        pass
    assert _files() == before
    for number in range(100):
        queue.put(Target(f"http://h/{number}"))
    queue.close()
    assert _files() == before


def test_memory_is_bounded() -> None:
    """30,000 targets of 1 kB don't stay in memory."""
    queue = SpillQueue(1000, memory_bytes=1_000_000)
    tracemalloc.start()
    try:
        for number in range(30_000):
            queue.put(Target("http://h/", meta={"n": number, "text": "x" * 1000}))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000
    assert len(queue) == 30_000
    queue.close()


def test_a_closed_queue_takes_and_gives_nothing() -> None:
    """After ``close`` a put raises, a get gives nothing; closing again does nothing."""
    queue = SpillQueue(1)
    queue.put(Target("http://h/"))
    queue.close()
    queue.close()
    assert len(queue) == 0
    assert queue.get_nowait() is None
    with pytest.raises(PoolClosed):
        queue.put(Target("http://h/"))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_loses_nothing_that_was_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A put that finds no room raises and is not in the queue; what was taken comes out, and later puts go on."""
    queue = SpillQueue(2, memory_bytes=100_000)
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "TemporaryFile", lambda **_: io.FileIO("/dev/full", "r+"))
        taken = []
        for number in range(6):
            try:
                queue.put(Target(f"http://h/{number}"))
                taken.append(number)
            except CrawlPoolError as error:
                assert "No space left on device" in str(error)
    assert taken == [0, 1, 2]
    assert len(queue) == 3
    for number in range(10, 20):
        queue.put(Target(f"http://h/{number}"))
    found = [queue.get_nowait() for _ in range(len(queue))]
    assert [target.url for target in found if target] == [f"http://h/{n}" for n in [*taken, *range(10, 20)]]
    queue.close()


def test_no_folder_for_temporary_files_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """Where no temporary file can be made, the put that needs one says so and where."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    queue = SpillQueue(1)
    queue.put(Target("http://h/1"))
    with pytest.raises(CrawlPoolError, match=r"no room for waiting targets in .*none"):
        queue.put(Target("http://h/2"))
    assert len(queue) == 1
    queue.close()


@pytest.mark.parametrize("limits", [{"memory_items": 0}, {"memory_bytes": 0}, {"segment_bytes": True}])
def test_limits_that_cannot_be_are_refused(limits: dict[str, Any]) -> None:
    """A limit is a whole number of at least one."""
    with pytest.raises(ConfigError, match=next(iter(limits))):
        SpillQueue(**limits)


def test_threads_lose_and_double_nothing() -> None:
    """Eight threads put and take at once: all comes out once, and that of each thread in its order."""
    queue = SpillQueue(5, memory_bytes=2000, segment_bytes=5000)
    start = threading.Barrier(8)
    taken: list[list[tuple[int, int]]] = [[] for _ in range(8)]

    def work(me: int) -> None:
        start.wait(10)
        for number in range(500):
            queue.put(Target("http://h/", meta=[me, number]))
            if number % 2:
                target = queue.get_nowait()
                if target is not None:
                    taken[me].append(tuple(target.meta))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    rest = []
    while (target := queue.get_nowait()) is not None:
        rest.append(tuple(target.meta))
    everything = [pair for part in [*taken, rest] for pair in part]
    assert sorted(everything) == [(me, number) for me in range(8) for number in range(500)]
    for part in [*taken, rest]:
        for me in range(8):
            mine = [number for who, number in part if who == me]
            assert mine == sorted(mine)
    queue.close()
