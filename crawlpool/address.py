"""Which addresses may be reached: what an address is, in whatever notation, and the user's rules about it.

Sources: the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890, RFC 8190); RFC 6052 and RFC 8215 (NAT64),
RFC 3056 (6to4), RFC 4380 (Teredo), RFC 4291 (mapped, compatible), RFC 2765 (translated), RFC 6761 (``localhost``).
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import ipaddress
import re
import unicodedata
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple, Protocol, TypeAlias
from urllib.parse import unquote

from crawlpool.config import check
from crawlpool.errors import ConfigError

Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"
Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"

PRIVATE = ("input", "deny", "allow")


class AddressClass(str, enum.Enum):
    """What kind of address one is; all but ``PUBLIC`` are somebody's own."""

    PUBLIC = "public"
    LOOPBACK = "loopback"
    PRIVATE = "private"
    LINK_LOCAL = "link-local"
    CGNAT = "CGNAT"
    METADATA = "metadata"
    MULTICAST = "multicast"
    RESERVED = "reserved"
    UNSPECIFIED = "unspecified"
    BROADCAST = "broadcast"

    def __str__(self) -> str:
        return self.value


def _table(**rows: str) -> tuple[tuple[int, int, AddressClass], ...]:
    """Return (first, last, class) of networks, the smaller ones first: the first that an address is in counts."""
    found = [(ipaddress.ip_network(net), AddressClass[name]) for name, nets in rows.items() for net in nets.split()]
    found.sort(key=lambda row: -row[0].prefixlen)
    return tuple((int(net.network_address), int(net.broadcast_address), cls) for net, cls in found)


# What clouds answer by with a machine's own credentials: AWS and nearly all others, ECS, EKS, Tencent, Scaleway;
# Alibaba; Oracle; Azure's wire server, which lies in a public net.
_METADATA4 = (
    "169.254.169.254 169.254.170.2 169.254.170.23 169.254.0.23 169.254.42.42 100.100.100.200 192.0.0.192 168.63.129.16"
)
_METADATA6 = "fd00:ec2::254 fd00:ec2::23 fd20:ce::254 fd00:42::42"

_IPV4 = _table(
    METADATA=_METADATA4,
    UNSPECIFIED="0.0.0.0",
    BROADCAST="255.255.255.255",
    LOOPBACK="127.0.0.0/8",
    PRIVATE="10.0.0.0/8 172.16.0.0/12 192.168.0.0/16",
    LINK_LOCAL="169.254.0.0/16",
    CGNAT="100.64.0.0/10",
    MULTICAST="224.0.0.0/4",
    # This network; protocol assignments; three for documentation; 6to4's relays (deprecated); benchmarks; the future.
    RESERVED="0.0.0.0/8 192.0.0.0/24 192.0.2.0/24 198.51.100.0/24 203.0.113.0/24 192.88.99.0/24 198.18.0.0/15 "
    "240.0.0.0/4",
    PUBLIC="192.0.0.9 192.0.0.10 0.0.0.0/0",  # two assignments within 192.0.0.0/24 are globally reachable
)
_IPV6 = _table(
    METADATA=_METADATA6,
    UNSPECIFIED="::",
    LOOPBACK="::1",
    # Unique local; site-local (deprecated, RFC 3879); NAT64 of one's own network where it isn't taken apart below.
    PRIVATE="fc00::/7 fec0::/10 64:ff9b:1::/48",
    LINK_LOCAL="fe80::/10",
    MULTICAST="ff00::/8",
    # Protocol assignments; documentation; and all that isn't given out at all.
    RESERVED="2001::/23 2001:db8::/32 3fff::/20 ::/0",
    # Within the protocol assignments, as the registry says: PCP, TURN and SRP anycast, AMT, AS112, ORCHIDv2, DETs.
    PUBLIC="2001:1::1 2001:1::2 2001:1::3 2001:3::/32 2001:4:112::/48 2001:20::/28 2001:30::/28 2000::/3",
)

# Networks whose last 32 bits are an IPv4 address: mapped, translated, compatible, NAT64, and NAT64 of one's own network
# where the prefix is the usual one of 96 bits.
_ENDS_IN_IPV4 = frozenset(
    int(ipaddress.IPv6Address(net)) >> 32 for net in ("::ffff:0:0", "::ffff:0:0:0", "::", "64:ff9b::", "64:ff9b:1::")
)
_NUMBER = re.compile(r"0x[0-9a-f]*|0[0-7]*|[1-9][0-9]{0,9}")
#: A URL up to the end of its host, which is the first group.
HOST_OF_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.\-]*://(?:[^/?#\\]*@)?(\[[^\]/?#]*\]|[^:/?#\\]*)")
_SIX_TO_FOUR, _TEREDO = 0x2002, 0x20010000


