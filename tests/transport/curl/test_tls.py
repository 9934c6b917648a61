"""TLS over libcurl: who is trusted, by what, and that no setting of one call reaches another."""

from __future__ import annotations

import os
import pathlib
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import trustme

from crawlpool import SessionPool, Target
from crawlpool.errors import ErrorKind, kind_of
from crawlpool.testing import SiteServer
from crawlpool.testing.certificates import Certificates
from crawlpool.transport.curl import library
from tests.gates import Threads
from tests.kit import RawServer, answering

pytestmark = pytest.mark.skipif(not library.is_installed(), reason="needs pycurl")


@pytest.fixture
def server(certificates: Certificates) -> Iterator[SiteServer]:
    """Serve over TLS."""
    with SiteServer({"/": b"secret"}, tls=certificates.server_context()) as server:
        yield server


@pytest.fixture
def pool() -> Iterator[SessionPool]:
    """Give a pool over libcurl that doesn't retry."""
    with SessionPool(transport="curl", retry=False, trust_env=False, timeout=10) as pool:
        yield pool


def refused(pool: SessionPool, url: str, **options: Any) -> str:
    """Return what is said of a request that TLS refuses."""
    with pytest.raises(requests.exceptions.SSLError) as caught:
        pool.get(url, **options)
    assert kind_of(caught.value) is ErrorKind.TLS
    return str(caught.value)


def test_a_bundle_is_trusted_where_it_is_given(
    server: SiteServer, pool: SessionPool, certificates: Certificates
) -> None:
    """As text or path, in the call, the pool and its session."""
    assert pool.get(server.url(), verify=str(certificates.authority)).text == "secret"
    pool.verify = certificates.authority
    assert pool.get(server.url()).text == "secret"
    with SessionPool(transport="curl", retry=False, trust_env=False, verify=str(certificates.authority)) as other:
        assert other.get(server.url()).text == "secret"


