"""Users' mocks: ``responses`` and ``requests-mock`` answer in place of the network, in every way of asking."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
import requests
import requests_mock
import responses

from crawlpool import BodyTooLarge, Crawl, ErrorKind, Outcome, Result, RetryPolicy, SessionPool, Target
from tests.gates import PATIENCE_S

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterator

#: Both libraries behind one face: what answers, with which status, headers and body.
pytestmark = pytest.mark.transports()

Mock = "Callable[..., None]"
BASE = "https://mocked.example"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail whatever gets past the mock: nothing here may open a socket."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a mocked request reached the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(params=["responses", "requests-mock"])
def mock(request: pytest.FixtureRequest) -> Iterator[Callable[..., None]]:
    """Yield a function that adds an answer to the mock library of the parameter."""
    if request.param == "responses":
        with responses.RequestsMock(assert_all_requests_are_fired=False) as library:

            def add(path: str, body: Any = b"", status: int = 200, headers: Any = None, method: str = "GET") -> None:
                library.add(method, BASE + path, body=body, status=status, headers=headers)

            yield add
    else:
        with requests_mock.Mocker() as library:

            def add(path: str, body: Any = b"", status: int = 200, headers: Any = None, method: str = "GET") -> None:
                answer = {"content": body, "status_code": status, "headers": headers or {}}
                library.register_uri(method, BASE + path, **({"exc": body} if isinstance(body, Exception) else answer))

            yield add


@pytest.fixture
def pool(mock: Any) -> Iterator[SessionPool]:
    with SessionPool(threads=2, retry=RetryPolicy(attempts=2, backoff_s=0, budget=None)) as pool:
        yield pool


def test_get(mock: Any, pool: SessionPool) -> None:
    """``pool.get`` and the other verbs are answered by the mock, status, headers and all."""
    mock("/a", b"mocked", headers={"X-A": "b"})
    mock("/post", b"posted", method="POST")
    answer = pool.get(f"{BASE}/a", headers={"X": "y"})
    assert (answer.text, answer.status_code, answer.headers["X-A"]) == ("mocked", 200, "b")
    assert answer.request.headers["X"] == "y"
    assert pool.post(f"{BASE}/post", json={"a": 1}).text == "posted"
    assert pool.session.get(f"{BASE}/a").text == "mocked"


def test_submit(mock: Any, pool: SessionPool) -> None:
    """So are submitted requests, in the worker's thread."""
    mock("/a", b"mocked")
    assert pool.submit("GET", f"{BASE}/a").result(PATIENCE_S).text == "mocked"


def test_map(mock: Any, pool: SessionPool) -> None:
    """So are those of a map; statuses and errors become outcomes as those of a server do."""
    mock("/a", b"mocked")
    mock("/404", b"", 404)
    mock("/error", requests.ConnectionError("mocked error"))
    results = list(pool.map([f"{BASE}/a", f"{BASE}/404", f"{BASE}/error"], ordered=True))
    assert [result.outcome for result in results] == [Outcome.OK, Outcome.HTTP_ERROR, Outcome.FAILED]
    assert results[0].unwrap().text == "mocked"
    assert results[2].error_kind is ErrorKind.CONNECT
    assert results[2].attempts == 2


def test_crawl(mock: Any, pool: SessionPool) -> None:
    """So are those of a crawl, found links included."""
    mock("/robots.txt", b"", 404)
    mock("/a", b"/b")
    mock("/b", b"")
    seen: list[str] = []

    def handler(result: Result, crawl: Crawl) -> None:
        text = result.unwrap().text
        seen.append(text)
        if text:
            crawl.add(BASE + text, parent=result)

    report = pool.crawl([f"{BASE}/a"], handler).check()
    assert (report.ok, report.found, seen) == (2, 1, ["/b", ""])