def inside(address: Address) -> tuple[ipaddress.IPv4Address, ...]:
    """Return the IPv4 addresses to which what is sent to an IPv6 address goes in the end; none where there are none.

    Teredo has two: the client's, and the server's, by which the first packet goes.
    """
    if address.version == 4:
        return ()
    number = int(address)
    if number >> 32 in _ENDS_IN_IPV4:
        return () if number in (0, 1) else (ipaddress.IPv4Address(number & 0xFFFFFFFF),)
    if number >> 112 == _SIX_TO_FOUR:
        return (ipaddress.IPv4Address(number >> 80 & 0xFFFFFFFF),)
    if number >> 96 == _TEREDO:
        return ipaddress.IPv4Address(~number & 0xFFFFFFFF), ipaddress.IPv4Address(number >> 64 & 0xFFFFFFFF)
    return ()


def class_of(address: str | bytes | Address) -> AddressClass:
    """Return what an address is; one with another inside is what that is. A zone (``%eth0``) decides nothing.

    Args:
        address: text as ``getaddrinfo`` gives it, 4 or 16 bytes, or an address of ``ipaddress``.

    Raises:
        ValueError: for what is no address.

    Thread-safe.
    """
    if isinstance(address, str):
        return _class_of_text(address)
    return _class_of(ipaddress.ip_address(address) if isinstance(address, bytes) else address)


@functools.lru_cache(maxsize=10_000)
def _class_of_text(address: str) -> AddressClass:
    return _class_of(ipaddress.ip_address(address.partition("%")[0]))


def _class_of(address: Address) -> AddressClass:
    within = inside(address)
    if within:
        classes = [_class_of(one) for one in within]
        return next((cls for cls in classes if cls is not AddressClass.PUBLIC), AddressClass.PUBLIC)
    number = int(address)
    return next(cls for first, last, cls in (_IPV4 if address.version == 4 else _IPV6) if first <= number <= last)


class Literal(NamedTuple):
    """An address that a URL has in the place of a name.

    Args:
        address: which.
        is_usual: whether it is written as everybody writes it; else it is a notation by which somebody may hide it.
    """

    address: Address
    is_usual: bool


def literal_of(host: str) -> Literal | None:
    """Return the address that a host of a URL is, in any notation that some system connects by; ``None`` for a name.

    IPv4 may be written in one to four numbers, each decimal, octal or hexadecimal (as ``inet_aton`` and the WHATWG URL
    standard read it), in full-width digits, or percent-encoded.

    Args:
        host: as a URL has it, with or without brackets.

    Thread-safe.
    """
    is_v6 = host[:1] == "[" or ":" in host
    plain = host.strip("[]").partition("%")[0] if is_v6 else host.removesuffix(".")  # the root's, as names may have it
    try:
        return Literal(ipaddress.ip_address(plain), True)
    except ValueError:
        pass
    text = plainly(host)
    try:
        return Literal(ipaddress.ip_address(text.partition("%")[0]), False)
    except ValueError:
        number = _number_of(text)
        return None if number is None else Literal(ipaddress.IPv4Address(number), False)


def plainly(host: str) -> str:
    """Return a host with nothing hidden: no percent-encoding, no full-width characters, no dot at the end."""
    return unicodedata.normalize("NFKC", unquote(host)).replace("\u3002", ".").strip("[]").rstrip(".")


def _number_of(text: str) -> int | None:
    """Return the 32 bits of an IPv4 address as ``inet_aton`` reads it; ``None`` for what is none."""
    parts = text.lower().split(".")
    if len(parts) > 4:
        return None
    number = 0
    for place, part in enumerate(parts):
        if _NUMBER.fullmatch(part) is None:
            return None
        base = 16 if part[:2] == "0x" else 8 if part[0] == "0" else 10
        value = int((part[2:] or "0") if base == 16 else part, base)
        bits = 8 if place < len(parts) - 1 else 32 - 8 * place
        if value >> bits:
            return None
        number = number << bits | value
    return number


def is_loopback_name(host: str) -> bool:
    """Tell whether a name is ``localhost`` or ends in ``.localhost`` (RFC 6761, 6.3)."""
    low = host.lower().rstrip(".")
    return low == "localhost" or low.endswith(".localhost")


