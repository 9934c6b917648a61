"""The store in many threads: each access under the lock, no user code under it, and nothing lost."""

from __future__ import annotations

import copy
import os
import pickle
import random
import sys
import threading
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any

import pytest
from requests.cookies import create_cookie

from crawlpool.cookies import CookieStore, RequestCookies
from crawlpool.cookies.index import CookieIndex
from tests.cookies.helpers import extract, plain_header, prepared, raw

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterator

THREADS = 64
#: Over all threads. The full run is by hand: COOKIE_OPERATIONS=6400000 and --timeout=0.
OPERATIONS = int(os.environ.get("COOKIE_OPERATIONS", "9600"))


class Guarded(CookieIndex):
    """An index that refuses to be touched by a thread that doesn't hold the store's lock."""

    lock: Any = None

    def __getattribute__(self, name: str) -> Any:
        if name not in ("count", "lock") and self.lock is not None:
            assert self.lock._is_owned(), f"{name} was used without the lock"
        return super().__getattribute__(name)


class UnlockedPolicy(DefaultCookiePolicy):
    """A policy that refuses to be asked under the store's lock."""

    lock: Any = None

    def _check(self) -> None:
        assert self.lock is None or not self.lock._is_owned(), "the policy was called under the lock"

    def set_ok(self, cookie: Any, request: Any) -> bool:
        self._check()
        return super().set_ok(cookie, request)

    def return_ok(self, cookie: Any, request: Any) -> bool:
        self._check()
        return super().return_ok(cookie, request)

    def path_return_ok(self, path: str, request: Any) -> bool:
        self._check()
        return super().path_return_ok(path, request)

    def is_blocked(self, domain: str) -> bool:
        self._check()
        return super().is_blocked(domain)

    def __getstate__(self) -> dict[str, Any]:
        return {}


@pytest.fixture
def guarded() -> CookieStore:
    """Return a store with cookies that fails on an access without its lock, and on a policy asked under it."""
    policy = UnlockedPolicy()
    store = CookieStore(policy)
    index = Guarded({})
    policy.lock = index.lock = store._cookies_lock
    with store._cookies_lock:
        store._index, store._cookies = index, index.domains
    for n in range(5):
        store.set(f"c{n}", "1", domain="example.com", expires=4_000_000_000)
    return store


URL = "http://example.com/"
OTHER = CookieStore()
OTHER.set("other", "1")
EACH_OPERATION: list[Callable[[CookieStore], Any]] = [
    list,
    len,
    repr,
    dict,
    CookieStore.keys,
    CookieStore.values,
    CookieStore.items,
    CookieStore.get_dict,
    CookieStore.list_domains,
    CookieStore.list_paths,
    CookieStore.multiple_domains,
    CookieStore.copy,
    CookieStore.clear,
    CookieStore.clear_session_cookies,
    CookieStore.clear_expired_cookies,
    CookieStore.popitem,
    copy.copy,
    copy.deepcopy,
    pickle.dumps,
    lambda store: store == OTHER,
    lambda store: OTHER.__eq__(store),
    lambda store: "c1" in store,
    lambda store: store["c1"],
    lambda store: store.get("c1", domain="example.com"),
    lambda store: store.update(OTHER),
    lambda store: OTHER.update(store),
    lambda store: store.update({"a": "1", "c1": None}),
    lambda store: store.set("a", "1"),
    lambda store: store.set("c1", None),
    lambda store: store.set_cookie(create_cookie("a", "1")),
    lambda store: store.__setitem__("a", "1"),
    lambda store: store.__delitem__("c1"),
    lambda store: store.pop("c1"),
    lambda store: store.setdefault("a", "1"),
    lambda store: store.clear("example.com"),
    lambda store: store.clear("example.com", "/"),
    lambda store: store.clear("example.com", "/", "c1"),
    lambda store: store.header_for(URL),
    lambda store: store.header_for("http://elsewhere.example/"),
    lambda store: plain_header(store, prepared(URL)),
    lambda store: store.take(["a=1; Max-Age=9", "c1=; Max-Age=0"], URL),
    lambda store: store.take_from(raw(["a=1"]), URL),
    lambda store: extract(store, ["a=1", "c1=; Max-Age=0"], prepared(URL)),
    lambda store: list(RequestCookies(store, {"own": "1"})),
    lambda store: RequestCookies(store, {"own": "1"}).header_for(URL),
    lambda store: RequestCookies(store).header_for(URL),
    lambda store: RequestCookies(store, {"own": "1"}).update(store),
    lambda store: RequestCookies(store).clear("example.com", "/", "c1"),
    lambda store: RequestCookies(store).clear(),
]


