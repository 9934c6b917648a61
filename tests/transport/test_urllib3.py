"""The adapter of a session: a requests adapter in all that it gives and raises, with a bound on what it keeps open."""

from __future__ import annotations

import contextlib
import gc
import logging
import pickle
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import urllib3
from hypothesis import given, settings
from hypothesis import strategies as st
from requests.adapters import HTTPAdapter

from crawlpool import ProtocolError, Session, SessionPool
from crawlpool.testing import Answer, Request, SiteServer, loopback_hosts
from crawlpool.transport._urllib3 import Urllib3Adapter
from crawlpool.transport.lifeline import Lifeline
from crawlpool.transport.tls import TLSContexts
from tests.gates import until
from tests.kit import RawServer, answering


@pytest.fixture
def adapter() -> Iterator[Urllib3Adapter]:
    """Give an adapter on its own."""
    adapter = Urllib3Adapter(Lifeline(), TLSContexts(), idle_connections=3)
    yield adapter
    adapter.close()


@pytest.fixture
def pool() -> Iterator[SessionPool]:
    """Give a pool that doesn't retry."""
    with SessionPool(retry=False, trust_env=False, timeout=10) as pool:
        yield pool


def prepared(url: str, method: str = "GET") -> requests.PreparedRequest:
    """Return a request as requests prepares it."""
    return requests.Request(method, url).prepare()


def test_the_response_is_what_requests_own_adapter_gives(adapter: Urllib3Adapter) -> None:
    """Status, headers with repeated ones joined, reason, encoding, cookies, raw: the same for both."""
    headers = [("Content-Type", "text/html; charset=latin-1"), ("X-A", "1"), ("Set-Cookie", "a=1"), ("x-a", "2")]
    headers += [("Set-Cookie", "b=2; Path=/")]
    with SiteServer({"/": Answer(299, headers, "ä".encode("latin-1"))}) as server:
        with contextlib.closing(HTTPAdapter()) as plain:
            theirs = plain.send(prepared(server.url()))
            ours = adapter.send(prepared(server.url()))
            for name in ("status_code", "reason", "encoding", "url", "text", "ok"):
                assert getattr(ours, name) == getattr(theirs, name), name
            assert list(ours.headers.items()) == list(theirs.headers.items())
            assert ours.cookies.get_dict() == theirs.cookies.get_dict() == {"a": "1", "b": "2"}
            assert ours.raw.version == theirs.raw.version
            assert ours.connection is adapter
            assert ours.wire.http_version == "1.1"  # type: ignore[attr-defined]


@settings(max_examples=40)
@given(
    pairs=st.lists(
        st.tuples(
            st.sampled_from(["X-A", "x-a", "X-B", "Vary", "ETag"]),
            st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=8),
        ),
        max_size=6,
    )
)
def test_any_headers_come_out_as_from_requests(pairs: list[tuple[str, str]]) -> None:
    """Order, spelling of names and joining of repeated ones are requests' own."""
    adapter = Urllib3Adapter(Lifeline(), TLSContexts())
    with SiteServer({"/": Answer(200, pairs)}) as server, contextlib.closing(HTTPAdapter()) as plain:
        theirs = plain.send(prepared(server.url()))
        ours = adapter.send(prepared(server.url()))
        ours.headers["Date"] = theirs.headers["Date"]  # a second may begin between the two
        assert list(ours.headers.items()) == list(theirs.headers.items())
        adapter.close()


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/", "/"),
        ("", "/"),
        ("/a/b/", "/a/b/"),
        ("/a?x=1", "/a?x=1"),
        ("/a/?x=/", "/a/?x=/"),
        ("/a#b", "/a"),
        ("/a#b/", "/a"),
        ("?x=/1#/", "/?x=/1"),
        ("//twice//", "//twice//"),
    ],
)
def test_what_is_asked_for_is_path_and_query(path: str, sent: str, adapter: Urllib3Adapter) -> None:
    """The fragment stays at home, whatever it holds; a root is a slash."""
    with SiteServer(lambda request: request.target) as server:
        assert adapter.send(prepared(f"http://127.0.0.1:{server.port}{path}")).text == sent


