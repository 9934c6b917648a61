"""What an engine is: it brings up runners, tells how many there are, and ends them.

An engine knows nothing of shards. Each runner finds what there is to do in the job's folder, and tells there what it
does; the coordinator reads that, and says there when all is done. So an engine has no state that matters: where it is
killed, the job goes on with any other one.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Protocol

from crawlpool.config import check, is_count
from crawlpool.shards.shares import AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping


@dataclasses.dataclass(frozen=True)
class EngineSpec:
    """All that a runner needs to know; it travels by pickle, in an engine's own message, and never to the disk.

    Args:
        folder: the job's, by a path that is the same for all runners.
        run: names this run of the command: what a runner of another one says doesn't count.
        make_pool: makes the pool of a runner; an importable function or class, with plain data (``functools.partial``).
        make_handler: returns the handler, imported where it is called; ``None`` for none.
        crawl: the options of ``new_crawl``, without handler and job.
        job: the options of ``ShardJob``, without those that say which shard it is.
        retry: which failed targets each shard takes again when it is first opened in this run, as ``Job.retry``.
        workers: how many runners there shall be; ``None`` for as many as the engine has room for.
        at_once: shards that one runner has open at once, at most; ``plan`` reckons with as many.
        shuts_pool: whether a runner closes its pool at its end.

    Raises:
        ConfigError: for a value that can't be.
    """

    folder: str
    run: str
    # Not shown: whoever logs a task shows its arguments, and these have credentials.
    make_pool: Callable[[], Any] = dataclasses.field(repr=False)
    make_handler: Callable[[], Callable[..., Any]] | None = dataclasses.field(default=None, repr=False)
    crawl: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False)
    job: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False)
    retry: Collection[str] | None = None
    workers: int | None = None
    at_once: int = AT_ONCE
    shuts_pool: bool = True

    def __post_init__(self) -> None:
        check(self.workers is None or is_count(self.workers), "workers", self.workers, "1 or more, or None")
        check(is_count(self.at_once), "at_once", self.at_once, "1 or more")


@dataclasses.dataclass(frozen=True)
class EngineState:
    """How an engine is.

    Args:
        runners: runners that it has up, as far as it knows.
        lost: runners that ended without having been told to, so far.
        is_over: whether there is no runner, and there will be none.
        trouble: why, in one line; ``None`` where nothing is wrong.
        waits_for: what it waits for before there can be a runner, in words; ``None`` where it waits for nothing.
    """

    runners: int = 0
    lost: int = 0
    is_over: bool = False
    trouble: str | None = None
    waits_for: str | None = None


class Engine(Protocol):
    """Brings up runners and ends them. One thread uses it; no method but ``start`` and ``join`` takes its time."""

    def start(self, spec: EngineSpec) -> None:
        """Bring up runners, and others where one is lost, until ``drain`` or ``stop``.

        Raises:
            EngineError: when there can be none.
        """

    def watch(self) -> EngineState:
        """Return how it is; never raises."""

    def drain(self) -> None:
        """Bring up no more runners. Those that are there are told to end by the coordinator's file."""

    def stop(self) -> None:
        """The same, where runners are to end at once."""

    def join(self, timeout_s: float) -> bool:
        """Wait until no runner is left, no longer than that; let go of everything then.

        Returns:
            Whether each runner ended by itself.
        """
