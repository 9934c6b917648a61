"""What came of a crawl, so that it can be held against another one's: what tells of the run itself is left out."""

from __future__ import annotations

import collections
import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

#: What of a record says when and by whom it was made, and nothing of what came of the target.
PASSING = ("started_at", "elapsed_s", "waited_s", "timings", "ip", "run", "body")


def lines_of(folder: str) -> list[dict[str, Any]]:
    """Return the records of a job, sharded or not, read from the newest epochs' files with nothing of crawlpool."""
    found = []
    shards = os.path.join(folder, "shards")
    for place in [folder] if not os.path.isdir(shards) else sorted(os.path.join(shards, n) for n in os.listdir(shards)):
        epochs = sorted(name for name in os.listdir(place) if name[0] == "e" and name[1:].isdigit())
        if epochs:
            found += _lines(os.path.join(place, epochs[-1]))
        elif place == folder:
            found += _lines(folder)
    return found


def _lines(folder: str) -> list[dict[str, Any]]:
    found = []
    for name in sorted(os.listdir(folder)):
        if name.startswith("results") and name.endswith((".jsonl", ".jsonl.open")):
            with open(os.path.join(folder, name), "rb") as file:
                found += [json.loads(line) for line in file if line.strip()]
    return [line for line in found if "outcome" in line]


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
