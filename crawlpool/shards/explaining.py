"""What became of one URL of jobs of many shards: all that its redirects have led it through, as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crawlpool.jobs import explaining
from crawlpool.jobs.reading import JobReader
from crawlpool.shards.layout import within_job

if TYPE_CHECKING:
    from crawlpool.shards.parts import Part
    from crawlpool.shards.reading import JobsReader
    from crawlpool.shards.ways import Found

#: The ``state`` of a target that one shard has handed over, and none has taken in yet.
ON_ITS_WAY = "on_its_way"


def explained(jobs: JobReader | JobsReader, url: str) -> dict[str, Any] | None:
    """Return what became of a URL, as ``jobs.explaining.explained`` does.

    Args:
        jobs: open to be read.
        url: as it was asked for, in whatever spelling.

    Returns:
        ``None`` where the jobs don't have it. ``shards`` beside the rest says which shards it came through, in order,
        and ``job`` in which job; ``state`` may be ``on_its_way``, too, and ``place`` has the ``folder`` below which all
        lies that the record names. ``legs`` has those of all shards, ``target`` and
        ``robots`` are of the first one, and the rest is of the last.

    Raises:
        JobError: when a job is damaged.
    """
    if isinstance(jobs, JobReader):
        return explaining.explained(jobs, url)
    found = jobs.find(url)
    if found is None:
        return None
    passed = [_explained(jobs, part, number) for part, number in found.way]
    last = _explained(jobs, found.part, found.number)
    if last is None or None in passed:
        return None
    each = [*(one for one in passed if one is not None), last]
    told = {**last, "target": each[0]["target"], "legs": [leg for one in each for leg in one["legs"]]}
    if found.is_on_its_way:
        told["state"] = ON_ITS_WAY
    if passed:
        told["robots"] = _robots(jobs, found, last)
    if last["place"] is not None and found.part.shard is not None:
        folder = last["folder"]
        told["place"] = {**last["place"], "file": f"{folder}/{last['place']['file']}", "folder": folder}
    del told["folder"]
    told["job"] = found.part.root
    told["shards"] = [part.shard for part, _ in (*found.way, (found.part, 0)) if part.shard is not None]
    return told


def _explained(jobs: JobsReader, part: Part, number: int) -> dict[str, Any] | None:
    def look(reader: JobReader) -> dict[str, Any] | None:
        told = explaining.explained_of(reader, number)
        return None if told is None else {**told, "folder": within_job(reader.path)}

    return jobs.shelf.look(part, look, None)


def _robots(jobs: JobsReader, found: Found, last: dict[str, Any]) -> dict[str, Any] | None:
    """Return what the robots.txt of where it came in has said: of the way's other hosts the shards keep theirs."""
    part, number = found.first
    verdict = None if last["record"] is None else last["record"].get("robots")

    def look(reader: JobReader) -> dict[str, Any] | None:
        row = reader.ledger.target(number)
        return None if row is None else explaining.robots_of(reader, reader.target_of(row), verdict)

    return jobs.shelf.look(part, look, None)