@pytest.mark.parametrize("operation", EACH_OPERATION)
def test_each_operation_holds_the_lock_and_calls_no_policy_under_it(
    guarded: CookieStore, operation: Callable[[CookieStore], Any]
) -> None:
    """Each operation touches the cookies under the lock only, and asks the policy after releasing it."""
    operation(guarded)
    assert not guarded._cookies_lock._is_owned()  # type: ignore[attr-defined]


def test_files_are_written_and_read_without_the_lock(
    guarded: CookieStore, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saving takes a snapshot under the lock and writes after it: a slow disk holds nobody up."""
    fsync, held = os.fsync, []
    lock: Any = guarded._cookies_lock
    monkeypatch.setattr(os, "fsync", lambda handle: (held.append(lock._is_owned()), fsync(handle)))
    guarded.save(tmp_path / "cookies.txt")
    assert held and not any(held)
    assert CookieStore.load(tmp_path / "cookies.txt") == guarded


@pytest.fixture
def hectic() -> Iterator[None]:
    """Let threads take turns a hundred times as often. A thousand times is more than CPython 3.11 bears: it crashes."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-5)
    yield
    sys.setswitchinterval(before)


def run_in_threads(work: Callable[[int], None], count: int = THREADS) -> None:
    """Run ``work(number)`` in threads that start together; raise the first of their exceptions."""
    start, errors = threading.Barrier(count), []

    def body(number: int) -> None:
        try:
            start.wait()
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=body, args=(n,), name=f"cookies-{n}") for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_mixed_operations_lose_nothing(hectic: None, tmp_path: pathlib.Path) -> None:
    """64 threads that do everything at once end with exactly the cookies and counts that each of them made."""
    store = CookieStore()
    expected: list[dict[str, str]] = [{} for _ in range(THREADS)]
    shared = threading.Lock()  # guards taken
    taken: list[str] = []
    each = OPERATIONS // THREADS

    def work(number: int) -> None:
        dice, mine, domain = random.Random(number), expected[number], f"t{number}.example"
        url = f"http://{domain}/"
        for n in range(each):
            pick, name = dice.random(), f"c{dice.randrange(20)}"
            if pick < 0.3:
                mine["count"] = str(int(mine.get("count", "0")) + 1)
                before = store.get("count", "0", domain=domain, path="/")
                assert before is not None
                store.set("count", str(int(before) + 1), domain=domain)
            elif pick < 0.45:
                mine[name] = str(n)
                store.take([f"{name}={n}; Path=/; Max-Age=900"], url)
            elif pick < 0.6:
                mine[name] = str(n)
                store.set_cookie(create_cookie(name, str(n), domain=domain, expires=4_000_000_000))
            elif pick < 0.7:
                if mine.pop(name, None) is not None:
                    store.clear(domain, "/", name)
            elif pick < 0.8:
                header = store.header_for(url)
                assert dict(part.split("=") for part in header.split("; ") if header) == mine if header else not mine
            elif pick < 0.85:
                store.take([f"{name}=; Path=/; Max-Age=0"], url)
                mine.pop(name, None)
            elif pick < 0.9:
                assert store.get_dict(domain=domain) == mine
            elif pick < 0.95:
                view = RequestCookies(store, {"own": "1"})
                header = view.header_for(url)
                assert header is not None and "own=1" in header.split("; ")
            elif pick < 0.98:
                mine.update(u=str(n))
                store.update(one(create_cookie("u", str(n), domain=domain)))
            else:
                heavy(store, n, tmp_path / f"{number}.txt")
        store.set("gift", str(number), domain=f"gift{number}.example")

    def give(number: int) -> None:
        for _ in range(2):
            try:
                value = store.pop("gift")
            except Exception as error:  # none left, or several: both are answers
                assert type(error).__name__ in ("KeyError", "CookieConflictError")
                continue
            with shared:
                taken.append(value)

    run_in_threads(work)
    for number, mine in enumerate(expected):
        assert store.get_dict(domain=f"t{number}.example") == mine
        store.clear(f"gift{number}.example") if number else None
    assert len(store) == sum(map(len, expected)) + 1 == sum(1 for _ in store)
    run_in_threads(give)
    assert taken == ["0"]


