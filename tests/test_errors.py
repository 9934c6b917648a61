"""The exception tree, the kind of each error, and what is said of it."""

from __future__ import annotations

import inspect
import socket
import ssl
import threading

import pytest
import requests
import requests.exceptions as rex
import urllib3.exceptions as u3

from crawlpool import Session, errors
from crawlpool.errors import CrawlPoolError, ErrorKind, causes, describe, kind_of
from crawlpool.testing import Answer, SiteServer
from crawlpool.testing.certificates import temporary_certificates
from tests.kit import RawServer, answering, resolving_to_nothing

pytestmark = pytest.mark.transports()


def failure(url: str, **kwargs: object) -> Exception:
    """Return what a GET raises."""
    with Session() as session, pytest.raises(requests.RequestException) as caught:
        session.get(url, **{"timeout": 5, **kwargs})  # type: ignore[arg-type]
    return caught.value


def test_every_error_derives_from_the_root() -> None:
    """Whoever catches CrawlPoolError catches all of ours; those about a request are RequestExceptions too."""
    ours = [c for c in vars(errors).values() if inspect.isclass(c) and c.__module__ == "crawlpool.errors"]
    raised = [c for c in ours if issubclass(c, BaseException)]
    assert len(raised) > 15
    assert all(issubclass(c, CrawlPoolError) for c in raised)
    about_requests = [c for c in raised if issubclass(c, requests.RequestException)]
    assert set(about_requests) == {c for c in raised if issubclass(c, errors.RequestError)}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.Cancelled(), "cancelled"),
        (errors.PoolClosed(), "cancelled"),
        (errors.HandlerFailed(), "handler"),
        (errors.InputError("x"), "invalid_url"),
        (errors.DeadlineExceeded(), "deadline"),
        (errors.BodyTooLarge(), "too_large"),
        (errors.UnwantedContentType(), "content_type"),
        (errors.TruncatedBody(), "truncated"),
        (errors.UndecodableBody(), "decode"),
        (errors.ProtocolError(), "protocol"),
        (rex.ProxyError(), "proxy"),
        (rex.TooManyRedirects(), "redirect"),
        (rex.MissingSchema(), "invalid_url"),
        (rex.InvalidSchema(), "invalid_url"),
        (rex.ReadTimeout(), "timeout"),
        (rex.InvalidHeader(), "protocol"),
        (rex.ConnectionError(u3.ProtocolError("aborted", ConnectionResetError())), "connect"),
        (rex.RequestException(), "protocol"),
        (OSError("disk"), "connect"),
        (KeyError("x"), "internal"),
        (ssl.SSLError(), "tls"),
    ],
)
def test_each_error_has_its_kind(error: Exception, kind: str) -> None:
    """The kind of an error is one of the record's words, and the same for wrapped and bare causes."""
    assert str(kind_of(error)) == kind
    assert kind in {one.value for one in ErrorKind}


def test_a_name_that_does_not_resolve_is_dns(monkeypatch: pytest.MonkeyPatch) -> None:
    """requests says ConnectionError; the cause within it is told."""
    with resolving_to_nothing(monkeypatch):
        error = failure("http://nowhere.example/secret-path")
    assert kind_of(error) is ErrorKind.DNS
    assert isinstance(error, requests.ConnectionError)
    assert "secret-path" not in describe(error)
    assert "Name or service" in describe(error)


def test_a_refused_connection_is_connect() -> None:
    """Nobody listens: kind connect, said in the system's words."""
    error = failure("http://127.0.0.1:1/secret-path")
    assert kind_of(error) is ErrorKind.CONNECT
    assert describe(error) == "Connection refused"


def test_a_certificate_nobody_trusts_is_tls() -> None:
    """An unknown authority is a fault of TLS."""
    with temporary_certificates() as certificates:
        with SiteServer({"/": b""}, tls=certificates.server_context()) as server:
            error = failure(server.url("/secret-path"))
    assert kind_of(error) is ErrorKind.TLS
    assert isinstance(error, rex.SSLError)
    assert "secret-path" not in describe(error)


def test_a_silent_server_is_timeout() -> None:
    """A read that times out is a timeout, and its message doesn't name the path."""
    with SiteServer({"/": Answer(delay_s=30)}) as server:
        error = failure(server.url("/"), timeout=(5, 0.05))
    assert kind_of(error) is ErrorKind.TIMEOUT
    assert isinstance(error, rex.ReadTimeout)
    assert describe(error).startswith("Read timed out.")


def test_what_is_no_http_is_protocol() -> None:
    """An answer that isn't HTTP breaks the protocol; a connection that is just closed is a connection's fault."""
    with RawServer(answering(b"SSH-2.0-server\r\n", close=True)) as server:
        assert kind_of(failure(server.url())) is ErrorKind.PROTOCOL
        assert isinstance(failure(server.url()), errors.ProtocolError)
        assert isinstance(failure("http://h.example/", proxies={"http": server.url()}), errors.ProtocolError)
    for answer in (b"SSH-2.0-\x1b[2J\0\xff\r\n", b"HTTP/2.0 200 OK\r\n\r\n", b"<html>", b"x" * 100_000):
        with RawServer(answering(answer, close=True)) as server:
            error = failure(server.url())
        assert isinstance(error, errors.ProtocolError), answer
        assert str(error).isprintable() and len(str(error)) < 200
    with RawServer(answering(b"", close=True)) as server:
        assert kind_of(failure(server.url())) is ErrorKind.CONNECT


def test_bad_urls_are_invalid_url() -> None:
    """A URL that can't be requested is told as such."""
    with Session() as session:
        for url in ("http://", "nothing", "ftp://host/", "http://a..b.example/", "http://[::1/"):
            with pytest.raises(requests.RequestException) as caught:
                session.get(url)
            assert kind_of(caught.value) is ErrorKind.INVALID_URL, url


def test_the_walk_through_causes_ends() -> None:
    """A chain that leads back to itself is walked once."""
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert list(causes(first)) == [first, second]


def test_a_suppressed_context_is_not_told() -> None:
    """``raise … from None`` hides what came before, for the kind too."""
    try:
        try:
            raise socket.gaierror()
        except OSError:
            raise KeyError("x") from None
    except KeyError as error:
        assert kind_of(error) is ErrorKind.INTERNAL


def test_messages_name_place_and_extra() -> None:
    """An input error names file and line; a missing extra names the command that brings it."""
    error = errors.InputError("no URL", "urls.txt:3")
    assert (str(error), error.place) == ("urls.txt:3: no URL", "urls.txt:3")
    assert "pip install 'crawlpool[socks]'" in str(errors.MissingExtra("a SOCKS proxy", "socks"))
    assert describe(KeyError()) == "KeyError"


def test_errors_cross_threads() -> None:
    """An error made in one thread says the same in another: nothing in it belongs to a thread."""
    said: list[str] = []
    error = errors.DeadlineExceeded("late")
    thread = threading.Thread(target=lambda: said.append(f"{kind_of(error)} {describe(error)}"))
    thread.start()
    thread.join()
    assert said == ["deadline late"]
