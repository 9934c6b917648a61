"""The transport of a run: which one it is, what only curl can do, and the open files that it needs."""

from __future__ import annotations

import pathlib
import socket
import sys
import threading
from typing import Any

import pytest

from crawlpool.cli import main, network
from crawlpool.cli.transport import SPARE_FILES, Transport, allow_files
from crawlpool.config import PoolSettings
from crawlpool.errors import ConfigError
from crawlpool.sessionpool import SessionPool
from crawlpool.testing import SiteServer
from crawlpool.testing.certificates import Certificates
from crawlpool.testing.nginx import find_nginx, nginx
from crawlpool.transport.curl import library
from tests.cli.command import PATIENCE_S, environment, finish, records_of, start

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch

needs_curl = pytest.mark.skipif(not library.is_installed(), reason="pycurl isn't installed")
posix = pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit there")


@pytest.fixture
def without_curl(monkeypatch: Patch) -> None:
    """Have pycurl look as if it weren't installed."""
    monkeypatch.setitem(sys.modules, "pycurl", None)


@pytest.fixture
def options(monkeypatch: Patch) -> list[dict[str, Any]]:
    """Return what the pools of runs are made with."""
    found: list[dict[str, Any]] = []

    class Watched(SessionPool):
        def __init__(self, **settings: Any) -> None:
            found.append(settings)
            super().__init__(**settings)

    monkeypatch.setattr(network, "SessionPool", Watched)
    return found


@pytest.mark.parametrize(
    ("arguments", "variable", "name"),
    [
        ([], "", "curl"),
        (["--transport", "auto"], "urllib3", "curl"),
        (["--transport", "curl"], "urllib3", "curl"),
        (["--transport", "urllib3"], "curl", "urllib3"),
        ([], "urllib3", "urllib3"),
        ([], "curl", "curl"),
    ],
)
@needs_curl
def test_the_transport_is_as_told(
    arguments: list[str], variable: str, name: str, capfd: Capture, monkeypatch: Patch, options: list[dict[str, Any]]
) -> None:
    """auto is curl where pycurl is installed; the command line counts over the variable; the start says which it is."""
    monkeypatch.setenv("CRAWLPOOL_TRANSPORT", variable)
    with SiteServer({"/": b"x"}) as server:
        assert main(["run", server.url("/"), "--threads", "3", *arguments]) == 0
    out, err = capfd.readouterr()
    assert f": 3 threads, 3 in flight, transport {name}; " in err
    assert options[0]["transport"] == name
    assert (records_of(out)[0]["timings"] is None) is (name == "urllib3")


def test_auto_without_pycurl_is_urllib3(capfd: Capture, without_curl: None) -> None:
    """A run without the extra works all the same, and the start says why it isn't curl."""
    with SiteServer({"/": b"x"}) as server:
        assert main(["run", server.url("/")]) == 0
    assert "transport urllib3 (pycurl is not installed); " in capfd.readouterr().err


@pytest.mark.parametrize("variable", ["", "curl"])
def test_curl_without_pycurl_is_a_usage_error(variable: str) -> None:
    """Asked for by name, it isn't replaced in silence: exit code 2 and one line with the pip install."""
    hidden = "import sys; sys.modules['pycurl'] = None"
    arguments = [] if variable else ["--transport", "curl"]
    process = start(
        ["run", "http://127.0.0.1:9/", *arguments], before=hidden, env=environment(CRAWLPOOL_TRANSPORT=variable)
    )
    code, out, err = finish(process)
    assert (code, out) == (2, "")
    place = "CRAWLPOOL_TRANSPORT" if variable else "--transport"
    needs = "the curl transport needs an extra that is not installed: pip install 'crawlpool[curl]'"
    assert err.splitlines()[-1] == f"crawlpool: {place}: {needs}"
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["--in-flight", "17"],
            "--in-flight: with the urllib3 transport each thread has one request at a time, so 17 ",
        ),
        (["--http", "2"], "--http: this needs the curl transport: "),
        (["--memory-budget", "1M"], "--memory-budget: this needs the curl transport: "),
    ],
)
def test_what_only_curl_can_do_is_refused_with_urllib3(
    arguments: list[str], says: str, capfd: Capture, without_curl: None
) -> None:
    """The message names the option and the remedy: another --transport, or the extra where it isn't there."""
    for transport, remedy in (("urllib3", "choose --transport curl"), ("auto", "pip install 'crawlpool[curl]'")):
        assert main(["run", "http://127.0.0.1:9/", "--transport", transport, *arguments]) == 2
        last = capfd.readouterr().err.splitlines()[-1]
        assert last.startswith(f"crawlpool: {says}") and last.endswith(remedy)


