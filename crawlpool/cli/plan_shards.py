"""What ``crawlpool plan`` says of shards: how the URLs fall into them, and what that costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crawlpool.observe.pace import duration
from crawlpool.redact import one_line
from crawlpool.shards.hashing import Sharding, default_shards
from crawlpool.shards.shares import shares_of
from crawlpool.suffixes import SuffixList, installed_list

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crawlpool.plan import Terms
    from crawlpool.shards.shares import Share, Shares

_LONGEST_HOST = 60


def wanted_shares(counts: Mapping[str, int], terms: Terms, shards: int | None, workers: int | None) -> Shares | None:
    """Return how the URLs fall into shards; ``None`` where neither option asks for that.

    Args:
        counts: how many URLs each host has.
        terms: how each shard is run.
        shards: ``--shards``; ``None`` for what suits the workers.
        workers: ``--workers``; ``None`` for one.
    """
    if shards is None and workers is None:
        return None
    number = 1 if workers is None else workers
    sharding = Sharding(default_shards(number) if shards is None else shards, SuffixList(installed_list()))
    return shares_of(counts, sharding, terms, number)


def sentences_of(shares: Shares, urls: int) -> list[str]:
    """Return what is to be said of shards, for eyes.

    Args:
        shares: how the URLs fall into them.
        urls: how many there are.
    """
    if not urls:
        return []
    largest, slowest, workers = shares.largest, shares.slowest, shares.workers
    told = [
        f"Of {_number(shares.shards, 'shard')} (--shards) {shares.used:,} have URLs; the largest has "
        f"{_percent(largest.urls, urls)} of them, an even share would be {_percent(1, shares.shards)}."
    ]
    who = "1 worker (--workers)" if workers == 1 else f"{workers:,} workers (--workers)"
    text = f"{who} with {shares.at_once} shards open at once {'takes' if workers == 1 else 'take'} at least "
    text += duration(shares.total_s)
    if shares.enough > workers:
        text += f"; more would be faster, up to {shares.enough:,}"
    elif shares.enough < workers:
        text += f"; {shares.enough:,} {'is' if shares.enough == 1 else 'are'} enough"
    told.append(f"{text}.")
    told.append(
        f"No number of workers is faster than the slowest shard, {duration(slowest.demanded_s)}: {_slowest(slowest)}."
    )
    return told


def facts_of(shares: Shares | None, urls: int) -> dict[str, Any] | None:
    """Return the same as values that JSON has; ``None`` for ``None``."""
    if shares is None:
        return None
    return {
        "shards": shares.shards,
        "workers": shares.workers,
        "at_once": shares.at_once,
        "used": shares.used,
        "largest": _share(shares.largest, urls),
        "slowest": _share(shares.slowest, urls),
        "sum_s": round(shares.sum_s, 3),
        "total_s": round(shares.total_s, 3),
        "workers_enough": shares.enough,
    }


def _slowest(share: Share) -> str:
    name = one_line(share.host, _LONGEST_HOST)
    if share.hosts == 1:
        return f"it has {name} alone, and a host stays in one shard"
    return (
        f"{name} has {_percent(share.host_urls, share.urls)} of its URLs, and a host stays in one shard, "
        "with all hosts of its registrable domain"
    )


def _share(share: Share, urls: int) -> dict[str, Any] | None:
    if not share.hosts:
        return None
    return {
        "shard": share.shard,
        "hosts": share.hosts,
        "urls": share.urls,
        "share": round(share.urls / urls, 6),
        "demanded_s": round(share.demanded_s, 3),
        "host": share.host,
        "host_urls": share.host_urls,
    }


def _number(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %"
