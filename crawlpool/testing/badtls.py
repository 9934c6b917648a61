"""Certificates that a client must refuse, made on the spot; and a good one beside them."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from typing import TYPE_CHECKING, Any

from crawlpool.config import check
from crawlpool.errors import MissingExtra

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Sequence

#: What certificate a server may show.
FLAVOURS = ("good", "expired", "not_yet", "wrong_name", "self_signed", "wrong_authority")
_NAMES = ("localhost", "127.0.0.1", "::1")


class BadCertificates:
    """Server contexts with certificates of every flavour; all but one are refused by who trusts ``authority`` alone.

    Args:
        folder: where PEM files are written.
        names: the host names and IP addresses that the certificates are good for, but that of ``wrong_name``.

    Raises:
        MissingExtra: when trustme isn't installed; it comes with ``crawlpool[test]``.

    A certificate is made when it is first asked for. Not thread-safe.
    """

    def __init__(self, folder: pathlib.Path, names: Sequence[str] = _NAMES) -> None:
        try:
            import trustme
        except ImportError:
            raise MissingExtra("making certificates", "test") from None
        self._trustme: Any = trustme
        self._folder = folder
        self.names = tuple(names)
        self._ca: Any = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self.authority = folder / "trusted.pem"
        self._ca.cert_pem.write_to_path(str(self.authority))

    def context(self, flavour: str = "good") -> ssl.SSLContext:
        """Return a new context for a server that shows a certificate of a flavour.

        Raises:
            ConfigError: for what is none of ``FLAVOURS``.
        """
        check(flavour in FLAVOURS, "flavour", flavour, f"one of {', '.join(FLAVOURS)}")
        chain, key = self._folder / f"{flavour}.pem", self._folder / f"{flavour}.key"
        if not chain.exists():
            key.touch(mode=0o600)  # before the key is in it
            certificate, secret = self._self_signed() if flavour == "self_signed" else self._issued(flavour)
            key.write_bytes(secret)
            chain.write_bytes(certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, key)
        return context

    def _issued(self, flavour: str) -> tuple[bytes, bytes]:
        kind = self._trustme.KeyType.ECDSA
        now = datetime.datetime.now(datetime.timezone.utc)
        day = datetime.timedelta(days=1)
        options: dict[str, Any] = {"key_type": kind}
        if flavour == "expired":
            options.update(not_before=now - 30 * day, not_after=now - day)
        elif flavour == "not_yet":
            options.update(not_before=now + 30 * day, not_after=now + 60 * day)
        authority = self._trustme.CA(key_type=kind) if flavour == "wrong_authority" else self._ca
        names = ("elsewhere.invalid",) if flavour == "wrong_name" else self.names
        issued = authority.issue_cert(*names, **options)
        return b"".join(blob.bytes() for blob in issued.cert_chain_pems), issued.private_key_pem.bytes()

    def _self_signed(self) -> tuple[bytes, bytes]:
        # cryptography is what trustme is made of.
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "self-signed")])
        now = datetime.datetime.now(datetime.timezone.utc)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.SubjectAlternativeName([_general(one) for one in self.names]), critical=False)
            .sign(key, hashes.SHA256())
        )
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return made.public_bytes(serialization.Encoding.PEM), secret


def _general(name: str) -> Any:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
