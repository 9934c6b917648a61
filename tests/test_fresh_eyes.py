"""What a newcomer tripped over once: the first mistakes of a user, and of servers."""

from __future__ import annotations

import pathlib
import shutil
import socket
import struct
import subprocess
import sys
import threading
import zipfile

import pytest
import requests

from crawlpool import (
    BodyStalled,
    ConfigError,
    Crawl,
    CrawlPoolError,
    ErrorKind,
    Result,
    RetryPolicy,
    SessionPool,
    Target,
    TruncatedBody,
)
from crawlpool.testing import Answer, SiteServer
from tests.house import ROOT
from tests.kit import RawServer

pytestmark = pytest.mark.transports()

TWICE = RetryPolicy(attempts=2, backoff_s=0.0, budget=None)
HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc"


@pytest.mark.above_transports
def test_a_wheel_has_every_package(tmp_path: pathlib.Path) -> None:
    """What is installed can be imported: each folder with Python files in it is a package, and in the wheel."""
    folders = {path.parent for path in (ROOT / "crawlpool").rglob("*.py") if "__pycache__" not in path.parts}
    assert {folder for folder in folders if not (folder / "__init__.py").is_file()} == set()
    pytest.importorskip("setuptools")
    copied = tmp_path / "sources"  # a build leaves its traces in the folder, and would find those of an older one
    shutil.copytree(ROOT / "crawlpool", copied / "crawlpool", ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for name in ("setup.cfg", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copied / name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run([*command, str(copied)], check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    here = {path.relative_to(ROOT).as_posix() for folder in folders for path in folder.glob("*.py")}
    assert here <= names
    code = "import crawlpool, crawlpool.cli, crawlpool.testing; print(crawlpool.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(wheel), "PATH": ""},
        timeout=60,
    )
    assert str(wheel) in done.stdout


@pytest.mark.parametrize("kind", ["stall", "reset"])
def test_a_body_that_breaks_is_a_request_exception_and_retried(kind: str) -> None:
    """A stall or a reset in the middle of a body: typed, a ``RequestException``, and the exchange is sent again."""

    def script(connection: socket.socket, number: int) -> None:
        connection.recv(65536)
        connection.sendall(HALF)
        if kind == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        else:
            server.shutdown.wait(10)

    read_s = 1.0 if kind == "stall" else 10.0  # in which the half has to come
    with RawServer(script) as server, SessionPool(retry=TWICE, trust_env=False, timeout=(10, read_s)) as pool:
        with pytest.raises(requests.RequestException) as caught:
            pool.get(server.url())
        assert isinstance(caught.value, (BodyStalled, TruncatedBody, requests.ConnectionError))
        assert pool.statistics().retries == 1
        (result,) = pool.map([server.url()])
        assert result.attempts == 2
        assert result.error_kind in (ErrorKind.TIMEOUT, ErrorKind.TRUNCATED, ErrorKind.CONNECT)


@pytest.mark.parametrize("location", ["http://[::bad", "//[", "http://h:99999999/"])
def test_a_location_that_is_no_url_is_the_servers_fault(location: str) -> None:
    """It ends the target as ``invalid_url``, never as ``internal``; ``get`` raises a ``RequestException``."""
    with SiteServer({"/": Answer(302, {"Location": location})}) as server, SessionPool(retry=False) as pool:
        with pytest.raises(requests.exceptions.InvalidURL):
            pool.get(server.url())
        (result,) = pool.map([server.url()])
        assert result.error_kind is ErrorKind.INVALID_URL


def test_a_map_tells_a_second_consumer() -> None:
    """Two threads that iterate one map would wait for each other's results; the second is told."""
    release = threading.Event()

    def site(request: object) -> bytes:
        release.wait(10)
        return b"x"

    with SiteServer(site) as server, SessionPool(threads=1) as pool:
        results = pool.map([server.url("/")])
        first = threading.Thread(target=lambda: list(results))
        first.start()
        try:
            while not server.request_count:
                pass
            with pytest.raises(CrawlPoolError, match="one thread"):
                next(results)
        finally:
            release.set()
            first.join()


def test_one_url_is_not_many() -> None:
    """A plain text where URLs are expected is refused, not fetched letter by letter."""
    with SessionPool() as pool:
        with pytest.raises(ConfigError, match="targets"):
            pool.map("http://127.0.0.1/")
        with pytest.raises(ConfigError, match="seeds"):
            pool.crawl("http://127.0.0.1/")
        with pytest.raises(ConfigError, match="handler"):
            pool.crawl(["http://127.0.0.1/"], "handler")  # type: ignore[arg-type]


def test_a_handler_that_fails_is_heard_of(caplog: pytest.LogCaptureFixture) -> None:
    """Its exception is logged with its traceback, beside the record."""

    def handler(result: Result, crawl: Crawl) -> None:
        raise KeyError("mine")

    with SiteServer({"/": b"x"}) as server, SessionPool() as pool:
        assert pool.crawl([server.url()], handler).failed == 1
    (record,) = [one for one in caplog.records if one.name == "crawlpool.crawl"]
    assert record.exc_info is not None
    assert record.exc_info[0] is KeyError


@pytest.mark.parametrize("origin", ["http://h/path", "http://h/?q", "http://user:secret@h/"])
def test_a_site_is_an_origin_and_no_more(origin: str) -> None:
    """Headers for a path would go to the whole origin: a path is refused, and no password shown."""
    with SessionPool() as pool:
        with pytest.raises(ConfigError, match="origin") as caught:
            pool.site(origin, headers={"X-Key": "1"})
        assert "secret" not in str(caught.value)
        pool.site("http://h/", headers={"X-Key": "1"})


@pytest.mark.parametrize(
    "wrong", [{"headers": "a: b"}, {"proxies": "http://x"}, {"resolve": "x"}, {"auth": "u:p"}, {"params": "a=b"}]
)
def test_wrong_kinds_of_settings_are_named(wrong: dict[str, str]) -> None:
    """The message names the setting; the value, which may be a secret, isn't in it."""
    with pytest.raises(ConfigError, match=next(iter(wrong))) as caught:
        SessionPool(**wrong)  # type: ignore[arg-type]
    assert "u:p" not in str(caught.value)


@pytest.mark.parametrize("priority", ["x", None, float("nan")])
def test_a_priority_is_a_number(priority: object) -> None:
    """A priority that can't be compared is refused where it is said, and not by the queue of a running crawl."""
    with pytest.raises(ConfigError, match="priority"):
        Target("http://127.0.0.1/", priority=priority)  # type: ignore[arg-type]


def test_more_in_flight_than_threads_needs_curl() -> None:
    """``in_flight`` that would be ignored is refused."""
    with pytest.raises(ConfigError, match="in_flight=64"):
        SessionPool(threads=4, in_flight=64, transport="urllib3")


def test_a_crawl_whose_feeder_fails_ends_with_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong while a target is queued comes out of the crawl, which doesn't wait for it in vain."""
    with SessionPool(threads=1) as pool:

        def offer(leg: object, *, block: bool, anyway: bool = False) -> object:
            raise RuntimeError("no room in the world")

        monkeypatch.setattr(pool._workforce, "offer", offer)
        with pytest.raises(RuntimeError, match="no room"):
            pool.crawl(["http://127.0.0.1:1/"])
