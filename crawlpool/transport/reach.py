"""The rules of addresses at the place where they are held: before a connection is made, and before one is used again.

A host is judged twice. As it stands in the URL: an address, or ``localhost``, has to be permitted by an input
(``admit`` with a ``Need``). And as what it came to: each address that a name resolved to, and that a connection is made
to (``refused``). What is decided about an address is remembered; of a request to a public host that uses a connection
again nothing is asked but whether its host has a need.
"""

from __future__ import annotations

import ipaddress
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from crawlpool.address import (
    AddressClass,
    AddressRules,
    class_of,
    input_key,
    inside,
    is_loopback_name,
    literal_of,
    plainly,
)
from crawlpool.errors import BlockedAddress
from crawlpool.redact import one_line

if TYPE_CHECKING:
    from crawlpool.address import Inputs

_MOST_FINE, _MOST_OTHERS = 50_000, 5_000
_here = threading.local()


class Need(NamedTuple):
    """What a host that isn't public needs so that it may be asked; once it has that, what it is granted.

    Args:
        host: as the URL has it.
        address: the one that it is; ``None`` for a loopback name, which may be any loopback address.
        cls: what that is.
        key: by which an input permits it; ``None`` where none can.
        is_soft: whether it may be that ``allow_nets`` permits what it resolves to.
    """

    host: str
    address: str | None
    cls: AddressClass
    key: str | None
    is_soft: bool = False


