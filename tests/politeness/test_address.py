"""An address that hosts share: which one stands for a name, and when it may be asked."""

from __future__ import annotations

import gc
import itertools
import math

import pytest

from crawlpool.limits import HostLimits
from crawlpool.politeness import ANSWERED, UNSENT, Addresses, Hosts, Whereabouts

DELAYED, TWO = HostLimits(delay_s=1.0, per_ip=True), HostLimits(concurrency=2, per_ip=True)


def test_names_with_the_same_addresses_share_one_in_whatever_order_they_come() -> None:
    """The least stands for all: of IPv4, if there is one; what is written in IPv6 and means IPv4 is that."""
    addresses = Addresses()
    every = ["2001:db8::1", "10.0.0.9", "9.255.0.1"]
    found = {addresses.of(order) for order in itertools.permutations(every)}
    assert [one.name for one in found if one is not None] == ["9.255.0.1"]
    assert addresses.of(["::ffff:9.255.0.1"]) in found
    assert addresses.of(["2001:db8::1", "no address"]) is not addresses.of(["9.255.0.1"])


@pytest.mark.parametrize("found", [[], ["", "no address", "1.2.3.4.5"]])
def test_what_is_no_address_is_none(found: list[str]) -> None:
    """Nothing is shared then."""
    assert Addresses().of(found) is None


def test_an_address_goes_with_the_last_of_its_hosts() -> None:
    """It is remembered as long as one of them is, and no longer: a crawl may meet millions."""
    addresses = Addresses()
    kept = addresses.of(["10.0.0.1"])
    assert kept is addresses.of(["10.0.0.1"])
    del kept
    gc.collect()
    assert len(addresses) == 0


def test_the_delay_is_from_the_end_of_an_answer() -> None:
    """One at a time; what was never sent delays nobody."""
    address = Addresses().of(["10.0.0.1"])
    assert address is not None
    assert (address.may_start_at(DELAYED), address.room(DELAYED, 0.0)) == (-math.inf, 1)
    address.start()
    assert (address.may_start_at(DELAYED), address.room(DELAYED, 0.0)) == (math.inf, 0)
    address.end(UNSENT, 5.0)
    assert address.may_start_at(DELAYED) == -math.inf
    address.start()
    address.end(ANSWERED, 5.0)
    assert (address.may_start_at(DELAYED), address.room(DELAYED, 5.5), address.room(DELAYED, 6.0)) == (6.0, 0, 1)


def test_so_many_at_once_and_those_that_were_let_in_count() -> None:
    """Room is what is left beside what runs and what has its turn already."""
    address = Addresses().of(["10.0.0.1"])
    assert address is not None
    address.start()
    assert (address.may_start_at(TWO), address.room(TWO, 0.0)) == (-math.inf, 1)
    address.let_in = 1
    assert address.room(TWO, 0.0) == 0
    address.start()
    assert address.may_start_at(TWO) == math.inf


def test_loopback_is_exempt_where_its_hosts_are() -> None:
    """And nobody is bound who didn't ask for it."""
    loopback, other = (Addresses().of([ip]) for ip in ("127.0.0.5", "10.0.0.1"))
    assert loopback is not None
    assert other is not None
    exempt = HostLimits(per_ip=True, loopback_exempt=True)
    assert [one.is_bound_by(exempt) for one in (loopback, other)] == [False, True]
    assert loopback.is_bound_by(DELAYED)
    assert not other.is_bound_by(HostLimits())


def test_a_host_is_sought_once_and_again_when_it_was_lost() -> None:
    """Who found it keeps its address, whatever is told later; one that isn't ours to know isn't sought again."""
    hosts = Hosts()
    host = hosts.of("a.example", 0.0)
    for _ in range(2):
        hosts.seek(host, "leg")
    assert (hosts.sought, host.whereabouts) == (["leg"], Whereabouts.SOUGHT)
    assert hosts.locate("a.example", ()) is host
    hosts.seek(host, "next")
    assert (hosts.sought, host.whereabouts) == (["leg", "next"], Whereabouts.SOUGHT)
    assert hosts.locate("a.example", ("10.0.0.1",)) is host
    assert hosts.locate("a.example", ("10.0.0.2",)) is None
    assert host.address is not None and host.address.name == "10.0.0.1"
    hosts.seek(host, "no more")
    other = hosts.of("b.example", 0.0)
    assert hosts.locate("b.example", None) is other
    hosts.seek(other, "nor here")
    assert (len(hosts.sought), other.whereabouts) == (2, Whereabouts.FOREIGN)
    assert hosts.locate("unknown.example", ()) is None