def test_open_connections_never_exceed_the_bound(adapter: Urllib3Adapter) -> None:
    """Ten hosts, three connections: one goes before another is opened, the least recently used first."""
    hosts = loopback_hosts(10)
    if len(hosts) < 10:
        pytest.skip("this machine has one loopback address")
    with SiteServer({"/": b"x"}, hosts=hosts) as server:
        for host in (*hosts, *hosts[-3:], hosts[0]):
            assert adapter.send(prepared(server.url(host=host))).content == b"x"
            assert adapter.lifeline.counts()[1] <= 3
            assert adapter.idle_count == adapter.lifeline.counts()[1]
            until(lambda: server.open_connections <= 3)  # the server sees a close when it gets round to it
        assert server.connections == 11, "the last three were still open, the first was not"


def test_wide_crawls_warn_of_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """No 'pool is full, discarding connection', though each host is met again and again."""
    hosts = loopback_hosts(12)
    with caplog.at_level(logging.WARNING), SiteServer({"/": b"x"}, hosts=hosts) as server:
        with SessionPool(retry=False, trust_env=False, idle_connections=4) as pool:
            for _ in range(3):
                for host in hosts:
                    pool.get(server.url(host=host))
            assert pool.statistics().connections_open <= 4
    assert caplog.records == []


def test_two_streams_to_one_origin_are_both_kept_and_closed(adapter: Urllib3Adapter) -> None:
    """Both connections are idle when their bodies are read, and closing the adapter closes both."""
    with SiteServer({"/": b"x" * 100_000}) as server:
        streams = [adapter.send(prepared(server.url()), stream=True) for _ in range(2)]
        assert adapter.lifeline.counts() == (2, 2)
        assert [len(stream.content) for stream in streams] == [100_000, 100_000]
        assert adapter.idle_count == 2
        adapter.close()
        assert (adapter.idle_count, adapter.lifeline.counts()) == (0, (2, 0))


def test_what_is_read_after_the_session_was_closed_is_not_kept(adapter: Urllib3Adapter) -> None:
    """A stream's rest may be read from the buffer when the pool is closed already; its connection goes."""
    with SiteServer({"/": b"small"}) as server:
        stream = adapter.send(prepared(server.url()), stream=True)
        stream.raw.peek = None
        assert stream.raw._fp.fp.peek(1)  # all of it is in the buffer
        assert adapter.lifeline.shut()
        assert stream.content == b"small"
        assert adapter.idle_count == 0
        assert adapter.lifeline.counts() == (1, 0)


def test_hosts_that_were_visited_leave_nothing_behind(adapter: Urllib3Adapter) -> None:
    """What the adapter remembers is bounded by what it keeps open, not by the hosts of the crawl."""
    with SiteServer({"/": b"x"}) as server:
        for number in range(50):
            adapter.resolve = {(f"h{number}.example", server.port): "127.0.0.1"}
            adapter.send(prepared(server.url(host=f"h{number}.example"))).content  # noqa: B018 - reads the body
        assert len(adapter._origins) <= 3


def test_an_idle_connection_that_the_server_closed_is_not_used(adapter: Urllib3Adapter) -> None:
    """The end of the stream is seen before anything is sent on it."""
    gone = threading.Event()

    def script(connection: socket.socket, _: int) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
        connection.shutdown(socket.SHUT_RDWR)
        gone.set()

    with RawServer(script) as server:
        for number in (1, 2):
            gone.clear()
            assert adapter.send(prepared(server.url())).content == b"x"
            assert gone.wait(10)
            assert len(server.connections) == number


