"""How hard one host may be asked: what a user sets. ``crawlpool.politeness`` holds it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

from crawlpool.config import check, is_count, is_seconds

DAY_S = 86_400.0
_LOOPBACK = re.compile(r"(?:.*\.)?localhost\.?|127(?:\.\d{1,3}){3}|\[?::1\]?")


def is_loopback(host: str) -> bool:
    """Tell whether ``host``, as written in a URL, names the loopback interface; nothing is resolved."""
    return _LOOPBACK.fullmatch(host) is not None


@dataclasses.dataclass(frozen=True)
class HostLimits:
    """How hard one host may be asked.

    A host is asked either with a delay, one request at a time, or with a number of requests at once and no delay. All
    requests count: first tries, retries, redirects.

    Args:
        concurrency: how many requests a host may have at once; ``None`` for no limit.
        delay_s: seconds from the end of a host's answer to the start of its next request; 0 for none.
        max_cooldown_s: the longest that a host is left alone in seconds after it answered 429 or 503, whatever its
            ``Retry-After`` says (RFC 9110 10.2.3). Without a ``Retry-After`` it is 1 second, doubled each time.
        connect_failures: after so many requests in a row that couldn't connect, or resolve its name, a host is asked
            rarely, and in the end given up: what waits for it fails unsent.
        is_block: tells whether an answer says that the host doesn't want us, for those that don't say it by 401, 403 or
            429: called with each answer, a ``requests.Response``, by the thread that has it. When it raises, that is
            logged, and the answer is no block.
        adaptive: whether ``concurrency`` is found out for each host, from one at a time up to that number: a little
            more with each answer, half with a refusal or failure.
        per_ip: whether hosts whose names resolve to the same address share ``concurrency`` and ``delay_s``: then the
            address, too, has at most so many requests at once, and the delay is kept between any two of its hosts. All
            else stays each host's own. Where a request goes through a proxy, which finds the address, it is as without.
        loopback_exempt: whether hosts on the loopback interface (``localhost``, 127.0.0.0/8, ``[::1]``) have no limits
            at all, and with ``per_ip`` neither have its addresses.

    Raises:
        ConfigError: for a value that can't be, or a delay together with a concurrency other than 1.
    """

    concurrency: int | None = 1
    delay_s: float = 0.0
    max_cooldown_s: float = 120.0
    connect_failures: int = 5
    is_block: Callable[[Any], bool] | None = None
    adaptive: bool = False
    per_ip: bool = False
    loopback_exempt: bool = False

    def __post_init__(self) -> None:
        check(
            self.concurrency is None or is_count(self.concurrency),
            "concurrency",
            self.concurrency,
            "a whole number of at least 1, or None for no limit",
        )
        for name in ("delay_s", "max_cooldown_s"):
            value = getattr(self, name)
            check(is_seconds(value, zero=True) and value <= DAY_S, name, value, "a number of seconds, 0 to 86400")
        check(
            self.delay_s == 0 or self.concurrency == 1,
            "concurrency",
            self.concurrency,
            "a delay is between one request and the next, so it goes with concurrency=1 only",
        )
        check(
            is_count(self.connect_failures),
            "connect_failures",
            self.connect_failures,
            "a whole number of at least 1",
        )
        check(isinstance(self.adaptive, bool), "adaptive", self.adaptive, "True or False")
        check(isinstance(self.per_ip, bool), "per_ip", self.per_ip, "True or False")
        check(
            not self.adaptive or (self.concurrency is not None and self.concurrency > 1),
            "adaptive",
            self.adaptive,
            "it finds out how many at once are well, up to a concurrency of more than 1",
        )
        check(self.is_block is None or callable(self.is_block), "is_block", self.is_block, "a function, or None")

    def of_host(self, host: str) -> HostLimits | None:
        """Return what holds for ``host`` (lower case, without port): these limits, or ``None`` for none at all."""
        return None if self.loopback_exempt and is_loopback(host) else self


def check_limits(limits: object) -> None:
    """Raise ``ConfigError`` unless ``limits`` is a ``HostLimits`` or ``None``."""
    check(limits is None or isinstance(limits, HostLimits), "limits", limits, "a HostLimits, or None")


#: What ``crawl`` and the command hold unless told otherwise.
POLITE = HostLimits(delay_s=0.5, loopback_exempt=True)
