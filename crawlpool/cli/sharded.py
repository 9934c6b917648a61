"""One run of a job of shards: a coordinator hands out the input, an engine runs it, the main thread shows it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from crawlpool._version import __version__
from crawlpool.cli import job_file
from crawlpool.cli.exits import FEW, Ending, Exit, exit_code
from crawlpool.cli.handlers import handler_named
from crawlpool.cli.job import fixed_of, outputs_of, remedy_for
from crawlpool.cli.network import check_files, make_pool
from crawlpool.cli.outputs import check_outputs
from crawlpool.cli.resume import check_nothing_lacks
from crawlpool.cli.room import Room
from crawlpool.cli.run import tell_fault
from crawlpool.cli.scale import check_manifest, check_sharded
from crawlpool.cli.settings import ALL
from crawlpool.cli.sharded_text import Told, counted, fields_of, summary_of, way_on
from crawlpool.cli.signals import Interrupts
from crawlpool.cli.summary import books_of, faults_of
from crawlpool.cli.watch import Feed, check_input
from crawlpool.clock import SYSTEM_CLOCK
from crawlpool.cookies import CookieStore
from crawlpool.engines.base import EngineSpec
from crawlpool.engines.coordinator import Coordinator, new_run
from crawlpool.engines.naming import engine_named
from crawlpool.errors import ConfigError, CrawlPoolError, EngineError, JobError, SinkError
from crawlpool.jobs.job import make_folder
from crawlpool.ledger.lock import JobLock
from crawlpool.observe import logs_to, make_display
from crawlpool.record import EVERY_HEADER
from crawlpool.redact import one_line
from crawlpool.shards import layout, manifest
from crawlpool.shards.inputs import input_state
from crawlpool.shards.refused import Refused, refused_in
from crawlpool.source import InputFileError, Source

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crawlpool.books import Progress
    from crawlpool.cli.settings import RunSettings
    from crawlpool.observe import Display, Telling
    from crawlpool.sessionpool import SessionPool

#: Seconds between two looks at the runners; and what they get for their end beyond --grace.
_LOOK_S, _END_S = 0.5, 30.0
_LONGEST = 1000


def run_sharded(settings: RunSettings, telling: Telling) -> Exit:
    """Do one run of a job of shards.

    Args:
        settings: what the command was told.
        telling: where all but the records goes.

    Returns:
        The exit code.

    Raises:
        CrawlPoolError: for trouble before anything was fetched.
        ConfigError: when settings contradict each other.
    """
    folder = settings.job
    assert folder is not None
    check_sharded(settings.outputs, settings.save_cookies, settings.control)
    check_outputs(settings)
    check_files(settings)
    if settings.handler is not None:
        handler_named(settings.handler, settings.handler_folder)
    if settings.overwrites:
        from crawlpool.cli.overwrite_sharded import clear

        clear(folder)
    check_manifest(folder)  # before anything else is looked at: it may be lost, and without it nothing is right
    is_read = os.path.isdir(folder) and input_state(folder).is_done
    if not is_read:
        check_input(settings.inputs, settings.source)
    room = Room([folder], settings.min_free_bytes)
    if trouble := room.trouble():
        raise SinkError(f"{trouble}: make room first")
    make_folder_of(folder)
    with logs_to(telling, settings.verbosity, settings.redact_keys), JobLock(folder):
        made = manifest_of(settings)
        if settings.kept is not None:
            job_file.write(folder, settings.kept)
        source = Source(settings.inputs, settings.source)
        engine = engine_named(settings.scale.engine)
        coordinator = Coordinator(engine, spec_of(settings), Feed(source))
        if settings.lacks and not coordinator.is_idle():  # something has come since it was looked at
            check_nothing_lacks(settings.lacks)
        total = None if settings.handler is not None or made.part is not None else source.total
        return _Conductor(settings, telling, coordinator, made, total, room).conduct()


def make_folder_of(folder: str) -> None:
    """Make the job's folder, and refuse one that is something else.

    Raises:
        JobError: naming it.
        SinkError: when it can't be made.
    """
    make_folder(folder)
    layout.check_root(folder)


def manifest_of(settings: RunSettings) -> manifest.Manifest:
    """Return the manifest of the job, written where there was none.

    Raises:
        JobError: when the job was begun with other settings.
        SinkError: when it can't be written.
    """
    folder, scale = settings.job, settings.scale
    assert folder is not None
    fixed = {**fixed_of(settings), "dedupe": settings.dedupes, "max_per_host": settings.max_per_host}
    before = manifest.read(folder) if manifest.is_sharded(folder) else None
    outputs = tuple(os.path.relpath(path, folder) + "/" * path.endswith("/") for path in outputs_of(settings))
    lease_s = scale.lease_s or (before.lease_s if before is not None else manifest.DEFAULT_LEASE_S)
    others: dict[str, Any] = {"part": scale.part, "outputs": outputs, "fixed": fixed, "lease_s": lease_s}
    if before is None:
        is_shared = scale.is_shared or scale.joins
        now = SYSTEM_CLOCK.wall()
        made = manifest.new(folder, shards=scale.count, created_at=now, is_shared=is_shared, **others)
        manifest.write(folder, made)
        return made
    others["is_shared"] = before.is_shared or scale.is_shared
    manifest.check_same(folder, before, dataclasses.replace(before, shards=scale.shards or before.shards, **others))
    return before


def spec_of(settings: RunSettings) -> EngineSpec:
    """Return what runners have to know, credentials included."""
    cookies = CookieStore.load(settings.cookies) if settings.cookies is not None else None
    runners = settings.scale.runners
    pace = settings.pace
    if pace.rate is not None and runners is not None:
        pace = dataclasses.replace(pace, rate=pace.rate / runners)  # a share each
    of_worker = dataclasses.replace(settings, kept=None, inputs=(), pace=pace, cookies=None)
    handler = settings.handler
    folder = settings.handler_folder or os.getcwd()
    assert settings.job is not None
    return EngineSpec(
        folder=os.path.abspath(settings.job),
        run=new_run(),
        make_pool=functools.partial(pool_of_worker, of_worker, cookies),
        make_handler=None if handler is None else functools.partial(handler_named, handler, folder),
        crawl={
            "limits": pace.limits,
            "max_body_bytes": settings.max_size_bytes,
            "max_wait_s": settings.max_wait_s,
            "max_redirects": settings.max_redirects,
            "content_types": settings.content_types,
            "max_per_host": settings.max_per_host,
            "robots": not pace.ignores_robots,
            "on_block": "hold" if pace.holds_blocked else "record",
            "dedupe": settings.dedupes,
        },
        job={
            "record_headers": EVERY_HEADER if settings.record_headers == (ALL,) else settings.record_headers,
            "rotate_bytes": settings.rotate_bytes,
            "keeps_credentials": settings.warc_credentials,
        },
        retry=settings.retry_failed,
        workers=settings.scale.workers,
    )


def pool_of_worker(settings: RunSettings, cookies: CookieStore | None) -> SessionPool:
    """Return the pool of one worker; called in its process.

    Args:
        settings: of the run; the cookies come beside it, as their file need not be where the worker is.
        cookies: what the pool begins with; ``None`` for none.
    """
    return make_pool(settings, cookies)


class _Conductor:
    """The main thread's side of a run."""

    def __init__(
        self,
        settings: RunSettings,
        telling: Telling,
        coordinator: Coordinator,
        made: manifest.Manifest,
        total: int | None,
        room: Room,
    ) -> None:
        self._settings = settings
        self._telling = telling
        self._coordinator = coordinator
        self._manifest = made
        self._total = total
        self._room = room
        self._before = coordinator.before
        # Guards _ending and _stop_at_s: the first reason to end stays, but an interrupt is never overruled by it.
        self._lock = threading.Lock()
        self._ending = Ending.DONE
        self._stop_at_s = math.inf
        self._no_room = ""
        self._is_over = False
        self._told_lost = 0
        self._began_s = time.monotonic()
        self._wake = threading.Event()

    def conduct(self) -> Exit:
        """Run the job to its end; return the exit code."""
        coordinator = self._coordinator
        failure: BaseException | None = None
        interrupts = Interrupts(self._on_interrupt, coordinator.stop, Exit.WORK_LEFT)
        with interrupts:
            self._tell_start()
            display = make_display(self._settings.progress, self._telling, self._total, done=self._before.settled)
            try:
                coordinator.begin()
                display.start()
                self._wait(display, interrupts)
            except BaseException as error:
                coordinator.stop()
                with contextlib.suppress(Exception):
                    coordinator.end(_END_S)
                if not isinstance(error, EngineError):
                    raise
                return self._not_begun(error)
            finally:
                display.stop()
            self._is_over = True
            try:
                progress = coordinator.end(self._settings.grace_s + _END_S)
            except Exception as error:
                failure = error
                progress = coordinator.progress()
        if isinstance(failure, ConfigError):  # no pool can be made by these settings
            raise failure
        return self._conclude(progress, failure)

    def _wait(self, display: Display, interrupts: Interrupts) -> None:
        run_for_s = self._settings.run_for_s
        end_at_s = math.inf if run_for_s is None else time.monotonic() + run_for_s
        while not self._coordinator.look():
            progress = self._coordinator.progress()
            state = self._coordinator.engine_state
            display.update(progress, None if state is None else state.waits_for)
            self._tell_lost()
            if self._is_too_much(progress):
                self._drain(Ending.TOO_MANY_FAILURES, "too many failures (--max-failures)")
            if time.monotonic() >= end_at_s:
                end_at_s = math.inf
                self._drain(Ending.OUT_OF_TIME, "the time of --run-for is over")
            if (trouble := self._room.trouble()) and not self._no_room:
                self._no_room = trouble
                self._drain(Ending.NO_ROOM, trouble)
            with self._lock:
                is_to_stop = time.monotonic() >= self._stop_at_s
                self._stop_at_s = math.inf if is_to_stop else self._stop_at_s
            if is_to_stop:
                interrupts.hasten(Exit.FILES if self._ending is Ending.NO_ROOM else Exit.WORK_LEFT)
            self._wake.wait(_LOOK_S)
            self._wake.clear()

    def _is_too_much(self, progress: Progress) -> bool:
        bound, report = self._settings.bound, progress.report
        if bound is None or (bound.percent is not None and self._total is None and report.settled < FEW):
            return False
        return bound.is_passed(report.failed + report.http_error, report.settled, self._total)

    def _on_interrupt(self) -> None:
        self._drain(Ending.INTERRUPTED, "interrupted", "; press Ctrl-C again to stop at once")

    def _drain(self, ending: Ending, why: str, more: str = "") -> None:
        with self._lock:
            is_new = not self._is_over and self._ending in (Ending.DONE, Ending.OUT_OF_TIME)
            is_new = is_new and self._ending is not ending
            if is_new:
                self._ending = ending
                if ending in (Ending.INTERRUPTED, Ending.NO_ROOM):
                    self._stop_at_s = time.monotonic() + self._settings.grace_s
        if is_new:
            running = self._coordinator.progress().running
            self._telling.say("draining", f"{why}: finishing {running} under way{more}", running=running)
        self._coordinator.drain()
        self._wake.set()

    # The beginning and the end -----------------------------------------------------------------------------------

    def _tell_start(self) -> None:
        settings, made = self._settings, self._manifest
        scale, transport = settings.scale, settings.transport
        count = scale.runners
        workers = "this process"
        if scale.is_dask:
            workers = f"{counted(count, 'worker') if count else 'all workers'} of {one_line(scale.engine)}"
        part = ""
        if made.part is not None:
            are = "is" if len(made.mine()) == 1 else "are"
            part = f", of which {len(made.mine())} {are} of part {made.part[0]}/{made.part[1]}"
        done = f" ({self._before.settled:,} URLs are done)" if self._before.settled else ""
        unsafe = "; TLS certificates are NOT verified" if settings.insecure else ""
        unsafe += "; ANY address may be reached" if settings.addresses.private == "allow" else ""
        read = "; the input was read to its end before, and isn't read again" if self._coordinator.is_input_done else ""
        share = f"; a share of --rate for each of {count} workers" if settings.pace.rate and (count or 1) > 1 else ""
        each = " (each worker)" if scale.is_dask else ""
        self._telling.say(
            "started",
            f"{__version__}: {counted(made.shards, 'shard')}{part}, by {workers}; {transport}{each}; "
            f"{settings.pace}{share}; {settings.retry.attempts - 1} retries; "
            f"output to the job in {one_line(settings.job or '')}{done}{unsafe}{read}",
            version=__version__,
            engine=scale.engine.partition("://")[0],
            shards=made.shards,
            part=made.part,
            workers=count,
            threads=transport.threads,
            in_flight=transport.in_flight,
            transport=transport.name,
            http=transport.http,
            **settings.pace.fields(),
            verify=not settings.insecure,
            total=self._total,
        )

    def _tell_lost(self) -> None:
        state = self._coordinator.engine_state
        if state is not None and state.lost > self._told_lost:
            self._told_lost = state.lost
            text = f"a worker was lost; its shards go on elsewhere ({state.lost:,} lost so far)"
            self._telling.warn("runner lost", text, lost=state.lost)

    def _not_begun(self, error: EngineError) -> Exit:
        """Tell why there is no engine, and what to do next."""
        self._telling.fail(
            "engine",
            f"{one_line(str(error), _LONGEST)}\nnext: {way_on(self._settings)}\nexit code {int(Exit.WORK_LEFT)}",
            exit_code=int(Exit.WORK_LEFT),
        )
        return Exit.WORK_LEFT

    def _conclude(self, progress: Progress, failure: BaseException | None) -> Exit:
        troubles = self._coordinator.troubles()
        with self._lock:
            if self._ending is Ending.DONE and not self._coordinator.is_done and troubles.engine is not None:
                self._ending = Ending.ENGINE_GONE
        # Of a part alone nobody knows what came in elsewhere; what lies here for others is still to be carried there.
        is_whole = self._manifest.part is None
        is_on_its_way = progress.report.on_the_way > 0 if is_whole else troubles.foreign > 0
        is_left = not self._coordinator.is_done or progress.report.pending > 0 or is_on_its_way
        is_left = is_left or bool(troubles.given_up or troubles.failed)
        report = progress.report
        if is_left:  # of what was broken off the last that is known need not balance; its ledger does
            missing = report.inputs + report.found + report.moved_in - report.settled - report.moved_out
            report = dataclasses.replace(report, pending=max(missing, 0))
            progress = dataclasses.replace(progress, report=report)
        bound = self._settings.bound
        code = exit_code(report, self._ending, is_work_left=is_left, faults=faults_of(progress), bound=bound)
        if troubles.failed or self._ending is Ending.NO_ROOM or isinstance(failure, (SinkError, JobError)):
            code = Exit.FILES
        if failure is not None and not isinstance(failure, CrawlPoolError):
            code = Exit.FAULT
            tell_fault(self._telling, failure, self._settings.verbosity)
        elif failure is not None:
            code = Exit.FILES if isinstance(failure, InputFileError) else code
            remedy = remedy_for(failure)
            self._telling.fail("files", f"{failure}{f'; {remedy}' if remedy else ''}")
        elif self._no_room:
            self._telling.fail("output", self._no_room)
        elif self._ending is Ending.ENGINE_GONE and self._telling.is_quiet:  # else the summary begins with that
            self._telling.fail("engine", one_line(troubles.engine or "", _LONGEST))
        elapsed_s = time.monotonic() - self._began_s
        refused = _refused(self._settings.job, self._manifest, troubles.failed)
        told = Told(self._ending, troubles, is_left, code, self._coordinator.items, self._manifest, elapsed_s, refused)
        text = summary_of(self._settings, progress, self._before, told)
        self._telling.say("finished", text, books=books_of(report), **fields_of(progress, told))
        return code


def _refused(folder: str | None, made: manifest.Manifest, shards: Iterable[int]) -> list[Refused]:
    """Return the segments for which shards couldn't go on; none where that can't be told."""
    with contextlib.suppress(CrawlPoolError):
        return list(refused_in(folder or "", made, shards))
    return []