def test_each_failure_is_the_exception_of_requests(pool: SessionPool) -> None:
    """The same class, with the same urllib3 error within, as from requests' own adapter.

    But of an answer that is no HTTP: that is a ``ProtocolError``, as with curl, which is a kind of the same.
    """
    refused = "http://127.0.0.1:1/"
    cut = RawServer(answering(b"", close=True))
    junk = RawServer(answering(b"junk\r\n\r\n", close=True))
    mute = SiteServer({"/": Answer(delay_s=30)})
    with cut, junk, mute:
        urls = [refused, cut.url(), junk.url(), mute.url()]
        with requests.Session() as plain:
            plain.trust_env = False
            for url in urls:
                raised: list[Any] = []
                for session in (plain, pool):
                    with pytest.raises(requests.RequestException) as caught:
                        session.get(url, timeout=(5, 0.2 if url == mute.url() else 10))
                    raised.append(caught.value)
                theirs, ours = raised
                if url == junk.url():
                    assert isinstance(ours, ProtocolError) and isinstance(ours, type(theirs))
                    continue
                assert type(ours) is type(theirs), url
                assert type(ours.args[0]) is type(theirs.args[0]), url
                assert ours.request.url == url


def test_a_urllib3_timeout_is_understood(adapter: Urllib3Adapter) -> None:
    """requests takes one; so does this adapter, a total included."""
    with SiteServer({"/": b"x", "/slow": Answer(delay_s=30)}) as server:
        total: Any = urllib3.Timeout(total=5)
        assert adapter.send(prepared(server.url()), timeout=total).content == b"x"
        with pytest.raises(requests.ReadTimeout):
            adapter.send(prepared(server.url("/slow")), timeout=urllib3.Timeout(connect=5, read=0.1))


def test_bodies_go_out_whole(adapter: Urllib3Adapter) -> None:
    """Bytes with a length, a generator in chunks, an iterable of text too."""
    with SiteServer(lambda request: Answer(200, {}, request.body)) as server:
        for data, sent in ((b"abc", b"abc"), (iter([b"a", b"", b"bc"]), b"abc"), ({"a": "ü"}, b"a=%C3%BC")):
            request = requests.Request("POST", server.url(), data=data).prepare()
            assert adapter.send(request).content == sent
        lengths = [one.headers.get("content-length") for one in server.requests]
        assert lengths == ["3", None, "8"]
        assert server.connections == 1


def test_it_cannot_be_pickled(adapter: Urllib3Adapter) -> None:
    """It belongs to a session of a pool; the error says what to do instead."""
    with pytest.raises(TypeError, match="mount a factory"):
        pickle.dumps(adapter)


def test_a_patched_adapter_class_is_asked(adapter: Urllib3Adapter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mocks replace ``HTTPAdapter.send`` on the class; they get each request, settings included."""
    seen: list[tuple[str, Any]] = []

    def send(self: Any, request: Any, stream: Any, timeout: Any, *rest: Any, **__: Any) -> requests.Response:
        seen.append((request.url, timeout))
        return requests.Response()

    monkeypatch.setattr(HTTPAdapter, "send", send)
    adapter.send(prepared("http://mocked.example/"), timeout=7)
    assert seen == [("http://mocked.example/", 7)]


def test_a_request_after_a_failure_has_a_new_connection(adapter: Urllib3Adapter) -> None:
    """What broke is closed; nothing of it is met by the next request."""

    def site(request: Request) -> Answer:
        return Answer(delay_s=30) if request.path == "/slow" else Answer(200, {}, b"x")

    with SiteServer(site) as server:
        with pytest.raises(requests.ReadTimeout):
            adapter.send(prepared(server.url("/slow")), timeout=0.1)
        assert adapter.lifeline.counts() == (1, 0)
        assert adapter.send(prepared(server.url())).content == b"x"


def test_a_session_that_is_dropped_takes_its_sockets_with_it() -> None:
    """As with requests: no close, no collector; the last reference is enough, and nothing warns of it."""
    gc.collect()
    gc.disable()
    try:
        with SiteServer({"/": b"x"}) as server:
            session = Session()
            assert session.get(server.url()).ok
            lifeline = session.lifeline
            assert lifeline.counts() == (1, 1)
            del session
            assert lifeline.counts() == (1, 0)
    finally:
        gc.enable()
