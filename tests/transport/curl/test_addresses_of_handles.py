"""The addresses that libcurl is handed for one transfer are never looked at for another that uses the same handle."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from crawlpool import AddressRules, SessionPool
from crawlpool.testing import SiteServer
from crawlpool.transport.curl import library

pytestmark = pytest.mark.skipif(not library.is_installed(), reason="needs pycurl")
needs_ipv6 = pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")

# In the I/O thread, so that the order to end a transfer comes before libcurl has looked at it.
STOPPED_BEFORE_THEY_RAN = """
import threading
from crawlpool import AddressRules, SessionPool
from crawlpool.clock import Deadline
from crawlpool.transport.base import Exchange
from tests.kit import RawServer, answering

class Box:
    def deliver(self, ended):
        for _ in ended:
            came.release()

came = threading.Semaphore(0)
answer = answering(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\n", close=True)
with RawServer(answer) as server:
    port = server.port
    resolve = {("name.test", port): "127.0.0.1"}
    with SessionPool(transport="curl", resolve=resolve, addresses=AddressRules("allow"), retry=False) as pool:
        assert pool.head(server.url()).ok
        session, engine = pool.session, pool._shared.engine
        for _ in range(20):
            url = f"http://name.test:{port}/"
            exchange = Exchange(session.prepare_plain("GET", url), session.plain_settings(), Deadline(None))
            named = session.get_adapter(url).transfer_for(exchange, Box())
            assert engine.call(lambda: (engine.submit([named]), named.cancel()))
            assert came.acquire(timeout=20)
            assert named.sends == 0 and named.addresses is not None
            assert pool.head(server.url()).ok  # by the same handle, which is reset for it
print("alive")
"""


def test_what_libcurl_did_not_read_of_one_transfer_is_not_there_for_the_next() -> None:
    """A transfer with addresses may end before libcurl has read them; the next one by its handle has none of them.

    libcurl's reset() doesn't forget such a list, and pycurl frees it then: the process died of it. With the variable
    glibc overwrites what is freed, so that it would die surely.
    """
    run = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", STOPPED_BEFORE_THEY_RAN],
        env={**os.environ, "MALLOC_PERTURB_": "165"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (run.returncode, run.stdout) == (0, "alive\n"), run.stderr[-3000:]


@needs_ipv6
@pytest.mark.parametrize("host", ["[0:0:0:0:0:0:0:1]", "[0000::0001]", "[::1]"])
def test_an_ipv6_host_is_reached_however_it_is_written(host: str) -> None:
    """A host that isn't written as the resolver writes it has addresses, and libcurl can read whose they are."""
    with (
        SiteServer(lambda request: b"here", hosts=("::1",)) as server,
        SessionPool(transport="curl", addresses=AddressRules("allow"), retry=False) as pool,
    ):
        assert pool.get(f"http://{host}:{server.port}/").text == "here"


@needs_ipv6
@pytest.mark.parametrize("host", ["2001:db8::5", "2001:DB8:0::5", "::ffff:192.0.2.1", "::ffff:c000:201"])
def test_an_override_holds_for_an_ipv6_host(host: str) -> None:
    """``resolve`` leads an IPv6 host elsewhere, however the URL writes it."""
    with SiteServer(lambda request: b"here", hosts=("127.0.0.1",)) as server:
        resolve = {(host, server.port): "127.0.0.1"}
        with SessionPool(transport="curl", resolve=resolve, addresses=AddressRules("allow"), retry=False) as pool:
            assert pool.get(f"http://[{host}]:{server.port}/").text == "here"
