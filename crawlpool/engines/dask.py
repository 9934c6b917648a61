"""The engine that has runners on a Dask cluster: one of this machine's own, or one that runs already.

Each worker process gets one task, a runner, which ends when the job does. Nothing is left to Dask but to carry the task
there and to say which workers there are: a task that is lost with its worker isn't run again by it, as it counts how
often that happens, and gives up; another one with another name is sent wherever a worker has none.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import logging
import os
import signal
import sys
import threading
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

from crawlpool.clock import SYSTEM_CLOCK, Clock
from crawlpool.engines import guard
from crawlpool.engines.base import EngineState
from crawlpool.engines.runner import run_runner, told_trouble
from crawlpool.errors import EngineError, MissingExtra
from crawlpool.events import logger
from crawlpool.redact import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from crawlpool.engines.base import EngineSpec

_log = logger("engine")
#: Seconds for a connection to a scheduler, for an answer of it, and until it counts as gone.
CONNECT_S, ANSWER_S, GONE_S = 15.0, 10.0, 30.0
#: Seconds that a cluster of our own has to come up, and to end.
START_S, END_S = 60.0, 10.0
#: Seconds that a scheduler may be without any worker from the start on; and from one word of that to the next.
WORKERS_S, SAID_S = 60.0, 10.0
_LOOK_S = 0.5
_MOST_FILE_BYTES = 1 << 20
#: Runners lost, for each worker, after which something is wrong that another one wouldn't help against.
_MOST_LOST = 50
#: The settings of a cluster of our own: no profile of our threads is taken a hundred times a second, and nobody is told
#: by HTTP what runs.
_CONFIG = {
    "distributed.worker.profile.enabled": False,
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}
_ENVIRON = {
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
    "DASK_DISTRIBUTED__WORKER__HTTP__ROUTES": "[]",
    "DASK_LOGGING__DISTRIBUTED": "critical",
}


class DaskEngine:
    """Has runners on Dask workers; what ``Engine`` says holds for it.

    Args:
        place: ``HOST:PORT`` of a scheduler, or the path of a scheduler file; ``None`` for a cluster of our own, which
            has a worker process for each core unless the spec says how many.
        clock: where time comes from.

    Raises:
        MissingExtra: when ``distributed`` isn't installed.
    """

    def __init__(self, place: str | None = None, clock: Clock = SYSTEM_CLOCK) -> None:
        if importlib.util.find_spec("distributed") is None:
            raise MissingExtra("the dask engine", "dask")
        self._place = place
        self._clock = clock
        self._spec: EngineSpec | None = None
        self._client: Any = None
        self._cluster: Any = None
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()  # guards itself
        # What follows is written by the supervising thread (_is_ending: by any), each replaced as a whole.
        self._is_ending = False
        self._state = EngineState()
        # Of the supervising thread alone: the task of each worker by its address, and workers that get no other one.
        self._tasks: dict[str, Any] = {}
        self._left: set[str] = set()
        self._sent = self._lost = 0
        self._trouble: str | None = None
        self._answered_at = self._began_at = 0.0
        self._has_had_workers = False
        self._say_at = 0.0

    # The coordinator's side --------------------------------------------------------------------------------------

    def start(self, spec: EngineSpec) -> None:
        """Connect to the cluster, or make one, and have runners there.

        Raises:
            EngineError: when that can't be done; it says why.
        """
        self._spec = spec
        guard.has_left(spec.folder)  # of another time
        try:
            with _no_ctrl_c():
                self._connect(spec)
        except Exception as error:
            self._let_go()
            place = self._place
            where = "a cluster on this machine" if place is None else f"the Dask scheduler {one_line(place)}"
            if place is None and (guard.has_left(spec.folder) or guard.is_lacking()):
                raise EngineError(f"{where} can't be made: {guard.ADVICE}") from None
            raise EngineError(f"{where}: {told_trouble(error) or type(error).__name__}") from error
        self._answered_at = self._began_at = self._clock.monotonic()
        self._say_at = self._began_at
        self._state = EngineState(runners=0)
        self._thread = threading.Thread(target=self._supervise, name="crawlpool-dask", daemon=True)
        self._thread.start()

    def watch(self) -> EngineState:
        """Return how it is."""
        return self._state

    def drain(self) -> None:
        """Send no more runners."""
        self._is_ending = True
        self._wake.set()

    def stop(self) -> None:
        """The same: runners are told by the coordinator's file."""
        self.drain()

    def join(self, timeout_s: float) -> bool:
        """Wait until no runner is left, no longer than that; let go of the cluster."""
        self.drain()
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        is_well = not self._thread.is_alive()
        self._let_go()
        self._thread.join(ANSWER_S + CONNECT_S)  # its calls to the scheduler end with the connection
        return is_well

    # The cluster -------------------------------------------------------------------------------------------------

    def _connect(self, spec: EngineSpec) -> None:
        dask: Any = importlib.import_module("dask")
        distributed: Any = importlib.import_module("distributed")
        settings: dict[str, Any] = {"set_as_default": False, "timeout": CONNECT_S, "name": "crawlpool"}
        if self._place is None:
            count = spec.workers or _cores()
            # Who can talk to a scheduler can have it run anything: with keys made for this run only its own can.
            settings["security"] = distributed.Security.temporary()
            with dask.config.set(_CONFIG):
                self._cluster = distributed.LocalCluster(
                    n_workers=count,
                    threads_per_worker=1,
                    processes=True,
                    host="127.0.0.1",
                    protocol="tls://",
                    security=settings["security"],
                    dashboard_address="127.0.0.1:0",
                    scheduler_kwargs={"dashboard": False},
                    silence_logs=logging.CRITICAL,
                    memory_limit=0,  # the pool has its own budget, and what a nanny ends is a runner lost
                    preload=["crawlpool.engines.preload"],
                    env=_ENVIRON,
                )
            self._client = distributed.Client(self._cluster, **settings)
            self._client.wait_for_workers(1, timeout=START_S)
        elif self._place.endswith(".json"):
            check_scheduler_file(self._place)
            self._client = _connected(distributed.Client, scheduler_file=self._place, **settings)
        else:
            self._client = _connected(distributed.Client, address=self._place, **settings)

    def _let_go(self) -> None:
        client, self._client = self._client, None
        cluster, self._cluster = self._cluster, None
        if client is not None:
            with contextlib.suppress(Exception):
                client.close(timeout=END_S)
        if cluster is not None:
            with contextlib.suppress(Exception):
                cluster.close(timeout=END_S)

    # The supervising thread --------------------------------------------------------------------------------------

    def _supervise(self) -> None:
        try:
            while not self._look():
                self._wake.wait(_LOOK_S)
                self._wake.clear()
        except Exception as error:  # whatever Dask raises: runners drain, and the job goes on another time
            if not self._is_ending:
                self._trouble = f"the Dask engine: {told_trouble(error)}"
        finally:
            self._state = EngineState(0, self._lost, is_over=True, trouble=self._trouble)

    def _look(self) -> bool:
        """See which workers there are, and which tasks have ended; send others. Tell whether that was the last look."""
        client, spec = self._client, self._spec
        if client is None or spec is None:
            return True
        workers = self._workers(client)
        if workers is None:
            return self._is_gone()
        self._reap(workers)
        if self._is_ending:
            self._state = EngineState(len(self._tasks), self._lost)
            return not self._tasks
        waits_for = self._lack_of(workers)
        if waits_for is not None and not self._has_had_workers and self._clock.monotonic() - self._began_at > WORKERS_S:
            self._trouble = f"the scheduler has had no workers for {WORKERS_S:.0f} s"
            return True
        wanted = len(workers) if spec.workers is None else spec.workers
        for address in sorted(workers - self._tasks.keys() - self._left)[: max(wanted - len(self._tasks), 0)]:
            self._send(client, spec, address)
        if self._lost > _MOST_LOST * max(wanted, 1):
            self._trouble = f"{self._lost} runners were lost, one after the other"
            return True
        if not self._tasks and workers and workers <= self._left:
            self._trouble = self._trouble or "no runner could go on"
            return True
        self._state = EngineState(len(self._tasks), self._lost, trouble=self._trouble, waits_for=waits_for)
        return False

    def _lack_of(self, workers: set[str]) -> str | None:
        """Return what is to be told of a scheduler that has no workers, and log it now and then; else ``None``."""
        if workers:
            self._has_had_workers = True
            return None
        what = f"the scheduler has no workers {'any more' if self._has_had_workers else 'yet'}"
        now = self._clock.monotonic()
        if now >= self._say_at:
            self._say_at = now + SAID_S
            _log.warning(what, scheduler=self._place)
        return what

    def _workers(self, client: Any) -> set[str] | None:
        """Return the addresses of the workers; ``None`` where the scheduler doesn't answer."""
        try:
            if client.status != "running":
                return None
            info = client.sync(client.scheduler.identity, n_workers=-1, callback_timeout=ANSWER_S)
        except Exception:
            return None
        self._answered_at = self._clock.monotonic()
        return set(info["workers"])

    def _is_gone(self) -> bool:
        client = self._client
        is_closed = client is None or client.status in ("closed", "closing")
        if self._is_ending and is_closed:
            return True
        if not is_closed and self._clock.monotonic() < self._answered_at + GONE_S:
            return False
        self._trouble = "the Dask scheduler is gone"
        return True

    def _send(self, client: Any, spec: EngineSpec, address: str) -> None:
        self._sent += 1
        key = f"crawlpool-{spec.run}-{self._sent}"
        self._tasks[address] = client.submit(
            run_runner, spec, key=key, workers=[address], allow_other_workers=False, pure=False, retries=0
        )

    def _reap(self, workers: set[str]) -> None:
        """Forget the tasks that have ended, or whose workers are gone."""
        for address, task in list(self._tasks.items()):
            status = task.status
            if status == "pending" and address in workers:
                continue
            del self._tasks[address]
            if status == "finished":
                self._take(address, task)
            elif not self._is_ending:
                self._lost += 1
            with contextlib.suppress(Exception):
                task.cancel(force=True)  # else it would run when a worker comes that has the same address
            task.release()

    def _take(self, address: str, task: Any) -> None:
        """See how a runner has ended that did so by itself: one that couldn't go on isn't sent there again."""
        try:
            note = task.result(timeout=ANSWER_S)
        except Exception as error:
            self._left.add(address)
            self._trouble = told_trouble(error)
            return
        if not self._is_ending:
            self._left.add(address)
            self._trouble = note.trouble or self._trouble


