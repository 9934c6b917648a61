"""What is crawled under torture: a few loopback hosts with all that a list of URLs brings, and a server that counts."""

from __future__ import annotations

import collections
import dataclasses
import json
import pathlib
import random
import threading
from collections.abc import Callable, Iterator

from crawlpool.testing import Answer, SiteServer
from crawlpool.testing.http1 import Request
from crawlpool.testing.server import loopback_hosts

SLOW_S = 0.02
#: Each page whose number is divided by this has links to two more, which link to nothing.
LINKS_EACH = 7


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of the input, and what has to come of it: outcome, status and reason."""

    text: str
    outcome: str
    status: int | None = None
    reason: str | None = None


@dataclasses.dataclass(frozen=True)
class World:
    """An input and what has to come of it.

    Args:
        lines: of the input, in order.
        found: URLs that the handler adds, each of which is there.
        items: URLs of the pages for which the handler emits an item.
        requests: how many requests it takes without a crash, with the handler and without it.
    """

    lines: tuple[Line, ...]
    found: frozenset[str]
    items: frozenset[str]
    requests: dict[bool, int]

    def write(self, path: pathlib.Path) -> pathlib.Path:
        """Write the input."""
        path.write_text("".join(f"{line.text}\n" for line in self.lines))
        return path


class CountingServer:
    """A server of any number of pages, as a context manager; it counts requests, and calls back at one of them."""

    def __init__(self) -> None:
        self.hosts = loopback_hosts(4)
        self._server = SiteServer(self._answer, hosts=self.hosts, remember=False)
        self._lock = threading.Lock()  # guards what follows
        self._counts: collections.Counter[str] = collections.Counter()
        self._at: tuple[int, Callable[[], None]] | None = None

    def __enter__(self) -> CountingServer:
        self._server.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.stop()

    @property
    def total(self) -> int:
        """How many requests came, those for robots.txt excepted."""
        with self._lock:
            return self._counts.total()

    def call_at(self, count: int, call: Callable[[], None]) -> None:
        """Call when so many requests have come in all; once, and in place of what was to be called before."""
        with self._lock:
            self._at = (count, call)

    def url(self, path: str, host: str | None = None) -> str:
        """Return a URL of the server; of its first host unless another is named."""
        return self._server.url(path, host or self.hosts[0])

    def world(self, pages: int, seed: int = 0) -> World:
        """Return an input of so many pages, and some lines that are no new page."""
        lines = [Line(url, "ok", 200) for url in self._pages(pages)]
        extra = max(1, pages // 30)
        for number in range(extra):
            host = self.hosts[number % len(self.hosts)]
            lines.append(Line(self._server.url(f"/gone/{number}", host), "http_error", 404))
        lines.append(Line(self._server.url("/moved/1", self.hosts[0]), "ok", 200))
        random.Random(seed).shuffle(lines)
        lines.insert(len(lines) // 2, Line("http://[no address", "failed"))
        for number in range(extra):  # behind the line that they repeat
            lines.append(Line(lines[number].text, "skipped", reason="duplicate"))
        linked = [url for line in lines if line.status == 200 for url in links_of(line.text)]
        found = frozenset(linked)
        sent = sum(line.status is not None for line in lines) + 1  # and where the redirect leads
        items = frozenset(line.text for line in lines if line.status == 200)
        return World(tuple(lines), found, items | found, {False: sent, True: sent + len(found)})

    def _pages(self, count: int) -> Iterator[str]:
        for number in range(count):
            yield self._server.url(f"/page/{number}", self.hosts[number % len(self.hosts)])

    def _answer(self, request: Request) -> Answer:
        path = request.path
        if path == "/robots.txt":
            return Answer(404)
        call = None
        with self._lock:
            self._counts[path] += 1
            if self._at is not None and self._counts.total() >= self._at[0]:
                call, self._at = self._at[1], None
        if call is not None:
            call()
        delay_s = SLOW_S if len(self.hosts) > 1 and request.host == self.hosts[1] else 0.0
        if path.startswith("/gone/"):
            return Answer(404, {}, b"gone", delay_s=delay_s)
        if path.startswith("/moved/"):
            return Answer(302, {"Location": "/arrived/" + path.rpartition("/")[2]}, delay_s=delay_s)
        return Answer(200, {"Content-Type": "text/plain"}, body_of(path), delay_s=delay_s)


def body_of(path: str) -> bytes:
    """Return the page at a path."""
    return (path.encode() + b"\n") * (1 + random.Random(path).randrange(60))


def links_of(url: str) -> list[str]:
    """Return what the page at a URL links to."""
    kind, _, number = url.split("/", 3)[3].partition("/")
    has_links = kind == "page" and number.isdigit() and int(number) % LINKS_EACH == 0
    return [f"{url}/a", f"{url}/b"] if has_links else []


def wrong_with(world: World, records: bytes, *, handles: bool) -> list[str]:
    """Return what is wrong with the records of a job that is complete: lost, doubled, torn, or of another outcome."""
    wrong: list[str] = []
    by_line: dict[int, int] = collections.Counter()
    found: collections.Counter[str] = collections.Counter()
    items: collections.Counter[str] = collections.Counter()
    if records and not records.endswith(b"\n"):
        wrong.append("the last line is torn")
    for number, text in enumerate(records.splitlines(), 1):
        try:
            record = json.loads(text)
        except ValueError:
            wrong.append(f"line {number} is torn: {text[:80]!r}")
            continue
        if "item" in record:
            items[record["item"]["url"]] += 1
        elif record["n"] is None:
            found[record["url"]] += 1
            if record["outcome"] != "ok":
                wrong.append(f"{record['url']}: {record['outcome']}, not ok: {record['error']}")
        else:
            by_line[record["n"]] += 1
            line = world.lines[record["n"] - 1]
            got = (record["outcome"], record["status"], record["reason"])
            if got != (line.outcome, line.status, line.reason):
                wrong.append(f"line {record['n']}: {got}, not {line}: {record['error']}")
    wanted = dict.fromkeys(range(1, len(world.lines) + 1), 1)
    wrong += _differences("line", wanted, by_line)
    wrong += _differences("found", dict.fromkeys(world.found if handles else (), 1), found)
    wrong += _differences("item", dict.fromkeys(world.items if handles else (), 1), items)
    return wrong


def _differences(what: str, wanted: dict, got: dict) -> list[str]:  # type: ignore[type-arg]
    told = []
    for key in sorted({*wanted, *got}):
        if wanted.get(key, 0) != got.get(key, 0):
            is_lost = got.get(key, 0) < wanted.get(key, 0)
            told.append(f"{what} {key}: {'lost' if is_lost else 'doubled'}: {got.get(key, 0)} of {wanted.get(key, 0)}")
    return told
