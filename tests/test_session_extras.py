"""What a session is beyond its calls: adapters, pickling, timing, mocks, and the options that requests doesn't have."""

from __future__ import annotations

import datetime
import pickle
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import requests_mock
import responses
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.exceptions import InvalidSchema

from crawlpool import BodyTooLarge, Session, SessionPool
from crawlpool.errors import ConfigError, DeadlineExceeded, PoolClosed
from crawlpool.testing import Answer, Request, SiteServer
from tests.kit import HandClock, connections_of

pytestmark = pytest.mark.transports()


@pytest.fixture
def server() -> Iterator[SiteServer]:
    """Serve a page, a slow page, and a redirect."""
    site = {"/": b"page", "/slow": Answer(200, {}, b"late", delay_s=30), "/to": Answer(302, {"Location": "/"})}
    with SiteServer(site) as server:
        yield server


@pytest.fixture
def pool() -> Iterator[SessionPool]:
    """Give a pool that doesn't retry."""
    with SessionPool(retry=False, trust_env=False) as pool:
        yield pool


class Canned(BaseAdapter):
    """An adapter that answers by itself, and remembers the settings that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.settings: list[dict[str, Any]] = []

    def send(self, request: requests.PreparedRequest, **settings: Any) -> requests.Response:  # type: ignore[override]
        self.settings.append(settings)
        response = requests.Response()
        response.status_code, response.url, response._content = 200, request.url or "", b"canned"
        response.request = request
        return response

    def close(self) -> None:
        pass


def test_a_mounted_adapter_gets_its_prefix_alone(server: SiteServer, pool: SessionPool) -> None:
    """The longest prefix wins; other URLs go the usual way; requests' settings reach the adapter."""
    canned = Canned()
    pool.session.mount(server.url("/api/"), canned)
    assert pool.get(server.url("/api/x"), timeout=3, verify="/bundle").text == "canned"
    assert pool.get(server.url("/")).text == "page"
    (settings,) = canned.settings
    assert sorted(settings) == ["cert", "proxies", "stream", "timeout", "verify"]
    assert settings["verify"] == "/bundle"
    with pytest.raises(InvalidSchema):
        pool.get("gopher://h.example/")


def test_requests_own_adapter_does_the_work(server: SiteServer, pool: SessionPool) -> None:
    """A plain HTTPAdapter and a subclass of it, redirects and all."""
    seen: list[str] = []

    class Noting(HTTPAdapter):
        def send(self, request: Any, *args: Any, **kwargs: Any) -> requests.Response:
            seen.append(request.path_url)
            return super().send(request, *args, **kwargs)

    pool.session.mount("http://", Noting())
    assert pool.get(server.url("/to")).text == "page"
    assert seen == ["/to", "/"]


def test_a_session_crosses_over_pickled() -> None:
    """Settings, cookies and the user's adapters; it works on the other side."""
    with Session() as session, SiteServer({"/": lambda request: request.headers["cookie"]}) as server:
        session.headers["X-A"] = "1"
        session.auth, session.verify, session.max_redirects, session.timeout = ("u", "p"), False, 3, 9
        session.cookies.set("a", "1")
        session.mount("http://old.example", HTTPAdapter(max_retries=2))
        with pickle.loads(pickle.dumps(session)) as other:
            assert isinstance(other, Session)
            assert other.headers == session.headers
            assert (other.auth, other.verify, other.max_redirects, other.timeout) == (("u", "p"), False, 3, 9)
            assert other.get_adapter("http://old.example/").max_retries.total == 2
            assert other.retries_by_itself("http://old.example/")
            assert other.get(server.url("/")).text == "a=1"


def test_elapsed_ends_with_the_header() -> None:
    """As in requests: the time until the answer began, not until its body was read."""
    with SiteServer({"/": Answer(200, {}, b"x", delay_s=0.05)}) as server, Session() as session:
        response = session.get(server.url())
        assert datetime.timedelta(seconds=0.05) <= response.elapsed < datetime.timedelta(seconds=10)


def test_a_closed_session_that_stands_alone_can_be_used_again(server: SiteServer) -> None:
    """As in requests; the connections are closed, though."""
    session = Session()
    assert session.get(server.url()).ok
    session.close()
    assert connections_of(session) == (1, 0)
    assert session.get(server.url()).ok
    session.close()


