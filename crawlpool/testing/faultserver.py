"""A server that does what the hostile internet does, as it is told: per path, per request, per connection."""

from __future__ import annotations

import contextlib
import pathlib
import socket
import tempfile
from typing import TYPE_CHECKING, Any

from crawlpool.config import check
from crawlpool.testing.badtls import BadCertificates
from crawlpool.testing.catalog import FAULTS
from crawlpool.testing.faults import Fault
from crawlpool.testing.server import SiteServer
from crawlpool.testing.steps import Script

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping

    from crawlpool.testing.routes import Route, Site


class FaultServer(SiteServer):
    """A ``SiteServer`` whose routes may be faults, and whose connections may have a script before their first request.

    Args:
        site: as ``SiteServer`` takes it, a ``Fault`` or a ``Script`` being a route, too. Unless given, each fault that
            lies in an answer is at its own path: ``/short_length``.
        opening: what a connection goes through before its first request (and before TLS): a script, or a function of
            the connection's ordinal, from 1, which returns one, or ``None`` for nothing special.
        tls: a server's context; ``crawlpool.testing.badtls`` makes those that a client must refuse.

    Raises:
        ConfigError: for a route that can't be one; a fault that lies elsewhere than in an answer is for ``serve``.

    Whatever has no end ends when the client goes, at ``release()`` and at ``stop()``.
    Thread-safe, as ``SiteServer`` is.
    """

    def __init__(
        self,
        site: Site | None = None,
        *,
        opening: Script | Callable[[int], Script | None] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        is_script = opening is None or isinstance(opening, Script) or callable(opening)
        check(is_script, "opening", opening, "a script, a function that returns one, or None")
        super().__init__(fault_site() if site is None else site, tls=tls)
        self._opening_of: Any = opening if callable(opening) else lambda number: opening

    def _opening(self, number: int, connection: socket.socket) -> None:
        chosen: Script | None = self._opening_of(number)
        if chosen is not None:
            for step in chosen.steps:
                step.play(self._wire(connection))


class Served:
    """A fault that is being served.

    Args:
        fault: which.
        url: what to ask for.
        options: what a ``SessionPool`` or a requests call needs to meet it: ``proxies``, ``verify``.
        server: who serves it; ``None`` where nobody accepts a connection.

    Immutable.
    """

    def __init__(self, fault: Fault, url: str, options: Mapping[str, Any], server: FaultServer | None) -> None:
        self.fault = fault
        self.url = url
        self.options = dict(options)
        self.server = server

    def release(self) -> None:
        """End the server's waits."""
        if self.server is not None:
            self.server.release()

    def __repr__(self) -> str:
        return f"<Served {self.fault.name} {self.url}>"


def fault_site() -> dict[str, Route]:
    """Return the routes of all faults that lie in an answer, each at its own path."""
    return {fault.path: fault for fault in FAULTS.values() if fault.place == "answer"}


@contextlib.contextmanager
def serve(fault: Fault | str) -> Iterator[Served]:
    """Serve one fault, of whatever place, on a server of its own.

    Args:
        fault: the fault, or the name of one of ``FAULTS``.

    Raises:
        MissingExtra: for a fault of TLS when trustme isn't installed.
        KeyError: for a name that no fault has; it says which names are near it.
        ConfigError: for what is neither a fault nor a name.

    Example:
        >>> import requests
        >>> from crawlpool.testing import serve
        >>> with serve("redirect_self") as served:
        ...     try:
        ...         requests.get(served.url)
        ...     except requests.TooManyRedirects:
        ...         print("typed")
        typed
    """
    one = FAULTS[fault] if isinstance(fault, str) else fault
    check(isinstance(one, Fault), "fault", one, "a Fault, or the name of one")
    if one.place == "listener":
        with _full_listener() if one.is_endless else _closed_port() as port:
            yield Served(one, f"http://127.0.0.1:{port}{one.path}", {}, None)
        return
    with contextlib.ExitStack() as stack:
        tls = None
        options: dict[str, Any] = {}
        if one.place == "tls":
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="crawlpool-tls-"))
            certificates = BadCertificates(pathlib.Path(folder))
            tls = certificates.context(one.certificate or "good")
            options["verify"] = str(certificates.authority)
        # By its method: as a route it would be refused, as it takes more to meet it.
        site: Any = one.__call__ if one.place == "proxy" else {one.path: one.__call__}
        server = stack.enter_context(FaultServer(site, opening=one.opening, tls=tls))
        url = server.url(one.path)
        if one.place == "proxy":
            # Nobody resolves the name: whom to ask is the proxy's to find out.
            scheme = "http" if one.certificate is None else "https"
            options["proxies"] = {scheme: server.url().rstrip("/")}
            url = f"{scheme}://behind.invalid{one.path}"
        yield Served(one, url, options, server)


@contextlib.contextmanager
def _closed_port() -> Iterator[int]:
    with socket.socket() as bound:  # bound and not listening: nobody else gets the port meanwhile
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextlib.contextmanager
def _full_listener() -> Iterator[int]:
    """Listen without accepting, with no place left: who connects waits, as for a host that drops packets."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):  # more than the system lets wait; those beyond it never connect, and don't block us
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
