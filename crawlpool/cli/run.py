"""One run of ``crawlpool run``: a thread feeds the crawl, the main thread shows how far it is, and signals end it."""

from __future__ import annotations

import contextlib
import math
import threading
import time
import traceback
from typing import TYPE_CHECKING, cast

from crawlpool._version import __version__
from crawlpool.cli import job_file
from crawlpool.cli.control_place import listening_at
from crawlpool.cli.exits import Ending, Exit, exit_code
from crawlpool.cli.handlers import handler_named
from crawlpool.cli.job import STDOUT, is_input_read, job_of, listening_in, outputs_of, remedy_for, way_on
from crawlpool.cli.network import check_files, make_pool
from crawlpool.cli.outputs import check_outputs, close_sinks, is_terminal, open_sinks
from crawlpool.cli.overwrite_sharded import clear
from crawlpool.cli.room import Room
from crawlpool.cli.signals import Interrupts
from crawlpool.cli.summary import Left, books_of, faults_of, fields_of, summary_of
from crawlpool.cli.watch import Feed, Watch, check_input
from crawlpool.errors import CookieFileError, JobError, SinkError
from crawlpool.events import TargetSettled, emit, logger
from crawlpool.observe import logs_to, make_display
from crawlpool.redact import one_line, redact_text, redact_url
from crawlpool.source import InputFileError, Source

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from crawlpool.books import Progress
    from crawlpool.cli.settings import RunSettings
    from crawlpool.crawl import Crawl
    from crawlpool.jobs.crawl import JobCrawl
    from crawlpool.models import Result
    from crawlpool.observe import Display, Telling
    from crawlpool.sessionpool import SessionPool
    from crawlpool.sinks import Sink

#: Seconds without a file descriptor, and without anything coming of a request, after which a run ends.
STARVED_S = 30.0
_LOOK_S = 1.0  # how often it is looked whether one is needed
_log = logger("request")


def run(settings: RunSettings, telling: Telling) -> Exit:
    """Do one run.

    Args:
        settings: what the command was told.
        telling: where all but the records goes.

    Returns:
        The exit code.

    Raises:
        CrawlPoolError: for trouble with files before anything was fetched.
        ConfigError: when settings contradict each other.
    """
    if settings.job is None or settings.overwrites or not is_input_read(settings.job):
        check_input(settings.inputs, settings.source)
    check_outputs(settings)
    check_files(settings)
    handler = None if settings.handler is None else handler_named(settings.handler, settings.handler_folder)
    if settings.overwrites and settings.job is not None:
        clear(settings.job)
    places = outputs_of(settings) if settings.job is None else [*outputs_of(settings), settings.job]
    room = Room(places, settings.min_free_bytes)
    if trouble := room.trouble():
        raise SinkError(f"{trouble}: make room first")
    with logs_to(telling, settings.verbosity, settings.redact_keys), contextlib.ExitStack() as opened:
        control = opened.enter_context(listening_at(settings.control))
        pool = make_pool(settings)
        # What runs was settled or is to be given up; leaving no thread behind is all that is left to do.
        opened.callback(pool.close, cancel=True)
        sinks = open_sinks(settings, telling)
        opened.callback(close_sinks, sinks)
        conductor = _Conductor(settings, telling, pool, sinks, handler, room)
        opened.callback(conductor.close)
        if settings.job is not None:  # its folder is there by now, and is ours
            if settings.kept is not None:
                job_file.write(settings.job, settings.kept)
            if control is None:
                control = opened.enter_context(listening_in(settings.job, telling))
        return conductor.conduct(control)


