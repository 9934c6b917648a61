"""One run of ``crawlpool run``: a thread feeds the crawl, the main thread shows how far it is, and signals end it."""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
from typing import TYPE_CHECKING

from crawlpool._version import __version__
from crawlpool.cli.control_place import listening_at
from crawlpool.cli.exits import Ending, Exit, exit_code
from crawlpool.cli.network import check_files, make_pool
from crawlpool.cli.outputs import STDOUT, check_outputs, close_sinks, is_terminal, open_sinks
from crawlpool.cli.signals import Interrupts
from crawlpool.cli.summary import books_of, fields_of, summary_of
from crawlpool.cli.watch import Feed, Watch, check_input
from crawlpool.errors import CookieFileError, SinkError
from crawlpool.events import TargetSettled, emit, logger
from crawlpool.observe import logs_to, make_display
from crawlpool.redact import redact_text, redact_url
from crawlpool.source import InputFileError, Source

if TYPE_CHECKING:
    import socket

    from crawlpool.cli.settings import RunSettings
    from crawlpool.crawl import Crawl
    from crawlpool.models import Result
    from crawlpool.observe import Display, Telling
    from crawlpool.sessionpool import SessionPool
    from crawlpool.sinks import Sink

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
    check_input(settings.inputs, settings.source)
    check_outputs(settings)
    check_files(settings)
    with logs_to(telling, settings.verbosity), listening_at(settings.control) as control:
        pool = make_pool(settings)
        try:
            sinks = open_sinks(settings, telling)
            return _Conductor(settings, telling, pool, sinks, control).conduct()
        finally:
            # What runs was settled or is to be given up; leaving no thread behind is all that is left to do.
            pool.close(cancel=True)


class _Conductor:
    """The main thread's side of a run."""

    def __init__(
        self,
        settings: RunSettings,
        telling: Telling,
        pool: SessionPool,
        sinks: list[Sink],
        control: socket.socket | None,
    ) -> None:
        self._settings = settings
        self._telling = telling
        self._pool = pool
        self._sinks = sinks
        self._control = control
        source = Source(settings.inputs, settings.source)
        self._total = source.total
        self._feed = Feed(source)
        self._watch = Watch(telling, settings.bound, self._total, self._too_many_failures, settings.pace.limits)
        self._crawl: Crawl = pool.new_crawl(
            limits=settings.pace.limits,
            sinks=sinks,
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
        # Guards _ending: the first reason to end stays, but an interrupt is never overruled by it.
        self._lock = threading.Lock()
        self._ending = Ending.DONE
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

    def conduct(self) -> Exit:
        """Run the crawl to its end; return the exit code."""
        feeder = threading.Thread(target=self._run_crawl, name="crawlpool-feeder", daemon=True)
        with Interrupts(self._on_interrupt, self._crawl.stop, Exit.WORK_LEFT), self._steered():
            self._tell_start()
            display = make_display(self._settings.progress, self._telling, self._total)
            try:
                feeder.start()
                display.start()
                self._wait(display)
            except BaseException:
                self._feed.stop()
                self._crawl.stop()
                raise
            finally:
                display.stop()
            feeder.join()
            return self._conclude()

    def _steered(self) -> contextlib.AbstractContextManager[object]:
        """Return within what the control socket, if there is one, is answered."""
        if self._control is None:
            return contextlib.nullcontext()
        from crawlpool.cli.control_server import ControlServer
        from crawlpool.cli.desk import Desk

        desk = Desk(self._crawl, self._total)
        return ControlServer(self._control, desk.answer, desk.look)

    def _run_crawl(self) -> None:
        try:
            self._crawl.run(self._feed)
        except BaseException as error:
            self._failure = error
        finally:
            self._finished.set()
            self._wake.set()

    def _wait(self, display: Display) -> None:
        run_for_s = self._settings.run_for_s
        ends_at = None if run_for_s is None else time.monotonic() + run_for_s
        while not self._finished.is_set():
            left_s = display.every_s if ends_at is None else min(display.every_s, ends_at - time.monotonic())
            self._wake.wait(max(left_s, 0.0))
            self._wake.clear()
            if self._is_too_much.is_set():
                self._drain(Ending.TOO_MANY_FAILURES, "too many failures (--max-failures)")
            if ends_at is not None and time.monotonic() >= ends_at:
                ends_at = None
                self._drain(Ending.OUT_OF_TIME, "the time of --run-for is over")
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
        if is_new:
            running = self._crawl.progress().running
            self._telling.say("draining", f"{why}: finishing {running} under way{more}", running=running)
        self._feed.stop()
        self._crawl.drain()

    # The beginning and the end -------------------------------------------------------------------------------------

    def _tell_start(self) -> None:
        settings = self._settings
        transport = settings.transport
        outputs = " and ".join("standard output" if output == STDOUT else output for output in settings.outputs)
        if not outputs:
            outputs = "the terminal, short lines" if is_terminal() else "standard output"
        proxies = f"; by {len(settings.proxies)} proxies, one for each host" if len(settings.proxies) > 1 else ""
        unsafe = "; TLS certificates are NOT verified" if settings.insecure else ""
        self._telling.say(
            "started",
            f"{__version__}: {transport}; {settings.pace}{proxies}; "
            f"{settings.retry.attempts - 1} retries; output to {outputs}{unsafe}",
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
        if isinstance(trouble, SinkError) or (trouble is None and closing is not None):
            # One line: whoever closed the pipe doesn't read a summary.
            report = self._crawl.progress().report
            self._telling.fail("output", f"{trouble or closing}; stopped after {report.settled:,} URLs")
            return Exit.FILES
        progress = self._crawl.progress()
        is_work_left = self._is_work_left()
        code = exit_code(
            progress.report,
            self._ending,
            is_work_left=is_work_left,
            faults=self._watch.faults,
            bound=self._settings.bound,
        )
        if trouble is not None and not isinstance(trouble, InputFileError):
            code = Exit.FAULT
            tell_fault(self._telling, trouble, self._settings.verbosity)
        if isinstance(trouble, InputFileError) or saving is not None:
            code = Exit.FILES
            self._telling.fail("files", str(trouble or saving))
        rested = self._pool.statistics().proxies_rested or {}
        text = summary_of(
            self._settings, progress, self._watch, self._ending, is_work_left=is_work_left, code=code, rested=rested
        )
        fields = fields_of(progress, self._ending, code)
        self._telling.say("finished", text, books=books_of(progress.report), **fields, proxies_rested=dict(rested))
        return code

    def _is_work_left(self) -> bool:
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
