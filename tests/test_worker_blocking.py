"""Workers of the curl transport and legs that the I/O thread can't have: one worker doesn't keep them for itself."""

from __future__ import annotations

import threading

import pytest
from requests.adapters import HTTPAdapter

from crawlpool import SessionPool
from crawlpool.transport.curl import library
from tests.kit import RawServer, answering

pytestmark = pytest.mark.skipif(not library.is_installed(), reason="needs pycurl")

# It says that it closes: who used the connection again would now and then be too late, and come back for another try.
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


def test_blocking_legs_are_shared_out() -> None:
    """With an adapter of the user's mounted, as many legs run at once as there are workers, and not one by one."""
    together = threading.Barrier(4, timeout=20)

    class Meeting(HTTPAdapter):
        def send(self, *args: object, **kwargs: object) -> object:
            together.wait()  # breaks unless four are here at once
            return super().send(*args, **kwargs)  # type: ignore[arg-type]

    with RawServer(answering(OK, close=True)) as server, SessionPool(transport="curl", threads=4, in_flight=8) as pool:
        pool.mount("http://", Meeting)
        results = list(pool.map([server.url()] * 8))
    assert [(result.outcome.value, result.error) for result in results] == [("ok", None)] * 8


def test_legs_given_back_are_counted_once() -> None:
    """A leg that goes back to the queue unbegun is one request in the statistics, and has one result."""
    with RawServer(answering(OK, close=True)) as server, SessionPool(transport="curl", threads=2, in_flight=16) as pool:
        pool.mount("http://", HTTPAdapter)
        results = list(pool.map([f"{server.url()}?{n}" for n in range(20)]))
        assert sorted({result.target.url for result in results}) == sorted(f"{server.url()}?{n}" for n in range(20))
        assert len(results) == pool.statistics().requests == 20
