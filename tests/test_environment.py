"""The environment is read once and never written; its proxies, logins and bundles mean what they mean to requests."""

from __future__ import annotations

import contextlib
import os
import pathlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from requests.utils import should_bypass_proxies
from urllib3.exceptions import InsecureRequestWarning

from crawlpool import Session, SessionPool
from crawlpool.environment import Environment
from crawlpool.testing import Answer, SiteServer
from crawlpool.testing.certificates import temporary_certificates
from tests.kit import Proxy, RawServer

pytestmark = pytest.mark.transports()

hosts = st.sampled_from(
    "a.example b.a.example xa.example example a.example.org 10.0.0.1 10.0.1.9 192.168.5.5 127.0.0.1 localhost "
    "[::1]".split()
)
entries = st.sampled_from(
    "* a.example .a.example ..a.example example a.example:81 :81 10.0.0.0/16 10.0.0.1 10.0.0.0/33 192.168.5.5/32 1 "
    "localhost [::1] ::1 A.EXAMPLE xa.example".split()
)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """Run a forward proxy."""
    with Proxy() as proxy:
        yield proxy


@pytest.mark.above_transports
@settings(max_examples=300)
@given(host=hosts, port=st.sampled_from(["", ":81", ":80"]), listed=st.lists(entries, max_size=3), blank=st.booleans())
def test_hosts_go_without_a_proxy_exactly_where_requests_lets_them(
    host: str, port: str, listed: list[str], blank: bool
) -> None:
    """The rules of ``no_proxy`` are those of ``requests.utils.should_bypass_proxies``, and asking writes nothing."""
    url, no_proxy = f"http://{host}{port}/x", (" , " if blank else ",").join(listed)
    before = dict(os.environ)
    environment = Environment({"http": "http://proxy.example:3128", "no": no_proxy})
    assert (environment.proxies_for(url) == {}) == should_bypass_proxies(url, no_proxy)
    plain = Environment({"http": "http://proxy.example:3128"})
    assert (plain.proxies_for(url, no_proxy) == {}) == should_bypass_proxies(url, no_proxy)
    assert dict(os.environ) == before


def test_asking_never_writes_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """requests sets ``no_proxy`` for a moment, which every thread sees; we never do."""
    writes: list[object] = []

    class Watched(type(os.environ)):  # type: ignore[misc]
        def __setitem__(self, *args: Any) -> None:
            writes.append(args)

        def __delitem__(self, *args: Any) -> None:
            writes.append(args)

    monkeypatch.setenv("no_proxy", "a.example")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with SiteServer({"/": b"x"}) as server, monkeypatch.context() as patch:
        patch.setattr(os.environ, "__class__", Watched)
        with SessionPool(retry=False) as pool:
            assert pool.get(server.url(), proxies={"no_proxy": "127.0.0.1"}).text == "x"
            with pytest.raises(requests.exceptions.ProxyError):
                pool.get(server.url())
        assert writes == []


def test_a_pool_reads_it_once(monkeypatch: pytest.MonkeyPatch, proxy: Proxy) -> None:
    """What is set after the pool was made doesn't matter to it; a session that stands alone sees it, as in requests."""
    with SiteServer({"/": b"x"}) as server, SessionPool(retry=False) as before, Session() as alone:
        monkeypatch.setenv("http_proxy", proxy.url().rstrip("/"))
        assert before.get(server.url()).text == "x"
        assert proxy.heads == []
        assert alone.get(server.url()).text == "x"
        with SessionPool(retry=False) as after:
            monkeypatch.delenv("http_proxy")
            assert after.get(server.url()).text == "x"
        assert len(proxy.heads) == 2


def test_without_trust_it_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """``trust_env=False`` leaves proxies, logins and bundles alone."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent")
    with SiteServer({"/": b"x"}) as server, SessionPool(retry=False, trust_env=False) as pool:
        assert pool.get(server.url()).text == "x"
        assert pool.session.merge_environment_settings(server.url(), {}, None, None, None)["verify"] is True


def test_a_plain_request_goes_through_the_proxy(proxy: Proxy) -> None:
    """By its whole URL; the answer and what is known of the wire come back, and the proxy is told of."""
    with SiteServer({"/a": b"via"}) as server:
        with SessionPool(retry=False, trust_env=False, proxies={"http": proxy.url()}) as pool:
            for _ in range(2):
                response = pool.get(server.url("/a?b=c", host="far.example"))
                assert response.text == "via"
                assert response.wire.proxy == proxy.url()  # type: ignore[attr-defined]
                assert response.wire.wire_bytes == 3  # type: ignore[attr-defined]
        assert proxy.heads[0].startswith(f"GET http://far.example:{server.port}/a?b=c HTTP/1.1".encode())


def test_tls_goes_through_a_tunnel(proxy: Proxy, transport: str) -> None:
    """By CONNECT; the certificate that is verified is the far server's, and verify=False of one call is its own."""
    with temporary_certificates(["far.example"]) as certificates:
        with SiteServer({"/": b"tunnelled"}, tls=certificates.server_context()) as server:
            url = server.url(host="far.example")
            with SessionPool(retry=False, trust_env=False, proxies={"https": proxy.url()}) as pool:
                assert pool.get(url, verify=str(certificates.authority)).text == "tunnelled"
                says_so = pytest.warns(InsecureRequestWarning) if transport == "urllib3" else contextlib.nullcontext()
                with says_so:  # through a proxy urllib3 itself does
                    assert pool.get(url, verify=False).text == "tunnelled"
                with pytest.raises(requests.exceptions.SSLError):
                    pool.get(url)
            assert proxy.heads[0].startswith(f"CONNECT far.example:{server.port} HTTP/1.".encode())