def test_redirects_are_followed(mock: Any, pool: SessionPool) -> None:
    """Mocked redirects are followed in each way of asking, one leg each."""
    mock("/r", b"", 302, {"Location": f"{BASE}/a"})
    mock("/a", b"there")
    assert [r.status_code for r in pool.get(f"{BASE}/r").history] == [302]
    assert pool.submit("GET", f"{BASE}/r").result(PATIENCE_S).text == "there"
    (result,) = pool.map([f"{BASE}/r"])
    assert (result.unwrap().text, result.attempts, len(result.redirects)) == ("there", 2, 1)
    assert pool.get(f"{BASE}/r", allow_redirects=False).status_code == 302


def test_statuses_are_retried_in_the_frontier(mock: Any, pool: SessionPool) -> None:
    """A mocked 503 is retried by ``map`` as the policy says; the last answer is the result."""
    mock("/503", b"busy", 503)
    (result,) = pool.map([f"{BASE}/503"])
    assert (result.outcome, result.attempts) == (Outcome.HTTP_ERROR, 2)


def test_cookies_of_mocks_are_kept(mock: Any, pool: SessionPool) -> None:
    """A cookie that a mock sets is kept and sent as a plain session does; requests-mock's headers alone set none."""
    mock("/login", b"", headers={"Set-Cookie": "sid=1; Path=/"})
    mock("/a", b"")
    sent = []
    for asker in (requests.Session(), pool, pool.session):
        asker.get(f"{BASE}/login")
        sent.append(asker.get(f"{BASE}/a").request.headers.get("Cookie"))
    assert sent in (["sid=1"] * 3, [None] * 3)


def test_caps_and_content_types_hold_for_mocks(mock: Any, pool: SessionPool) -> None:
    """The cap on bodies and the content types wanted hold for mocked answers as for a server's."""
    mock("/big", b"x" * 100, headers={"Content-Type": "text/plain"})
    (result,) = pool.map([f"{BASE}/big"], max_body_bytes=99)
    assert isinstance(result.error, BodyTooLarge)
    (result,) = pool.map([Target(f"{BASE}/big")], max_body_bytes=100)
    assert result.is_ok
    assert pool.crawl([f"{BASE}/big"], content_types=["text/html"], robots=False).failed == 1
    assert pool.crawl([f"{BASE}/big"], content_types=["text/plain"], robots=False).ok == 1


def test_downloads(mock: Any, pool: SessionPool, tmp_path: pathlib.Path) -> None:
    """A download takes a mocked body."""
    mock("/file", b"content" * 100)
    assert pool.download(f"{BASE}/file", tmp_path / "f") == 700
    assert (tmp_path / "f").read_bytes() == b"content" * 100


def test_what_is_not_mocked_fails(mock: Any, pool: SessionPool) -> None:
    """A URL that the mock doesn't know raises what it raises with plain requests, and never reaches the network."""
    errors = []
    for get in (requests.get, pool.get):
        try:
            get(f"{BASE}/unknown")
        except Exception as error:
            errors.append(type(error))
    (result,) = pool.map([f"{BASE}/unknown"], retry=False)
    assert errors == [type(result.error)] * 2
    assert result.outcome is Outcome.FAILED


def test_records_of_mocked_answers(mock: Any, pool: SessionPool) -> None:
    """A record of a mocked answer has every key that a server's has; what only a wire can tell is null."""
    mock("/a", b"mocked", headers={"Content-Type": "text/plain"})
    (result,) = pool.map([f"{BASE}/a"])
    record = result.record
    assert (record["status"], record["bytes"], record["content_type"], record["ip"]) == (200, 6, "text/plain", None)


def test_a_mock_on_one_session() -> None:
    """``requests_mock``'s adapter can be mounted by the pool, in every session."""

    def factory() -> requests_mock.Adapter:
        adapter = requests_mock.Adapter()
        adapter.register_uri("GET", "mock://x/", text="mounted")
        adapter.register_uri("GET", f"{BASE}/", text="mounted too")
        return adapter

    with SessionPool() as pool:
        pool.mount("mock://", factory)
        pool.mount(BASE, factory)
        assert pool.get("mock://x/").text == "mounted"
        assert pool.submit("GET", f"{BASE}/").result(PATIENCE_S).text == "mounted too"
        assert [result.unwrap().text for result in pool.map([f"{BASE}/"] * 3)] == ["mounted too"] * 3