class _Conductor:
    """The main thread's side of a run."""

    def __init__(
        self,
        settings: RunSettings,
        telling: Telling,
        pool: SessionPool,
        sinks: list[Sink],
        handler: Callable[[Result, Crawl], None] | None,
        room: Room,
    ) -> None:
        self._settings = settings
        self._telling = telling
        self._pool = pool
        self._sinks = sinks
        self._room = room
        source = Source(settings.inputs, settings.source)
        # A job that has all of its input doesn't even open it.
        self._total = source.total if settings.job is None else None
        self._feed = Feed(source)
        self._watch = Watch(telling, settings.bound, self._total, self._too_many_failures, settings.pace.limits)
        self._crawl: Crawl = pool.new_crawl(
            handler,
            limits=settings.pace.limits,
            sinks=sinks,
            job=None if settings.job is None else job_of(settings),
            max_body_bytes=settings.max_size_bytes,
            max_wait_s=settings.max_wait_s,
            max_redirects=settings.max_redirects,
            content_types=settings.content_types,
            max_per_host=settings.max_per_host,
            robots=not settings.pace.ignores_robots,
            on_block="hold" if settings.pace.holds_blocked else "record",
            dedupe=settings.dedupes,
            on_result=self._told if settings.verbosity else self._watch,
        )
        self._before = self._crawl.progress().report  # of earlier runs of a job; else nothing
        self._job = None if settings.job is None else cast("JobCrawl", self._crawl)
        if self._job is not None:
            is_read = self._job.is_input_done
            self._total = self._before.inputs + self._before.found if is_read else source.total
        if handler is not None:
            self._total = None  # nobody knows what it adds
        self._watch.go_on(self._before, self._total)
        # Guards _ending and _stop_at_s: the first reason to end stays, but an interrupt is never overruled by it.
        self._lock = threading.Lock()
        self._ending = Ending.DONE
        self._stop_at_s = math.inf  # when what is under way had its time
        self._no_room = ""  # why there is too little, and what helps; written before the end that it leads to
        self._remedy = "make room"
        self._failure: BaseException | None = None  # written by the feeder before it sets _finished
        self._finished = threading.Event()
        self._is_too_much = threading.Event()
        self._wake = threading.Event()

    def _told(self, result: Result) -> None:
        response = result.response
        emit(
            _log,
            "info",
            TargetSettled(
                redact_url(result.target.url),
                result.outcome.value,
                result.reason,
                None if response is None else response.status_code,
                None if result.error_kind is None else result.error_kind.value,
                result.attempts,
            ),
        )
        self._watch(result)

    # The three threads ---------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of the job, if it wasn't run after all."""
        if self._job is not None:
            self._job.close()

    def conduct(self, control: socket.socket | None) -> Exit:
        """Run the crawl to its end; return the exit code.

        Args:
            control: where an operator is listened to; ``None`` for nowhere.
        """
        feeder = threading.Thread(target=self._run_crawl, name="crawlpool-feeder", daemon=True)
        interrupts = Interrupts(self._on_interrupt, self._crawl.stop, Exit.WORK_LEFT)
        with interrupts, self._steered(control):
            self._tell_start()
            display = make_display(self._settings.progress, self._telling, self._total, done=self._before.settled)
            try:
                feeder.start()
                display.start()
                self._wait(display, interrupts)
            except BaseException:
                self._feed.stop()
                self._crawl.stop()
                raise
            finally:
                display.stop()
            feeder.join()
            return self._conclude()

    def _steered(self, control: socket.socket | None) -> contextlib.AbstractContextManager[object]:
        """Return within what the control socket, if there is one, is answered."""
        if control is None:
            return contextlib.nullcontext()
        from crawlpool.cli.control_server import ControlServer
        from crawlpool.cli.desk import Desk

        desk = Desk(self._crawl, self._total, self._before.settled)
        return ControlServer(control, desk.answer, desk.look)

    def _run_crawl(self) -> None:
        try:
            self._crawl.run(self._feed)
        except BaseException as error:
            self._failure = error
        finally:
            self._finished.set()
            self._wake.set()

    def _wait(self, display: Display, interrupts: Interrupts) -> None:
        run_for_s = self._settings.run_for_s
        end_at_s = math.inf if run_for_s is None else time.monotonic() + run_for_s
        while not self._finished.is_set():
            next_s = min(end_at_s, self._stop_at_s, self._room.look_at_s, time.monotonic() + _LOOK_S)
            self._wake.wait(max(min(display.every_s, next_s - time.monotonic()), 0.0))
            self._wake.clear()
            if self._is_too_much.is_set():
                self._drain(Ending.TOO_MANY_FAILURES, "too many failures (--max-failures)")
            if time.monotonic() >= end_at_s:
                end_at_s = math.inf
                self._drain(Ending.OUT_OF_TIME, "the time of --run-for is over")
            trouble = self._room.trouble()
            if trouble is None and self._pool.starved_s >= STARVED_S:
                trouble = f"no file descriptor was left for {STARVED_S:g} seconds: allow more open files (ulimit -n)"
                self._remedy = ""
            if trouble and not self._no_room:
                self._no_room = trouble
                self._drain(Ending.NO_ROOM, trouble)
            with self._lock:
                is_to_stop = time.monotonic() >= self._stop_at_s
                self._stop_at_s = math.inf if is_to_stop else self._stop_at_s
            if is_to_stop:  # a handler that hangs can't be stopped: the process ends without it
                interrupts.hasten(Exit.FILES if self._ending is Ending.NO_ROOM else Exit.WORK_LEFT)
            display.update(self._crawl.progress())

    def _too_many_failures(self) -> None:
        self._is_too_much.set()
        self._wake.set()

    def _on_interrupt(self) -> None:
        self._drain(Ending.INTERRUPTED, "interrupted", "; press Ctrl-C again to stop at once")

    def _drain(self, ending: Ending, why: str, more: str = "") -> None:
        with self._lock:
            is_new = not self._finished.is_set() and self._ending in (Ending.DONE, Ending.OUT_OF_TIME)
            is_new = is_new and self._ending is not ending
            if is_new:
                self._ending = ending
                if ending in (Ending.INTERRUPTED, Ending.NO_ROOM):
                    self._stop_at_s = time.monotonic() + self._settings.grace_s
        if is_new:
            running = self._crawl.progress().running
            self._telling.say("draining", f"{why}: finishing {running} under way{more}", running=running)
        if self._job is not None:
            self._crawl.drain()  # first: it must not take the input's end, which follows, for the real one
        self._feed.stop()
        self._crawl.drain()
        self._wake.set()  # the main thread is to know when to stop

    # The beginning and the end -------------------------------------------------------------------------------------

    def _tell_start(self) -> None:
        settings = self._settings
        transport = settings.transport
        outputs = " and ".join("standard output" if output == STDOUT else output for output in settings.outputs)
        if not outputs:
            outputs = "the terminal, short lines" if is_terminal() else "standard output"
        if settings.job is not None:
            done = f" ({self._before.settled:,} URLs are done)" if self._before.settled else ""
            if self._job is not None and self._job.again:
                done += f", where {self._job.again:,} that failed are taken again"
            outputs = f"the job in {one_line(settings.job)}{done}{' and standard output' if self._sinks else ''}"
        proxies = f"; by {len(settings.proxies)} proxies, one for each host" if len(settings.proxies) > 1 else ""
        unsafe = "; TLS certificates are NOT verified" if settings.insecure else ""
        unsafe += "; ANY address may be reached" if settings.addresses.private == "allow" else ""
        read = ""
        if self._job is not None and self._job.is_input_done:
            read = "; the input was read to its end before, and isn't read again"
        self._telling.say(
            "started",
            f"{__version__}: {transport}; {settings.pace}{proxies}; "
            f"{settings.retry.attempts - 1} retries; output to {outputs}{unsafe}{read}",
            version=__version__,
            threads=transport.threads,
            in_flight=transport.in_flight,
            transport=transport.name,
            http=transport.http,
            **settings.pace.fields(),
            outputs=list(settings.outputs) or [STDOUT],
            verify=not settings.insecure,
            proxies=len(settings.proxies),
            total=self._total,
        )

    def _conclude(self) -> Exit:
        trouble = self._failure
        closing = close_sinks(self._sinks)
        saving = self._save_cookies()
        if isinstance(trouble, (SinkError, JobError)) or (trouble is None and closing is not None):
            # One line: whoever closed the pipe doesn't read a summary.
            self._telling.fail("output", self._ended_by(trouble or closing))
            return Exit.FILES
        if self._ending is Ending.NO_ROOM and trouble is None:
            self._telling.fail("output", self._ended_by(SinkError(self._no_room)))
            return Exit.FILES
        progress = self._crawl.progress()
        is_work_left = self._is_work_left(progress)
        code = exit_code(
            progress.report,
            self._ending,
            is_work_left=is_work_left,
            faults=self._watch.faults if self._job is None else faults_of(progress),
            bound=self._settings.bound,
        )
        if trouble is not None and not isinstance(trouble, InputFileError):
            code = Exit.FAULT
            tell_fault(self._telling, trouble, self._settings.verbosity)
        if isinstance(trouble, InputFileError) or saving is not None:
            code = Exit.FILES
            self._telling.fail("files", str(trouble or saving))
        rested = self._pool.statistics().proxies_rested or {}
        left, before = self._left(progress, is_work_left=is_work_left), self._before
        text = summary_of(
            self._settings, progress, self._watch, self._ending, before=before, left=left, code=code, rested=rested
        )
        fields = fields_of(progress, self._ending, code)
        self._telling.say("finished", text, books=books_of(progress.report), **fields, proxies_rested=dict(rested))
        return code

    def _ended_by(self, trouble: BaseException | None) -> str:
        """Return the line that tells of trouble with an output or the job, and what to do."""
        count = self._crawl.progress().report.settled
        if isinstance(trouble, JobError):
            return str(trouble)
        if self._job is None:
            return f"{trouble}; stopped after {count:,} URLs"
        on = way_on(self._settings, is_input_done=self._job.is_input_done)
        remedy = self._remedy if self._ending is Ending.NO_ROOM else trouble and remedy_for(trouble)
        return f"{trouble}; stopped after {count:,} URLs; {f'{remedy}, then ' if remedy else ''}{on}"

    def _left(self, progress: Progress, *, is_work_left: bool) -> Left:
        if self._job is None:
            return Left(is_work_left)
        by_operator = tuple(host for host, told in progress.told.items() if told.is_held)
        blocked = tuple(host for host in self._crawl.hosts_now().blocked if host not in by_operator)
        on = way_on(self._settings, is_input_done=self._job.is_input_done)
        return Left(is_work_left, on, blocked, by_operator)

    def _is_work_left(self, progress: Progress) -> bool:
        if self._job is not None:
            is_held = bool(progress.left_alone.get("held"))
            return not self._job.is_input_done or progress.report.pending > 0 or is_held
        if self._watch.held:
            return True
        if self._ending is Ending.DONE:
            return False
        return self._ending is Ending.INTERRUPTED or not self._feed.is_exhausted or self._watch.dropped > 0

    def _save_cookies(self) -> CookieFileError | None:
        if self._settings.save_cookies is not None:
            try:
                self._pool.cookies.save(self._settings.save_cookies)
            except CookieFileError as error:
                return error
        return None


def tell_fault(telling: Telling, error: BaseException, verbosity: int) -> None:
    """Tell of a fault of crawlpool: one line; the traceback, without credentials, only with ``-vv``."""
    what = redact_text(f"{type(error).__name__}: {error}").replace("\n", " ")
    hint = "" if verbosity >= 2 else " (-vv shows where)"
    telling.fail("fault", f"a fault of crawlpool, please report it{hint}: {what}")
    if verbosity >= 2:
        telling.line(redact_text("".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip()))
