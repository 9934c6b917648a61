"""A redirect that somebody else goes on with: the request there is what it would have been here."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from crawlpool import SessionPool, Target
from crawlpool.handover import rejoined
from crawlpool.leg import Leg, RunOptions
from crawlpool.models import Hop
from crawlpool.settle import _prepare

A, B = "http://127.0.0.1:1", "http://127.0.0.2:1"


class FakeRun:
    def __init__(self, **request: Any) -> None:
        self.options = RunOptions(request=request)


def asked(pool: SessionPool, target: Target, hops: list[Hop], to: str, **request: Any) -> requests.PreparedRequest:
    """Return what is asked for at the end of redirects that were followed elsewhere."""
    run: Any = FakeRun(**request)
    leg = Leg(run, target, to.split("/")[2].split(":")[0])
    leg.hops, leg.onward = tuple(hops), to
    return rejoined(leg, pool.session, _prepare(leg, pool.session))


@pytest.mark.parametrize(
    ("statuses", "method", "body"),
    [
        ([301], "GET", None),
        ([302], "GET", None),
        ([303], "GET", None),
        ([307], "POST", b"x=1"),
        ([308, 307], "POST", b"x=1"),
        ([307, 303, 308], "GET", None),
    ],
)
def test_method_and_body_are_what_the_redirects_make_of_them(
    statuses: list[int], method: str, body: bytes | None
) -> None:
    """Each redirect on the way counts, in its turn: what one has taken away isn't there for the next."""
    hops = [Hop(f"{A if n % 2 == 0 else B}/{n}", status) for n, status in enumerate(statuses)]
    with SessionPool(headers={"X-Pool": "1"}) as pool:
        target = Target(f"{A}/0", "POST", data=b"x=1", headers={"X-Own": "1", "Content-Type": "text/plain"})
        request = asked(pool, target, hops, f"{B}/end")
    assert (request.method, request.body, request.url) == (method, body, f"{B}/end")
    assert (request.headers["X-Own"], request.headers["X-Pool"]) == ("1", "1")
    assert ("Content-Type" in request.headers) is (body is not None)


def test_a_credential_that_was_left_behind_does_not_come_back() -> None:
    """Redirects that lead away from its origin and back again leave a target without it, as in one crawl."""
    with SessionPool() as pool:
        target = Target(f"{A}/0")
        there = asked(pool, target, [Hop(f"{A}/0", 302)], f"{B}/", auth=("u", "p"))
        back = asked(pool, target, [Hop(f"{A}/0", 302), Hop(f"{B}/", 302)], f"{A}/end", auth=("u", "p"))
        kept = asked(pool, target, [Hop(f"{A}/0", 302)], f"{A}/end", auth=("u", "p"))
    shown = ["Authorization" in request.headers for request in (there, back, kept)]
    assert shown == [False, False, True]


def test_what_is_set_for_a_site_holds_where_the_redirects_end() -> None:
    """Auth, headers and cookies of the destination's own origin are added there, and no other origin's."""
    with SessionPool() as pool:
        pool.site(A, auth=("a", "a"), headers={"X-Site": "a"})
        pool.site(B, auth=("b", "b"), headers={"X-Site": "b"})
        pool.cookies.set("c", "1", domain="127.0.0.2", path="/")
        request = asked(pool, Target(f"{A}/0"), [Hop(f"{A}/0", 302)], f"{B}/end")
    assert request.headers["Authorization"] == requests.auth._basic_auth_str("b", "b")
    assert (request.headers["X-Site"], request.headers["Cookie"]) == ("b", "c=1")


def test_a_chain_that_leads_elsewhere_by_now_is_refused() -> None:
    """The request goes to the host that its turn was given for, or nowhere."""
    with SessionPool() as pool:
        run: Any = FakeRun()
        leg = Leg(run, Target(f"{A}/0"), "127.0.0.9")
        leg.hops, leg.onward = (Hop(f"{A}/0", 302),), f"{B}/end"
        with pytest.raises(requests.exceptions.InvalidURL, match="another host"):
            rejoined(leg, pool.session, _prepare(leg, pool.session))
