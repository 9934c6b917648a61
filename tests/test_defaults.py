"""The live defaults: what is changed on the pool is seen by every session, but for what that session set itself."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlpool.defaults import Defaults, OwnHeaders, OwnMapping, Snapshot, as_hooks
from crawlpool.errors import ConfigError

KEYS = ["User-Agent", "X-A", "x-a", "X-B", "X-C"]
steps = st.lists(
    st.tuples(
        st.sampled_from(["pool", "session"]),
        st.sampled_from(["set", "delete", "update", "pop", "setdefault", "clear"]),
        st.sampled_from(KEYS),
        st.integers(0, 3).map(str),
    ),
    max_size=12,
)


def do(mapping: Any, action: str, key: str, value: str) -> None:
    """Change a mapping in one of the ways that mappings have."""
    if action == "set":
        mapping[key] = value
    elif action == "delete":
        if key in mapping:
            del mapping[key]
    elif action == "update":
        mapping.update({key: value, "X-C": value})
    elif action == "pop":
        mapping.pop(key, None)
    elif action == "setdefault":
        mapping.setdefault(key, value)
    else:
        mapping.clear()


class Law:
    """The rule itself, as simply as it can be said: two dicts, and the keys that the session touched."""

    def __init__(self, start: dict[str, str], fold: Any) -> None:
        self.fold = fold
        self.pool = {fold(key): value for key, value in start.items()}
        self.own: dict[str, str | None] = {}

    @property
    def seen(self) -> dict[str, str]:
        both = {**self.pool, **self.own}
        return {key: value for key, value in both.items() if value is not None}

    def step(self, where: str, action: str, key: str, value: str) -> None:
        key, other = self.fold(key), self.fold("X-C")
        now = self.pool if where == "pool" else self.seen
        changed: dict[str, str | None] = {}
        if action == "set" or (action == "setdefault" and key not in now):
            changed[key] = value
        elif action == "update":
            changed = {key: value, other: value}
        elif action in ("delete", "pop") and key in now:
            changed[key] = None
        elif action == "clear":
            changed = dict.fromkeys(now)
        if where == "session":
            self.own.update(changed)
        else:
            self.pool = {k: v for k, v in {**self.pool, **changed}.items() if v is not None}


@given(steps)
def test_headers_follow_the_pool_but_for_the_sessions_own(sequence: list[tuple[str, str, str, str]]) -> None:
    """After any changes on both sides, in any order: the session's own and its deletions stand, all else is live."""
    defaults = Defaults(Snapshot())
    defaults.headers.clear()
    defaults.headers.update({"User-Agent": "0"})
    session = OwnHeaders(defaults.current.headers)
    law = Law({"User-Agent": "0"}, str.lower)
    for where, action, key, value in sequence:
        session.sync(defaults.current.headers)
        do(defaults.headers if where == "pool" else session, action, key, value)
        law.step(where, action, key, value)
    session.sync(defaults.current.headers)
    assert {key.lower(): value for key, value in session.items()} == law.seen
    assert {key.lower(): value for key, value in defaults.headers.items()} == law.pool


@given(steps)
def test_params_and_proxies_follow_the_same_rule(sequence: list[tuple[str, str, str, str]]) -> None:
    """With keys that mind their case."""
    defaults = Defaults(Snapshot(params={"User-Agent": "0"}))
    session = OwnMapping(defaults.current.params)
    law = Law({"User-Agent": "0"}, str)
    for where, action, key, value in sequence:
        session.sync(defaults.current.params)
        do(defaults.params if where == "pool" else session, action, key, value)
        law.step(where, action, key, value)
    session.sync(defaults.current.params)
    assert dict(session) == law.seen


def test_every_way_to_change_a_dict_is_the_sessions_own() -> None:
    """``|=`` and ``popitem`` too, which a dict does without its ``__setitem__``."""
    mapping = OwnMapping({"a": 1, "b": 2})
    mapping |= {"c": 3}
    assert mapping.popitem() == ("c", 3)
    assert mapping.popitem() == ("b", 2)
    mapping.sync({"a": 9, "b": 9, "c": 9})
    assert mapping == {"a": 9}


def test_the_order_of_headers_stays_when_the_pool_changes() -> None:
    """A session that only changed the User-Agent sends it where the others send theirs."""
    defaults = Defaults(Snapshot())
    session = OwnHeaders(defaults.current.headers)
    session["User-Agent"] = "mine"
    order = list(session)
    defaults.headers["X-New"] = "1"
    session.sync(defaults.current.headers)
    assert list(session) == [*order, "X-New"]
    assert session["user-agent"] == "mine"


def test_a_snapshot_is_never_changed() -> None:
    """Who reads one without a lock sees one moment."""
    defaults = Defaults(Snapshot(params={"a": "1"}))
    before = defaults.current
    copied = defaults.params.copy()
    defaults.params["a"] = "2"
    defaults.set(timeout=3, verify=False)
    assert before.params == copied == {"a": "1"}
    assert (before.timeout, before.verify) == ((5.0, 30.0), True)
    assert (defaults.current.timeout, defaults.current.verify, defaults.params["a"]) == (3, False, "2")


@pytest.mark.parametrize("change", [{"timeout": "soon"}, {"timeout": 0}, {"max_redirects": -1}, {"max_redirects": 1.5}])
def test_a_value_that_cannot_be_changes_nothing(change: dict[str, Any]) -> None:
    """It is refused where it is set, not at the next request."""
    defaults = Defaults(Snapshot())
    before = defaults.current
    with pytest.raises(ConfigError):
        defaults.set(**change)
    assert defaults.current is before


def test_no_change_of_another_thread_is_lost() -> None:
    """Eight threads set their own keys, and count one up together by setdefault: all of it is there."""
    defaults = Defaults(Snapshot())
    barrier = threading.Barrier(8)

    def change(number: int) -> None:
        barrier.wait(10)
        for count in range(50):
            defaults.params[f"{number}-{count}"] = count
            defaults.params.setdefault(f"first-{count}", number)

    threads = [threading.Thread(target=change, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(defaults.params) == 8 * 50 + 50


def test_a_change_that_fails_changes_nothing() -> None:
    """A key that isn't there can't be deleted, and the lock is free again."""
    defaults = Defaults(Snapshot())
    with pytest.raises(KeyError):
        del defaults.params["gone"]
    with pytest.raises(KeyError):
        defaults.params.pop("gone")
    assert defaults.params.pop("gone", 7) == 7
    assert repr(defaults.params) == "{}"


def test_hooks_of_any_form() -> None:
    """A function, a list of them, or a dict of either, as requests takes them; anything else is named."""
    assert as_hooks(None) == as_hooks({}) == as_hooks([]) == ()
    assert as_hooks(do) == as_hooks([do]) == as_hooks({"response": do}) == as_hooks({"response": [do]}) == (do,)
    with pytest.raises(ConfigError, match="hooks=7"):
        as_hooks(7)
