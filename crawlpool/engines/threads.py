"""The engine of this process: one runner, whose pool has the threads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from crawlpool.engines.base import EngineState
from crawlpool.engines.runner import Runner, told_trouble

if TYPE_CHECKING:
    from crawlpool.engines.base import EngineSpec


class ThreadsEngine:
    """Runs one runner in a thread of this process; what ``Engine`` says holds for it.

    More than one would share nothing but the processor: each has a pool, with threads, of its own.
    """

    def __init__(self) -> None:
        self._runner: Runner | None = None
        self._thread: threading.Thread | None = None
        self._trouble: str | None = None  # written by the runner's thread before it ends
        self.failure: BaseException | None = None  # the same
        self._is_told = False

    def start(self, spec: EngineSpec) -> None:
        """Begin to run shards."""
        self._runner = Runner(spec)
        self._thread = threading.Thread(target=self._run, args=(self._runner,), name="crawlpool-runner", daemon=True)
        self._thread.start()

    def _run(self, runner: Runner) -> None:
        try:
            self._trouble = runner.run().trouble
        except BaseException as error:
            self._trouble = told_trouble(error)
            self.failure = error

    def watch(self) -> EngineState:
        """Return how it is."""
        thread = self._thread
        is_over = thread is None or not thread.is_alive()
        return EngineState(int(not is_over), 0, is_over, self._trouble if is_over else None)

    def drain(self) -> None:
        """Have the runner finish what is under way."""
        if self._runner is not None:
            self._runner.drain()

    def stop(self) -> None:
        """Have the runner break off what is under way."""
        if self._runner is not None:
            self._runner.stop()

    def join(self, timeout_s: float) -> bool:
        """Wait until the runner has ended, no longer than that; tell whether it has."""
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()
