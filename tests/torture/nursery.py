"""A process that has imported all that a crawl needs, and forks one for each that is asked for.

To start Python and import the package takes most of a second, and a storm takes hundreds of processes. The one that is
forked has nothing running in it yet: no thread, no socket, no file.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from typing import Any

from tests.cli.command import PATIENCE_S, environment

NO_SOCKET = "crawlpool: no control socket"


class Child:
    """A process that a nursery has forked."""

    def __init__(self, pid: int, status: int, said: Any) -> None:
        self.pid = pid
        self._status, self._said = status, said
        self._code: int | None = None

    def kill(self) -> None:
        """Kill it with ``SIGKILL``, unless it is known to have ended."""
        if self._code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def ended_within(self, seconds: float) -> int | None:
        """Wait so long; return the exit code, the negative number of a signal, or ``None`` while it runs."""
        until = time.monotonic() + seconds
        while self._code is None:
            if not select.select([self._status], [], [], max(0.0, until - time.monotonic()))[0]:
                return None
            self._code = os.waitstatus_to_exitcode(int(os.read(self._status, 100)))
            os.close(self._status)
        return self._code

    def end(self) -> tuple[int, str]:
        """Wait for its end; return the exit code and what it said on standard error. One that hangs is killed."""
        code = self.ended_within(PATIENCE_S)
        if code is None:
            self.kill()
            self.ended_within(PATIENCE_S)
        self._said.seek(0)
        with self._said:
            said = self._said.read().decode("utf-8", "replace")
        # A test's folder may have a path that is too long for a socket; that is told, and nothing comes of it.
        said = "".join(line for line in said.splitlines(keepends=True) if not line.startswith(NO_SOCKET))
        return (-1, f"it hung: {said}") if code is None else (code, said)


class Nursery:
    """Starts processes quickly; a context manager. One thread at a time starts one."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", "tests.torture.nursery", str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment())

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, *exc: object) -> None:
        self._ours.close()
        self._process.wait(PATIENCE_S)

    def start(self, arguments: Sequence[str], *, stdout: int | None = None, gate: Sequence[int] = ()) -> Child:
        """Start a crawl.

        Args:
            arguments: of ``tests.torture.crawler``.
            stdout: its standard output; ``None`` for nowhere.
            gate: two descriptors that it has as 3 and 4.
        """
        said = tempfile.TemporaryFile()  # noqa: SIM115
        status, theirs = os.pipe()
        nowhere = os.open(os.devnull, os.O_RDWR)
        try:
            out = nowhere if stdout is None else stdout
            fds = [theirs, nowhere, out, said.fileno(), *gate]
            socket.send_fds(self._ours, [json.dumps(list(arguments)).encode()], fds)
        finally:
            os.close(theirs)
            os.close(nowhere)
        return Child(int(os.read(status, 100)), status, said)


def _serve(asked: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        data, fds, _, _ = socket.recv_fds(asked, 1 << 16, 16)
        if not data:
            return
        if os.fork() == 0:
            asked.close()
            _keep(json.loads(data), fds)
        for fd in fds:
            os.close(fd)


def _keep(arguments: list[str], fds: list[int]) -> None:
    """Fork the crawl, tell its number and, when it has ended, how; in a process between."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    status, *streams = fds
    pid = os.fork()
    if pid == 0:
        os.close(status)
        _become(arguments, streams)
    os.write(status, f"{pid}".encode())
    os.write(status, f"{os.waitpid(pid, 0)[1]}".encode())
    os._exit(0)


def _become(arguments: list[str], streams: list[int]) -> None:
    from tests.torture import crawler

    high = [os.dup2(fd, 100 + number) for number, fd in enumerate(streams)]
    for number, fd in enumerate(high):
        os.dup2(fd, number)
    os.closerange(len(high), 110)
    code = 1
    try:
        code = crawler.main(arguments)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    import tests.torture.crawler

    with socket.socket(fileno=int(sys.argv[1])) as listening:
        tests.torture.crawler.preload()
        _serve(listening)
