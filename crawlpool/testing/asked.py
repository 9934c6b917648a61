"""What a scripted network was asked, when, by the clock of the test; and what a test may assert of it."""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from crawlpool.testing.http1 import Request

#: What rounding, and the way of a request through two threads, may take away from a delay.
SLACK_S = 0.002


@dataclasses.dataclass(frozen=True)
class Asked:
    """One request of a scripted network.

    Args:
        request: the request; its ``target`` is the whole URL.
        start_s: when it came, by the clock of the test: with the waits that took no time.
        end_s: when its answer began to be sent.
    """

    request: Request
    start_s: float
    end_s: float

    @property
    def url(self) -> str:
        """The whole URL, without a fragment."""
        return self.request.target

    @property
    def host(self) -> str:
        """The host that was meant."""
        return urlsplit(self.request.target).hostname or ""


class AskedLog:
    """Requests in the order in which they were answered. Thread-safe."""

    def __init__(self) -> None:
        # Guards _asked, _unscripted.
        self._lock = threading.Lock()
        self._asked: list[Asked] = []
        self._unscripted: list[str] = []

    @property
    def asked(self) -> list[Asked]:
        """The requests with their times, in the order of their start; a copy."""
        with self._lock:
            return sorted(self._asked, key=lambda one: one.start_s)

    @property
    def requests(self) -> list[Request]:
        """The requests, in the order of their start."""
        return [one.request for one in self.asked]

    @property
    def urls(self) -> list[str]:
        """The URLs that were asked for, in the order of their start."""
        return [one.url for one in self.asked]

    @property
    def unscripted(self) -> list[str]:
        """What was refused because there was no answer for it, as ``GET https://site.example/``; a copy."""
        with self._lock:
            return list(self._unscripted)

    def forgive(self) -> None:
        """Forget what was refused: it was meant to be."""
        with self._lock:
            self._unscripted.clear()

    def note(self, one: Asked) -> None:
        """Take a request."""
        with self._lock:
            self._asked.append(one)

    def note_unscripted(self, method: str, url: str) -> None:
        """Take one that was refused."""
        with self._lock:
            self._unscripted.append(f"{method} {url}")

    # What a test asserts -------------------------------------------------------------------------------------------

    def assert_asked(self, url: str, times: int | None = None, method: str | None = None) -> None:
        """Assert that a URL was asked for.

        Args:
            url: the whole URL, as it is scripted.
            times: how often exactly; ``None`` for once at least.
            method: by which method; ``None`` for any.

        Raises:
            AssertionError: with the URLs that were asked for.
        """
        wanted = url if urlsplit(url).path else f"{url}/"
        count = sum(one.url == wanted and method in (None, one.request.method) for one in self.asked)
        if count == times or (times is None and count):
            return
        often = "once at least" if times is None else _often(times)
        seen = "".join(f"\n  {one.request.method} {one.url}" for one in self.asked) or " nothing"
        raise AssertionError(f"{url} was asked for {_often(count)}, not {often}; asked for:{seen}")

    def assert_polite(self, delay_s: float, host: str | None = None) -> None:
        """Assert that each host was asked one request at a time, each ``delay_s`` seconds after the last had ended.

        Args:
            delay_s: seconds, by the clock of the test.
            host: which host; ``None`` for all.

        Raises:
            AssertionError: with the two requests that came too close.
        """
        last: dict[str, Asked] = {}
        for one in self.asked:
            before = last.get(one.host)
            last[one.host] = one
            if before is None or (host is not None and one.host != host):
                continue
            gap_s = one.start_s - before.end_s
            if gap_s < delay_s - SLACK_S:
                raise AssertionError(
                    f"{one.host} was asked for {one.url} {gap_s:.3f} s after {before.url}, sooner than {delay_s} s"
                )

    def assert_all_scripted(self) -> None:
        """Assert that nothing was refused for want of an answer.

        Raises:
            AssertionError: with what was refused.
        """
        missing = self.unscripted
        if missing:
            lines = "".join(f"\n  {one}" for one in dict.fromkeys(missing))
            raise AssertionError(f"asked for, and not scripted:{lines}")


def _often(times: int) -> str:
    return {1: "once", 2: "twice"}.get(times, f"{times} times")