def test_the_call_has_its_own_deadline_and_cap(server: SiteServer, pool: SessionPool) -> None:
    """Beyond requests: deadline, max_body_bytes and retry of one call; bad ones are named."""
    with pytest.raises(DeadlineExceeded):
        pool.get(server.url("/slow"), deadline=0.1)
    with pytest.raises(BodyTooLarge):
        pool.get(server.url("/"), max_body_bytes=3)
    assert pool.get(server.url("/"), max_body_bytes=None, deadline=None, retry=False).ok
    for bad in ({"deadline": 0}, {"deadline": "1"}, {"max_body_bytes": 0}, {"retry": 3}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            pool.get(server.url("/"), **bad)  # type: ignore[arg-type]


def test_the_deadline_covers_all_hops() -> None:
    """Each redirect is fast; together they are too slow."""
    clock = HandClock(time.monotonic())

    def hop(_: Request) -> Answer:
        clock.tick(30)
        return Answer(302, {"Location": "/"})

    with SiteServer(hop) as server:
        with SessionPool(retry=False, trust_env=False, max_redirects=1000) as pool:
            pool._shared.clock = clock
            with pytest.raises(DeadlineExceeded):
                pool.get(server.url(), deadline=100)
        assert server.request_count == 4


@responses.activate
def test_responses_answers_for_every_session(pool: SessionPool) -> None:
    """The mock patches ``HTTPAdapter.send``: alone, in a pool, redirects and cookies included."""
    responses.get("http://mocked.example/a", status=302, headers={"Location": "/b", "Set-Cookie": "c=1"})
    responses.get("http://mocked.example/b", json={"mocked": True})
    with Session() as alone:
        for session in (alone, pool):
            response = session.get("http://mocked.example/a")  # type: ignore[attr-defined]
            assert response.json() == {"mocked": True}
            assert response.history[0].status_code == 302
            with pytest.raises(requests.ConnectionError, match="Connection refused by Responses"):
                session.get("http://other.example/")  # type: ignore[attr-defined]
    assert pool.cookies.get_dict() == {"c": "1"}
    assert responses.calls[1].request.headers["Cookie"] == "c=1"


def test_requests_mock_answers_for_all_or_for_one(pool: SessionPool, server: SiteServer) -> None:
    """Patched on the class it reaches each session; given a session, that one only."""
    with requests_mock.Mocker() as mock:
        mock.get("http://mocked.example/", text="mocked", cookies={"m": "1"})
        response = pool.get("http://mocked.example/", timeout=7, verify=False)
        assert (response.text, response.cookies.get_dict()) == ("mocked", {"m": "1"})
        assert (mock.last_request.timeout, mock.last_request.verify) == (7, False)
        with pytest.raises(requests_mock.NoMockAddress):
            pool.get(server.url())
        assert mock.call_count == 2
    assert pool.get(server.url()).text == "page"
    with requests_mock.Mocker(session=pool.session) as mock:
        mock.get("http://mocked.example/a", status_code=302, headers={"Location": "http://mocked.example/b"})
        mock.get("http://mocked.example/b", text="one session's")
        assert pool.get("http://mocked.example/a").text == "one session's"
        with Session() as other:
            assert other.get(server.url()).text == "page"
    assert pool.get(server.url()).text == "page"


def test_requests_mock_can_be_mounted_as_an_adapter(pool: SessionPool) -> None:
    """Its adapter is one like any other."""
    adapter = requests_mock.Adapter()
    adapter.register_uri("GET", "mock://test.example/", text="mounted")
    pool.session.mount("mock://", adapter)
    assert pool.get("mock://test.example/").text == "mounted"


def test_no_call_begins_on_a_closed_pools_session(server: SiteServer) -> None:
    """Whoever kept ``pool.session`` gets PoolClosed, for prepared requests too."""
    pool = SessionPool(retry=False, trust_env=False)
    session = pool.session
    prepared = session.prepare_request(requests.Request("GET", server.url()))
    pool.close()
    for call in (lambda: session.get(server.url()), lambda: session.send(prepared), lambda: pool.get(server.url())):
        with pytest.raises(PoolClosed):
            call()


def test_only_prepared_requests_are_sent() -> None:
    """The same error as in requests."""
    with Session() as session, pytest.raises(ValueError, match="PreparedRequests"):
        session.send(requests.Request("GET", "http://h.example/"))  # type: ignore[arg-type]
