"""What sessions share: mounts that are published whole, and parts that work again in a forked child."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from requests.adapters import HTTPAdapter

from crawlpool import ConfigError
from crawlpool.clock import Deadline
from crawlpool.defaults import Snapshot
from crawlpool.politeness import Exits
from crawlpool.shared import Call, Mounts, Shared, proxies_of


def test_a_mount_replaces_the_one_of_the_same_prefix() -> None:
    """Others stay, in their order; who has read ``current`` keeps what was read."""
    mounts = Mounts()
    factories = [lambda: HTTPAdapter(), lambda: HTTPAdapter(), lambda: HTTPAdapter()]
    mounts.put("http://a", factories[0])
    mounts.put("http://b", factories[1])
    before = mounts.current
    mounts.put("http://a", factories[2])
    assert before == (("http://a", factories[0]), ("http://b", factories[1]))
    assert mounts.current == (("http://b", factories[1]), ("http://a", factories[2]))


def test_no_mount_of_another_thread_is_lost() -> None:
    """Sixteen threads mount at once; all of it is there."""
    mounts, barrier = Mounts(), threading.Barrier(16)

    def mount(number: int) -> None:
        barrier.wait(10)
        for count in range(20):
            mounts.put(f"http://{number}-{count}.example", HTTPAdapter)

    threads = [threading.Thread(target=mount, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(mounts.current) == len(dict(mounts.current)) == 320


def test_alone_is_as_requests_is() -> None:
    """No deadline, no timeout, no retries; nothing of one is another's."""
    one, two = Shared.alone(), Shared.alone()
    assert (one.settings.deadline_s, one.defaults.current.timeout, one.retry.is_never) == (None, None, True)
    parts = ("defaults", "cookies", "budget", "sites", "mounts", "tls", "shutdown")
    assert all(getattr(one, part) is not getattr(two, part) for part in parts)


def test_a_fork_finds_every_lock_free() -> None:
    """Another thread held each of them when the child was made; it isn't there to let go."""
    shared = Shared.alone()
    locks: list[Any] = [
        shared.defaults._lock,
        shared.sites._lock,
        shared.mounts._lock,
        shared.tls._lock,
        shared.budget._lock,
    ]
    for lock in locks:
        lock.acquire()
    shared.cookies.set("a", "1")
    held = threading.Thread(target=shared.cookies._cookies_lock.acquire)
    held.start()
    held.join()
    shared.reset_after_fork()
    done: list[str] = []

    def use() -> None:
        shared.defaults.set(timeout=3)
        shared.mounts.put("http://", HTTPAdapter)
        shared.tls.get(False, None)
        shared.budget.deposit()
        shared.cookies.set("b", "2")
        done.append("used")

    thread = threading.Thread(target=use, daemon=True)
    thread.start()
    thread.join(10)
    assert done == ["used"]
    assert shared.cookies.get_dict() == {"a": "1", "b": "2"}


def test_a_closed_pool_stays_closed_in_a_child() -> None:
    """A fork is no way to open it again; one that is open has a flag of its own."""
    shared = Shared.alone()
    before = shared.shutdown
    shared.reset_after_fork()
    assert shared.shutdown is not before
    shared.shutdown.set()
    shared.reset_after_fork()
    assert shared.shutdown.is_set


def test_a_call_has_only_what_it_was_given() -> None:
    """Nothing is followed, counted, capped or judged unless somebody says so."""
    call = Call(Deadline(None))
    assert (call.retry, call.max_body_bytes, call.accept, call.follows, call.is_counted) == (
        None,
        None,
        None,
        False,
        False,
    )
    assert Snapshot().stream is False


def test_proxies_are_a_mapping_or_a_list() -> None:
    """A mapping is as requests has it, one proxy is that of both schemes, and several are shared out."""
    one, two = "http://127.0.0.1:1", "socks5h://u:p@127.0.0.1:2"
    assert proxies_of(None) == ({}, None)
    assert proxies_of({"http": one, "http://a.example": two}) == ({"http": one, "http://a.example": two}, None)
    assert proxies_of(["127.0.0.1:1"]) == ({"http": one, "https": one}, None)
    by_scheme, exits = proxies_of((one, two))
    assert by_scheme == {}
    assert exits is not None and exits.urls == (one, two)


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ("http://u:s3cr3t@127.0.0.1:1", "proxies='str'"),
        (7, "proxies='int'"),
        ([], "one proxy at least"),
        (["http://127.0.0.1:1", "ftp://u:s3cr3t@127.0.0.1:1"], r"proxies\[1\]: a proxy's URL"),
        ([None], r"proxies\[0\]: a proxy's URL"),
        (["http://u:s3cr3t@127.0.0.1:1"] * 2, r"proxies\[1\]: it is there twice, first as proxies\[0\]"),
    ],
)
def test_what_is_no_list_of_proxies_is_refused(given: Any, place: str) -> None:
    """The message names the place, and shows no URL."""
    with pytest.raises(ConfigError, match=place) as caught:
        proxies_of(given)
    assert "s3cr3t" not in str(caught.value)


def test_a_forked_child_has_exits_of_its_own() -> None:
    """What the parent has under way by them never ends in the child: an exit that is tried there would be for ever."""
    shared = Shared.alone()
    shared.exits = before = Exits(["http://127.0.0.1:1", "http://127.0.0.1:2"])
    before.all[0].is_resting = before.all[0].is_tried = True
    shared.reset_after_fork()
    assert shared.exits is not before and shared.exits.urls == before.urls
    assert not shared.exits.all[0].is_resting
