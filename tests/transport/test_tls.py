"""One frozen context for each TLS setting, and no setting of one call that reaches another."""

from __future__ import annotations

import pathlib
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import trustme

from crawlpool import SessionPool
from crawlpool.errors import ErrorKind, kind_of
from crawlpool.testing import SiteServer
from crawlpool.testing.certificates import Certificates
from crawlpool.transport import tls
from crawlpool.transport.tls import TLSContexts

pytestmark = pytest.mark.transports()


@pytest.fixture
def server(certificates: Certificates) -> Iterator[SiteServer]:
    """Serve over TLS."""
    with SiteServer({"/": b"secret"}, tls=certificates.server_context()) as server:
        yield server


@pytest.fixture
def pool() -> Iterator[SessionPool]:
    """Give a pool that doesn't retry."""
    with SessionPool(retry=False, trust_env=False, timeout=10) as pool:
        yield pool


def test_verify_false_of_one_call_never_reaches_another(server: SiteServer, pool: SessionPool) -> None:
    """The idle connection of an unverified call isn't used by a verified one, nor its context."""
    assert pool.get(server.url(), verify=False).text == "secret"
    with pytest.raises(requests.exceptions.SSLError) as caught:
        pool.get(server.url())
    assert kind_of(caught.value) is ErrorKind.TLS
    assert pool.get(server.url(), verify=False).text == "secret"
    assert server.request_count == 2


def test_a_plain_request_before_it_changes_nothing(pool: SessionPool, certificates: Certificates) -> None:
    """One after the other, over the same handle: each bundle and each refusal holds where it is asked for."""
    with SiteServer({"/": b"plain"}) as plain, SiteServer({"/": b"tls"}, tls=certificates.server_context()) as secure:
        for verify in (str(certificates.authority), False):
            for _ in range(2):
                assert pool.get(plain.url(), verify=verify).text == "plain"
                assert pool.get(secure.url(), verify=verify).text == "tls"
        assert pool.get(plain.url()).text == "plain"
        with pytest.raises(requests.exceptions.SSLError):
            pool.get(secure.url())


def test_verify_true_of_a_call_wins_over_the_sessions_false(server: SiteServer, pool: SessionPool) -> None:
    """As in requests: who asks for verification gets it."""
    pool.session.verify = False
    assert pool.get(server.url()).ok
    with pytest.raises(requests.exceptions.SSLError):
        pool.get(server.url(), verify=True)


def test_a_bundle_is_trusted_where_it_is_given(
    server: SiteServer, pool: SessionPool, certificates: Certificates
) -> None:
    """As text or path, in the call, the session or the pool; the host name is checked all the same."""
    assert pool.get(server.url(), verify=str(certificates.authority)).ok
    pool.verify = certificates.authority
    assert pool.get(server.url()).ok
    with SessionPool(retry=False, trust_env=False, resolve={("other.example", server.port): "127.0.0.1"}) as other:
        with pytest.raises(requests.exceptions.SSLError, match=r"other\.example"):
            other.get(server.url(host="other.example"), verify=str(certificates.authority))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to hash the folder")
def test_a_folder_of_hashed_certificates_is_trusted(
    server: SiteServer, pool: SessionPool, certificates: Certificates, tmp_path: pathlib.Path
) -> None:
    """``verify`` may be a folder as c_rehash makes it."""
    shutil.copy(certificates.authority, tmp_path / "ca.pem")
    subprocess.run(["openssl", "rehash", str(tmp_path)], check=True, capture_output=True, timeout=30)
    assert pool.get(server.url(), verify=str(tmp_path)).ok


def test_a_missing_file_is_named(pool: SessionPool, server: SiteServer, tmp_path: pathlib.Path) -> None:
    """A bundle, certificate or key that isn't there raises OSError with its path, as in requests."""
    gone = str(tmp_path / "gone.pem")
    here = tmp_path / "here.pem"
    here.touch()
    for options in ({"verify": gone}, {"cert": gone}, {"cert": (str(here), gone)}):
        with pytest.raises(OSError, match=r"gone\.pem"):
            pool.get(server.url(), **options)  # type: ignore[arg-type]


