"""What waits in a ledger: taken host by host, each once, and all of it again after a crash."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crawlpool.ledger.store import Batch, Ledger
from crawlpool.ledger.transfer import rank_of
from crawlpool.ledger.waiting import Waiting

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator


@pytest.fixture
def ledger(tmp_path: pathlib.Path) -> Iterator[Ledger]:
    made = Ledger(str(tmp_path / "ledger.sqlite3"))
    made.begin_run(0.0, 0.0)
    yield made
    made.close()


def fill(ledger: Ledger, given: list[tuple[str, int]]) -> Waiting:
    rows: list[Any] = [(n, host, rank_of(p), f"-http://{host}/{n}", None, n, 0) for n, (host, p) in enumerate(given, 1)]
    ledger.commit(Batch(incoming=rows))
    return Waiting(ledger, ledger.count_waiting())


def end(ledger: Ledger, waiting: Waiting, target: int) -> None:
    ledger.commit(Batch(results=[(target, 1, f"[{target},1,null,200,null,1,0,1,[]")]))
    waiting.settled(target)


def ids(taken: tuple[list[Any], bool]) -> tuple[list[int], bool]:
    return [one.id for one in taken[0]], taken[1]


def test_targets_of_a_host_come_by_priority_then_by_age(ledger: Ledger) -> None:
    """Higher priority first, then the order of the input; the last ones say that they are."""
    waiting = fill(ledger, [("a", 0), ("a", 5), ("b", 0), ("a", 0), ("a", 5)])
    assert ids(waiting.take("a", 3)) == ([2, 5, 1], False)
    assert ids(waiting.take("a", 3)) == ([4], True)
    assert ids(waiting.take("a", 3)) == ([], True)
    assert ids(waiting.take("unknown", 3)) == ([], True)
    assert (len(waiting), waiting.taken) == (1, 4)


def test_what_was_taken_is_not_taken_again_until_it_is_settled_or_lost(ledger: Ledger) -> None:
    """One who takes anew, as after a crash, gets all that isn't settled."""
    waiting = fill(ledger, [("a", 0)] * 4)
    assert ids(waiting.take("a", 2)) == ([1, 2], False)
    end(ledger, waiting, 1)
    assert ids(waiting.take("a", 9)) == ([3, 4], True)
    assert ids(Waiting(ledger, ledger.count_waiting()).take("a", 9)) == ([2, 3, 4], True)


def test_a_more_urgent_target_that_comes_later_goes_first(ledger: Ledger) -> None:
    """Ranks have each a place of their own to go on from: nothing is passed over."""
    waiting = fill(ledger, [("a", 0), ("a", 0), ("a", 0)])
    assert ids(waiting.take("a", 1)) == ([1], False)
    ledger.commit(Batch(incoming=[(None, "a", rank_of(9), "-http://a/new", None, 99, 1)]))
    waiting.came({"a"}, 1)
    assert ids(waiting.take("a", 9)) == ([4, 2, 3], True)


def test_hosts_are_named_in_turn(ledger: Ledger) -> None:
    """Each host that has something is named before one is named again; those left out, and dry ones, aren't."""
    waiting = fill(ledger, [(host, 0) for host in "abcabc"])
    assert waiting.hosts(2) == ["a", "b"]
    assert waiting.hosts(2) == ["c", "a"]
    assert sorted(waiting.hosts(9, without={"b"})) == ["a", "c"]
    waiting.take("a", 9)
    assert sorted(waiting.hosts(9)) == ["b", "c"]
    assert waiting.count("a", 9) == 0
    assert waiting.count("b", 9) == 2
    assert waiting.count("b", 1) == 1


def test_a_dry_host_is_named_again_when_more_has_come(ledger: Ledger) -> None:
    """What comes in while all of a host is taken isn't overlooked."""
    waiting = fill(ledger, [("a", 0)])
    waiting.take("a", 9)
    assert waiting.hosts(9) == []
    ledger.commit(Batch(incoming=[(2, "a", 0.0, "-http://a/2", None, 2, 0)]))
    waiting.came({"a"}, 1)
    assert waiting.hosts(9) == ["a"]
    assert ids(waiting.take("a", 9)) == ([2], True)


@settings(max_examples=15)
@given(st.data())
def test_each_target_is_taken_once_by_whatever_way(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """However takes, settlements and arrivals are mixed: all are handed out, each once."""
    ledger = Ledger(str(tmp_path_factory.mktemp("waiting") / "ledger.sqlite3"))
    ledger.begin_run(0.0, 0.0)
    hosts = ["a", "b", "c"]
    made = data.draw(st.lists(st.tuples(st.sampled_from(hosts), st.integers(-2, 2)), min_size=1, max_size=12))
    waiting = fill(ledger, made)
    total, out, seen = len(made), list[int](), list[int]()
    for _ in range(60):
        action = data.draw(st.sampled_from(["take", "end", "add", "look"]))
        if action == "take":
            found, _ = waiting.take(data.draw(st.sampled_from(hosts)), data.draw(st.integers(1, 4)))
            out += [one.id for one in found]
            seen += [one.id for one in found]
        elif action == "end" and out:
            end(ledger, waiting, out.pop(data.draw(st.integers(0, len(out) - 1))))
        elif action == "add" and total < 30:
            total += 1
            host, priority = data.draw(st.tuples(st.sampled_from(hosts), st.integers(-2, 2)))
            ledger.commit(Batch(incoming=[(total, host, rank_of(priority), "-http://x/", None, total, 0)]))
            waiting.came({host}, 1)
        else:
            waiting.hosts(2)
        assert len(waiting) == total - len(seen)
        assert waiting.taken == len(out)
    while waiting:
        named = waiting.hosts(1)
        assert named
        seen += [one.id for one in waiting.take(named[0], 3)[0]]
    assert sorted(seen) == list(range(1, total + 1))
    ledger.close()


def test_a_suspect_goes_after_all_others_and_alone(ledger: Ledger) -> None:
    """Who was in flight at two crashes in a row is taken when nothing else is out, and nothing is taken beside it."""
    fill(ledger, [("a", 0), ("a", 0), ("b", 0), ("b", 0), ("a", 0)])
    for _ in range(2):
        ledger.crashed({1, 2, 3}, 2, 5)
    waiting = Waiting(ledger, ledger.count_waiting())
    assert ids(waiting.take("a", 9)) == ([5], True)
    assert ids(waiting.take("b", 9)) == ([4], True)
    assert (waiting.hosts(9), ids(waiting.take("a", 9))) == ([], ([], True))
    end(ledger, waiting, 5)
    assert ids(waiting.take("a", 9)) == ([], True), "4 is out"
    end(ledger, waiting, 4)
    alone = []
    for _ in range(3):
        (first, *others) = waiting.hosts(9)
        ((one, *more), _) = ids(waiting.take(first, 9))
        assert more == []
        assert all(ids(waiting.take(host, 9)) == ([], True) for host in ("a", "b", *others))
        assert waiting.hosts(9) == []
        alone.append(one)
        end(ledger, waiting, one)
    assert (sorted(alone), bool(waiting), waiting.hosts(9)) == ([1, 2, 3], False, [])
