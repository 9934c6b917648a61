"""Mistakes in a test that would pass in silence, or fail where nobody sees why, are told where they are made."""

from __future__ import annotations

import pathlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import requests

from crawlpool import ConfigError, SessionPool, Unscripted
from crawlpool.testing import FAULTS, Answer, Fault, FaultServer, Offline, SiteServer, in_turn, script, serve
from crawlpool.testing.http1 import Request
from crawlpool.testing.steps import Hold, Read, Reset, Script, Send, Wait, drip, head

NO_ROUTES: Mapping[str, object] = {
    "number": 42,
    "tuple": (404, "x"),
    "dict": {"a": 1},
    "list": [b"x"],
    "nothing": None,
    "bytearray": bytearray(b"x"),
}
#: Those that need more than an answer: one of each place.
ELSEWHERE = ("mute", "tls_expired", "proxy_refuses", "listen_none")


@pytest.mark.parametrize("name", NO_ROUTES)
def test_what_is_no_route_is_refused_when_it_is_scripted(name: str) -> None:
    """For a URL, in the dict of an origin or of a server, in turn: the message names the route."""
    wrong: Any = NO_ROUTES[name]
    with pytest.raises(ConfigError, match=r"shop\.example/page"):
        Offline().add("https://shop.example/page", wrong)
    for sites in ({"https://shop.example": {"/": b"x", "/page": wrong}}, {"*": {"/page": wrong}}):
        with pytest.raises(ConfigError, match=r"/page: .* is no route: bytes, text, an Answer"):
            Offline(sites)
    for make in (SiteServer, FaultServer):
        with pytest.raises(ConfigError, match=r"^/page: .* is no route"):
            make({"/page": wrong})
    with pytest.raises(ConfigError, match=r"route 2: .* is no route"):
        in_turn(b"x", wrong)


def test_how_it_is_written_is_told() -> None:
    """For what one may have meant: an answer, JSON, a site."""
    for route, said in (((404, "x"), r"Answer\(404, body="), ({"a": 1}, "json.dumps")):
        with pytest.raises(ConfigError, match=said):
            SiteServer({"/": route})  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match=r"a dict is the site of an origin; write 'https://h\.example:81'"):
        Offline().add("https://h.example:81/x", {"/y": b"y"})


@pytest.mark.parametrize("site", [42, None, b"x", [b"x"], Answer(404)])
def test_what_is_no_site_is_refused(site: Any) -> None:
    """By a server, and for an origin, whose message names it."""
    with pytest.raises(ConfigError, match="is no site"):
        SiteServer(site)
    with pytest.raises(ConfigError, match=r"shop\.example"):
        Offline({"https://shop.example": site})
    with pytest.raises(ConfigError):
        Offline({"*": site})


def test_sites_are_a_dict() -> None:
    """The URL of one is none."""
    with pytest.raises(ConfigError, match="sites="):
        Offline("https://shop.example")  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["a", "", "https://shop.example/a", "?x=1", b"/a", 7])
def test_a_path_without_its_slash_is_refused(path: Any) -> None:
    """It would never be asked for."""
    with pytest.raises(ConfigError, match=r"shop\.example: .* is no path: one begins with a slash"):
        Offline().add("https://shop.example", {path: "x"})
    with pytest.raises(ConfigError, match="is no path"):
        SiteServer({path: "x"})


