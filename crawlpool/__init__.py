"""crawlpool: the requests API, safe in every thread; a session pool for multithreaded crawlers.

What it has is imported when it is first asked for. So whoever imports one part doesn't wait for the others, and the
command can take Ctrl-C into its own hands before anything that takes long.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from crawlpool._version import __version__

if TYPE_CHECKING:
    from crawlpool.address import AddressRules
    from crawlpool.cookies import CookieStore
    from crawlpool.crawl import Crawl
    from crawlpool.download import DownloadMismatch
    from crawlpool.errors import (
        BlockedAddress,
        BodyStalled,
        BodyTooLarge,
        Cancelled,
        ConfigError,
        CookieFileError,
        CrawlPoolError,
        CutHeader,
        DeadlineExceeded,
        EngineError,
        ErrorKind,
        HandlerFailed,
        HostUnreachable,
        InputError,
        JobError,
        LeaseLost,
        MissingExtra,
        NoDescriptors,
        OutOfMemory,
        PoolClosed,
        ProtocolError,
        QueueFull,
        RequestError,
        SinkError,
        TargetSkipped,
        TruncatedBody,
        UndecodableBody,
        Unscripted,
        UnwantedContentType,
        WarcError,
    )
    from crawlpool.jobs.job import Job
    from crawlpool.jobs.reading import JobReader, JobRun
    from crawlpool.jobs.records import JobRecord
    from crawlpool.limits import HostLimits
    from crawlpool.models import BodyPlace, Hop, Outcome, Report, Result, Statistics, Target
    from crawlpool.retry import RetryBudget, RetryPolicy
    from crawlpool.runs import ResponseFuture
    from crawlpool.session import Session
    from crawlpool.sessionpool import SessionPool
    from crawlpool.shards.reading import JobsReader, open_job
    from crawlpool.sinks import BodiesSink, JsonlSink, Sink, WarcSink
    from crawlpool.source import Source, SourceSettings
    from crawlpool.transport.curl.adapter import CurlAdapter

#: Where each public name is at home; a test compares it with the imports above.
_HOMES = {
    "address": "AddressRules",
    "jobs.job": "Job",
    "jobs.reading": "JobReader JobRun",
    "jobs.records": "JobRecord",
    "limits": "HostLimits",
    "cookies": "CookieStore",
    "crawl": "Crawl",
    "download": "DownloadMismatch",
    "errors": (
        "BlockedAddress BodyStalled BodyTooLarge Cancelled ConfigError CookieFileError CrawlPoolError CutHeader "
        "DeadlineExceeded EngineError ErrorKind HandlerFailed HostUnreachable InputError JobError LeaseLost "
        "MissingExtra NoDescriptors OutOfMemory PoolClosed ProtocolError QueueFull RequestError SinkError "
        "TargetSkipped TruncatedBody UndecodableBody Unscripted UnwantedContentType WarcError"
    ),
    "models": "BodyPlace Hop Outcome Report Result Statistics Target",
    "retry": "RetryBudget RetryPolicy",
    "runs": "ResponseFuture",
    "session": "Session",
    "sessionpool": "SessionPool",
    "shards.reading": "JobsReader open_job",
    "sinks": "BodiesSink JsonlSink Sink WarcSink",
    "source": "Source SourceSettings",
    "transport.curl.adapter": "CurlAdapter",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = [
    "AddressRules",
    "BlockedAddress",
    "BodiesSink",
    "BodyPlace",
    "BodyStalled",
    "BodyTooLarge",
    "Cancelled",
    "ConfigError",
    "CookieFileError",
    "CookieStore",
    "Crawl",
    "CrawlPoolError",
    "CurlAdapter",
    "CutHeader",
    "DeadlineExceeded",
    "DownloadMismatch",
    "EngineError",
    "ErrorKind",
    "HandlerFailed",
    "Hop",
    "HostLimits",
    "HostUnreachable",
    "InputError",
    "Job",
    "JobError",
    "JobReader",
    "JobRecord",
    "JobRun",
    "JobsReader",
    "JsonlSink",
    "LeaseLost",
    "MissingExtra",
    "NoDescriptors",
    "OutOfMemory",
    "Outcome",
    "PoolClosed",
    "ProtocolError",
    "QueueFull",
    "Report",
    "RequestError",
    "ResponseFuture",
    "Result",
    "RetryBudget",
    "RetryPolicy",
    "Session",
    "SessionPool",
    "Sink",
    "SinkError",
    "Source",
    "SourceSettings",
    "Statistics",
    "Target",
    "TargetSkipped",
    "TruncatedBody",
    "UndecodableBody",
    "Unscripted",
    "UnwantedContentType",
    "WarcError",
    "WarcSink",
    "__version__",
    "open_job",
]


def __getattr__(name: str) -> Any:
    """Return a public name, or a module of the package; from the second time on it is simply there (PEP 562)."""
    home = _HOME_OF.get(name)
    if home is not None:
        found = getattr(importlib.import_module(f"crawlpool.{home}"), name)
    elif name in _HOMES:
        found = importlib.import_module(f"crawlpool.{name}")
    else:
        raise AttributeError(f"module 'crawlpool' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
