"""Public suffixes and registrable domains: each rule of the list, and each of them tried as a cookie's ``Domain``."""

from __future__ import annotations

import importlib.resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlpool.cookies import CookieStore
from crawlpool.suffixes import is_address, is_public_suffix, registrable_domain


def rules() -> list[str]:
    """Return the rules of the list that is installed, in ASCII, as they stand: ``co.uk``, ``*.ck``, ``!www.ck``."""
    text = importlib.resources.files("publicsuffixlist").joinpath("public_suffix_list.dat").read_text("utf-8")
    found = [line.split()[0] for line in text.splitlines() if line.strip() and not line.startswith("//")]
    return [rule if rule.isascii() else rule.encode("idna").decode() for rule in found]


RULES = rules()
EXCEPTIONS = [rule[1:] for rule in RULES if rule.startswith("!")]
SUFFIXES = [rule.replace("*", "any") for rule in RULES if not rule.startswith("!")]


def test_no_rule_of_the_list_is_accepted_as_domain() -> None:
    """All rules tried as ``Domain=`` by a host under them, with and without the dot: 0 supercookies are stored."""
    store = CookieStore(max_cookies=1_000_000)
    for suffix in SUFFIXES:
        url = f"https://evil.shop.{suffix}/"
        store.take([f"a=1; Domain={suffix}", f"b=1; Domain=.{suffix}", f"c=1; Domain={suffix.upper()}"], url)
        store.take([f"d=1; Domain={suffix}."], f"https://evil.shop.{suffix}./")
    tried, accepted = len(SUFFIXES), len(store)
    print(f"{tried} rules tried as Domain, {accepted} accepted")
    assert tried > 9_000
    assert accepted == 0


def test_host_that_is_a_suffix_has_cookies_of_its_own() -> None:
    """A host that is itself a public suffix may set a cookie with its name as ``Domain``; it goes to that host only."""
    multi = [suffix for suffix in SUFFIXES if "." in suffix]
    for suffix in [*multi[::50], "github.io", "localhost"]:
        store = CookieStore()
        store.take([f"a=1; Domain={suffix}"], f"https://{suffix}/")
        assert store.header_for(f"https://{suffix}/") == "a=1"
        assert store.header_for(f"https://victim.{suffix}/") is None


def test_exceptions_are_registrable() -> None:
    """What an exception of the list names is a registrable domain, whose cookies its subdomains share."""
    assert EXCEPTIONS
    for name in EXCEPTIONS:
        assert registrable_domain(f"a.b.{name}") == name
        store = CookieStore()
        store.take([f"a=1; Domain={name}"], f"https://a.{name}/")
        assert store.header_for(f"https://b.{name}/") == "a=1"


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("www.example.com", "example.com"),
        ("example.com", "example.com"),
        ("WWW.Example.COM.", "example.com"),
        ("a.b.example.co.uk", "example.co.uk"),
        ("co.uk", "co.uk"),
        ("user.github.io", "user.github.io"),
        ("a.user.github.io", "user.github.io"),
        ("www.city.kawasaki.jp", "city.kawasaki.jp"),
        ("a.b.unknown-tld-here", "b.unknown-tld-here"),
        ("www.xn--85x722f.xn--55qx5d.cn", "xn--85x722f.xn--55qx5d.cn"),
        ("localhost", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]", "[::1]"),
        ("", ""),
    ],
)
def test_registrable_domain(host: str, domain: str) -> None:
    """One label more than the suffix; addresses and names without one count as themselves."""
    assert registrable_domain(host) == domain


@pytest.mark.parametrize("host", ["127.0.0.1", "1.2.3.4.", "[::1]", "::1", "2130706433", "0x7f.1", "a.0x7F", "10.1"])
def test_addresses_in_any_notation(host: str) -> None:
    """A host whose last label is a number is an address: nothing is registered under it."""
    assert is_address(host)
    assert not is_public_suffix(host)
    assert not is_address(f"{host.strip('.[]').replace(':', '')}.example")


label = st.text("abcxyz-019", min_size=1, max_size=8).map(lambda text: f"a{text}z")


@given(st.sampled_from(SUFFIXES), st.lists(label, min_size=1, max_size=3))
def test_registrable_domain_is_a_suffix_and_one_label(suffix: str, labels: list[str]) -> None:
    """For any host under any rule: the domain is the host's end, is no suffix itself, and lies right under one."""
    host = ".".join([*labels, suffix])
    domain = registrable_domain(host)
    if is_public_suffix(host):
        assert domain == host
        return
    assert host == domain or host.endswith(f".{domain}")
    assert not is_public_suffix(domain)
    assert is_public_suffix(domain.partition(".")[2])
