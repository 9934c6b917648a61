"""What an address is, in whatever notation and wrapping, and the rules about it: no network, no clock."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlpool import AddressRules, ConfigError
from crawlpool.address import (
    Address,
    AddressClass,
    InputHosts,
    class_of,
    input_key,
    input_key_of_url,
    inside,
    is_loopback_name,
    literal_of,
)
from tests.notations import HIDDEN, NAMES, NUMBERS, USUAL

V4 = st.one_of(
    st.integers(0, 2**32 - 1),
    st.sampled_from(
        ["10.0.0.0", "127.0.0.0", "169.254.0.0", "172.16.0.0", "192.0.0.0", "192.168.0.0", "100.64.0.0"]
    ).flatmap(lambda net: st.integers(0, 2**16 - 1).map(lambda low: int(ipaddress.IPv4Address(net)) + low)),
).map(ipaddress.IPv4Address)
V6 = st.one_of(
    st.integers(0, 2**128 - 1),
    st.sampled_from(["::", "::ffff:0:0", "64:ff9b::", "64:ff9b:1::", "2002::", "2001::", "fc00::", "fe80::"]).flatmap(
        lambda net: st.integers(0, 2**96 - 1).map(lambda low: int(ipaddress.IPv6Address(net)) | low)
    ),
).map(ipaddress.IPv6Address)


@pytest.mark.parametrize(
    ("cls", "addresses"),
    [
        (
            "PUBLIC",
            "1.1.1.1 8.8.8.8 192.0.0.9 172.15.0.1 172.32.0.1 100.63.255.255 100.128.0.0 2606:4700::1111 2001:20::1",
        ),
        ("LOOPBACK", "127.0.0.1 127.255.255.254 ::1"),
        ("PRIVATE", "10.1.2.3 172.16.0.1 172.31.255.255 192.168.0.1 fc00::1 fdff::1 fec0::1 64:ff9b:1:1::8.8.8.8"),
        ("LINK_LOCAL", "169.254.1.1 fe80::1 fe80::1%eth0 febf::1"),
        ("CGNAT", "100.64.0.1 100.127.255.255"),
        (
            "METADATA",
            "169.254.169.254 169.254.170.2 100.100.100.200 168.63.129.16 192.0.0.192 fd00:ec2::254 fd20:ce::254",
        ),
        ("MULTICAST", "224.0.0.1 239.255.255.255 ff02::1"),
        ("RESERVED", "0.0.0.1 192.0.0.1 192.0.2.1 198.51.100.1 203.0.113.1 198.18.0.1 192.88.99.1 240.0.0.1"),
        ("RESERVED", "2001:db8::1 3fff::1 100::1 5f00::1 4000::1 2001:2::1"),
        ("UNSPECIFIED", "0.0.0.0 ::"),
        ("BROADCAST", "255.255.255.255"),
    ],
)
def test_each_class_has_its_networks(cls: str, addresses: str) -> None:
    """The IANA special-purpose registries decide, and the clouds' own addresses besides; a zone decides nothing."""
    for text in addresses.split():
        address = ipaddress.ip_address(text)
        assert class_of(text) is class_of(address) is class_of(address.packed) is AddressClass[cls], text


WRAPPERS = {
    "mapped": "::ffff:{}",
    "translated": "::ffff:0:{}",
    "compatible": "::{}",
    "NAT64": "64:ff9b::{}",
    "NAT64 of one's own": "64:ff9b:1::{}",
}


@pytest.mark.parametrize("wrapper", WRAPPERS.values(), ids=WRAPPERS)
@pytest.mark.parametrize("text", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "100.64.0.1", "8.8.8.8", "224.0.0.1"])
def test_what_ends_in_an_ipv4_address_is_what_that_is(wrapper: str, text: str) -> None:
    """Mapped, translated, compatible and NAT64 addresses are judged inside."""
    assert class_of(wrapper.format(text)) is class_of(text)


@given(V4)
def test_6to4_is_what_is_inside(address: ipaddress.IPv4Address) -> None:
    """2002::/16 carries its relay's IPv4 address behind the prefix."""
    assert class_of(ipaddress.IPv6Address((0x2002 << 112) | int(address) << 80 | 1)) is class_of(address)


