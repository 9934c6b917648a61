"""The nginx runner: it serves when its block begins, and is gone when it ends."""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket

import pytest
import requests

from crawlpool.testing import loopback_hosts
from crawlpool.testing.certificates import Certificates
from crawlpool.testing.nginx import NginxError, find_module, find_nginx, nginx

needs_nginx = pytest.mark.skipif(find_nginx() is None, reason="nginx isn't installed")


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "page.html").write_bytes(b"<p>" + b"x" * 20_000)
    return folder


@needs_nginx
def test_a_folder_is_served_on_each_address_and_logged(root: pathlib.Path) -> None:
    """Files arrive whole from every address, over the connections that the log counts; afterwards the port is shut."""
    hosts = loopback_hosts(3)
    with nginx(root, hosts=hosts, access_log=True, extra="location = /old { return 301 /page.html; }") as server:
        with requests.Session() as session:
            for host in hosts:
                answer = session.get(server.url("/page.html", host), timeout=10)
                assert (answer.status_code, len(answer.content)) == (200, 20_003)
                assert answer.headers["Content-Type"] == "text/html"
            assert session.get(server.url("/old"), timeout=10).url == server.url("/page.html")
            assert session.get(server.url("/none"), timeout=10).status_code == 404
            count = len(hosts) + 3
            # nginx writes a line just after the answer, and before it takes the next request of that connection.
            session.head(server.url("/page.html"), timeout=10)
            seen = server.accesses()[:count]
        assert [access.host for access in seen[: len(hosts)]] == list(hosts)
        assert (seen[0].status, seen[0].body_bytes, seen[0].method, seen[0].path) == (200, 20_003, "GET", "/page.html")
        assert [access.status for access in seen[len(hosts) :]] == [301, 200, 404]
        assert server.connections() == len(hosts)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((hosts[0], server.port), timeout=10).close()


@needs_nginx
def test_tls_is_served(root: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """With certificates it speaks TLS, with a key on an elliptic curve."""
    certificates = Certificates(tmp_path)
    with nginx(root, tls=certificates) as server:
        assert server.url().startswith("https://127.0.0.1:")
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain:
            with certificates.client_context().wrap_socket(plain, server_hostname="127.0.0.1") as secured:
                assert secured.version() in ("TLSv1.2", "TLSv1.3")
        answer = requests.get(server.url("/page.html"), verify=str(certificates.authority), timeout=10)
        assert len(answer.content) == 20_003


@needs_nginx
def test_more_connections_can_be_open_than_nginx_has_by_itself(root: pathlib.Path) -> None:
    """With ``connections`` so many are answered while all the others stay open."""
    with nginx(root, connections=5000) as server, contextlib.ExitStack() as stack:
        resource = pytest.importorskip("resource")
        if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 5000:
            pytest.skip("so many files may not be open here")
        idle = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 10)) for _ in range(4200)]
        for one in (idle[0], idle[-1]):
            one.sendall(b"HEAD /page.html HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert one.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")


@needs_nginx
def test_modules_are_found_and_loaded(root: pathlib.Path) -> None:
    """A module's file is found by name, and its directives are understood; one that is not installed is ``None``."""
    assert find_module("ngx_http_no_such_module") is None
    module = find_module("ngx_http_echo_module")
    if module is None:
        pytest.skip("nginx's echo module isn't installed")
    with nginx(root, modules=[module], extra="location = /told { echo -n told; }") as server:
        assert requests.get(server.url("/told"), timeout=10).text == "told"


@needs_nginx
def test_an_error_in_the_block_still_ends_it(root: pathlib.Path) -> None:
    """Leaving the block by an exception stops nginx as well."""
    with pytest.raises(LookupError), nginx(root) as server:
        raise LookupError
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=10).close()


@needs_nginx
def test_a_start_that_fails_says_why(root: pathlib.Path) -> None:
    """A directive that nginx refuses fails with its own words; a log that wasn't asked for can't be read."""
    with nginx(root) as first:
        with pytest.raises(NginxError, match="no access log"):
            first.accesses()
    with pytest.raises(NginxError, match="no_such_directive"), nginx(root, extra="no_such_directive on;"):
        pass


def test_without_nginx_the_error_says_what_to_install(root: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no nginx, asking for one names the package."""
    monkeypatch.setattr("shutil.which", lambda name, path: None)
    assert find_nginx() is None
    assert find_module("ngx_http_echo_module") is None
    with pytest.raises(NginxError, match="apt-get install nginx"), nginx(root):
        pass


def test_nginx_is_also_looked_for_where_debian_puts_it(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program on the PATH goes first; without one the administrator's folders are searched."""
    program = tmp_path / "nginx"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join((str(tmp_path), "/usr/bin")))
    assert find_nginx() == str(program)