def test_a_client_certificate_is_shown(certificates: Certificates, pool: SessionPool, tmp_path: pathlib.Path) -> None:
    """As one file or as a pair, tuple or list; without it the server refuses."""
    issued = trustme.CA()
    client = issued.issue_cert("client@example.org")
    whole, chain, key = tmp_path / "whole.pem", tmp_path / "chain.pem", tmp_path / "key.pem"
    client.private_key_and_cert_chain_pem.write_to_path(str(whole))
    client.cert_chain_pems[0].write_to_path(str(chain))
    client.private_key_pem.write_to_path(str(key))
    context = certificates.server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    issued.configure_trust(context)
    trusted = {"verify": str(certificates.authority)}
    with SiteServer({"/": b"in"}, tls=context) as server:
        for cert in (str(whole), (str(chain), str(key)), [str(chain), str(key)]):
            assert pool.get(server.url(), cert=cert, **trusted).text == "in"  # type: ignore[arg-type]
        with pytest.raises(requests.RequestException):
            pool.get(server.url(), **trusted)  # type: ignore[arg-type]
        pool.cert = str(whole)
        assert pool.get(server.url(), **trusted).text == "in"  # type: ignore[arg-type]


@pytest.mark.transports("urllib3")  # libcurl has contexts of its own
def test_the_bundle_is_loaded_once_for_all_hosts_and_threads(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four threads, each with sessions to several origins, load the certificates once."""
    loads: list[Any] = []
    make = tls.create_urllib3_context

    def counting(**kwargs: Any) -> Any:
        context = make(**kwargs)
        plain = context.load_verify_locations

        class Counting(type(context)):  # type: ignore[misc]
            def load_verify_locations(self, *args: Any, **options: Any) -> None:
                loads.append(options)
                plain(*args, **options)

        context.__class__ = Counting
        return context

    monkeypatch.setattr(tls, "create_urllib3_context", counting)
    context = certificates.server_context()
    with SessionPool(retry=False, trust_env=False, verify=str(certificates.authority)) as pool:
        with SiteServer({"/": b"x"}, tls=context) as one, SiteServer({"/": b"x"}, tls=context) as two:
            urls = [server.url(host=host) for server in (one, two) for host in ("127.0.0.1", "localhost")]
            barrier = threading.Barrier(4)

            def fetch() -> None:
                barrier.wait(10)
                for url in urls:
                    pool.get(url).raise_for_status()

            threads = [threading.Thread(target=fetch) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert one.connections + two.connections == 16
    assert len(loads) == 1


@pytest.mark.transports("urllib3")  # libcurl has contexts of its own
def test_a_setting_has_one_context(certificates: Certificates) -> None:
    """The same object for each question, another one for each other setting; True and None are the same setting."""
    contexts = TLSContexts()
    trusted = contexts.get(certificates.authority, None)
    assert contexts.get(str(certificates.authority), None) is trusted
    unverified = contexts.get(False, None)
    assert unverified is contexts.get(False, None)
    assert unverified is not trusted
    assert contexts.get(True, None) is contexts.get(None, None)
    assert (trusted.verify_mode, trusted.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert (unverified.verify_mode, unverified.check_hostname) == (ssl.CERT_NONE, False)


@pytest.mark.transports("urllib3")  # libcurl has contexts of its own
def test_using_a_context_does_not_change_it(server: SiteServer, pool: SessionPool, certificates: Certificates) -> None:
    """urllib3 writes to contexts that it is given; what it writes is what was there."""
    contexts = pool._shared.tls
    settings = [(str(certificates.authority), None), (False, None)]
    before = [(c.verify_mode, c.check_hostname, c.options) for c in (contexts.get(*one) for one in settings)]
    for verify, _ in settings:
        pool.get(server.url(), verify=verify)
    assert [(c.verify_mode, c.check_hostname, c.options) for c in (contexts.get(*one) for one in settings)] == before


def test_threads_that_ask_at_once_get_one_context(certificates: Certificates) -> None:
    """Whoever comes second waits instead of loading the bundle again."""
    contexts = TLSContexts()
    got: list[ssl.SSLContext] = []
    barrier = threading.Barrier(8)

    def ask() -> None:
        barrier.wait(10)
        got.append(contexts.get(str(certificates.authority), None))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8
    assert all(one is got[0] for one in got)
