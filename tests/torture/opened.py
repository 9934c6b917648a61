"""A job opened by the code that goes on with it, as the next start does, and looked at where it stands."""

from __future__ import annotations

import collections
import contextlib
import gzip
import hashlib
import io
import json
import pathlib
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from warcio.archiveiterator import ArchiveIterator

from crawlpool.errors import CrawlPoolError
from crawlpool.jobs.job import Job
from tests.torture.process import RECORDS, wrong_in_ledger


def settings_of(job: pathlib.Path) -> dict[str, Any]:
    """Return the settings that a job was begun with."""
    with contextlib.closing(sqlite3.connect(job / "ledger.sqlite3")) as database:
        settings: dict[str, Any] = json.loads(
            database.execute("SELECT value FROM job WHERE key = 'fixed'").fetchone()[0]
        )
    return settings


def wrong_when_opened(job: pathlib.Path, settings: dict[str, Any], told: bytes) -> Iterator[str]:
    """Open a job that was broken off, as the next start does, and let go of it; yield what is wrong with it.

    Args:
        job: its folder, which may be gone.
        settings: those that it was begun with.
        told: what standard output got: what is in there was acknowledged.
    """
    # Of what stdout got the last line may have come in part.
    acknowledged = [json.loads(line) for line in told.splitlines(keepends=True) if line.endswith(b"\n")]
    if not job.exists():
        if acknowledged:
            yield f"the job is lost, and {len(acknowledged)} records with it"
        return
    own = dict(settings)
    outputs, dedupes, most = own.pop("outputs"), own.pop("dedupe"), own.pop("max_per_host")
    try:
        opened = Job(str(job), outputs=outputs, fixed=own).open(dedupes=dedupes, max_per_host=most)
    except CrawlPoolError as error:
        yield f"it can't be opened: {error}"
        return
    opened.close()
    path = next((one for one in (job / RECORDS, job / f"{RECORDS}.open") if one.exists()), None)
    if path is None:
        yield "its records are gone"
        return
    records = path.read_bytes()
    try:
        lines = [json.loads(line) for line in records.splitlines()]
    except ValueError:
        yield "a record is torn"
        return
    there = collections.Counter(map(_key_of, lines))
    for line in lines:
        yield from (f"{_key_of(line)}: {one}" for one in wrong_bodies(job, line))
    if any(output.endswith(".warc.gz") for output in outputs):
        yield from wrong_in_warc(job, lines)
    yield from wrong_in_ledger(job, records, is_complete=False)
    yield from (f"doubled: {key}" for key, number in there.items() if number > 1)
    yield from (f"lost: {key}" for key in map(_key_of, acknowledged) if key not in there)


def _key_of(record: dict[str, Any]) -> str:
    if "item" in record:
        return f"item {record['item']}"
    return f"line {record['n']}" if record["n"] is not None else f"found {record['url']}"


def wrong_bodies(job: pathlib.Path, record: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with what a record says of where its body lies."""
    for place in record.get("body") or ():
        path = job / place["file"]
        if not path.exists():
            path = path.with_name(path.name + ".open")
        if not path.exists():
            yield f"{place['file']} is gone"
            continue
        with path.open("rb") as file:
            file.seek(place["offset"])
            data = file.read(place["length"])
        try:
            if not path.name.removesuffix(".open").endswith(".warc.gz"):
                is_right = hashlib.sha256(data).hexdigest() == record["sha256"]
            else:
                is_right = gzip.decompress(data).startswith(b"WARC/1.1\r\n")
        except (OSError, EOFError, zlib.error):
            is_right = False
        if not is_right:
            yield f"not its body at {place}"


def wrong_in_warc(job: pathlib.Path, records: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield what is wrong with a job's WARC files: damage, digests that differ, other answers than records say."""
    wanted = sum(1 + len(record["redirects"]) for record in records if record.get("status"))
    found = 0
    for path in sorted(job.glob("*.warc.gz*")):
        data = path.read_bytes()
        try:
            if data:
                gzip.decompress(data)  # as gzip -t: warcio lets damaged tails go
            for record in ArchiveIterator(io.BytesIO(data), check_digests="raise"):
                found += record.rec_type in ("response", "revisit")
                record.content_stream().read()
        except Exception as error:  # whatever a damaged file makes of it
            yield f"{path.name}: {type(error).__name__}: {error}"
    if found != wanted:
        yield f"{found} answers in the WARC files, {wanted} in the records"