def test_credentials_of_a_proxy_go_to_the_proxy_alone(proxy: Proxy) -> None:
    """Of its URL: in CONNECT or the forwarded request, never to the server inside the tunnel."""
    address = proxy.url().replace("http://", "http://user:pw@")
    with temporary_certificates(["far.example"]) as certificates, SiteServer({"/": b"x"}) as plain:
        with SiteServer({"/": b"x"}, tls=certificates.server_context()) as server:
            with SessionPool(retry=False, trust_env=False, proxies={"all": address}) as pool:
                pool.get(server.url(host="far.example"), verify=str(certificates.authority))
                pool.get(plain.url(host="far.example"))
            assert "proxy-authorization" not in server.requests[0].headers
    assert [b"proxy-authorization: basic dxnlcjpwdw==" in head.lower() for head in proxy.heads] == [True, True]


def test_closing_the_pool_ends_a_request_through_a_proxy() -> None:
    """A proxy that never answers: its socket is known to the lifeline."""
    reached = threading.Event()
    caught: list[str] = []

    def script(connection: Any, _: int) -> None:
        connection.recv(1)
        reached.set()
        while connection.recv(65536):
            pass

    with RawServer(script) as mute:
        pool = SessionPool(retry=False, trust_env=False, proxies={"all": mute.url()})

        def fetch() -> None:
            try:
                pool.get("http://far.example/")
            except Exception as error:
                caught.append(type(error).__name__)

        thread = threading.Thread(target=fetch)
        thread.start()
        assert reached.wait(10)
        pool.close()
        thread.join(10)
    assert caught == ["PoolClosed"]


def test_a_redirect_takes_the_proxy_of_its_own_target(monkeypatch: pytest.MonkeyPatch, proxy: Proxy) -> None:
    """From a host that goes without to one that doesn't, and back, by the environment of the pool's making."""
    monkeypatch.setenv("http_proxy", proxy.url())
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with SiteServer({"/end": b"end"}) as server:
        away = Answer(302, {"Location": server.url("/end", host="far.example")})
        with SiteServer({"/": away}) as first, SessionPool(retry=False) as pool:
            assert pool.get(first.url()).text == "end"
    assert len(proxy.heads) == 1


def test_a_netrc_login_goes_to_its_host_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """Read when the pool is made; the call's own auth wins, and no other host gets it, by redirect either."""
    file = tmp_path / "netrc"
    file.write_text("machine in.example login user password pw\n")
    monkeypatch.setenv("NETRC", str(file))
    with SiteServer(lambda request: request.headers.get("authorization", "none")) as server:
        leads = {(host, server.port): "127.0.0.1" for host in ("in.example", "out.example")}
        with SessionPool(retry=False, resolve=leads) as pool:
            file.write_text("machine in.example login other password other\n")
            assert pool.get(server.url(host="in.example")).text == "Basic dXNlcjpwdw=="
            assert pool.get(server.url(host="out.example")).text == "none"
            assert pool.get(server.url(host="in.example"), auth=("a", "b")).text == "Basic YTpi"
        with SessionPool(retry=False, resolve=leads, netrc=False) as pool:
            assert pool.get(server.url(host="in.example")).text == "none"


@pytest.mark.parametrize("text", ["machine", "machine h login", "\udcff"])
def test_a_netrc_that_cannot_be_read_counts_as_none(
    text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    """As in requests: a broken file is no reason to fail."""
    file = tmp_path / "netrc"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    monkeypatch.setenv("NETRC", str(file))
    assert Environment.read().login_for("http://h.example/") is None


def test_the_bundle_of_the_environment_stands_behind_the_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is used where the call says nothing or True, and not where it says otherwise."""
    monkeypatch.setenv("CURL_CA_BUNDLE", "/curl")
    assert Environment.read().ca_bundle == "/curl"
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/bundle")
    with SessionPool() as pool:
        verify = [
            pool.session.merge_environment_settings("https://h.example/", {}, None, given, None)["verify"]
            for given in (None, True, False, "/own")
        ]
    assert verify == ["/bundle", "/bundle", False, "/own"]
