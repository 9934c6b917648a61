"""What is fetched, and from where: pages in a folder, served from loopback by nginx or by the bundled server."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import random
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING, Any

import certifi

from crawlpool.testing.certificates import Certificates
from crawlpool.testing.nginx import find_nginx, nginx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
THREADS = 16
PAGE_BYTES = 20_000
PAGES = 10
_STATUS = "location = /connections { stub_status; access_log off; }"


@dataclasses.dataclass(frozen=True)
class Workload:
    """Pages of so many hosts.

    Args:
        scheme: http or https.
        hosts: how many hosts (addresses) there are.
        per_host: how many requests each gets, among ten pages of 20 kB.
    """

    scheme: str
    hosts: int
    per_host: int

    @property
    def name(self) -> str:
        """What the tables call it."""
        if self.hosts == 1:
            return f"one {self.scheme.upper()} host"
        return f"{self.hosts} {self.scheme.upper()} hosts × {self.per_host} pages"

    @property
    def slug(self) -> str:
        """What a test's name calls it."""
        return f"{'one' if self.hosts == 1 else 'many'}-{self.scheme}"

    @property
    def requests(self) -> int:
        """How many requests one round is."""
        return self.hosts * self.per_host

    def quick(self) -> Workload:
        """Return the same, small."""
        if self.hosts > 1:
            return dataclasses.replace(self, hosts=self.hosts // 5)
        return dataclasses.replace(self, per_host=self.per_host // 5)


ONE_HTTP_HOST = Workload("http", 1, 2000)
ONE_HTTPS_HOST = Workload("https", 1, 1000)
MANY_HTTPS_HOSTS = Workload("https", 100, 10)
WORKLOADS = (ONE_HTTP_HOST, ONE_HTTPS_HOST, MANY_HTTPS_HOSTS)


@dataclasses.dataclass(frozen=True)
class Served:
    """A workload with a server that runs: what the clients are given, and how to count connections."""

    work: dict[str, Any]
    server: str
    accepted: Callable[[], int]


@contextlib.contextmanager
def serve(workload: Workload, folder: pathlib.Path, *, bundled: bool) -> Iterator[Served]:
    """Write pages and certificates into ``folder``, and serve them for the time of the block.

    Args:
        workload: how many hosts, and which scheme.
        folder: an empty folder.
        bundled: whether to use the bundled server where there is an nginx, too.
    """
    pages = _pages()
    root = folder / "pages"
    root.mkdir()
    for name, body in pages.items():
        (root / name).write_text(body, "ascii")
    hosts = [f"127.0.1.{number}" for number in range(1, workload.hosts + 1)]
    tls = Certificates(folder, hosts) if workload.scheme == "https" else None
    bundle = folder / "bundle.pem"
    # A user's bundle has the world's authorities in it, and reading them is what a new connection costs with requests.
    own = tls.authority.read_text("ascii") if tls else ""
    bundle.write_text(f"{pathlib.Path(certifi.where()).read_text('utf-8')}\n{own}", "utf-8")
    server = _bundled if bundled or not find_nginx() else _nginx
    with server(root, hosts, tls, pages) as (port, accepted):
        urls = [
            # The number makes each URL one of its own.
            f"{workload.scheme}://{host}:{port}/{number % PAGES}.html?{number}"
            for number in range(workload.per_host)
            for host in hosts
        ]
        random.Random(1).shuffle(urls)  # the same order for all
        work = {
            "urls": urls,
            "pages": {name: (len(body), hashlib.sha256(body.encode()).hexdigest()) for name, body in pages.items()},
            "hosts": workload.hosts,
            "threads": THREADS,
            "verify": str(bundle),
        }
        yield Served(work, "the bundled server" if server is _bundled else "nginx", accepted)


def _pages() -> dict[str, str]:
    """Make pages that differ, and that don't compress to nothing."""
    words = random.Random(2)
    pages = {}
    for number in range(PAGES):
        text = "".join(f"<p>{words.getrandbits(256):064x}</p>\n" for _ in range(PAGE_BYTES // 72))
        pages[f"{number}.html"] = text.ljust(PAGE_BYTES)
    return pages


@contextlib.contextmanager
def _nginx(
    root: pathlib.Path, hosts: list[str], tls: Certificates | None, pages: dict[str, str]
) -> Iterator[tuple[int, Callable[[], int]]]:
    with nginx(root, hosts=hosts, tls=tls, extra=_STATUS) as server:
        context = tls.client_context() if tls else None
        asked = 0

        def accepted() -> int:
            nonlocal asked
            asked += 1  # each look is a connection, too
            with urllib.request.urlopen(server.url("/connections"), timeout=10, context=context) as answer:
                return int(answer.read().split()[7]) - asked

        yield server.port, accepted


@contextlib.contextmanager
def _bundled(
    root: pathlib.Path, hosts: list[str], tls: Certificates | None, pages: dict[str, str]
) -> Iterator[tuple[int, Callable[[], int]]]:
    chain, key = (str(tls.chain), str(tls.key)) if tls else ("", "")
    settings = {"hosts": hosts, "chain": chain, "key": key, "pages": pages}
    process = subprocess.Popen(
        [sys.executable, str(pathlib.Path(__file__).with_name("serve.py"))],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    asked, answered = process.stdin, process.stdout

    def ask(line: str) -> int:
        asked.write(line + "\n")
        asked.flush()
        answer = answered.readline()
        if not answer:
            raise RuntimeError("the bundled server ended; its own words are above")
        return int(answer)

    try:
        yield ask(json.dumps(settings)), lambda: ask("")
    finally:
        asked.close()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        answered.close()
