"""Where the pages come from: a folder, served from loopback by nginx or by the bundled server, in another process."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import json
import pathlib
import random
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING

import certifi

from bench.contenders import REPOSITORY
from bench.process import clean_environment
from bench.work import Work
from crawlpool.testing.certificates import Certificates
from crawlpool.testing.nginx import NginxError, find_module, find_nginx, nginx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.workloads import Workload

_STATUS = "location = /connections { stub_status; access_log off; }"
_ECHO = "ngx_http_echo_module"
_WORDS = (
    "the of and to in for is on that by this with you it not or be are from at as your all have new more an was we will"
).split()


class CannotServe(Exception):
    """This machine's servers can't do what a workload needs; the message says what is missing."""


@dataclasses.dataclass(frozen=True)
class Served:
    """A workload with a server that runs.

    Args:
        server: which one.
        work_for: writes what a contender is given; returns it with the path of its file.
        accepted: how many connections the server accepted so far, those of this very question left out.
    """

    server: str
    work_for: Callable[[str], tuple[Work, pathlib.Path]]
    accepted: Callable[[], int]


@contextlib.contextmanager
def serve(workload: Workload, folder: pathlib.Path, *, bundled: bool) -> Iterator[Served]:
    """Write pages and certificates into ``folder``, and serve them for the time of the block.

    Args:
        workload: how many hosts, and which scheme.
        folder: an empty folder.
        bundled: whether to use the bundled server where there is an nginx, too.

    Raises:
        CannotServe: when the server can't do what the workload needs.
    """
    root = folder / "pages"
    root.mkdir()
    _write_pages(workload, root)
    hosts = [f"127.0.{1 + number // 200}.{1 + number % 200}" for number in range(workload.hosts)]
    tls = Certificates(folder, hosts) if workload.scheme == "https" else None
    bundle = folder / "bundle.pem"
    # A user's bundle has the world's authorities in it, and reading them is what a new connection costs with requests.
    own = tls.authority.read_text("ascii") if tls else ""
    bundle.write_text(f"{pathlib.Path(certifi.where()).read_text('utf-8')}\n{own}", "utf-8")
    is_bundled = bundled or not find_nginx()
    with (_bundled if is_bundled else _nginx)(workload, root, hosts, tls) as (port, accepted):

        def work_for(contender: str) -> tuple[Work, pathlib.Path]:
            some, per_host = workload.share_of(contender)
            urls = [
                # The number makes each URL one of its own.
                f"{workload.scheme}://{host}:{port}/{number % workload.pages}.html?{number}"
                for number in range(per_host)
                for host in hosts[:some]
            ]
            random.Random(1).shuffle(urls)  # the same order for all
            cookies = [
                (host, f"c{number}", _cookie(host, number))
                for host in hosts
                for number in range(workload.cookies_per_host)
            ]
            work = Work(urls, str(root), some, workload.threads, workload.in_flight, str(bundle), cookies)
            path = folder / f"{contender}.json"
            work.write(path)
            return work, path

        yield Served("the bundled server" if is_bundled else "nginx", work_for, accepted)


def _write_pages(workload: Workload, root: pathlib.Path) -> None:
    """Write pages that differ: numbers, which don't compress to nothing, or words, which compress as pages do."""
    dice = random.Random(2)
    for number in range(workload.pages):
        if workload.is_gzip:
            line = " ".join(f"{dice.choice(_WORDS)}{dice.randrange(100)}" for _ in range(workload.page_bytes // 5))
        else:
            line = "".join(f"<p>{dice.getrandbits(256):064x}</p>\n" for _ in range(workload.page_bytes // 72 + 1))
        body = line[: workload.page_bytes].encode("ascii")
        (root / f"{number}.html").write_bytes(body)
        if workload.is_gzip:
            (root / f"{number}.html.gz").write_bytes(gzip.compress(body, 6, mtime=0))


def _cookie(host: str, number: int) -> str:
    """Return the value of one cookie of a host."""
    return f"{host}-{number:020}"


def _directives(workload: Workload) -> str:
    """Return the server block's directives: what makes a workload more than files."""
    inside = []
    if workload.delay_s:
        inside.append(f"echo_sleep {workload.delay_s}; echo_exec @page;")
    if workload.is_gzip:
        inside.append("gzip_static on; if ($http_accept_encoding !~ gzip) { return 406; }")
    last = workload.cookies_per_host - 1
    if workload.cookies_per_host:  # a client that doesn't send them, or another host's, gets no page
        inside.append(
            f'set $wanted "{_cookie("$server_addr", last)}"; if ($cookie_c{last} != $wanted) {{ return 403; }}'
        )
    blocks = [_STATUS, f"location ~ [.]html$ {{ {' '.join(inside)} }}", "location @page { }"]
    if workload.cookies_per_host:  # one page of ten sets one more
        blocks.insert(
            1, f'location = /0.html {{ {" ".join(inside)} add_header Set-Cookie "seen=$request_id; Path=/"; }}'
        )
    return "\n".join(blocks)


@contextlib.contextmanager
def _nginx(
    workload: Workload, root: pathlib.Path, hosts: list[str], tls: Certificates | None
) -> Iterator[tuple[int, Callable[[], int]]]:
    modules = []
    if workload.delay_s:
        module = find_module(_ECHO)
        if module is None:
            raise CannotServe("nginx lacks its echo module (Debian: apt-get install libnginx-mod-http-echo)")
        modules.append(module)
    # Listening sockets count as connections.
    connections = workload.in_flight + 2 * workload.hosts + 1024
    try:
        with nginx(
            root, hosts=hosts, tls=tls, connections=connections, modules=modules, extra=_directives(workload)
        ) as server:
            context = tls.client_context() if tls else None
            opener = urllib.request.build_opener(
                urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
            )
            asked = 0

            def accepted() -> int:
                nonlocal asked
                asked += 1  # each look is a connection, too
                with opener.open(server.url("/connections"), timeout=10) as answer:
                    return int(answer.read().split()[7]) - asked

            yield server.port, accepted
    except NginxError as error:
        raise CannotServe(str(error)) from error


@contextlib.contextmanager
def _bundled(
    workload: Workload, root: pathlib.Path, hosts: list[str], tls: Certificates | None
) -> Iterator[tuple[int, Callable[[], int]]]:
    if workload.delay_s or workload.is_gzip or workload.cookies_per_host:
        raise CannotServe("this workload needs nginx; the bundled server only has pages")
    chain, key = (str(tls.chain), str(tls.key)) if tls else ("", "")
    settings = {"hosts": hosts, "chain": chain, "key": key, "root": str(root)}
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.serve"],
        cwd=REPOSITORY,
        env=clean_environment(),
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
