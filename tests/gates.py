"""What poses a moment for tests of threads: routes that answer when they are let, and a clock ticked by hand."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from crawlpool.clock import Deadline
from crawlpool.leg import Group, Leg, RunOptions
from crawlpool.limits import HostLimits
from crawlpool.models import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    import requests

    from crawlpool.models import Result
    from crawlpool.testing import Request

#: How long a test waits for what must come; only a failing test waits it out.
PATIENCE_S = 40.0


def until(condition: Callable[[], object]) -> None:
    """Wait for a state of another thread that nothing announces: that it sleeps in a lock."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it never came to it"
        time.sleep(0.001)


class Gate:
    """A route of a ``SiteServer`` that holds each request until it is opened; leaving its block opens it.

    It counts how many it holds at once, and the most that it held.
    """

    def __init__(self, body: bytes = b"through the gate") -> None:
        self._body = body
        self._opened = threading.Event()
        self._arrivals = threading.Semaphore(0)
        self._lock = threading.Lock()  # guards held, peak and total
        self.held = self.peak = self.total = 0

    def __call__(self, request: Request) -> bytes:
        with self._lock:
            self.total += 1
            self.held += 1
            self.peak = max(self.peak, self.held)
        self._arrivals.release()
        try:
            assert self._opened.wait(PATIENCE_S), "nobody opened the gate"
        finally:
            with self._lock:
                self.held -= 1
        return self._body

    def wait_for(self, count: int = 1) -> None:
        """Wait until ``count`` more requests have arrived."""
        for _ in range(count):
            assert self._arrivals.acquire(timeout=PATIENCE_S), "no request arrived"

    def open(self) -> None:
        """Let all through, those to come too."""
        self._opened.set()

    def __enter__(self) -> Gate:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open()


class ListRun:
    """A run that keeps its results in a list; for tests of what is below ``submit``, ``map`` and ``crawl``."""

    is_quick = True
    is_instant = False

    def __init__(self, capacity: int | None = None, limits: HostLimits | None = None, **options: Any) -> None:
        self.group = Group(capacity, limits)
        self.options = RunOptions(**options)
        self.results: list[tuple[Leg, Result]] = []
        self.came = threading.Semaphore(0)

    @property
    def is_choosy(self) -> bool:
        return "accept" in vars(self) or type(self).accept is not ListRun.accept

    def is_wanted(self, leg: Leg) -> bool:
        return not self.group.is_stopped

    def accept(self, leg: Leg, response: requests.Response) -> None:
        pass

    def settled(self, ended: Sequence[tuple[Leg, Result]]) -> None:
        for one in ended:
            self.results.append(one)
            self.came.release()

    def leg(self, url: str, priority: int = 0, not_before: float = 0.0, ordinal: int = 0) -> Leg:
        leg = Leg.first(self, Target(url, priority=priority), ordinal)
        leg.not_before = not_before
        leg.deadline = Deadline(None)
        return leg


class ListSink:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self.items: list[dict[str, Any]] = []

    def write(self, result: Result) -> None:
        self.results.append(result)

    def emit(self, item: Any) -> None:
        self.items.append(dict(item))

    def flush(self) -> None: ...

    def close(self) -> None: ...


class Threads:
    """Threads of a test: started at once, joined at the end of the block; what one raised is raised there."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []

    def start(self, work: Callable[[], object], count: int = 1) -> None:
        """Start ``count`` threads that do ``work``."""
        for _ in range(count):
            thread = threading.Thread(target=self._run, args=(work,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def join(self) -> None:
        """Wait for all, and raise what the first of them raised."""
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), "a thread of the test hangs"
        if self._errors:
            raise self._errors[0]

    def _run(self, work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            self._errors.append(error)

    def __enter__(self) -> Threads:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.join()
