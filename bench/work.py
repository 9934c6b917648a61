"""What one round has to fetch, as a file, and the check that it all arrived. Standard library only, as contenders.py.

A contender hands over each page as it gets it, as a crawler's own code would take it: nothing is kept, so that a peak
of memory is the contender's own. The page is compared with what it has to be, byte for byte; that costs about 1 µs for
20 kB, the same for all, where a digest would cost more than the floor's whole request.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib


class BadRound(Exception):
    """A page was missing, came twice, or was not what the server has."""


@dataclasses.dataclass
class Work:
    """What to fetch, and how.

    Args:
        urls: in the order in which a crawler has them; each of them once.
        folder: where the pages lie: the last part of a URL's path is the name of its page.
        hosts: how many hosts the URLs have.
        threads: workers, for a contender that has workers beside what is in flight.
        in_flight: how many requests may be under way at once.
        verify: the CA bundle to trust.
        cookies: (host, name, value) of each cookie to begin with.
        duration_s: how long a load generator has to ask.
    """

    urls: list[str]
    folder: str
    hosts: int
    threads: int
    in_flight: int
    verify: str
    cookies: list[tuple[str, str, str]] = dataclasses.field(default_factory=list)
    duration_s: float = 2.0

    def __post_init__(self) -> None:
        self._pages: dict[str, bytes] = {}
        self._missing: dict[str, bytes] = {}

    @classmethod
    def read(cls, path: str) -> Work:
        """Read what ``write`` wrote."""
        return cls(**json.loads(pathlib.Path(path).read_text("utf-8")))

    def write(self, path: pathlib.Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(dataclasses.asdict(self)), "utf-8")

    def page(self, url: str) -> bytes:
        """Return the body that ``url`` must have."""
        name = url.partition("?")[0].rpartition("/")[2]
        if name not in self._pages:
            self._pages[name] = (pathlib.Path(self.folder) / name).read_bytes()
        return self._pages[name]

    def begin(self) -> None:
        """Read the pages, before the clock runs."""
        self._missing = {url: self.page(url) for url in self.urls}

    def take(self, url: str, status: int, body: bytes) -> None:
        """Take one page. Thread-safe: taking it off the list of the missing is one step.

        Raises:
            BadRound: when it has another status or body than it must have, was not asked for, or came before.
        """
        wanted = self._missing.pop(url, None)
        if wanted is None:
            raise BadRound(f"{url}: came twice, or was not asked for")
        if status != 200 or body != wanted:
            raise BadRound(f"{url}: status {status}, {len(body)} bytes; {len(wanted)} are right, or their text differs")

    def finish(self) -> None:
        """Look that nothing is missing.

        Raises:
            BadRound: when something is.
        """
        if self._missing:
            raise BadRound(f"{len(self._missing)} of {len(self.urls)} pages are missing")
