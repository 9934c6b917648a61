"""The backlog: targets by host, on disk, and nothing of them lost, whatever happens."""

from __future__ import annotations

import dataclasses
import os
import threading
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from crawlpool.backlog import Backlog, pack, unpack
from crawlpool.errors import ConfigError, CrawlPoolError, PoolClosed
from crawlpool.models import Target

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
HOSTS = ("a.example", "b.example", "", "\ud800")
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
    """Every field of a target survives the way through the backlog, bytes and half surrogates included."""
    assert unpack(pack(target)) == target


class BacklogLaw(RuleBasedStateMachine):
    """What comes out is what a list for each host would give, by priority, then by age; ``hosts`` knows them all."""

    def __init__(self) -> None:
        super().__init__()
        self.backlog = Backlog()
        self.model: dict[str, list[Target]] = {}
        self.count = 0

    @rule(host=st.sampled_from(HOSTS), several=st.lists(TARGET, max_size=6))
    def put(self, host: str, several: list[Target]) -> None:
        mine = self.model.get(host, [])
        for target in several:
            self.count += 1  # no two are alike, so that it is known which came out
            mine.append(dataclasses.replace(target, n=self.count))
            self.backlog.put(host, pack(mine[-1]), target.priority)
        if mine:
            self.model[host] = sorted(mine, key=lambda target: -target.priority)

    @rule(host=st.sampled_from(HOSTS))
    def put_many(self, host: str) -> None:
        self.put(host, [Target(f"http://h/{number}") for number in range(600)])  # more than are written in one go

    @rule(host=st.sampled_from(HOSTS), most=st.integers(1, 8))
    def take(self, host: str, most: int) -> None:
        mine = self.model.get(host, [])
        expected, rest = mine[:most], mine[most:]
        taken, is_last = self.backlog.take(host, most)
        assert taken == expected
        # Exactly as many as were asked for may have been the last ones: then the next call says so.
        assert is_last == (not rest) or (not rest and len(taken) == most)
        self.model[host] = rest
        if not rest:
            self.model.pop(host, None)

    @rule(most=st.integers(1, 5))
    def take_any(self, most: int) -> None:
        taken = self.backlog.take_any(most)
        assert len(taken) == min(most, sum(map(len, self.model.values())))
        for target in taken:
            host, at = next(
                (host, at) for host, mine in self.model.items() for at, one in enumerate(mine) if one.n == target.n
            )
            assert self.model[host].pop(at) == target
            if not self.model[host]:
                del self.model[host]

    @rule(without=st.sets(st.sampled_from(HOSTS)))
    def hosts(self, without: set[str]) -> None:
        found = self.backlog.hosts(10, without)
        assert len(found) == len(set(found))
        assert {host for host in self.model if host not in without} <= set(found)
        assert not without & set(found)

    @invariant()
    def length(self) -> None:
        assert len(self.backlog) == sum(map(len, self.model.values()))

    def teardown(self) -> None:
        self.backlog.close()


TestBacklogLaw = BacklogLaw.TestCase
TestBacklogLaw.settings = settings(max_examples=40, stateful_step_count=15, deadline=None)


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
def test_what_is_not_json_is_refused(field: str, value: Any) -> None:
    """A field that JSON can't say is named."""
    with pytest.raises(ConfigError, match=f"^{field}: "):
        pack(Target("http://h/", **{field: value}))
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(ConfigError, match=r"^meta: "):
        pack(Target("http://h/", meta=circle))


@pytest.mark.parametrize("priority", [10**400, -(10**400), float("inf"), 0.5])
def test_any_priority_is_kept_in_order(priority: float) -> None:
    """A whole number has no end, and comes out before or after all others."""
    backlog = Backlog()
    backlog.put("h", pack(Target("http://h/none")), 0)
    backlog.put("h", pack(Target("http://h/given")), priority)
    order = [target.url[9:] for target in backlog.take("h", 2)[0]]
    assert order == (["given", "none"] if priority > 0 else ["none", "given"])
    backlog.close()


