"""strace, put to one thread of the tortured crawl: it counts a thread's calls of the system, and strikes at one.

Counts are of each thread and each call, so the main thread, which opens and ends a job, and the clerk, which writes it,
are struck one by one. ``strace`` must be there, and be allowed to look at another process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from tests.cli.command import PATIENCE_S
from tests.torture.process import Setup

#: Every call by which a job's files are changed, or known not to be; and the errors that it is made to give.
CALLS: dict[str, tuple[str, ...]] = {
    "openat": ("EMFILE", "ENOSPC"),
    "mkdir": ("ENOSPC",),
    "write": ("ENOSPC", "EIO"),
    "pwrite64": ("ENOSPC", "EIO"),
    "fsync": ("EIO",),
    "fdatasync": ("EIO", "ENOSPC"),
    "ftruncate": ("EIO", "ENOSPC"),
    "rename": ("EIO", "ENOSPC"),
    "unlink": ("EIO",),
    "fallocate": ("ENOSPC",),
    "mmap": ("ENOMEM",),
    "fchown": (),
    "flock": (),
}
THREADS = ("main", "feeder", "clerk")


@functools.cache
def why_not() -> str | None:
    """Return why nothing can be traced here; ``None`` where it can."""
    if not sys.platform.startswith("linux"):
        return "strace is of Linux"
    if shutil.which("strace") is None:
        return "strace isn't installed"
    sleeper = subprocess.Popen(["sleep", str(PATIENCE_S)])
    try:
        with _strace(sleeper.pid, ["-e", "trace=none"], os.devnull) as tracer:
            del tracer
    except NotTraced as error:
        return f"strace may not look at other processes here: {error}"
    finally:
        sleeper.kill()
        sleeper.wait()
    return None


class NotTraced(Exception):
    """strace couldn't be put to a process."""


@dataclasses.dataclass(frozen=True)
class Struck:
    """How a process ended under a tracer: its exit code, what it said, what was traced."""

    code: int
    said: str
    trace: str

    @property
    def is_struck(self) -> bool:
        """Whether the fault was injected, or the process killed."""
        return "(INJECTED)" in self.trace or self.code == -9


def run_struck(setup: Setup, who: str, *how: str, follows: bool = False, stdout: int | None = None) -> Struck:
    """Run a crawl while one of its threads is traced; return how it ended.

    Args:
        setup: the crawl.
        who: one of ``THREADS``.
        how: options of strace.
        follows: whether all threads are traced; then counts are still of each.
        stdout: where its standard output goes; ``None`` for nowhere.
    """
    own_in, their_out = os.pipe()
    their_in, own_out = os.pipe()
    with contextlib.ExitStack() as stack:
        for fd in (own_in, own_out):
            stack.callback(os.close, fd)
        try:
            process = setup.start("--wait", who, stdout=stdout, gate=(their_in, their_out))
        finally:
            os.close(their_in)
            os.close(their_out)
        stack.callback(process.kill)
        thread = os.read(own_in, 100)
        if not thread:  # it ended before it came to the gate
            return Struck(*process.end(), "")
        with tempfile.NamedTemporaryFile(prefix="strace-") as out:
            with _strace(int(thread), [*(["-f"] if follows else []), *how], out.name):
                os.write(own_out, b"!")
                code, said = process.end()
            return Struck(code, said, pathlib.Path(out.name).read_text("utf-8", "replace"))


def paths_of(setup: Setup) -> list[str]:
    """Return the options of strace by which only a job's files are looked at."""
    names = ["", "lock", "flight", "control", "job.toml"]
    names += [f"ledger.sqlite3{end}" for end in ("", "-wal", "-shm", "-journal")]
    names += [f"{name}{end}" for name in ("results.jsonl", "pages.warc.gz") for end in ("", ".open")]
    names += [f"{stem}-{part:05}{end}" for stem, end in _PARTS for part in range(2, 8)]
    paths = [str(setup.folder), *(str(setup.job / name).rstrip("/") for name in names)]
    return [word for path in paths for word in ("-P", path)]


_PARTS = (
    ("results", ".jsonl"),
    ("results", ".jsonl.open"),
    ("pages", ".warc.gz"),
    ("pages", ".warc.gz.open"),
)


@contextlib.contextmanager
def _strace(thread: int, how: list[str], out: str) -> Iterator[subprocess.Popen[str]]:
    """Put strace to a thread; it is there when the block begins, and gone after it."""
    command = ["strace", "-e", "signal=none", *how, "-o", out, "-p", str(thread)]
    tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    try:
        said = tracer.stderr.readline()
        if "attached" not in said:
            raise NotTraced(said.strip())
        yield tracer
    finally:
        try:
            tracer.wait(0.1)  # it ends with what it looks at
        except subprocess.TimeoutExpired:
            tracer.terminate()
            tracer.wait()
        tracer.stderr.close()