@pytest.mark.parametrize(
    "make",
    [
        lambda: Answer("404"),  # type: ignore[arg-type]
        lambda: Answer(b"body"),  # type: ignore[arg-type]
        lambda: Answer(404, "body"),  # type: ignore[arg-type]
        lambda: Answer(404, b"body"),  # type: ignore[arg-type]
        lambda: Answer(200, ["A: b"]),  # type: ignore[list-item]
        lambda: Answer(200, ["Ab"]),  # type: ignore[list-item]
        lambda: Answer(200, {"A": b"b"}),  # type: ignore[dict-item]
        lambda: Answer(200, {"A": None}),  # type: ignore[dict-item]
        lambda: Answer(200, [("A", "b", "c")]),  # type: ignore[list-item]
        lambda: Answer(200, {}, "text"),  # type: ignore[arg-type]
        lambda: Answer(200, {}, 5),  # type: ignore[arg-type]
        lambda: Answer(200, {}, {"a": 1}),  # type: ignore[arg-type]
        lambda: Answer(200, {}, bytearray(b"x")),
        lambda: Answer(raw="HTTP/1.1 200 OK"),  # type: ignore[arg-type]
        lambda: Answer(delay_s=-1),
    ],
)
def test_an_answer_that_cannot_be_sent_is_refused(make: Callable[[], Answer]) -> None:
    """When it is made, by the name of what is wrong."""
    with pytest.raises(ConfigError, match=r"^(status|headers|body|raw|delay_s)="):
        make()


def test_headers_are_a_dict_or_pairs() -> None:
    """Pairs are for fields that come more than once."""
    fields: Any = [("A", "b"), ("A", "c"), ("Retry-After", 5)]
    with SiteServer({"/": Answer(200, fields, [b"x"])}) as server:
        assert requests.get(server.url(), timeout=10).headers["A"] == "b, c"


@pytest.mark.parametrize("returned", [None, 42, (404, "x"), {"a": 1}])
def test_what_a_function_returns_is_told_with_its_path(returned: Any) -> None:
    """When it is asked for: the client has a 500, the server the error; so is what came into a dict later."""
    routes: dict[str, Any] = {"/f": lambda request: returned}
    with SiteServer(routes) as server:
        routes["/later"] = returned if returned is not None else 7
        for path in ("/f", "/later"):
            assert requests.get(server.url(path), timeout=10).status_code == 500
        assert [type(error) for error in server.errors] == [ConfigError] * 2
        assert "GET /f: " in str(server.errors[0])
        assert "GET /later: " in str(server.errors[1])


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_fault_of_another_place_is_no_route(name: str) -> None:
    """It would answer as if nothing was wrong, or with the wrong thing: it says that it is for ``serve``."""
    fault, said = FAULTS[name], rf"{name}.*this one is for serve\(\)"
    for sites in ({"http://e.example/": fault}, {"http://e.example": {"/": fault}}, {"http://e.example": fault}):
        with pytest.raises(ConfigError, match=said):
            Offline(sites)
    for site in ({"/": fault}, fault):
        with pytest.raises(ConfigError, match=said):
            FaultServer(site)
    with pytest.raises(ConfigError, match=said):
        in_turn(fault, b"x")
    with serve(name) as served:
        assert served.fault is fault


def test_a_fault_without_a_route_is_no_route() -> None:
    """Of one's own."""
    with pytest.raises(ConfigError, match="route"):
        SiteServer({"/": Fault("mine", "x", frozenset({"ok"}))})


def test_a_misspelt_fault_is_told_what_is_near() -> None:
    """It is a KeyError still, and ``get`` and ``in`` are those of any mapping."""
    with pytest.raises(KeyError, match=r"no fault is named 'shrt_length'; near it: short_length"):
        FAULTS["shrt_length"]
    with pytest.raises(KeyError, match="near it: reset"), serve("resset"):
        pass
    with pytest.raises(KeyError, match=r"'xyzzy'; list\(FAULTS\) has the names"), serve("xyzzy"):
        pass
    with pytest.raises(ConfigError, match="the name of one"), serve(42):  # type: ignore[arg-type]
        pass
    assert FAULTS.get("shrt_length") is None
    assert "shrt_length" not in FAULTS
    assert len(FAULTS) == len(list(FAULTS)) > 50