@given(V4, V4)
def test_teredo_is_public_only_where_client_and_server_are(
    client: ipaddress.IPv4Address, server: ipaddress.IPv4Address
) -> None:
    """The first packet goes by the server, all others to the client, whose address is there with its bits turned."""
    address = ipaddress.IPv6Address((0x20010000 << 96) | int(server) << 64 | (int(client) ^ 0xFFFFFFFF))
    assert address.teredo == (server, client)
    public = class_of(client) is class_of(server) is AddressClass.PUBLIC
    assert (class_of(address) is AddressClass.PUBLIC) is public


def model(address: Address) -> bool:
    """Tell whether an address is public, by the standard library and the registries' words alone."""
    if isinstance(address, ipaddress.IPv6Address):
        six, number = address.sixtofour, int(address)
        if six is not None:
            return model(six)
        if address.teredo is not None:
            return all(map(model, address.teredo))
        for net in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/96"):
            if address in ipaddress.IPv6Network(net) and number > 1:
                return model(ipaddress.IPv4Address(number & 0xFFFFFFFF))
        if address not in ipaddress.IPv6Network("2000::/3"):
            return False
        news = map(
            ipaddress.IPv6Network, ("2001:1::3/128", "2001:20::/28", "2001:30::/28", "2001:3::/32", "2001:4:112::/48")
        )
        olds = map(ipaddress.IPv6Network, ("2001:1::1/128", "2001:1::2/128"))
        if any(address in net for net in (*news, *olds)):
            return True
        return (
            address not in ipaddress.IPv6Network("2001::/23")
            and address not in ipaddress.IPv6Network("2001:db8::/32")
            and (address not in ipaddress.IPv6Network("3fff::/20"))
        )
    own = {ipaddress.IPv4Address(one) for one in ("168.63.129.16", "192.0.0.192")}
    if address in own or address.is_multicast or address in ipaddress.IPv4Network("192.88.99.0/24"):
        return False
    if str(address) in ("192.0.0.9", "192.0.0.10"):
        return True
    return address.is_global and address not in ipaddress.IPv4Network("192.0.0.0/24")


@given(st.one_of(V4, V6))
def test_public_is_what_a_model_says(address: Address) -> None:
    """For any address: what is public here is global by the standard library, once it has been taken apart."""
    assert (class_of(address) is AddressClass.PUBLIC) is model(address)


@given(st.one_of(V4, V6))
def test_each_address_has_one_class(address: Address) -> None:
    """Text, bytes and objects of the same address have the same one, with a zone or without."""
    found = class_of(address)
    assert found is class_of(str(address)) is class_of(address.packed)
    assert found is class_of(f"{address}%eth0") or address.version == 4
    assert all(one.version == 4 for one in inside(address))


@pytest.mark.parametrize("host", NUMBERS)
def test_numbers_are_read_as_the_system_reads_them(host: str) -> None:
    """One to four numbers, each decimal, octal or hexadecimal, are the address that a connection would be made to."""
    found = literal_of(host)
    assert found is not None
    assert str(found.address) == socket.inet_ntoa(socket.inet_aton(host)) == "127.0.0.2"
    assert found.is_usual is (host == "127.0.0.2")


@given(st.text("0123456789abcdefxX.", max_size=24))
def test_what_the_system_takes_for_an_address_is_one(text: str) -> None:
    """Whatever ``inet_aton`` accepts is read as the same address, so that nothing is taken for a name that is none."""
    try:
        expected = ipaddress.IPv4Address(socket.inet_aton(text))
    except OSError:
        return
    found = literal_of(text)
    assert found is not None and found.address == expected


@given(V4, st.lists(st.sampled_from(["{}", "0{:o}", "0x{:x}", "00{:o}"]), min_size=4, max_size=4), st.integers(1, 4))
def test_any_notation_is_judged_inside(address: ipaddress.IPv4Address, bases: list[str], count: int) -> None:
    """Any address in any number of parts of any base is what it is written plainly."""
    number, parts = int(address), []
    for place in range(count - 1):
        parts.append(number >> (24 - 8 * place) & 0xFF)
    parts.append(number & (2 ** (32 - 8 * (count - 1)) - 1))
    host = ".".join(base.format(part) for base, part in zip(bases, parts, strict=False))
    found = literal_of(host)
    assert found is not None and found.address == address


@pytest.mark.parametrize("host", [one for one in HIDDEN if "ost" not in one])
def test_hidden_addresses_are_seen(host: str) -> None:
    """A dot at the end, full-width and circled digits, other dots and percent-encoding hide nothing."""
    found = literal_of(host)
    assert found is not None and str(found.address) == "127.0.0.2"
    assert input_key(host) is None


