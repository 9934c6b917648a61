"""A farm of proxies on loopback that answer by themselves, and pools that go by them."""

from __future__ import annotations

import collections
import socket
import threading
from collections.abc import Sequence

from crawlpool import RetryPolicy, SessionPool
from crawlpool.politeness import Exit, Exits
from crawlpool.testing import Answer, Request, SiteServer

QUICK = RetryPolicy(backoff_s=0.0, budget=None)
HOSTS = [f"www.site{number}.example" for number in range(60)]
SECRET = "s3cr3t"


class Farm:
    """Proxies that answer by themselves, and what each of them was asked for; one may be stopped and come back."""

    def __init__(self, count: int, answer: Answer | None = None) -> None:
        self.servers = [self._server() for _ in range(count)]
        self._answer = answer or Answer(200, {"Content-Type": "text/plain"}, b"page")
        self._asked: list[tuple[str, Request]] = []
        self._lock = threading.Lock()  # guards _asked

    def _server(self, port: int = 0) -> SiteServer:
        def serve(request: Request) -> Answer:
            with self._lock:
                self._asked.append((f"http://127.0.0.1:{server.port}", request))
            return Answer(404) if request.target.endswith("/robots.txt") else self._answer

        server = SiteServer(serve, port=port).start()
        return server

    @property
    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{server.port}" for server in self.servers]

    @property
    def logins(self) -> list[str]:
        return [url.replace("//", f"//u{number}:{SECRET}@") for number, url in enumerate(self.urls)]

    def stop(self, url: str) -> None:
        self.servers[self.urls.index(url)].stop()

    def start(self, url: str) -> None:
        place = self.urls.index(url)
        self.servers[place] = self._server(self.servers[place].port)

    def by_host(self) -> dict[str, set[str]]:
        """Return by which proxies each host was asked; forget it."""
        with self._lock:
            asked, self._asked = self._asked, []
        found: dict[str, set[str]] = collections.defaultdict(set)
        for proxy, request in asked:
            found[request.target.split("/")[2]].add(proxy)
        return found

    def __enter__(self) -> Farm:
        return self

    def __exit__(self, *exc: object) -> None:
        for server in self.servers:
            server.stop()


def gone() -> str:
    """Return the URL of a proxy where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://u:{SECRET}@127.0.0.1:{listener.getsockname()[1]}"


def new_pool(proxies: Sequence[str], **settings: object) -> SessionPool:
    given = {"threads": 4, "retry": QUICK, "trust_env": False, "timeout": 10, **settings}
    return SessionPool(proxies=proxies, **given)  # type: ignore[arg-type]


def exits_of(pool: SessionPool) -> Exits:
    found = pool._shared.exits
    assert found is not None
    return found


def home_of(pool: SessionPool, host: str) -> Exit:
    return exits_of(pool).home(host)


def host_of_exit(pool: SessionPool, url: str) -> str:
    """Return a host whose exit a proxy is."""
    return next(host for host in HOSTS if home_of(pool, host).name == url)
