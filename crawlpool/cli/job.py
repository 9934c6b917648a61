"""The job of a run: made of what the command was told, and what is known of it before it is opened."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shlex
from typing import TYPE_CHECKING, Any

from crawlpool.cli.control import NAME as CONTROL
from crawlpool.cli.control import ControlError
from crawlpool.cli.control_place import listening_at
from crawlpool.cli.settings import ALL
from crawlpool.errors import ConfigError, JobError
from crawlpool.record import EVERY_HEADER
from crawlpool.redact import has_login, one_line
from crawlpool.source import is_url
from crawlpool.source.reader import STDIN

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from crawlpool.cli.settings import RunSettings
    from crawlpool.jobs.job import Job
    from crawlpool.observe import Telling

STDOUT = "-"
#: What lies in a job's folder beside its outputs; and the first of these. (What is imported for jobs alone takes its
#: time: that is done in functions.)
_NAMES = frozenset("job.toml lock flight control ledger.sqlite3 ledger.sqlite3-wal ledger.sqlite3-shm".split())
_RECORDS = "results.jsonl"
#: What helps against trouble with the disk, by the error's number.
_REMEDIES = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room: the quota is used up",
    errno.EROFS: "make the file system writable",
    errno.EACCES: "give permission to write there",
    errno.EIO: "look after the disk, which fails",
    errno.EPIPE: "see why whoever read the pipe has ended",
    errno.EMFILE: "allow more open files (ulimit -n)",
}


#: The same for what SQLite says, which has no number.
_SAID = {
    "disk is full": _REMEDIES[errno.ENOSPC],
    "readonly": _REMEDIES[errno.EROFS],
    "disk I/O": _REMEDIES[errno.EIO],
}


def check_job(path: str, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
    """Refuse what a job can't have: an output that would lie beside its folder, an input that holds a login.

    Raises:
        ConfigError: naming the option; of an input with a login nothing is shown.
    """
    if path == "":
        raise ConfigError("--job: a folder is needed")
    if any(is_url(given) and has_login(given) for given in inputs):
        raise ConfigError(
            "a URL with a login isn't taken into a job, which would keep it on the disk: --auth gives one"
        )
    for output in outputs:
        if output == STDOUT or os.path.isabs(output):
            continue
        first = os.path.normpath(output).split(os.sep)[0]
        if first in (os.pardir, os.curdir) or first in _NAMES:
            raise ConfigError(
                f"--output {one_line(output)!r} can't lie in the job; another name can, or an absolute path elsewhere"
            )


def outputs_of(settings: RunSettings) -> list[str]:
    """Return the paths of the files that a run writes."""
    found = [output for output in settings.outputs if output != STDOUT]
    if settings.job is None:
        return found
    return [os.path.join(settings.job, output) for output in found or (_RECORDS,)]


def job_of(settings: RunSettings) -> Job:
    """Return the job that a run goes on with.

    Raises:
        ConfigError: for a value that can't be.
    """
    from crawlpool.jobs.job import Job

    assert settings.job is not None
    return Job(
        settings.job,
        outputs=[output for output in settings.outputs if output != STDOUT],
        record_headers=EVERY_HEADER if settings.record_headers == (ALL,) else settings.record_headers,
        rotate_bytes=settings.rotate_bytes,
        keeps_credentials=settings.warc_credentials,
        retry=settings.retry_failed,
        fixed=fixed_of(settings),
    )


def fixed_of(settings: RunSettings) -> dict[str, Any]:
    """Return what decides the input of a job. Files are called by their names: they may lie elsewhere the next time."""
    source = settings.source
    return {
        "inputs": [given if is_url(given) or given == STDIN else os.path.basename(given) for given in settings.inputs],
        "input_format": source.input_format,
        "url_field": source.url_field,
        "carry": list(source.carry),
        "default_scheme": source.default_scheme,
        "method": source.method,
    }


def is_input_read(path: str) -> bool:
    """Tell whether a job has all of its input, so that nobody needs it any more; of what is no job: no.

    Raises:
        SinkError: when the ledger can't be read.
    """
    return _looked_at(path)[0]


def is_complete(path: str) -> bool:
    """Tell whether a job, of shards or of none, has nothing left to be fetched; raises as ``is_input_read`` does."""
    from crawlpool.shards.manifest import is_sharded

    if is_sharded(path):
        from crawlpool.engines.looking import has_nothing_left

        return has_nothing_left(path)
    return all(_looked_at(path))


def _looked_at(path: str) -> tuple[bool, bool]:
    """Return whether a job has all of its input, and whether no target waits."""
    from crawlpool.ledger.schema import NAME, open_to_read, trouble_told

    ledger = os.path.join(path, NAME)
    try:
        with trouble_told(ledger), contextlib.closing(open_to_read(ledger)) as database:
            row = database.execute("SELECT value FROM job WHERE key = 'position'").fetchone()
            waiting = database.execute("SELECT 1 FROM target WHERE state = 0 LIMIT 1").fetchone()
    except JobError:  # there is none, or opening it will say what is wrong
        return False, False
    return row is not None and bool(json.loads(row[0]).get("is_done")), waiting is None


@contextlib.contextmanager
def listening_in(path: str, telling: Telling) -> Iterator[socket.socket | None]:
    """Listen on the control socket of a job within this block, if one can be made there.

    Args:
        path: of the job's folder.
        telling: where it is told that there is none: nobody has asked for it, and the run goes on.
    """
    with contextlib.ExitStack() as opened:
        try:
            control = opened.enter_context(listening_at(os.path.join(path, CONTROL)))
        except ControlError as error:
            telling.warn("no control socket", f"no control socket ('crawlpool host' can't reach this run): {error}")
            control = None
        yield control


def way_on(settings: RunSettings, *, is_input_done: bool) -> str:
    """Return the command that goes on with a job, as it is told."""
    assert settings.job is not None
    command = f"crawlpool resume {one_line(shlex.quote(settings.job))}"
    if is_input_done or STDIN not in settings.inputs:
        return f"'{command}' goes on"
    return f"'{command}', with the same standard input from its start, goes on"


def remedy_for(error: BaseException) -> str | None:
    """Return what helps against trouble with a file; ``None`` where its message has to do."""
    cause: BaseException | None = error
    while cause is not None:
        number = getattr(cause, "errno", None)
        if number in _REMEDIES:
            return _REMEDIES[number]
        for said, remedy in _SAID.items():
            if said in str(cause):
                return remedy
        cause = cause.__cause__
    return None
