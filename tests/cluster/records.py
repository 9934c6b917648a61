"""What came of a crawl, so that it can be held against another one's: what tells of the run itself is left out."""

from __future__ import annotations

import collections
import json
import pathlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: What of a record says when and by whom it was made, and nothing of what came of the target.
PASSING = ("started_at", "elapsed_s", "waited_s", "timings", "ip", "run", "body")


def count_of(folder: str) -> int:
    """Return about how many records a job has that runs, or isn't even begun."""
    try:
        return sum(path.read_bytes().count(b"\n") for path in _files(folder))
    except OSError:  # moved, or copied, just now
        return 0


def lines_of(folder: str) -> list[dict[str, Any]]:
    """Return the records of a job at rest, sharded or not, read from its files with nothing of crawlpool."""
    found = []
    for path in _files(folder):
        with open(path, "rb") as file:
            found += [json.loads(line) for line in file if line.strip()]
    return [line for line in found if "outcome" in line]


def _files(folder: str) -> Iterator[pathlib.Path]:
    """Yield the files of records: of shards those of the newest epoch."""
    place = pathlib.Path(folder)
    shards = sorted(place.glob("shards/*"))
    epochs = [max(shard.glob("e[0-9]*"), key=lambda epoch: epoch.name, default=None) for shard in shards]
    for one in epochs if shards else [place]:
        if one is not None:
            yield from sorted(path for path in one.glob("results*") if path.name.endswith((".jsonl", ".jsonl.open")))


def kept(record: dict[str, Any]) -> str:
    """Return what of a record must be the same whoever fetched it."""
    left = {key: value for key, value in record.items() if key not in PASSING}
    if left.get("n") is None:  # a link: who found it first is chance, where two pages have it
        left["parent"] = left["depth"] = None
    return json.dumps(left, sort_keys=True)


def as_set(records: Iterable[dict[str, Any]]) -> collections.Counter[str]:
    """Return the records as a bag: what must be the same."""
    return collections.Counter(kept(record) for record in records)


def differences(one: collections.Counter[str], other: collections.Counter[str]) -> str:
    """Return in words in what two bags differ; nothing where they don't."""
    if one == other:
        return ""
    lost, new = list((one - other).elements()), list((other - one).elements())
    return f"{len(lost)} are missing, {len(new)} are new; such as {lost[:1]} and {new[:1]}"
