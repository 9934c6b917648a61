"""Signals as they are handled: who is called when, and that all is as before afterwards."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading

import pytest

from crawlpool.cli import main, signals
from crawlpool.cli.signals import Interrupts
from crawlpool.testing import SiteServer
from tests.cli.command import PATIENCE_S, finish, start


class Called:
    """Remembers calls, and in which thread they were."""

    def __init__(self) -> None:
        self.drained, self.stopped, self.ended = threading.Event(), threading.Event(), threading.Event()
        self.codes: list[int] = []
        self.threads: set[str] = set()

    def drain(self) -> None:
        self.threads.add(threading.current_thread().name)
        self.drained.set()

    def stop(self) -> None:
        self.threads.add(threading.current_thread().name)
        self.stopped.set()

    def end(self, code: int) -> None:
        self.codes.append(code)
        self.ended.set()

    def interrupts(self) -> Interrupts:
        return Interrupts(self.drain, self.stop, 7, self.end)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_drains_and_the_second_stops(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is called once, in a thread of its own: a handler in the main thread could meet any lock."""
    monkeypatch.setattr(signals, "LAST_RESORT_S", PATIENCE_S)
    called = Called()
    with called.interrupts():
        signal.raise_signal(number)
        assert called.drained.wait(PATIENCE_S)
        assert not called.stopped.is_set()
        signal.raise_signal(number)
        assert called.stopped.wait(PATIENCE_S)
    assert called.threads == {"crawlpool-drain", "crawlpool-stop"}
    assert called.codes == []


def test_a_run_that_hangs_after_the_second_signal_is_ended() -> None:
    """When the block isn't left soon, the last resort comes, with the exit code."""
    called = Called()
    with called.interrupts():
        signal.raise_signal(signal.SIGINT)
        assert called.drained.wait(PATIENCE_S)
        signal.raise_signal(signal.SIGTERM)
        assert called.ended.wait(PATIENCE_S)
    assert called.codes == [7]


def test_a_drain_that_hangs_does_not_keep_the_second_signal_from_stopping() -> None:
    """The thread that waits for signals does nothing else."""
    called = Called()
    gate = threading.Event()

    def hang() -> None:
        called.drained.set()
        gate.wait(PATIENCE_S)

    with Interrupts(hang, called.stop, 7, called.end):
        signal.raise_signal(signal.SIGINT)
        assert called.drained.wait(PATIENCE_S)
        signal.raise_signal(signal.SIGINT)
        assert called.stopped.wait(PATIENCE_S)
        gate.set()


def test_all_is_as_before_afterwards() -> None:
    """Handlers and the wake-up descriptor are given back, also after an exception."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyError), Called().interrupts():
        assert signal.getsignal(signal.SIGINT) is not before[0]
        raise KeyError
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_an_ignored_interrupt_is_handled_all_the_same() -> None:
    """A shell starts background jobs with SIGINT ignored; who sends one to this very process means it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    called = Called()
    try:
        with called.interrupts():
            signal.raise_signal(signal.SIGINT)
            assert called.drained.wait(PATIENCE_S)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


#: Has a module that the command imports meet Ctrl-C where an exception is lost, as it is in a callback.
_INTERRUPTED_IMPORT = """
import signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "crawlpool.cli.app":
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                pass
sys.meta_path.insert(0, Finder())
"""


def test_an_interrupt_while_modules_are_imported_ends_the_process() -> None:
    """Nothing is begun yet: the process ends at once with the code of an interrupted run, and says nothing."""
    # The tests may themselves run as a shell's background job, which has SIGINT ignored.
    heard = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n{_INTERRUPTED_IMPORT}"
    with SiteServer({"/": b"x"}) as server:
        assert finish(start(["run", server.url("/")], before=heard)) == (7, "", "")
        assert server.request_count == 0
        ignored = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{_INTERRUPTED_IMPORT}"
        assert finish(start(["run", server.url("/"), "-q"], before=ignored))[0] == 0


def test_the_command_handles_signals_in_the_main_thread_only() -> None:
    """A program that calls it in another thread gets its exit code, and keeps its own handler."""
    before = signal.getsignal(signal.SIGINT)
    program = (
        "import sys, threading\nfrom crawlpool.cli import main\ncodes = []\n"
        "thread = threading.Thread(target=lambda: codes.append(main()))\nthread.start()\nthread.join()\n"
        "sys.exit(codes[0])"
    )
    with SiteServer({"/": b"x"}) as server:
        assert finish(start(["run", server.url("/"), "-q"], before=program))[0] == 0
        assert main(["run", server.url("/"), "-q"]) == 0
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_handle_no_signals() -> None:
    """Where Python lets nobody handle signals, nothing happens, and nothing fails."""
    failures: list[BaseException] = []

    def use() -> None:
        try:
            with Called().interrupts():
                pass
        except BaseException as error:
            failures.append(error)

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert failures == []
    assert signal.getsignal(signal.SIGINT) is before


def test_the_last_resort_gives_a_terminal_its_cursor_and_a_word() -> None:
    """Whoever presses twice and has threads that hang gets the cursor back, and the exit code; a file gets none."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", "from crawlpool.cli.signals import end_now; end_now(7)"]
    try:
        assert subprocess.run(command, stderr=theirs, check=False, timeout=60).returncode == 7
        assert b"\x1b[?25h" in (told := os.read(ours, 1000)) and b"stopped at once; exit code 7" in told
    finally:
        os.close(ours)
        os.close(theirs)
    ended = subprocess.run(command, stderr=subprocess.PIPE, check=False, timeout=60)
    assert (ended.returncode, ended.stderr) == (7, b"")
