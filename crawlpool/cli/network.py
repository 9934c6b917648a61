"""The pool of a run, made of its settings, and the checks of files that would else fail late."""

from __future__ import annotations

import os
import ssl
import warnings
from typing import TYPE_CHECKING

from crawlpool.cli.transport import allow_files
from crawlpool.cookies import CookieStore
from crawlpool.errors import CookieFileError, CrawlPoolError
from crawlpool.redact import one_line
from crawlpool.sessionpool import SessionPool

if TYPE_CHECKING:
    from crawlpool.cli.settings import RunSettings
    from crawlpool.retry import RetryPolicy


class NetworkFileError(CrawlPoolError):
    """A CA bundle can't be used; the message names it."""


def check_files(settings: RunSettings) -> None:
    """Find trouble with the CA bundle and with where cookies shall be saved, before anything is fetched.

    Raises:
        NetworkFileError: when the CA bundle can't be read or parsed.
        CookieFileError: when cookies could not be saved.
    """
    if settings.ca_bundle is not None:
        _check_bundle(settings.ca_bundle)
    path = settings.save_cookies
    if path is not None:
        folder = os.path.dirname(os.path.abspath(path))
        if os.path.isdir(path):
            raise CookieFileError(f"{one_line(path)}: can't be written: it is a directory")
        if not os.path.isdir(folder):
            raise CookieFileError(f"{one_line(path)}: can't be written: its folder does not exist")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise CookieFileError(f"{one_line(path)}: can't be written: no permission to write in its folder")


def _check_bundle(path: str) -> None:
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if os.path.isdir(path):
            context.load_verify_locations(capath=path)
        else:
            context.load_verify_locations(cafile=path)
    except ssl.SSLError:
        raise NetworkFileError(f"{one_line(path)}: the CA bundle holds no PEM certificates") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise NetworkFileError(f"{one_line(path)}: the CA bundle can't be read: {reason}") from None


def make_pool(settings: RunSettings, cookies: CookieStore | None = None) -> SessionPool:
    """Return the pool of a run.

    Args:
        settings: of the run.
        cookies: what it begins with; unless given, what the settings' file has.

    Proxies and the CA bundle are taken from the environment; logins of a netrc file only where that was asked for: a
    list of URLs must not decide who gets a person's password.

    Raises:
        CookieFileError: when the cookie file can't be read.
        ConfigError: when so many requests at once would need more open files than are allowed.
    """
    if settings.insecure:
        # The start says once that nothing is verified; urllib3 would say it for each host.
        from urllib3.exceptions import InsecureRequestWarning

        warnings.filterwarnings("ignore", category=InsecureRequestWarning)
    transport = settings.transport
    pool = SessionPool(
        threads=transport.threads,
        transport=transport.name,
        in_flight=transport.in_flight,
        http=transport.http,
        memory_budget_bytes=transport.memory_budget_bytes,
        rate=settings.pace.rate,
        idle_connections=allow_files(transport),
        headers=settings.headers,
        timeout=(settings.connect_timeout_s, settings.read_timeout_s),
        deadline=settings.max_time_s,
        retry=settings.retry,
        cookies=CookieStore.load(settings.cookies) if settings.cookies is not None else cookies,
        proxies=settings.proxies or None,
        verify=False if settings.insecure else settings.ca_bundle or True,
        netrc=settings.netrc,
        resolve=settings.resolve,
        addresses=settings.addresses,
    )
    for origin, site in settings.sites.items():
        retry: RetryPolicy | None = None
        if site.retry:
            import dataclasses

            retry = dataclasses.replace(settings.retry, **site.retry)
        pool.site(origin, headers=site.headers, auth=site.auth, retry=retry)
    return pool
