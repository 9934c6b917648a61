"""A child process, watched: what it took, and the most it had. POSIX only, as nginx and the commands are."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import threading
import time
from typing import TYPE_CHECKING

from bench.contenders import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOOK_EVERY_S = 0.02
#: A look at a process with 10,000 descriptors takes milliseconds: the watch takes at most this part of the time.
_MOST_OF_THE_TIME = 1 / 50
_NOT_PASSED_ON = {
    *("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSLKEYLOGFILE", "NETRC"),
    "PYTHONDONTWRITEBYTECODE",  # a checkout would be compiled at each start, and what pip has installed would not
}


class RoundFailed(Exception):
    """A process ended badly or took too long; the message has its last words."""


@dataclasses.dataclass(frozen=True)
class Ended:
    """What a process took, from before its start to its end.

    Args:
        output: what it wrote to standard output.
        seconds: wall-clock time.
        cpu_s: processor time, user and system, of it and of the children that it waited for.
        peak_bytes: most memory it had in RAM.
        peak_files: most descriptors that were open at once; ``None`` where that can't be seen.
    """

    output: str
    seconds: float
    cpu_s: float
    peak_bytes: int
    peak_files: int | None


def clean_environment() -> dict[str, str]:
    """Return the environment without what would decide a round: proxies, bundles, crawlpool's own variables."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith("CRAWLPOOL_") and name not in _NOT_PASSED_ON
    }
    environment["PYTHONPATH"] = str(REPOSITORY)
    return environment


def allow_files(wanted: int) -> int:
    """Raise how many files this process and its children may open, if that is allowed; return how many they may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def run(arguments: Sequence[str], *, folder: pathlib.Path, timeout_s: float) -> Ended:
    """Run a program in ``folder`` and wait for its end.

    Raises:
        RoundFailed: when it ended with another code than 0, or had to be killed after ``timeout_s``.
    """
    # Files, not pipes: nobody has to read along.
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            arguments, cwd=folder, env=clean_environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=errors
        )
        watch = _Watch(process, start + timeout_s)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        finally:
            seconds = time.perf_counter() - start
            watch.stop()
        process.returncode = os.waitstatus_to_exitcode(status)
        said = _text(output)
        if watch.has_killed:
            raise RoundFailed(f"it took more than {timeout_s:.0f} s")
        if process.returncode:
            raise RoundFailed(f"it ended with {process.returncode}: {(_text(errors) or said).strip()[-1500:]}")
    peak = usage.ru_maxrss if sys.platform == "darwin" else usage.ru_maxrss * 1024
    # ru_maxrss begins with what this very process had when it forked, so the watch's figure goes first.
    return Ended(said, seconds, usage.ru_utime + usage.ru_stime, watch.peak_bytes or peak, watch.peak_files)


def _text(file: object) -> str:
    file.seek(0)  # type: ignore[attr-defined]
    return str(file.read().decode("utf-8", "backslashreplace"))  # type: ignore[attr-defined]


class _Watch:
    """Looks from outside at a process, up to 50 times a second, and kills it when its time is over."""

    def __init__(self, process: subprocess.Popen[bytes], until: float) -> None:
        self.peak_files: int | None = None
        self.peak_bytes: int | None = None
        self.has_killed = False
        self._process = process
        self._until = until
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, name="bench-watch")
        self._thread.start()

    def _look(self) -> None:
        folder = pathlib.Path(f"/proc/{self._process.pid}")
        pause_s = _LOOK_EVERY_S
        while not self._end.wait(pause_s):
            begin = time.perf_counter()
            if begin > self._until and not self.has_killed:
                self.has_killed = True
                self._process.kill()
            try:
                self.peak_files = max(self.peak_files or 0, _count_files(folder / "fd"))
                for line in (folder / "status").read_text("ascii", "replace").splitlines():
                    if line.startswith("VmHWM:"):
                        self.peak_bytes = int(line.split()[1]) * 1024
            except (OSError, IndexError):  # no /proc here, or the process has ended
                pass
            pause_s = max(_LOOK_EVERY_S, (time.perf_counter() - begin) / _MOST_OF_THE_TIME)

    def stop(self) -> None:
        """End the looking."""
        self._end.set()
        self._thread.join()


def _count_files(folder: pathlib.Path) -> int:
    """Count descriptors: newer kernels tell their number as the folder's size, without a list of them."""
    return folder.stat().st_size or len(os.listdir(folder))
