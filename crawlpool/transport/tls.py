"""One frozen SSLContext for each TLS setting, shared by all threads and hosts of a pool.

Loading a bundle of 150 certificates takes about 30 ms of CPU; requests does it for each new connection.
"""

from __future__ import annotations

import os
import ssl
import threading
from typing import Any, TypeAlias

from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.util.ssl_ import create_urllib3_context

Verify: TypeAlias = "bool | str | os.PathLike[str] | None"
Cert: TypeAlias = "str | tuple[str, str] | None"

_handshake = threading.local()


class TrackedSSLSocket(ssl.SSLSocket):
    """A TLS socket that tells the connection that makes it of itself before the handshake.

    ``SSLContext.wrap_socket`` takes the descriptor away from the plain socket and hands nothing out until the
    handshake is over; without this nobody could end a handshake that drips.
    """

    def do_handshake(self, block: bool = False) -> None:
        """Register with the connection under way in this thread, if one is, then shake hands."""
        told = getattr(_handshake, "told", None)
        if told is not None:
            try:
                told(self)
            except BaseException:
                self.close()  # CPython 3.10's own clean-up knows OSError and ValueError only
                raise
        super().do_handshake(block)


class telling:
    """Within this block each TLS socket made by this thread is told to ``told`` before its handshake."""

    __slots__ = ("_told",)

    def __init__(self, told: Any) -> None:
        self._told = told

    def __enter__(self) -> None:
        _handshake.told = self._told

    def __exit__(self, *exc: object) -> None:
        _handshake.told = None


class TLSContexts:
    """Makes and keeps the contexts of a pool.

    Thread-safe. A context is never changed after it was handed out, so ``verify=False`` of one call can't reach
    another: it has a context of its own.
    """

    def __init__(self) -> None:
        # Guards _contexts. A context is made under it: two threads that both load 150 certificates cost more than
        # one that waits for the other.
        self._lock = threading.Lock()
        self._contexts: dict[tuple[Any, ...], ssl.SSLContext] = {}

    def get(self, verify: Verify, cert: Cert) -> ssl.SSLContext:
        """Return the context for requests' ``verify`` and ``cert``.

        Args:
            verify: ``True`` or ``None`` for the default bundle, ``False`` for no verification, or the path of a
                bundle file or of a folder of hashed certificates.
            cert: a client certificate: one PEM file, or (certificate file, key file).

        Raises:
            OSError: when a file isn't there, with the message that requests gives.
            ssl.SSLError: when one can't be parsed.
        """
        source = DEFAULT_CA_BUNDLE_PATH if verify is True or verify is None else verify
        key = (os.fspath(source) if source else False, cert if not isinstance(cert, list) else tuple(cert))
        context = self._contexts.get(key)  # a dict read is safe beside a write; the lock decides who makes it
        if context is None:
            with self._lock:
                context = self._contexts.get(key)
                if context is None:
                    context = self._contexts[key] = _make(key[0], cert)
        return context

    def _reset_after_fork(self) -> None:
        self._lock = threading.Lock()


def _make(ca: Any, cert: Cert) -> ssl.SSLContext:
    if ca and not os.path.exists(ca):
        raise OSError(f"Could not find a suitable TLS CA certificate bundle, invalid path: {ca}")
    cert_file, key_file = (cert, None) if isinstance(cert, str) or cert is None else (cert[0], cert[1])
    if cert_file and not os.path.exists(cert_file):
        raise OSError(f"Could not find the TLS certificate file, invalid path: {cert_file}")
    if key_file and not os.path.exists(key_file):
        raise OSError(f"Could not find the TLS key file, invalid path: {key_file}")
    context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED if ca else ssl.CERT_NONE)
    context.sslsocket_class = TrackedSSLSocket
    # Without ALPN some servers choose by guess; this transport speaks HTTP/1.1 only.
    context.set_alpn_protocols(["http/1.1"])
    if ca:
        context.check_hostname = True
        if os.path.isdir(ca):
            context.load_verify_locations(capath=ca)
        else:
            context.load_verify_locations(cafile=ca)
    if cert_file:
        context.load_cert_chain(cert_file, key_file)
    return context