class Reach:
    """What one pool's rules say of hosts and addresses, remembered.

    Args:
        rules: the user's.

    Thread-safe: what is remembered is the same for everybody, so that it doesn't matter who adds to it, or empties it.
    """

    def __init__(self, rules: AddressRules | None = None) -> None:
        self.rules = rules or AddressRules()
        self.fine: set[str] = set()
        self._others: dict[str, tuple[AddressClass, str]] = {}  # those that aren't fine: what they are

    def need_of(self, host: str) -> Need | None:
        """Return what a host of a URL needs by what it is called alone; ``None`` for nothing."""
        rules = self.rules
        if rules.private == "allow":
            return None
        literal = literal_of(host)
        if literal is not None:
            if rules.allows(literal.address):
                return None
            key = input_key(f"[{literal.address}]") if literal.is_usual else None
            return Need(host, str(literal.address), class_of(literal.address), key)
        if is_loopback_name(plainly(host)):
            return Need(host, None, AddressClass.LOOPBACK, input_key(host), rules.has_loopback)
        return None

    def way_to(self, host: str, named: str | None) -> tuple[Need | None, Need | None]:
        """Return what a host needs, and what it is granted already.

        Args:
            host: as a URL has it.
            named: the address that the user gave for it, to be used in place of DNS; ``None`` where there is none. It
                is the user's own word, and permits itself, unless the rules say ``deny``.
        """
        if named is None or self.rules.private == "deny":
            return self.need_of(host), None
        return None, self.need_of(named)

    def is_named(self, need: Need, inputs: Inputs | None) -> bool:
        """Tell whether an input permits what ``need`` says; ``inputs`` of ``None`` is a call whose own URL it is."""
        return need.key is not None and self.rules.private == "input" and (inputs is None or inputs.permits(need.key))

    def admit(self, need: Need, inputs: Inputs | None, request: Any = None) -> Need | None:
        """Return what a host that has a need is granted.

        Args:
            need: its.
            inputs: who knows what was named; ``None`` where the URL is the call's own.
            request: for the error.

        Raises:
            BlockedAddress: when it isn't permitted.
        """
        if self.is_named(need, inputs):
            # A connection that was granted is for none that isn't.
            return need._replace(is_soft=False) if need.is_soft else need
        if need.is_soft:
            return None
        raise self.blocked(need.host, need.address or "", need.cls, need, request)

    def refused(self, address: str, grant: Need | None) -> AddressClass | None:
        """Return what an address is if it must not be reached, else ``None``.

        Args:
            address: as text; a zone decides nothing.
            grant: what the host was granted.
        """
        if address in self.fine:
            return None
        known = self._others.get(address) or self._judged(address)
        if known is None:
            return None
        cls, plain = known
        if grant is not None and (cls is AddressClass.LOOPBACK if grant.address is None else grant.address == plain):
            return None
        return cls

    def _judged(self, address: str) -> tuple[AddressClass, str] | None:
        """Return what an address is that not everybody may reach, and how it is written; remember it."""
        try:
            plain = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:  # nobody says such a thing; were it said, nothing would be known of it
            return AddressClass.RESERVED, address
        if self.rules.allows(plain):
            if len(self.fine) >= _MOST_FINE:
                self.fine.clear()
            self.fine.add(address)
            return None
        if len(self._others) >= _MOST_OTHERS:
            self._others.clear()
        known = self._others[address] = (class_of(plain), str(plain))
        return known

    def fit(self, host: str, addresses: tuple[str, ...], grant: Need | None, request: Any = None) -> tuple[str, ...]:
        """Return those of the addresses of a host that may be reached.

        Raises:
            BlockedAddress: when there is none.
        """
        fine = self.fine
        for one in addresses:
            if one not in fine:
                break
        else:
            return addresses
        left = tuple(one for one in addresses if self.refused(one, grant) is None)
        if not left and addresses:
            raise self.blocked(host, addresses[0], class_of(addresses[0]), None, request)
        return left

    def blocked(
        self, host: str, address: str, cls: AddressClass, need: Need | None = None, request: Any = None
    ) -> BlockedAddress:
        """Return the error for an address that must not be reached.

        Args:
            host: as the URL has it.
            address: what it is or came to; empty for a loopback name.
            cls: what that is.
            need: where the host itself is the address.
            request: which isn't sent.
        """
        plain, shown = address.partition("%")[0], one_line(host.strip("[]"), 100)
        is_address = need is None or need.address is not None
        ways = []
        is_metadata = cls is AddressClass.METADATA
        if need is not None and self.rules.private == "input" and not is_metadata:
            # Also where it is the usual notation: what was %31%30.0.0.7 in the input comes here taken apart.
            verb = "write" if need.key is None else "name"
            ways.append(f"{verb} it as {plain or plainly(host).lower()} in an input line or in the URL of the call")
        ways.append(f"give --allow-net {_net_of(plain) if is_address else '127.0.0.0/8'} (AddressRules.allow_nets)")
        kind = f"{'an' if cls is AddressClass.UNSPECIFIED else 'a'} {cls} address"
        if is_metadata:
            kind += " (a cloud's metadata service, which may give out credentials)"
        if need is None:
            told = f"{shown} leads to {one_line(address)}, {kind}"
        else:
            told = f"{shown} is {kind}" if address in ("", shown) else f"{shown} is {address}, {kind}"
        error = BlockedAddress(f"{told}, and not permitted: {', or '.join(ways)}", request=request)
        error.host, error.address, error.address_class = host, address or None, cls.value
        return error


class StagedReach(Reach):
    """What the rules say on a stage, where every name leads to loopback: what a URL says is judged, and that alone.

    Thread-safe, as ``Reach`` is.
    """

    def refused(self, address: str, grant: Need | None) -> AddressClass | None:
        """Return ``None``: whatever is connected to there is the stage's own."""
        return None


def _net_of(address: str) -> str:
    """Return the network of an address alone: the IPv4 one of what has one IPv4 address inside."""
    try:
        plain = ipaddress.ip_address(address)
    except ValueError:  # nobody says such a thing
        return one_line(address, 100)
    within = inside(plain)
    one = within[0] if len(within) == 1 else plain
    return f"{one}/{one.max_prefixlen}"


def permits_here() -> Inputs | None:
    """Return what knows which hosts were named for what the calling thread sends now; ``None`` outside of a request."""
    inputs: Inputs | None = getattr(_here, "inputs", None)
    return inputs


def permit_here(inputs: Inputs | None) -> Inputs | None:
    """Set what ``permits_here`` returns, for this thread; return what it was, to be put back."""
    before = permits_here()
    _here.inputs = inputs
    return before