@functools.lru_cache(4096)  # the lines of an input name few hosts, often
def input_key(host: str) -> str | None:
    """Return by what an input that names this host permits it; ``None`` where there is nothing for it to permit.

    An address that isn't public permits itself, if it is written in the usual way; a loopback name permits itself.

    Args:
        host: as a URL has it, with or without brackets.

    Thread-safe.
    """
    end = host.rstrip(".")[-1:]
    if end == "]" or end.isdigit():
        literal = literal_of(host)
        if literal is None or not literal.is_usual or class_of(literal.address) is AddressClass.PUBLIC:
            return None
        return str(literal.address)
    return host.lower().rstrip(".") if is_loopback_name(host) else None


def input_key_of_url(url: str) -> str | None:
    """Return ``input_key`` of the host of a URL; ``None`` where it has none."""
    found = HOST_OF_URL.match(url.strip())
    return None if found is None else input_key(found[1])


class Inputs(Protocol):
    """Who knows which hosts that aren't public the user has named."""

    def permits(self, key: str) -> bool:
        """Tell whether an input named the host of which ``input_key`` is ``key``."""


class InputHosts:
    """The hosts that aren't public and that the input of one crawl has named. It grows by these alone.

    Thread-safe: a set is written by one call and read by another; ``fresh`` is a deque, and has one reader.
    """

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._keys = set(keys)
        self.fresh: deque[str] = deque()  # what came since somebody has taken it from here, to keep it

    def note(self, host: str) -> None:
        """Take it that a line of the input names ``host``."""
        key = input_key(host)
        if key is not None and key not in self._keys:
            self._keys.add(key)
            self.fresh.append(key)

    def restore(self, keys: Iterable[str]) -> None:
        """Take the keys that an earlier run has kept."""
        self._keys.update(keys)

    def permits(self, key: str) -> bool:
        """Tell whether a line of the input named the host of that key."""
        return key in self._keys


@dataclasses.dataclass(frozen=True)
class AddressRules:
    """Which addresses that aren't public may be reached.

    Args:
        private: ``"input"``: a host that the user names by its address, or as ``localhost``, in the input of a crawl or
            in the URL of a call, is permitted there, and nothing else is; ``"deny"``: none; ``"allow"``: all.
        allow_nets: networks that may be reached in any case, such as ``"10.0.0.0/8"``.

    Raises:
        ConfigError: for a value that can't be; the message names it.
    """

    private: str = "input"
    allow_nets: tuple[str, ...] = ()
    _nets: tuple[Network, ...] = dataclasses.field(default=(), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check(self.private in PRIVATE, "private", self.private, "input, deny or allow")
        given: object = self.allow_nets
        is_many = isinstance(given, Iterable) and not isinstance(given, (str, bytes))
        check(is_many, "allow_nets", given, "networks such as ('10.0.0.0/8',)")
        nets = tuple(network_of(one) for one in self.allow_nets)
        object.__setattr__(self, "_nets", nets)
        object.__setattr__(self, "allow_nets", tuple(str(net) for net in nets))

    def allows(self, address: Address) -> bool:
        """Tell whether these rules let an address be reached whoever named it."""
        if self.private == "allow" or class_of(address) is AddressClass.PUBLIC:
            return True
        within = inside(address)
        return self._covers(address) or (bool(within) and all(map(self._covers, within)))

    @property
    def has_loopback(self) -> bool:
        """Whether ``allow_nets`` has any loopback address."""
        loops = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
        return any(net.overlaps(loop) for net in self._nets for loop in loops if net.version == loop.version)

    def _covers(self, address: Address) -> bool:
        return any(address in net for net in self._nets)


def network_of(given: object) -> Network:
    """Return a network in CIDR notation; an address by itself is one of its own.

    Raises:
        ConfigError: for what is none; the message names it.
    """
    try:
        if not isinstance(given, (str, ipaddress.IPv4Network, ipaddress.IPv6Network)):
            raise ValueError("no text")
        return ipaddress.ip_network(given.strip() if isinstance(given, str) else given)
    except ValueError:
        meant = _network_around(given)
        more = " such as 10.0.0.0/8 or fd00::/8" if meant is None else f": did you mean {meant}?"
        raise ConfigError(f"allow_nets: {str(given)[:60]!r} is no network{more}") from None


def _network_around(given: object) -> Network | None:
    """Return the network that an address with a length of prefix lies in; ``None`` where it isn't that."""
    try:
        return ipaddress.ip_network(given.strip(), strict=False) if isinstance(given, str) else None
    except ValueError:
        return None