@pytest.mark.parametrize(
    "host",
    ["", ".", "example.com", "1.2.3.4.5", "256.1.1.1.1", "1.2.3.256", "4294967296", "08", "0x", "1..2", "-1", "1_0"],
)
def test_names_are_no_addresses(host: str) -> None:
    """What no system reads as an address is a name; ``0x`` alone counts as 0, as browsers have it."""
    found = literal_of(host)
    assert found is None or (host, str(found.address)) == ("0x", "0.0.0.0")


def test_loopback_names() -> None:
    """``localhost`` and what ends in ``.localhost``, and nothing that only looks like them (RFC 6761, 6.3)."""
    assert all(map(is_loopback_name, NAMES))
    assert not any(map(is_loopback_name, ["notlocalhost", "localhost.example", "localhost.localdomain", "", "local"]))


def test_an_input_permits_what_is_written_in_the_usual_way() -> None:
    """An address that isn't public and a loopback name permit themselves, in any usual spelling; others nothing."""
    assert [input_key(host) for host in USUAL[:5]] == [*["127.0.0.2"] * 2, *["::1"] * 3]
    assert {input_key(name) for name in NAMES} == {"localhost", "app.localhost", "a.b.localhost"}
    assert input_key("[::ffff:127.0.0.2]") == input_key("[::FFFF:7F00:2]") != input_key("127.0.0.2")
    assert {
        input_key(host) for host in ("8.8.8.8", "[2606:4700::1111]", "example.com", "", "127.2", "local%68ost")
    } == {None}
    assert input_key_of_url("HTTP://user:pw@127.0.0.2:80/x?http://10.0.0.1/") == "127.0.0.2"
    assert input_key_of_url("http://a@b@[::1]/") == "::1"
    assert input_key_of_url("127.0.0.2") is None


def test_input_hosts_grow_by_what_is_not_public() -> None:
    """A name and a public address leave no trace, however many there are; what is new is told once."""
    hosts = InputHosts(["10.0.0.9"])
    for host in ["example.com", "8.8.8.8", "127.0.0.1", "127.0.0.1", "10.0.0.9", "localhost", "127.1"]:
        hosts.note(host)
    assert list(hosts.fresh) == ["127.0.0.1", "localhost"]
    hosts.restore(["::1"])
    assert [hosts.permits(key) for key in ("127.0.0.1", "10.0.0.9", "::1", "8.8.8.8")] == [True, True, True, False]


@pytest.mark.parametrize(
    ("given_", "says"),
    [
        ({"private": "never"}, "private='never'"),
        ({"private": None}, "private=None"),
        ({"allow_nets": "10.0.0.0/8"}, "allow_nets='10.0.0.0/8'"),
        ({"allow_nets": ("10.0.0.1/8",)}, "'10.0.0.1/8'"),
        ({"allow_nets": ("here",)}, "'here'"),
        ({"allow_nets": (10,)}, "'10'"),
        ({"allow_nets": 10}, "allow_nets=10"),
    ],
)
def test_rules_that_cannot_be(given_: dict[str, Any], says: str) -> None:
    """The message names the value, and is one line."""
    with pytest.raises(ConfigError) as caught:
        AddressRules(**given_)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_rules_allow() -> None:
    """Public addresses, the networks that were named, and what is wrapped in either of them; or everything."""
    rules = AddressRules(allow_nets=("10.0.0.0/8", "fd00::1"))
    assert rules == AddressRules("input", ("10.0.0.0/8", "fd00::1/128")) and hash(rules)
    allowed = {
        one: rules.allows(ipaddress.ip_address(one)) for one in ("8.8.8.8", "10.9.9.9", "::ffff:10.1.1.1", "fd00::1")
    }
    assert set(allowed.values()) == {True}
    refused = ("192.168.0.1", "fd00::2", "::ffff:192.168.0.1", "64:ff9b::192.168.0.1", "127.0.0.1")
    assert [rules.allows(ipaddress.ip_address(one)) for one in refused] == [False] * 5
    assert AddressRules("allow").allows(ipaddress.ip_address("169.254.169.254"))
    assert [AddressRules(allow_nets=(net,)).has_loopback for net in ("127.9.0.0/16", "::/64", "10.0.0.0/8")] == [
        *(True, True, False)
    ]