def test_the_bundle_of_the_environment_is_trusted(
    server: SiteServer, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it was when the pool was made; libcurl itself reads no variable."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.authority))
    with SessionPool(transport="curl", retry=False) as pool:
        monkeypatch.delenv("REQUESTS_CA_BUNDLE")
        assert pool.get(server.url()).text == "secret"
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
    with SessionPool(transport="curl", retry=False, trust_env=False) as pool:
        refused(pool, server.url())


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to hash the folder")
def test_a_folder_of_hashed_certificates_is_trusted(
    server: SiteServer, pool: SessionPool, certificates: Certificates, tmp_path: pathlib.Path
) -> None:
    """And nothing else: a folder that hasn't the authority refuses, though a bundle was trusted just before."""
    empty, full = tmp_path / "empty", tmp_path / "full"
    for folder in (empty, full):
        folder.mkdir()
    shutil.copy(certificates.authority, full / "ca.pem")
    subprocess.run(["openssl", "rehash", str(full)], check=True, capture_output=True, timeout=30)
    assert pool.get(server.url(), verify=str(certificates.authority)).ok
    refused(pool, server.url(), verify=str(empty))
    assert pool.get(server.url(), verify=str(full)).ok
    refused(pool, server.url(), verify=empty)


def test_a_strange_authority_is_refused(server: SiteServer, pool: SessionPool) -> None:
    """By default the public ones are trusted, and ours isn't among them; nothing was sent."""
    assert "certificate" in refused(pool, server.url())
    assert server.request_count == 0


def test_the_host_name_is_checked(server: SiteServer, certificates: Certificates) -> None:
    """A certificate for another name is refused, though its authority is trusted."""
    trusted = {"verify": str(certificates.authority)}
    leads = {("other.example", server.port): "127.0.0.1"}
    with SessionPool(transport="curl", retry=False, trust_env=False, resolve=leads) as pool:
        assert "other.example" in refused(pool, server.url(host="other.example"), **trusted)
        assert pool.get(server.url(host="other.example"), verify=False).ok
        assert "other.example" in refused(pool, server.url(host="other.example"), **trusted)


def test_verify_false_of_one_call_never_reaches_another(server: SiteServer, pool: SessionPool) -> None:
    """An idle connection that wasn't verified isn't used by a verified call, in any order, nor its session resumed."""
    for _ in range(2):
        assert pool.get(server.url(), verify=False).text == "secret"
        refused(pool, server.url())
    assert (server.request_count, server.connections) == (2, 3)


def test_verified_and_unverified_side_by_side(server: SiteServer, certificates: Certificates) -> None:
    """Many threads, many handles used again: each call has its own setting, every time."""
    with SessionPool(transport="curl", retry=False, trust_env=False, timeout=20) as pool:

        def mixed() -> None:
            for number in range(12):
                if number % 3 == 0:
                    refused(pool, server.url())
                elif number % 3 == 1:
                    assert pool.get(server.url(), verify=False).ok
                else:
                    assert pool.get(server.url(), verify=str(certificates.authority)).ok

        with Threads() as threads:
            threads.start(mixed, 4)
    assert server.request_count == 4 * 8


def test_in_a_map_the_setting_is_the_maps(server: SiteServer, pool: SessionPool, certificates: Certificates) -> None:
    """Two maps of one pool, one trusts and one doesn't."""
    targets = [Target(server.url())] * 6
    assert all(one.is_ok for one in pool.map(targets, verify=str(certificates.authority)))
    assert [kind_of(one.error) for one in pool.map(targets) if one.error is not None] == [ErrorKind.TLS] * 6


def test_a_verified_connection_is_used_again(server: SiteServer, pool: SessionPool, certificates: Certificates) -> None:
    """One handshake for many calls with the same setting, also when the path is given as another kind."""
    for verify in (str(certificates.authority), certificates.authority, os.fspath(certificates.authority)):
        assert pool.get(server.url(), verify=verify).ok  # type: ignore[arg-type]
    assert server.connections == 1


def test_a_missing_file_is_named(pool: SessionPool, server: SiteServer, tmp_path: pathlib.Path) -> None:
    """A bundle, certificate or key that isn't there raises OSError with its path, as in requests; then all goes on."""
    gone = str(tmp_path / "gone.pem")
    here = tmp_path / "here.pem"
    here.touch()
    for options in ({"verify": gone}, {"cert": gone}, {"cert": (str(here), gone)}):
        with pytest.raises(OSError, match=r"gone\.pem"):
            pool.get(server.url(), **options)  # type: ignore[arg-type]
    assert pool.get(server.url(), verify=False).ok


def test_a_bundle_without_a_certificate_is_a_tls_error(
    pool: SessionPool, server: SiteServer, tmp_path: pathlib.Path
) -> None:
    """A file that is there and holds none: nobody is trusted by it."""
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing\n")
    refused(pool, server.url(), verify=str(empty))


@pytest.mark.parametrize("form", ["whole", "tuple", "list", "path"])
def test_a_client_certificate_is_shown(
    certificates: Certificates, pool: SessionPool, tmp_path: pathlib.Path, form: str
) -> None:
    """As one file or as a pair; without it the server refuses, also over a connection of one that had it."""
    issued = trustme.CA()
    client = issued.issue_cert("client@example.org")
    whole, chain, key = tmp_path / "whole.pem", tmp_path / "chain.pem", tmp_path / "key.pem"
    client.private_key_and_cert_chain_pem.write_to_path(str(whole))
    client.cert_chain_pems[0].write_to_path(str(chain))
    client.private_key_pem.write_to_path(str(key))
    context = certificates.server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    issued.configure_trust(context)
    pair = (str(chain), str(key))
    cert: Any = {"whole": str(whole), "tuple": pair, "list": list(pair), "path": whole}[form]
    pool.verify = str(certificates.authority)
    with SiteServer({"/": b"in"}, tls=context) as server:
        for _ in range(2):
            assert pool.get(server.url(), cert=cert).text == "in"
            with pytest.raises(requests.RequestException):
                pool.get(server.url())
        pool.cert = cert
        assert pool.get(server.url()).text == "in"
        assert server.request_count == 3


def test_a_key_of_another_certificate_is_a_tls_error(
    certificates: Certificates, pool: SessionPool, tmp_path: pathlib.Path
) -> None:
    """A pair that doesn't fit is refused before anything is sent, and told as TLS."""
    key = tmp_path / "key.pem"
    trustme.CA().issue_cert("x@example.org").private_key_pem.write_to_path(str(key))
    with SiteServer({"/": b"x"}, tls=certificates.server_context()) as server:
        refused(pool, server.url(), cert=(str(certificates.chain), str(key)), verify=str(certificates.authority))
        assert server.request_count == 0


def test_plain_http_behind_https_is_a_tls_error(pool: SessionPool) -> None:
    """A server that speaks no TLS on the port: not a broken answer, and not a secret in the clear."""
    heads: list[bytes] = []

    def script(connection: Any, _: int) -> None:
        heads.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    with RawServer(script) as server:
        refused(pool, server.url("/?secret=1").replace("http:", "https:"))
    assert not any(b"secret" in head for head in heads)


def test_a_stream_over_tls_is_cut_as_it_is(pool: SessionPool, certificates: Certificates) -> None:
    """A connection that ends without TLS's own end, in a body with a length: truncated, never whole."""
    cut = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfirst", close=True)
    with RawServer(cut, tls=certificates.server_context()) as server:
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            _ = pool.get(server.url(), stream=True, verify=str(certificates.authority)).content