def test_an_error_names_the_file_or_the_variable(tmp_path: pathlib.Path, capfd: Capture, monkeypatch: Patch) -> None:
    """What is blamed is where the value stood, not an option that nobody gave."""
    config = tmp_path / "c.toml"
    config.write_text('transport = "urllib3"\nhttp = 2\n')
    assert main(["run", "u", "--config", str(config)]) == 2
    assert f"crawlpool: {config}: http: this needs the curl transport" in capfd.readouterr().err
    monkeypatch.setenv("CRAWLPOOL_IN_FLIGHT", "99")
    assert main(["run", "u", "--transport", "urllib3"]) == 2
    assert "crawlpool: CRAWLPOOL_IN_FLIGHT: with the urllib3 transport" in capfd.readouterr().err


def test_fewer_in_flight_than_threads_holds_with_urllib3(options: list[dict[str, Any]], capfd: Capture) -> None:
    """--in-flight is the number of requests at once, whatever moves them."""
    with SiteServer({"/": b"x"}) as server:
        assert main(["run", server.url("/"), "--transport", "urllib3", "--threads", "8", "--in-flight", "2"]) == 0
    assert (options[0]["threads"], options[0]["in_flight"]) == (2, 2)
    assert ": 2 threads, 2 in flight, transport urllib3; " in capfd.readouterr().err


@needs_curl
def test_what_is_told_reaches_the_pool(options: list[dict[str, Any]], capfd: Capture) -> None:
    """Numbers, sizes and the HTTP version; a budget of 0 is none."""
    given = ["--transport", "curl", "--threads", "2", "--in-flight", "40", "--http", "2", "--memory-budget", "1.5M"]
    with SiteServer({"/": b"x"}) as server:
        assert main(["run", server.url("/"), *given]) == 0
        assert main(["run", server.url("/"), "--transport", "curl", "--memory-budget", "0"]) == 0
    names = ("transport", "threads", "in_flight", "http", "memory_budget_bytes")
    assert [options[0][name] for name in names] == ["curl", 2, 40, "2", 3 << 19]
    assert [options[1][name] for name in names] == ["curl", 16, 16, "1.1", None]
    assert "2 threads, 40 in flight, transport curl (HTTP/2); " in capfd.readouterr().err


