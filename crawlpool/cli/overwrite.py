"""``--overwrite``: a job goes, so that another one can lie in its folder; nothing goes but what the job has made."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys

import click

from crawlpool import disk
from crawlpool.cli.job import STDOUT
from crawlpool.cli.job_file import NAME as JOB_FILE
from crawlpool.cli.job_file import read
from crawlpool.errors import JobError, SinkError
from crawlpool.redact import one_line

_PART = re.compile(r"-(\d{5,9})(?=\.|$)")
_BODY = re.compile(r"\d{8,12}\.[a-z0-9]+(?:\.part)?")
_NUMBERED = re.compile(r"\d{2,}")


def clear(folder: str) -> None:
    """Remove a job, after asking where there is a terminal; where there is none nothing happens.

    The ledger goes last: whatever comes between, the folder is known for a job's.

    Raises:
        JobError: when another process has the job, or the folder is no job.
        SinkError: when something can't be removed.
        click.Abort: when the answer is no.
    """
    from crawlpool.ledger.lock import JobLock
    from crawlpool.ledger.schema import NAME as LEDGER

    if not os.path.isdir(folder) or not set(os.listdir(folder)) - {"lock", "flight"}:
        return
    with JobLock(folder) if _is_job(folder) else contextlib.nullcontext():
        outputs, count = _known_of(folder)
        ask(f"{one_line(folder)}: a job with {count:,} URLs done; remove it, with its outputs, and begin anew?")
        try:
            for output in outputs:
                _remove_output(os.path.join(folder, output))
            for name in ("flight", "control", f"{JOB_FILE}.new", JOB_FILE):
                _remove(os.path.join(folder, name))
            for name in (LEDGER, f"{LEDGER}-wal", f"{LEDGER}-shm"):
                _remove(os.path.join(folder, name))
            disk.sync_folder(folder)
        except OSError as error:
            raise SinkError(f"{one_line(error.filename or folder)}: can't be removed: {error.strerror}") from error


def _is_job(folder: str) -> bool:
    from crawlpool.ledger.schema import NAME as LEDGER

    return any(os.path.isfile(os.path.join(folder, name)) for name in (LEDGER, JOB_FILE))


def _known_of(folder: str) -> tuple[list[str], int]:
    """Return the outputs of a job, and how many targets are settled."""
    from crawlpool.ledger.schema import NAME as LEDGER
    from crawlpool.ledger.schema import open_to_read, trouble_told

    if not _is_job(folder):
        raise JobError(f"{one_line(folder)}: --overwrite removes jobs, and this is none; nothing was removed")
    path = os.path.join(folder, LEDGER)
    try:
        with trouble_told(path), contextlib.closing(open_to_read(path)) as database:
            rows = dict(database.execute("SELECT key, value FROM job WHERE key IN ('fixed', 'books')").fetchall())
    except (JobError, SinkError):  # damaged: the other file says what it wrote
        outputs = read(folder).options.get("output", [])
        return [str(output) for output in outputs if output != STDOUT] or ["results.jsonl"], 0
    outputs = json.loads(rows.get("fixed", "{}")).get("outputs", [])
    return outputs, sum(json.loads(rows["books"])["ended"].values()) if "books" in rows else 0


def ask(question: str) -> None:
    """Ask whether something is to be removed, where there is a terminal; raise ``click.Abort`` for a no."""
    try:
        is_terminal = sys.stdin is not None and sys.stdin.isatty() and sys.stderr is not None and sys.stderr.isatty()
    except ValueError:  # closed
        is_terminal = False
    if is_terminal:
        click.confirm(question, abort=True, err=True)


def _remove_output(path: str) -> None:
    if path.endswith("/"):
        _remove_bodies(path)
        return
    folder, base = os.path.split(path)
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(folder):
            if _is_part(name, base):
                _remove(os.path.join(folder, name))


def _is_part(name: str, base: str) -> bool:
    from crawlpool.jobs.again import NEW_SUFFIX
    from crawlpool.sinks.marks import OPEN_SUFFIX, part_name

    name = name.removesuffix(NEW_SUFFIX).removesuffix(OPEN_SUFFIX)
    return name == base or any(name == part_name(base, int(found[1])) for found in _PART.finditer(name))


def _remove_bodies(path: str) -> None:
    """Remove the files of bodies below a folder, and the folders that become empty by it."""
    walked = []
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if _NUMBERED.fullmatch(name)]
        walked.append(folder)
        for name in names:
            if _BODY.fullmatch(name):
                _remove(os.path.join(folder, name))
    for folder in reversed(walked):
        with contextlib.suppress(OSError):  # what others have put there stays
            os.rmdir(folder)


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        disk.remove(path)
