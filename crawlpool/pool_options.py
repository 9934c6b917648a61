"""What ``SessionPool`` and its crawls take by name: typed, so that a misspelled option is found before it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from crawlpool.verbs import BodyOptions

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import requests

    from crawlpool.address import AddressRules
    from crawlpool.config import TimeoutValue
    from crawlpool.cookies import CookieStore
    from crawlpool.models import Result
    from crawlpool.retry import RetryPolicy


class PoolOptions(TypedDict, total=False):
    """The settings of a pool; ``SessionPool`` tells what each of them means."""

    threads: int
    headers: Mapping[str, str] | None
    params: Mapping[str, Any] | None
    timeout: TimeoutValue
    deadline: float | None
    retry: RetryPolicy | bool | None
    cookies: CookieStore | Mapping[str, str] | None
    auth: tuple[str, str] | Callable[[requests.PreparedRequest], requests.PreparedRequest] | None
    proxies: Mapping[str, str] | Sequence[str] | None
    verify: bool | str | os.PathLike[str]
    cert: str | tuple[str, str] | None
    hooks: Any
    max_body_bytes: int | None
    max_redirects: int
    idle_connections: int
    queue_size: int | None
    trust_env: bool
    netrc: bool
    resolve: Mapping[tuple[str, int], str] | None
    transport: str | None
    in_flight: int | None
    http: str
    memory_budget_bytes: int | None
    rate: float | None
    addresses: AddressRules | None


class CrawlOptions(BodyOptions, total=False):
    """What ``SessionPool.crawl`` takes beside its named arguments; see ``SessionPool.new_crawl``."""

    max_wait_s: float | None
    max_redirects: int | None
    content_types: Iterable[str] | None
    max_per_host: int | None
    dedupe: bool
    robots: bool
    on_block: str
    on_result: Callable[[Result], None] | None