@pytest.mark.parametrize(
    "make",
    [
        lambda: script(head(length=3), "abc"),  # type: ignore[arg-type]
        lambda: script(head(length=3), 5),  # type: ignore[arg-type]
        lambda: script(Reset),  # type: ignore[arg-type]
        lambda: Script(b"abc"),  # type: ignore[arg-type]
        lambda: Script(Send(b"x")),  # type: ignore[arg-type]
        lambda: Wait(-1),
        lambda: Wait("1"),  # type: ignore[arg-type]
        lambda: Wait(float("inf")),
        lambda: Hold(5),  # type: ignore[arg-type]
        lambda: Read(0),
        lambda: Send("abc"),
        lambda: Send(5),  # type: ignore[arg-type]
        lambda: Send(bytearray(b"x")),  # type: ignore[arg-type]
        lambda: drip("x"),  # type: ignore[arg-type]
        lambda: FaultServer({}, opening=Hold()),  # type: ignore[arg-type]
    ],
)
def test_a_step_that_cannot_be_is_refused(make: Callable[[], object]) -> None:
    """When the script is written, not when a connection comes to it."""
    with pytest.raises(ConfigError):
        make()


def test_steps_of_ones_own_are_steps() -> None:
    """Whatever has ``play``; and what is sent may be pieces, or made anew for each connection."""

    class Mine:
        def play(self, wire: Any) -> None:
            wire.send(b"mine")

    made = script(head(length=4), Mine(), Wait(0), Hold(threading.Event()), Send([b"a", b"b"]), Send(lambda: [b"c"]))
    assert len(made.steps) == 6


@pytest.mark.above_transports
def test_what_has_no_answer_is_told_with_what_there_is() -> None:
    """For its host, by whatever scheme and port, a few of them; where there is nothing, for others."""
    pages = {f"/{number}": b"x" for number in range(9)}
    sites = {"https://shop.example": pages, "http://shop.example:81/a?b=c": b"x", "http://other.example": lambda r: "x"}

    def said(web: Offline, url: str) -> str:
        with SessionPool() as pool, pytest.raises(Unscripted) as caught:
            pool.get(url)
        return str(caught.value)

    with Offline(sites) as web:
        told = said(web, "http://shop.example/0")
        assert told == (
            "GET http://shop.example/0: offline mode has no answer for it, and nothing was sent; scripted is for that "
            "host: https://shop.example/0, https://shop.example/1, https://shop.example/2, https://shop.example/3 and "
            "6 more"
        )
        told = said(web, "https://shpo.example/0")
        assert told.endswith(
            "; scripted is nothing for that host; for others: https://shop.example, http://shop.example:81, "
            "http://other.example"
        )
    with Offline() as web:
        assert said(web, "https://a.example/").endswith("; scripted is nothing")
    with Offline({"*": {"/a": "x"}}) as web:
        assert said(web, "https://a.example/b").endswith("; scripted is for every host: /a")


def test_how_often_is_told_in_words() -> None:
    """Once, twice, three times."""
    with Offline({"https://shop.example/": "x"}) as web:
        for count, wanted, said in ((1, 2, "for once, not twice;"), (1, 3, "for twice, not 3 times;")):
            with SessionPool() as pool:
                for _ in range(count):
                    pool.get("https://shop.example/")
            with pytest.raises(AssertionError, match=said):
                web.assert_asked("https://shop.example/", times=wanted)
        with pytest.raises(AssertionError, match="for 0 times, not once;"):
            web.assert_asked("https://shop.example/other", times=1)


def test_a_folder_that_is_not_there_is_told_when_it_is_scripted(tmp_path: pathlib.Path) -> None:
    """Of an origin, of every host, of a server."""
    gone = tmp_path / "nowhere"
    for sites in ({"https://shop.example": gone}, {"*": gone}):
        with pytest.raises(NotADirectoryError, match="nowhere"):
            Offline(sites)
    with pytest.raises(NotADirectoryError, match="nowhere"):
        SiteServer(gone)


def test_routes_are_looked_at_once() -> None:
    """When they are scripted, not at each request."""
    looked: list[str] = []

    class Route:
        def check_as_route(self, where: str) -> None:
            looked.append(where)

        def __call__(self, request: Request) -> str:
            return "x"

    with Offline({"https://shop.example": {"/": Route()}}), SessionPool() as pool:
        for _ in range(3):
            pool.get("https://shop.example/")
    assert looked == ["https://shop.example/"]
