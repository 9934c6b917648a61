"""Which transport a run uses, what it may be asked for, and the open files that it needs."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Any

import click

from crawlpool.cli.config_file import place_of
from crawlpool.config import PoolSettings
from crawlpool.errors import ConfigError, MissingExtra
from crawlpool.transport.curl import library

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Open files that aren't connections: streams, outputs, libraries, the resolver's sockets.
SPARE_FILES = 64
_OPEN_MAX = 10_240  # what every macOS grants
_INSTALL = "pip install 'crawlpool[curl]'"


@dataclasses.dataclass(frozen=True)
class Transport:
    """What moves the bytes of a run.

    Args:
        name: ``curl`` or ``urllib3``.
        threads: worker threads.
        in_flight: requests that may be under way at once, over all threads.
        http: HTTP version, ``1.1`` or ``2``.
        memory_budget_bytes: bytes of bodies that all transfers may hold together; ``None`` for any number.
        is_second_choice: whether it is urllib3 because pycurl isn't installed.
    """

    name: str
    threads: int
    in_flight: int
    http: str = "1.1"
    memory_budget_bytes: int | None = None
    is_second_choice: bool = False

    def __str__(self) -> str:
        http2 = " (HTTP/2)" if self.http == "2" else ""
        why = " (pycurl is not installed)" if self.is_second_choice else ""
        return f"{self.threads:,} threads, {self.in_flight:,} in flight, transport {self.name}{http2}{why}"


def transport_of(ctx: click.Context, given: Mapping[str, Any]) -> Transport:
    """Return the transport that the options make.

    Args:
        ctx: the command's context.
        given: the options by their names.

    Raises:
        click.UsageError: when curl is asked for and isn't there, or for what urllib3 can't do.
    """
    asked, threads = given["transport"], given["threads"]
    is_curl = _has_curl(ctx) if asked == "curl" else asked == "auto" and library.is_installed()
    in_flight = given["in_flight"] or threads
    if is_curl:
        return Transport("curl", threads, in_flight, given["http"], given["memory_budget"])
    remedy = _INSTALL if asked == "auto" else "choose --transport curl"
    if in_flight > threads:
        raise click.UsageError(
            f"{place_of(ctx, 'in_flight')}: with the urllib3 transport each thread has one request at a time, so "
            f"{in_flight} in flight need as many --threads (now {threads}); or {remedy}",
            ctx,
        )
    for name, is_asked in (("http", given["http"] == "2"), ("memory_budget", given["memory_budget"] is not None)):
        if is_asked:
            raise click.UsageError(f"{place_of(ctx, name)}: this needs the curl transport: {remedy}", ctx)
    # A thread without a request to send would only wait.
    return Transport("urllib3", in_flight, in_flight, is_second_choice=asked == "auto")


def _has_curl(ctx: click.Context) -> bool:
    try:
        library.require()
    except MissingExtra:
        missing = MissingExtra("the curl transport", "curl")
        raise click.UsageError(f"{place_of(ctx, 'transport')}: {missing}", ctx) from None
    except ConfigError as error:  # too old
        raise click.UsageError(f"{place_of(ctx, 'transport')}: {error}", ctx) from None
    return True


def allow_files(transport: Transport) -> int:
    """Raise this process's soft limit of open files to what a run needs, where that is allowed.

    Returns:
        How many idle connections a thread may keep within the limit.

    Raises:
        ConfigError: when even the hard limit is too small for the requests that are to run at once.
    """
    usual = PoolSettings.idle_connections
    if sys.platform == "win32":  # no such limit there
        return usual
    import resource

    needed = transport.in_flight + SPARE_FILES
    wished = needed + max(transport.in_flight, transport.threads * usual)
    limit, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for number in (wished, min(wished, _OPEN_MAX), needed):
        number = number if hard == resource.RLIM_INFINITY else min(number, hard)
        if limit == resource.RLIM_INFINITY or limit >= number:
            break
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
            limit = number
        except (ValueError, OSError):  # macOS refuses what is above the kernel's own limit, also where none is told
            continue
    if limit == resource.RLIM_INFINITY:
        return usual
    if limit < needed:
        raise ConfigError(
            f"{transport.in_flight} requests at once need {needed} open files, and no more than {limit} are allowed: "
            "raise the hard limit (ulimit -n), or lower --in-flight and --threads"
        )
    return min(usual, max(1, (limit - needed) // transport.threads))
