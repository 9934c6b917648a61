"""The rules of addresses in offline mode: they hold for what a URL says, as on the network."""

from __future__ import annotations

import pytest

from crawlpool import AddressRules, BlockedAddress, HostLimits, Session, SessionPool, Unscripted
from crawlpool.testing import Answer, FaultServer, Offline, SiteServer

pytestmark = pytest.mark.transports()

INWARD = ("http://127.0.0.1/s", "http://localhost/s", "http://10.0.0.7/s", "http://[::1]:81/s", "http://0x7f000001/s")


def leading_to(url: str) -> Offline:
    """Return a network where a public host redirects to what isn't public, and where that would answer."""
    return Offline({"http://e.example/": Answer(302, {"Location": url}), "*": lambda request: "inner"})


@pytest.mark.parametrize("private", ["input", "deny"])
@pytest.mark.parametrize("inward", INWARD)
def test_a_redirect_inward_is_blocked_as_on_the_network(private: str, inward: str) -> None:
    """By get, map and crawl, in any notation; nothing is sent, and it is no request that had no answer."""
    with leading_to(inward) as web, SessionPool(addresses=AddressRules(private=private)) as pool:
        with pytest.raises(BlockedAddress, match="not permitted"):
            pool.get("http://e.example/")
        (result,) = pool.map(["http://e.example/"])
        assert (result.outcome, result.error_kind) == ("failed", "blocked_address")
        assert isinstance(result.error, BlockedAddress)
        report = pool.crawl(["http://e.example/"], limits=HostLimits(delay_s=1))
        assert report.failed == 1
        assert {one.host for one in web.asked} == {"e.example"}
        web.assert_all_scripted()


def test_blocked_comes_before_unscripted() -> None:
    """A host that must not be reached is told as that, though nothing is scripted for it."""
    with Offline({"http://e.example/": Answer(302, {"Location": "http://10.0.0.7/"})}) as web:
        with SessionPool() as pool, pytest.raises(BlockedAddress):
            pool.get("http://e.example/")
        assert web.unscripted == []


def test_what_the_rules_permit_is_answered() -> None:
    """An input or a call that names an address, ``allow``, a net that may be reached; and any name, wherever it is."""
    for inward in INWARD[:4]:
        with leading_to(inward) as web:
            with SessionPool() as pool:
                assert pool.get(inward).text == "inner"
                report = pool.crawl(["http://e.example/", inward], limits=HostLimits(delay_s=1))
                assert (report.ok, report.failed) == (2, 0)
            nets = ("127.0.0.0/8", "10.0.0.0/8", "::1")
            for rules in (AddressRules("allow"), AddressRules("deny", allow_nets=nets)):
                with SessionPool(addresses=rules) as pool:
                    assert pool.get("http://e.example/").text == "inner"
            web.assert_all_scripted()
    with Offline({"*": lambda request: "any"}), SessionPool(addresses=AddressRules("deny")) as pool:
        assert pool.get("https://shop.example/").text == "any"


def test_denied_is_what_a_call_names_as_well() -> None:
    """``deny`` asks nobody who named it."""
    with Offline({"*": lambda request: "inner"}), SessionPool(addresses=AddressRules("deny")) as pool:
        for inward in INWARD:
            with pytest.raises(BlockedAddress):
                pool.get(inward)


def test_a_session_that_stands_alone_has_the_rules_too() -> None:
    """The default ones: its call may name loopback, a redirect may not."""
    with leading_to(INWARD[0]), Session() as session:
        assert session.get(INWARD[0]).text == "inner"
        with pytest.raises(BlockedAddress):
            session.get("http://e.example/")


def test_a_server_on_loopback_beside_it_has_the_rules_too() -> None:
    """``loopback=True``: what names it is answered, what leads there is blocked."""
    with SiteServer({"/": b"real"}) as server:
        away = Answer(302, {"Location": server.url()})
        with Offline({"http://e.example/": away}, loopback=True) as web, SessionPool() as pool:
            assert pool.get(server.url()).text == "real"
            with pytest.raises(BlockedAddress):
                pool.get("http://e.example/")
            web.assert_all_scripted()
    with FaultServer() as faults, Offline(), SessionPool() as pool, pytest.raises(Unscripted):
        pool.get(faults.url("/sliced"))


def test_an_address_that_the_user_gives_for_a_name_permits_itself() -> None:
    """``resolve`` is the user's own word on the network, and so it is here."""
    with leading_to("http://localhost/s"), SessionPool(resolve={("localhost", 80): "127.0.0.9"}) as pool:
        assert pool.get("http://e.example/").text == "inner"
