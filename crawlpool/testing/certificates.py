"""Certificates for test servers: an authority of its own, and contexts of a server and of a client that trusts it."""

from __future__ import annotations

import contextlib
import pathlib
import ssl
import tempfile
from typing import TYPE_CHECKING

from crawlpool.errors import MissingExtra

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DEFAULT_NAMES = ("localhost", "127.0.0.1", "::1")


class Certificates:
    """An authority and one certificate of it, as PEM files in a folder.

    The keys are on the curve P-256: a handshake costs a server a fraction of what it costs with RSA, so that a test or
    a benchmark measures the client.

    Args:
        folder: where the files are written.
        names: the host names and IP addresses that the certificate is good for.

    Raises:
        MissingExtra: when trustme isn't installed; it comes with ``crawlpool[test]``.

    Immutable after it is made, so safe in threads.
    """

    def __init__(self, folder: pathlib.Path, names: Sequence[str] = DEFAULT_NAMES) -> None:
        try:
            import trustme
        except ImportError:
            raise MissingExtra("making certificates", "test") from None
        self.names = tuple(names)
        self.authority = folder / "ca.pem"
        self.chain = folder / "server.pem"
        self.key = folder / "server.key"
        authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
        issued = authority.issue_cert(*self.names, key_type=trustme.KeyType.ECDSA)
        authority.cert_pem.write_to_path(str(self.authority))
        for number, blob in enumerate(issued.cert_chain_pems):
            blob.write_to_path(str(self.chain), append=number > 0)
        self.key.touch(mode=0o600)  # before the key is in it
        issued.private_key_pem.write_to_path(str(self.key))

    def server_context(self) -> ssl.SSLContext:
        """Return a new context for a server, as ``SiteServer(tls=…)`` takes it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain, self.key)
        return context

    def client_context(self) -> ssl.SSLContext:
        """Return a new context for a client that trusts this authority and no other."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.authority)
        return context

    def __repr__(self) -> str:
        return f"<Certificates for {', '.join(self.names[:3])}{', …' if len(self.names) > 3 else ''}>"


@contextlib.contextmanager
def temporary_certificates(names: Sequence[str] = DEFAULT_NAMES) -> Iterator[Certificates]:
    """Make certificates in a temporary folder that is removed at the end.

    Args:
        names: the host names and IP addresses that the certificate is good for.

    Raises:
        MissingExtra: when trustme isn't installed.
    """
    with tempfile.TemporaryDirectory(prefix="crawlpool-tls-") as folder:
        yield Certificates(pathlib.Path(folder), names)