def check_scheduler_file(path: str) -> None:
    """Refuse a scheduler file that is none.

    Raises:
        EngineError: saying what is wrong with it.
    """
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read(_MOST_FILE_BYTES))
    except FileNotFoundError:
        raise EngineError("there is no such scheduler file") from None
    except (OSError, ValueError) as error:
        raise EngineError(f"the scheduler file can't be read: {one_line(str(error))}") from None
    if not (isinstance(found, dict) and isinstance(found.get("address"), str)):
        raise EngineError("the scheduler file names no address")


@contextlib.contextmanager
def _no_ctrl_c() -> Iterator[None]:
    """Have processes and threads that are made within never see a Ctrl-C of the terminal, not even while they start.

    It is the command's to act on, and what it makes of it they are told. A mask is inherited by both.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    _begin_tracker()  # else it is begun with the first of them, and takes the mask away
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_tracker() -> None:
    """Begin the process that removes what killed ones leave of semaphores; it needn't say so on a terminal."""
    before = list(sys.warnoptions)
    sys.warnoptions.append(f"ignore::UserWarning:{resource_tracker.__name__}")
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions[:] = before


def _connected(make: Callable[..., Any], **settings: Any) -> Any:
    """Return a client that is connected; what takes the connection and is no scheduler isn't waited for.

    Dask's own time limit is one for connecting, and holds for nothing that comes after that.

    Raises:
        EngineError: when nothing has come of it in time.
    """
    made: list[Any] = []

    def connect() -> None:
        try:
            made.append(make(**settings))
        except BaseException as error:  # whatever it is, the caller raises it
            made.append(error)

    thread = threading.Thread(target=connect, name="crawlpool-dask-connect", daemon=True)
    thread.start()
    thread.join(CONNECT_S + ANSWER_S)
    if not made:
        raise EngineError("what answers there doesn't speak as a Dask scheduler does")
    if isinstance(made[0], BaseException):
        raise made[0]
    return made[0]


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
