"""What a transport saw of one answer, on the wire."""

from __future__ import annotations

import dataclasses

#: What a record's ``timings`` has, the fields of ``Timings``.
TIMINGS = ("dns_s", "connect_s", "tls_s", "first_byte_s", "total_s")


@dataclasses.dataclass
class Wire:
    """What the transport saw of one answer; it hangs on the response as ``response.wire``.

    ``wire_bytes`` counts the body as it came over the wire, before Content-Encoding was undone. ``timings`` is empty,
    or holds what ``Timings.of`` takes.
    """

    __slots__ = ("http_version", "ip", "length_unverified", "proxy", "timings", "wire_bytes")

    ip: str | None
    proxy: str | None
    http_version: str | None
    wire_bytes: int | None
    length_unverified: bool
    timings: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Timings:
    """What the last leg spent its time on, in seconds, as far as its transport tells.

    Args:
        dns_s: resolving the name; 0 for an address, and for a name that was known.
        connect_s: connecting; 0 over a connection that was open.
        tls_s: the TLS handshake; 0 without one.
        first_byte_s: from the start of the leg to the first byte of the answer.
        total_s: from the start of the leg to its last byte.
    """

    dns_s: float
    connect_s: float
    tls_s: float
    first_byte_s: float
    total_s: float

    @classmethod
    def of(cls, moments: tuple[float, ...]) -> Timings:
        """Return the timings of what ``Wire.timings`` holds."""
        return cls(*spans_of(moments))


def spans_of(moments: tuple[float, ...]) -> tuple[float, ...]:
    """Return the seconds that ``TIMINGS`` names.

    Args:
        moments: resolving; then, counted from its end: connected, TLS done, first byte, end.
    """
    dns_s, connected_s, secured_s, first_s, end_s = moments
    tls_s = max(secured_s - connected_s, 0.0) if secured_s else 0.0
    return dns_s, connected_s, tls_s, dns_s + first_s, dns_s + end_s
