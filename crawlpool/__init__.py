"""crawlpool: the requests API, safe in every thread; a session pool for multithreaded crawlers."""

from __future__ import annotations

from crawlpool._version import __version__
from crawlpool.config import HostLimits
from crawlpool.cookies import CookieStore
from crawlpool.crawl import Crawl
from crawlpool.download import DownloadMismatch
from crawlpool.errors import (
    BodyStalled,
    BodyTooLarge,
    Cancelled,
    ConfigError,
    CookieFileError,
    CrawlPoolError,
    CutHeader,
    DeadlineExceeded,
    ErrorKind,
    HandlerFailed,
    InputError,
    MissingExtra,
    PoolClosed,
    ProtocolError,
    QueueFull,
    RequestError,
    SinkError,
    TargetSkipped,
    TruncatedBody,
    UndecodableBody,
    UnwantedContentType,
)
from crawlpool.models import Hop, Outcome, Report, Result, Statistics, Target
from crawlpool.retry import RetryBudget, RetryPolicy
from crawlpool.runs import ResponseFuture
from crawlpool.session import Session
from crawlpool.sessionpool import SessionPool
from crawlpool.sinks import JsonlSink, Sink
from crawlpool.source import Source, SourceSettings

__all__ = [
    "BodyStalled",
    "BodyTooLarge",
    "Cancelled",
    "ConfigError",
    "CookieFileError",
    "CookieStore",
    "Crawl",
    "CrawlPoolError",
    "CutHeader",
    "DeadlineExceeded",
    "DownloadMismatch",
    "ErrorKind",
    "HandlerFailed",
    "Hop",
    "HostLimits",
    "InputError",
    "JsonlSink",
    "MissingExtra",
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
    "UnwantedContentType",
    "__version__",
]