def test_hosts_have_turns() -> None:
    """A host of which some were taken stands behind the others."""
    backlog = Backlog()
    for host in ("a", "b", "c"):
        for _ in range(3):
            backlog.put(host, pack(Target("http://h/")))
    assert backlog.hosts(3) == ["a", "b", "c"]
    backlog.take("a", 1)
    assert backlog.hosts(2) == ["b", "c"]
    assert backlog.hosts(3) == ["b", "c", "a"]
    backlog.close()


def _files() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def _fill(backlog: Backlog, targets: int, size: int = 1000) -> None:
    line = pack(Target("http://h/", meta="x" * size))
    for number in range(targets):
        backlog.put(f"host{number % 50}", line)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_a_closed_backlog_holds_no_file() -> None:
    """What went to a temporary file is given back by ``close``."""
    before = _files()
    backlog = Backlog()
    _fill(backlog, 30_000)
    assert not _files() <= before
    backlog.close()
    assert _files() <= before  # fewer, where garbage of another test was collected meanwhile


def test_memory_is_bounded() -> None:
    """30,000 targets of 1 kB don't stay in memory."""
    tracemalloc.start()
    try:
        backlog = Backlog()
        _fill(backlog, 30_000)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2_000_000  # SQLite's own cache, of eight megabytes, isn't seen here
    assert len(backlog) == 30_000
    backlog.close()


def test_a_closed_backlog_takes_and_gives_nothing() -> None:
    """After ``close`` a put raises, a take gives nothing; closing again does nothing."""
    backlog = Backlog()
    _fill(backlog, 600)
    backlog.close()
    backlog.close()
    with pytest.raises(PoolClosed):
        backlog.put("h", b"{}")
    assert backlog.take("host1", 5) == ([], True)
    assert backlog.take_any(5) == []
    assert backlog.hosts(5) == []
    assert len(backlog) == 0


def test_a_full_disk_loses_nothing_that_was_taken() -> None:
    """A put that finds no room raises and isn't here; all that was taken comes out, and then there is room again."""
    backlog = Backlog(most_bytes=200_000)
    line = pack(Target("http://h/", meta="x" * 1000))
    taken = 0
    with pytest.raises(CrawlPoolError, match="no room for waiting targets"):
        for _ in range(3000):
            backlog.put("h", line)
            taken += 1
    assert len(backlog) == taken > 100
    out: list[Target] = []
    while len(backlog):
        targets, is_last = backlog.take("h", 50)
        out += targets
        assert is_last == (not len(backlog)) or not len(backlog)
    assert len(out) == taken
    backlog.put("h", line)
    assert backlog.hosts(5) == ["h"]
    backlog.close()


@pytest.mark.parametrize("most_bytes", [0, -1, 1.5, "1"])
def test_limits_that_cannot_be_are_refused(most_bytes: Any) -> None:
    """A limit is a whole number of at least one."""
    with pytest.raises(ConfigError, match="most_bytes"):
        Backlog(most_bytes)


def test_threads_lose_and_double_nothing() -> None:
    """Eight threads put and take at once: all comes out once."""
    backlog = Backlog()
    start = threading.Barrier(8)
    out: list[str] = []

    def work(number: int) -> None:
        start.wait()
        for n in range(300):
            backlog.put(f"h{n % 3}", pack(Target(f"http://h/{number}/{n}")))
            if n % 7 == 0:
                out.extend(target.url for target in backlog.take(f"h{n % 3}", 5)[0])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while targets := backlog.take_any(100):
        out.extend(target.url for target in targets)
    assert sorted(out) == sorted(f"http://h/{number}/{n}" for number in range(8) for n in range(300))
    backlog.close()


def test_the_targets_of_a_host_are_counted() -> None:
    """Those in memory and those that are written; no further than is asked for."""
    backlog = Backlog()
    for number in range(300):
        backlog.put("ab"[number % 2], pack(Target(f"http://h/{number}")))
    assert (backlog.count("a", 1000), backlog.count("b", 100), backlog.count("c", 10)) == (150, 100, 0)
    backlog.take("a", 50)
    assert backlog.count("a", 1000) == 100
    backlog.close()
    assert backlog.count("a", 1000) == 0