def one(cookie: Any) -> CookieStore:
    """Return a store with one cookie."""
    store = CookieStore()
    store.set_cookie(cookie)
    return store


def heavy(store: CookieStore, n: int, path: pathlib.Path) -> None:
    """Do one of the operations that go over all cookies."""
    what = n % 8
    if what == 0:
        assert len(list(store)) >= 0
    elif what == 1:
        copied = store.copy()
        assert len(copied) == sum(1 for _ in copied)
    elif what == 2:
        assert isinstance(pickle.loads(pickle.dumps(store)), CookieStore)
    elif what == 3:
        store.clear_expired_cookies()
    elif what == 4:
        assert len(store) >= 0 and "nothing" not in store
    elif what == 5:
        store.save(path)
        assert isinstance(CookieStore.load(path), CookieStore)
    elif what == 6:
        assert len(store.list_domains()) <= 2 * THREADS
    else:
        assert store.items() is not None


def test_setdefault_has_one_winner(hectic: None) -> None:
    """All threads that set the same default at once get the value of the one that was first."""
    for _ in range(20):
        store, seen = CookieStore(), [""] * THREADS

        def work(number: int, store: CookieStore = store, seen: list[str] = seen) -> None:
            seen[number] = store.setdefault("winner", str(number))

        run_in_threads(work)
        assert set(seen) == {store["winner"]}


def test_popitem_gives_each_cookie_to_one_thread(hectic: None) -> None:
    """What many threads pop at once are all cookies, each once."""
    store, popped = CookieStore(), [[] for _ in range(16)]
    for n in range(800):
        store.set(f"c{n}", str(n), domain=f"d{n % 7}.example")

    def work(number: int) -> None:
        while True:
            try:
                popped[number].append(store.popitem()[0])
            except KeyError:
                return

    run_in_threads(work, 16)
    assert sorted(name for names in popped for name in names) == sorted(f"c{n}" for n in range(800))
    assert store.is_empty


def test_two_stores_updated_with_each_other_do_not_lock_up(hectic: None) -> None:
    """An update reads the other store before it takes its own lock, so no two locks are held at once."""
    one_store, two_store = CookieStore(), CookieStore()
    one_store.set("a", "1")
    two_store.set("b", "2")

    def work(number: int) -> None:
        for _ in range(50):
            if number % 2:
                one_store.update(two_store)
            else:
                two_store.update(one_store)
            assert one_store.get("a") == "1"

    run_in_threads(work, 8)
    assert one_store == two_store == {"a": "1", "b": "2"}


def test_login_of_one_thread_is_there_for_all() -> None:
    """Once a response's cookies were taken, each thread's next header has all of them, never some."""
    store = CookieStore()
    logged_in = threading.Event()
    headers: list[str | None] = [None] * 8

    def work(number: int) -> None:
        if number == 0:
            store.take(["sid=1; Path=/", "csrf=2; Path=/"], URL)
            logged_in.set()
        logged_in.wait()
        headers[number] = store.header_for(URL)

    run_in_threads(work, 8)
    assert headers == ["sid=1; csrf=2"] * 8


def test_store_works_in_a_forked_child_whose_parent_held_the_lock() -> None:
    """After a reset the child isn't blocked by a lock that a thread of the parent held, and has all cookies."""
    store = CookieStore()
    store.set("a", "1", domain="example.com", expires=4_000_000_000)
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with store._cookies_lock:
            held.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    store._reset_lock_after_fork()  # what the child does; it has no other thread
    try:
        store.set("b", "2", domain="example.com")
        assert store.header_for(URL) == "a=1; b=2"
        assert len(store) == 2
    finally:
        release.set()
        thread.join()
