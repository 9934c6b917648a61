"""Who takes part: each way to fetch that a user would pick, by name.

Nothing but the standard library is imported here: clients run on interpreters that lack crawlpool's own requirements.
"""

from __future__ import annotations

import dataclasses
import enum
import importlib.metadata
import os
import pathlib
import shutil
import sys
from typing import Any

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]

#: An interpreter that has niquests. It has one of its own because niquests' urllib3-future takes urllib3's place.
NIQUESTS_VARIABLE = "CRAWLPOOL_BENCH_NIQUESTS"
NIQUESTS_DEFAULT = REPOSITORY / ".tox" / "bench-niquests" / "bin" / "python"


class Kind(enum.Enum):
    """How a contender is run."""

    LIBRARY = "library"  # a client process that times itself: imports are no part of a round
    COMMAND = "command"  # a whole process, from its start to its end
    CEILING = "ceiling"  # what the server can give: a load generator that looks at nothing


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way to fetch.

    Args:
        slug: what the options and the JSON call it.
        label: what the tables call it.
        way: ``module:function`` in ``bench.clients``, for a library.
        needs: the distribution that has to be installed, or the program.
        kind: how it is run.
        options: ``threads`` and ``in_flight`` where they aren't the workload's; crawlpool's ``transport``.
    """

    slug: str
    label: str
    way: str = ""
    needs: str = ""
    kind: Kind = Kind.LIBRARY
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def python(self) -> str:
        """The interpreter that runs its client."""
        if self.slug == "niquests":
            return os.environ.get(NIQUESTS_VARIABLE) or str(NIQUESTS_DEFAULT)
        return sys.executable


def _library(slug: str, label: str, way: str, needs: str, **options: Any) -> Contender:
    return Contender(slug, label, way, needs, options=options)


def _command(slug: str, label: str, needs: str, **options: Any) -> Contender:
    return Contender(slug, label, needs=needs, kind=Kind.COMMAND, options=options)


CONTENDERS: dict[str, Contender] = {
    one.slug: one
    for one in (
        _library("unpooled", "requests.get, unpooled", "sessions:unpooled", "requests"),
        _library("shared_session", "one shared requests.Session, tuned", "sessions:shared", "requests"),
        _library("session_per_thread", "requests.Session per thread", "sessions:per_thread", "requests"),
        _library("futures", "requests-futures", "sessions:futures", "requests-futures"),
        _library("urllib3", "urllib3.PoolManager in threads", "threads:urllib3_pool", "urllib3"),
        _library("httpx_threads", "httpx.Client in threads", "threads:httpx_client", "httpx"),
        _library("httpx_async", "httpx.AsyncClient", "loops:httpx_async", "httpx"),
        _library("niquests", "niquests.Session in threads", "threads:niquests_session", "niquests"),
        _library("curl_cffi", "curl_cffi.AsyncSession", "loops:curl_cffi", "curl_cffi"),
        _library("aiohttp", "aiohttp", "loops:aiohttp_session", "aiohttp"),
        _library("aiohttp_64", "aiohttp, 64 in flight", "loops:aiohttp_session", "aiohttp", in_flight=64),
        _library("get_urllib3", "SessionPool.get, urllib3", "pooled:get", "crawlpool", transport="urllib3"),
        _library("map_urllib3", "SessionPool.map, urllib3", "pooled:map_pages", "crawlpool", transport="urllib3"),
        _library("get_curl", "SessionPool.get, curl", "pooled:get", "crawlpool", transport="curl"),
        _library("map_curl", "SessionPool.map, curl", "pooled:map_pages", "crawlpool", transport="curl"),
        _library(
            "map_curl_best",
            "SessionPool.map, curl, 2 × 64",
            "pooled:map_pages",
            "crawlpool",
            transport="curl",
            threads=2,
            in_flight=64,
        ),
        _library("pycurl_multi", "bare pycurl multi", "bare:multi", "pycurl"),
        _library("pycurl_multi_64", "bare pycurl multi, 64 in flight", "bare:multi", "pycurl", in_flight=64),
        _command("run_curl", "crawlpool run, curl", "crawlpool", transport="curl"),
        _command("run_urllib3", "crawlpool run, urllib3", "crawlpool", transport="urllib3"),
        _command("wget2", "wget2", "wget2"),
        _command("curl_parallel", "curl --parallel", "curl"),
        _command("aria2", "aria2c", "aria2c"),
        _command("scrapy", "Scrapy", "scrapy"),
        Contender("wrk", "wrk, the ceiling", needs="wrk", kind=Kind.CEILING),
    )
}


def why_not(contender: Contender) -> str | None:
    """Return why a contender can't take part on this machine, or ``None`` when it can."""
    if contender.slug == "niquests":
        if not pathlib.Path(contender.python).exists():
            return f"no interpreter has it: tox -e bench-niquests makes one, or {NIQUESTS_VARIABLE} names one"
        return None
    if contender.needs == "crawlpool":
        return _why_no_transport(contender.options["transport"])
    if contender.kind is Kind.LIBRARY or contender.slug == "scrapy":
        try:
            importlib.metadata.version(contender.needs)
        except importlib.metadata.PackageNotFoundError:
            return f"{contender.needs} isn't installed; it comes with crawlpool[bench]"
        return None
    return None if shutil.which(contender.needs) else f"there is no {contender.needs} on this machine"


def _why_no_transport(name: str) -> str | None:
    from crawlpool import SessionPool
    from crawlpool.errors import ConfigError, MissingExtra

    try:
        SessionPool(threads=1, transport=name).close()
    except (ConfigError, MissingExtra) as error:
        return str(error)
    return None


def version_of(contender: Contender) -> str | None:
    """Return the version of the distribution that a contender is, for the JSON; ``None`` for programs."""
    try:
        return importlib.metadata.version(contender.needs)
    except importlib.metadata.PackageNotFoundError:
        return None
