"""What is remembered of hosts and addresses, and what the error says."""

from __future__ import annotations

import pytest

from crawlpool import AddressRules, BlockedAddress
from crawlpool.address import InputHosts
from crawlpool.errors import ErrorKind, describe, kind_of
from crawlpool.transport import reach as reaches
from crawlpool.transport.reach import Reach, permit_here, permits_here


def said(reach: Reach, host: str, inputs: InputHosts | None = None) -> str:
    """Return what is said of a host that needs a permit."""
    need = reach.need_of(host)
    assert need is not None
    with pytest.raises(BlockedAddress) as caught:
        reach.admit(need, InputHosts() if inputs is None else inputs)
    assert kind_of(caught.value) is ErrorKind.BLOCKED_ADDRESS
    return describe(caught.value)


def test_the_error_says_what_permits_it() -> None:
    """Host, address, class, and each way to permit it: all that one has to know."""
    net = "give --allow-net 10.0.0.7/32 (AddressRules.allow_nets)"
    assert said(Reach(), "10.0.0.7") == (
        "10.0.0.7 is a private address, and not permitted: name it as 10.0.0.7 in an input line or in the URL of the "
        f"call, or {net}"
    )
    assert said(Reach(), "167772167") == (
        "167772167 is 10.0.0.7, a private address, and not permitted: write it as 10.0.0.7 in an input line or in "
        f"the URL of the call, or {net}"
    )
    assert said(Reach(AddressRules("deny")), "10.0.0.7") == f"10.0.0.7 is a private address, and not permitted: {net}"
    assert said(Reach(), "localhost").startswith(
        "localhost is a loopback address, and not permitted: name it as localhost in an input"
    )
    assert "--allow-net ::1/128" in said(Reach(), "[::1]")
    with pytest.raises(BlockedAddress) as caught:
        Reach().fit("a.example", ("fe80::1%eth0",), None)
    assert str(caught.value) == (
        "a.example leads to fe80::1%eth0, a link-local address, and not permitted: give --allow-net fe80::1/128 "
        "(AddressRules.allow_nets)"
    )


def test_what_is_said_leads_somewhere() -> None:
    """Of an address with an IPv4 one inside the IPv4 network is told; nobody is sent to name a cloud's credentials."""
    assert "give --allow-net 10.0.0.7/32 " in said(Reach(), "[::ffff:10.0.0.7]")
    assert Reach(AddressRules(allow_nets=("10.0.0.7/32",))).need_of("[::ffff:10.0.0.7]") is None
    metadata = said(Reach(), "169.254.169.254")
    assert "a cloud's metadata service" in metadata and "input line" not in metadata
    assert "write it as localhost in an input line" in said(Reach(), "%6cocalhost")


def test_no_server_moves_a_cursor_by_an_error() -> None:
    """A host of a redirect is told as one printable line."""
    with pytest.raises(BlockedAddress) as caught:
        Reach().fit("a\x1b[2J\n.example", ("10.0.0.7",), None)
    assert str(caught.value).isprintable()


def test_a_grant_is_of_one_address() -> None:
    """What one address was permitted for isn't permitted to lead to another; a loopback name may be any loopback."""
    reach, inputs = Reach(), InputHosts(["10.0.0.7", "localhost"])
    need = reach.need_of("10.0.0.7")
    assert need is not None
    grant = reach.admit(need, inputs)
    assert reach.fit("x", ("10.0.0.7", "10.0.0.8", "8.8.8.8"), grant) == ("10.0.0.7", "8.8.8.8")
    loop = reach.need_of("localhost")
    assert loop is not None
    assert reach.fit("localhost", ("::1", "127.0.0.9", "10.0.0.7"), reach.admit(loop, None)) == ("::1", "127.0.0.9")
    assert reach.fine == {"8.8.8.8"}


def test_localhost_that_a_net_permits_needs_no_input() -> None:
    """Then what it resolves to decides; a connection that an input was granted is for no other."""
    reach = Reach(AddressRules("deny", ("127.0.0.1",)))
    need = reach.need_of("localhost")
    assert need is not None and reach.admit(need, None) is None
    assert reach.fit("localhost", ("::1", "127.0.0.1"), None) == ("127.0.0.1",)
    lax = Reach(AddressRules(allow_nets=("127.0.0.1",)))
    soft = lax.need_of("localhost")
    assert soft is not None
    grant = lax.admit(soft, InputHosts(["localhost"]))
    assert grant is not None
    with pytest.raises(BlockedAddress):
        lax.admit(grant, InputHosts())


def test_what_is_fine_is_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that all may reach is judged once; how many are remembered is bounded."""
    monkeypatch.setattr(reaches, "_MOST_FINE", 3)
    reach = Reach()
    same = reach.fine
    for number in range(10):
        assert reach.refused(f"8.8.8.{number}", None) is None
        assert f"8.8.8.{number}" in reach.fine and len(reach.fine) <= 3
    assert reach.fine is same  # the gates of the curl transport hold on to it
    assert Reach(AddressRules("allow")).fit("x", ("10.0.0.1",), None) == ("10.0.0.1",)


def test_what_a_thread_permits_is_its_own_and_put_back() -> None:
    """Within a request, and as long as it takes."""
    assert permits_here() is None
    hosts = InputHosts()
    before = permit_here(hosts)
    assert before is None and permits_here() is hosts
    permit_here(before)
    assert permits_here() is None
