"""The names of engines: what ``--engine`` and ``SessionPool.crawl(engine=…)`` take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crawlpool.errors import ConfigError
from crawlpool.redact import one_line

if TYPE_CHECKING:
    from crawlpool.engines.base import Engine

#: This process; worker processes of Dask.
THREADS, DASK = "threads", "dask"


def engine_named(name: str) -> Engine:
    """Return an engine.

    Args:
        name: ``threads``; ``dask`` for a cluster of this machine's own; ``dask://HOST:PORT`` or ``dask://FILE.json`` (a
            scheduler file) for one that runs.

    Raises:
        ConfigError: for a name that isn't one.
        MissingExtra: when ``distributed`` isn't installed.
    """
    check_name(name)
    if name == THREADS:
        from crawlpool.engines.threads import ThreadsEngine

        return ThreadsEngine()
    from crawlpool.engines.dask import DaskEngine

    return DaskEngine(name.partition("://")[2] or None)


def check_name(name: str) -> None:
    """Refuse what names no engine.

    Raises:
        ConfigError: naming it.
    """
    kind, mark, place = name.partition("://")
    if name in (THREADS, DASK) or (kind == DASK and mark and _is_place(place)):
        return
    what = "threads, dask, dask://HOST:PORT or dask://FILE.json"
    raise ConfigError(f"engine {one_line(name, 200)!r}: {what} is needed")


def _is_place(place: str) -> bool:
    if place.endswith(".json"):
        return True
    host, _, port = place.removeprefix("tls://").rpartition(":")
    return bool(host) and "@" not in host and "/" not in host and port.isdecimal() and 0 < int(port) < 65536