@needs_curl
@pytest.mark.skipif(find_nginx() is None, reason="nginx isn't installed")
def test_http_2_is_spoken_with_a_server_that_can(tmp_path: pathlib.Path, capfd: Capture) -> None:
    """The record says which version it was: 2 when asked for, 1.1 else."""
    (tmp_path / "a.html").write_text("x")
    certificates = Certificates(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # Before nginx 1.25 it is an argument of listen; later ones take that, too.
    with nginx(tmp_path, tls=certificates, extra=f"listen 127.0.0.1:{port} ssl http2;"):
        for version in ("2", "1.1"):
            arguments = ["--transport", "curl", "--http", version, "--ca-bundle", str(certificates.authority)]
            assert main(["run", f"https://127.0.0.1:{port}/a.html", *arguments]) == 0
            assert records_of(capfd.readouterr().out)[0]["http_version"] == version


@needs_curl
@posix
def test_more_requests_than_threads_and_than_files_allowed_at_first() -> None:
    """With curl --in-flight is over all threads; the command raises its own soft limit of open files for it."""
    together = threading.Barrier(60)
    limits = "import resource\nhard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
    limits += "resource.setrlimit(resource.RLIMIT_NOFILE, (50, hard))"

    def answers(request: Any) -> bytes:
        together.wait(PATIENCE_S)
        return b"x"

    with SiteServer(answers) as server:
        urls = [server.url(f"/{n}") for n in range(60)]
        arguments = ["--transport", "curl", "--threads", "2", "--in-flight", "60", "--retries", "0", "-q"]
        code, out, err = finish(start(["run", *urls, *arguments], before=limits))
    assert (code, err) == (0, "")
    assert len(records_of(out)) == 60


@posix
def test_a_hard_limit_that_is_too_small_is_a_usage_error() -> None:
    """One line says what is needed, what is allowed, and how to raise it; nothing is fetched."""
    limits = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (90, 100))"
    with SiteServer({"/": b"x"}) as server:
        arguments = ["run", server.url("/"), "--transport", "urllib3", "--threads", "40"]
        code, out, err = finish(start(arguments, before=limits))
        assert server.request_count == 0
    assert (code, out, "Traceback" in err) == (2, "", False)
    last = err.splitlines()[-1]
    assert last.startswith("crawlpool: 40 requests at once need 104 open files, and no more than 100 are allowed")
    assert "ulimit -n" in last


class Limits:
    """A process's limits on open files, posed; more than ``kernel`` is refused, as macOS does."""

    def __init__(self, monkeypatch: Patch, soft: int, hard: int, kernel: int = 1 << 30) -> None:
        resource = pytest.importorskip("resource")
        self.soft, self.hard, self._kernel = soft, hard, kernel
        monkeypatch.setattr(resource, "getrlimit", lambda which: (self.soft, self.hard))
        monkeypatch.setattr(resource, "setrlimit", self._set)

    def _set(self, which: int, limits: tuple[int, int]) -> None:
        if limits[0] > self._kernel:
            raise ValueError("not allowed to raise maximum limit")
        assert limits[1] == self.hard
        self.soft = limits[0]


@posix
@pytest.mark.parametrize(
    ("soft", "hard", "kernel", "raised", "idle"),
    [
        (-1, -1, 1 << 30, -1, 32),  # no limit
        (1024, 4096, 1 << 30, 1024, 32),  # enough
        (256, -1, 1 << 30, 64 + 100 + 100 * 32, 32),
        (256, 1024, 1 << 30, 1024, 8),  # as far as is allowed; what is left is shared among the threads
        (100, -1, 500, 64 + 100, 1),
    ],
)
def test_the_soft_limit_is_raised_as_far_as_is_needed_and_allowed(
    soft: int, hard: int, kernel: int, raised: int, idle: int, monkeypatch: Patch
) -> None:
    """Running requests must have room; idle connections get what is left of it, up to the pool's usual number."""
    limits = Limits(monkeypatch, soft, hard, kernel)
    threads = 16 if soft == 1024 else 100
    found = allow_files(Transport("curl", threads, threads))
    assert (limits.soft, found) == (raised, idle)


@posix
def test_too_little_is_refused(monkeypatch: Patch) -> None:
    """One file fewer than the requests and what else is open need is too little; exactly as many are enough."""
    transport = Transport("curl", 2, 1000)
    Limits(monkeypatch, 100, 1000 + SPARE_FILES - 1)
    with pytest.raises(ConfigError, match=f"need {1000 + SPARE_FILES} open files, .* {999 + SPARE_FILES} are allowed"):
        allow_files(transport)
    Limits(monkeypatch, 100, 1000 + SPARE_FILES)
    assert 1 == allow_files(transport) < PoolSettings.idle_connections
