"""A session does what ``requests.Session`` does: each call is made with both, against one server, and compared."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from requests.auth import HTTPDigestAuth

from crawlpool import AddressRules, Session, SessionPool
from crawlpool.testing import Answer, Request, SiteServer

pytestmark = pytest.mark.transports()

Call = Callable[[requests.Session, SiteServer], Any]


def echo(request: Request) -> Answer:
    """Answer with what came, or as the path says."""
    path = request.path
    if path == "/set":
        return Answer(200, [("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2; Path=/")])
    if path.startswith("/status/"):
        return Answer(int(path[8:]), {"Location": request.query or "/"})
    if path == "/loop":
        return Answer(302, {"Location": "/loop"})
    if path == "/digest" and "authorization" not in request.headers:
        challenge = 'Digest realm="r", nonce="n", qop="auth", algorithm=MD5'
        return Answer(401, [("WWW-Authenticate", challenge), ("Set-Cookie", "fake=digest")])
    fields = {k: v for k, v in request.fields if k.lower() not in ("host", "date", "authorization")}
    if "Connection" in fields:
        fields["Connection"] = fields.pop("Connection")  # libcurl has it last, wherever it stood
    auth = request.headers.get("authorization", "").partition(" ")[0]
    seen = {"method": request.method, "target": request.target, "fields": fields, "auth": auth}
    body = request.body.decode("latin-1")
    return Answer(200, {"Content-Type": "application/json"}, json.dumps({**seen, "body": body}).encode())


@pytest.fixture
def server() -> Iterator[SiteServer]:
    """Serve what came."""
    with SiteServer(echo) as server:
        yield server


@pytest.fixture
def both(server: SiteServer) -> Iterator[Callable[[Call], Any]]:
    """Give a function that makes a call with each kind of session, compares, and returns what both gave."""
    rules = AddressRules("allow")  # plain requests has none, and a redirect leads from 127.0.0.1 to localhost
    settings: Any = {"retry": False, "trust_env": False, "addresses": rules}
    with Session() as alone, requests.Session() as plain, SessionPool(**settings) as pool:
        alone.trust_env = plain.trust_env = False
        alone._shared.reach.rules = rules

        def call(make: Call) -> Any:
            expected = make(plain, server)
            assert make(alone, server) == expected
            assert make(pool.session, server) == expected
            return expected

        yield call


def seen(response: requests.Response) -> Any:
    """Return all that two responses to the same call have in common."""
    history = [(one.status_code, one.url) for one in response.history]
    return response.status_code, response.url, response.text, history


CALLS: dict[str, Call] = {
    "get": lambda s, v: seen(s.get(v.url("/a"))),
    "params": lambda s, v: seen(s.get(v.url("/a?x=0"), params={"b": ["1", "ü"], "c": None})),
    "params as text": lambda s, v: seen(s.get(v.url("/a"), params="raw=1")),
    "quoting": lambda s, v: seen(s.get(v.url("/a b/ü?q=%zz#frag"))),
    "bytes url": lambda s, v: seen(s.get(v.url("/a").encode())),  # type: ignore[arg-type]
    # But for the URL itself, in which requests leaves the login.
    "userinfo": lambda s, v: seen(s.get(v.url("/a").replace("//", "//u:p@")))[::2],
    "headers": lambda s, v: seen(
        s.get(v.url("/a"), headers={"X-A": "1", "accept": "text/html", "Accept-Encoding": "x"})
    ),
    "form": lambda s, v: seen(s.post(v.url("/a"), data={"a": "1", "b": "ü"})),
    "text body": lambda s, v: seen(s.post(v.url("/a"), data="ä")),
    "json": lambda s, v: seen(s.post(v.url("/a"), json={"a": [1, None]})),
    "no body": lambda s, v: seen(s.post(v.url("/a"))),
    "put": lambda s, v: seen(s.put(v.url("/a"), data=b"raw")),
    "patch": lambda s, v: seen(s.patch(v.url("/a"), data=b"raw")),
    "delete": lambda s, v: seen(s.delete(v.url("/a"))),
    "options": lambda s, v: seen(s.options(v.url("/a"))),
    "lower-case method": lambda s, v: seen(s.request("get", v.url("/a"))),
    "own method": lambda s, v: seen(s.request("PROPFIND", v.url("/a"))),
    "generator": lambda s, v: seen(s.post(v.url("/a"), data=iter([b"one", b"two"]))),
    "file": lambda s, v: seen(s.post(v.url("/a"), data=io.BytesIO(b"file"))),
    "basic": lambda s, v: seen(s.get(v.url("/a"), auth=("u", "p"))),
    "callable auth": lambda s, v: seen(s.get(v.url("/a"), auth=lambda r: r.headers.update({"X-Auth": "1"}) or r)),
    "cookies of the call": lambda s, v: seen(s.get(v.url("/a"), cookies={"c": "3"})),
    "cookie header": lambda s, v: seen(s.get(v.url("/a"), headers={"Cookie": "own=1"})),
    "redirect": lambda s, v: seen(s.get(v.url("/status/302?/a"))),
    "redirect with fragment": lambda s, v: seen(s.get(v.url("/status/302?/a#b"))),
    "not followed": lambda s, v: seen(s.get(v.url("/status/302?/a"), allow_redirects=False)),
    "followed HEAD": lambda s, v: seen(s.head(v.url("/status/301?/a"), allow_redirects=True)),
    "HEAD": lambda s, v: seen(s.head(v.url("/status/301?/a"))),
    "304": lambda s, v: seen(s.get(v.url("/status/304"))),
    "404": lambda s, v: seen(s.get(v.url("/status/404"))),
    "prepared": lambda s, v: seen(s.send(s.prepare_request(requests.Request("GET", v.url("/a"), params={"x": 1})))),
    **{
        f"{status} after {method}": lambda s, v, m=method, c=status: seen(  # type: ignore[misc]
            s.request(m, v.url(f"/status/{c}?/a"), data=b"body", allow_redirects=True)
        )
        for status in (301, 302, 303, 307, 308)
        for method in ("GET", "POST", "PUT", "HEAD")
    },
}


@pytest.mark.parametrize("make", CALLS.values(), ids=CALLS.keys())
def test_a_call_is_what_it_is_with_requests(make: Call, both: Callable[[Call], Any]) -> None:
    """The same request reaches the server, header by header, and the same answer comes back."""
    both(make)


def test_cookies_persist_and_are_sent(both: Callable[[Call], Any]) -> None:
    """What one answer sets, the next request sends; what the user sets, too; a call's own aren't kept."""

    def make(session: requests.Session, server: SiteServer) -> Any:
        session.get(server.url("/set"))
        session.cookies.set("c", "3")
        first = session.get(server.url("/a"), cookies={"d": "4"}).json()["fields"]["Cookie"]
        second = session.get(server.url("/a")).json()["fields"]["Cookie"]
        return sorted(first.split("; ")), sorted(second.split("; ")), session.cookies.get_dict()

    assert both(make)[1] == ["a=1", "b=2", "c=3"]


def test_digest_answers_the_challenge(both: Callable[[Call], Any]) -> None:
    """With the body sent again, the history told, and the cookie of the challenge kept."""

    def make(session: requests.Session, server: SiteServer) -> Any:
        response = session.post(server.url("/digest"), data=b"body", auth=HTTPDigestAuth("u", "p"))
        return seen(response)[:2], response.json()["auth"], response.json()["body"], session.cookies.get_dict()

    assert both(make)[1:] == ("Digest", "body", {"fake": "digest"})


def test_credentials_stay_with_their_host(both: Callable[[Call], Any]) -> None:
    """A redirect to another host loses Authorization, one within the host keeps it (CVE-2014-1829)."""

    def make(session: requests.Session, server: SiteServer) -> Any:
        away = server.url("/a", host="localhost")
        there = session.get(server.url(f"/status/302?{away}"), auth=("u", "p")).json()["auth"]
        stays = session.get(server.url("/status/302?/a"), auth=("u", "p")).json()["auth"]
        own = session.get(server.url(f"/status/302?{away}"), headers={"Authorization": "Own x"}).json()["auth"]
        return there, stays, own

    assert both(make) == ("", "Basic", "")


def test_too_many_redirects_end_a_loop(both: Callable[[Call], Any]) -> None:
    """After ``max_redirects`` hops, with the last response in the exception."""

    def make(session: requests.Session, server: SiteServer) -> Any:
        session.max_redirects = 4
        with pytest.raises(requests.TooManyRedirects) as caught:
            session.get(server.url("/loop"))
        return str(caught.value), caught.value.response.status_code, len(caught.value.response.history)

    assert both(make)[1:] == (302, 4)


def test_the_next_request_is_given_where_redirects_are_not_followed(both: Callable[[Call], Any]) -> None:
    """``response.next`` is prepared and can be sent."""

    def make(session: requests.Session, server: SiteServer) -> Any:
        response = session.post(server.url("/status/303?/a"), data=b"x", allow_redirects=False)
        assert response.next is not None
        return response.next.method, response.next.url, seen(session.send(response.next))

    assert both(make)[:1] == ("GET",)


def test_hooks_see_each_response_and_may_replace_it(both: Callable[[Call], Any]) -> None:
    """The session's and the call's, on each hop, with the settings of the call; what one returns is the response."""

    def make(session: requests.Session, server: SiteServer) -> Any:
        got: list[Any] = []

        def note(response: requests.Response, **settings: Any) -> None:
            got.append((response.status_code, sorted(settings), settings["timeout"], settings["stream"]))

        def replace(response: requests.Response, **_: Any) -> requests.Response:
            response.reason = "replaced"
            return response

        session.hooks["response"] = [note]
        response = session.get(server.url("/status/302?/a"), hooks={"response": replace}, timeout=7)
        session.hooks["response"] = []
        return got, response.reason, [one.reason for one in response.history]

    assert both(make)[1:] == ("replaced", ["replaced"])


def test_uploads_are_multipart(both: Callable[[Call], Any]) -> None:
    """Files with fields: the same parts, whatever the boundary."""

    def make(session: requests.Session, server: SiteServer) -> Any:
        files = {"f": ("n.txt", io.BytesIO(b"data"), "text/plain")}
        answer = session.post(server.url("/a"), files=files, data={"x": "1"}).json()
        boundary = answer["fields"]["Content-Type"].partition("boundary=")[2]
        return answer["body"].replace(boundary, "B"), answer["fields"]["Content-Length"]

    assert "data" in both(make)[0]


def test_streams_come_piece_by_piece(both: Callable[[Call], Any]) -> None:
    """iter_content, iter_lines and raw give what was sent; the connection is free after the last byte."""

    def make(session: requests.Session, server: SiteServer) -> Any:
        with session.get(server.url("/a"), stream=True) as response:
            pieces = b"".join(response.iter_content(7))
        lines = list(session.get(server.url("/a"), stream=True).iter_lines(decode_unicode=True))
        raw = session.get(server.url("/a"), stream=True).raw.read()
        return pieces, lines, raw

    assert both(make)[0] == both(make)[2]


def test_a_session_keeps_its_settings(both: Callable[[Call], Any]) -> None:
    """headers, params, auth, cookies set on the session are in each request."""

    def make(session: requests.Session, server: SiteServer) -> Any:
        session.headers.update({"X-S": "1"})
        session.params = {"p": "1"}
        session.auth = ("u", "p")
        return seen(session.get(server.url("/a"), params={"q": "2"})), seen(session.post(server.url("/a")))

    assert "/a?p=1&q=2" in both(make)[0][1]


@pytest.mark.parametrize(
    "url", ["http://u:?hunter2@h:1/x", "http://u:/hunter2@h/", "//u:p#hunter2@h/", "http://u:a/hunter2@h"]
)
def test_a_login_with_a_delimiter_is_no_host(url: str) -> None:
    """What stands before the delimiter isn't looked up: it is an invalid URL, and the login doesn't show."""
    with Session() as session, pytest.raises(requests.exceptions.InvalidURL, match=r"%-escapes for / \? #") as caught:
        session.get(url)
    assert "hunter2" not in str(caught.value)
