"""Credentials are for the origin that they were given for: no redirect carries them to another one."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import itertools
import pathlib
import traceback
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from requests.auth import AuthBase, HTTPDigestAuth

from crawlpool import AddressRules, Session, SessionPool, Target
from crawlpool.testing import Answer, Request, SiteServer
from crawlpool.testing.certificates import Certificates

pytestmark = pytest.mark.transports()

CANARY = "c4n4ry"
#: The secret itself, as Basic auth has it, and whatever digest auth makes of it.
NEEDLES = (CANARY, base64.b64encode(f"ada:{CANARY}".encode()).decode().rstrip("="), 'username="ada"')
STATUSES = (301, 302, 303, 307, 308)
MODES = ("get", "session", "stream", "download", "submit", "map", "crawl")


class Token(AuthBase):
    """An auth of a user's own, which sets a header that requests knows nothing of, and hangs a hook on the request."""

    def __call__(self, request: Any) -> Any:
        request.headers["X-Token"] = CANARY
        request.register_hook("response", self.again)
        return request

    def again(self, response: Any, **_: Any) -> Any:
        """Show the token to whoever asks for it."""
        if response.status_code == 401:
            request = response.request.copy()
            request.headers["X-Again"] = CANARY
            return response.connection.send(request)
        return response


@dataclasses.dataclass(frozen=True)
class Origins:
    """The origins of the matrix: two hosts of one port, another port, and TLS."""

    home: str
    other_host: str
    other_port: str
    tls: str

    def changes(self, kind: str) -> list[tuple[str, str, bool]]:
        """Return each change of the origin: where it begins, where it leads, and whether a relative one goes before."""
        found = [
            (self.home, self.other_host, False),
            (self.home, self.other_host.removeprefix("http:"), False),
            (self.home, self.other_host.replace("//", "//eve:pw@"), False),
            (self.home, self.other_port, False),
            (self.home, self.other_port.removeprefix("http:"), False),
            (self.home, self.other_host, True),
        ]
        # Both of these are sites, each with what is its own.
        return found if kind == "site" else [*found, (self.home, self.tls, False), (self.tls, self.home, False)]

    def wrong(self) -> set[str]:
        """Return the hosts and ports at which nobody is to log in."""
        return {urlsplit(origin).netloc for origin in (self.other_host, self.other_port)}


class Witness:
    """The site of all origins: what is asked for under /go redirects, and what arrives under /end must be clean."""

    def __init__(self) -> None:
        self.to: dict[str, Answer] = {}
        self.came: set[str] = set()
        self.arrived: set[str] = set()
        self.leaks: list[str] = []
        self.wrong: set[str] = set()

    def __call__(self, request: Request) -> Answer:
        shown = [f"{request.path} {name}: {value}" for name, value in request.fields]
        secret = [line for line in shown if any(needle in line for needle in NEEDLES)]
        if request.path in self.to:
            self.came |= {request.path} if secret else set()
            return self.to[request.path]
        if request.path.startswith("/end/") or request.headers["host"] in self.wrong:
            self.leaks += secret
        if request.path.startswith("/end/"):
            self.arrived.add(request.path)
            # A challenge, so that what answers challenges shows itself.
            return Answer(401, {"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth"'}, b"who?")
        return Answer(404)


@contextlib.contextmanager
def origins(site: Callable[[Request], Answer], certificates: Certificates) -> Iterator[Origins]:
    """Serve the site at all origins."""
    with (
        SiteServer(site, hosts=("127.0.0.1", "127.0.0.2"), remember=False) as home,
        SiteServer(site, remember=False) as other,
        SiteServer(site, tls=certificates.server_context(), remember=False) as tls,
    ):
        yield Origins(home.url(""), home.url("", host="127.0.0.2"), other.url(""), tls.url(""))


def ask(pool: SessionPool, mode: str, urls: list[str], folder: pathlib.Path, options: dict[str, Any]) -> None:
    """Ask for the URLs in one of the ways that there are."""
    if mode == "map":
        assert len(list(pool.map(urls, **options))) == len(urls)
    elif mode == "crawl":
        assert pool.crawl(urls, on_block="record", **options).settled == len(urls)
    elif mode == "submit":
        for future in [pool.submit("GET", url, **options) for url in urls]:
            future.result()
    for url in urls if mode in MODES[:4] else ():
        if mode == "get":
            pool.get(url, **options)
        elif mode == "session":
            pool.session.get(url, **options)
        elif mode == "stream":
            with pool.get(url, stream=True, **options) as response:
                list(response.iter_content(10))
        else:
            with contextlib.suppress(requests.HTTPError):
                pool.download(url, folder / "file", **options)


BY_HAND: dict[str, Any] = {
    "headers": {"Authorization": f"Bearer {CANARY}", "Cookie": f"a={CANARY}", "Proxy-Authorization": CANARY},
    "cookies": {"own": CANARY},
}


@pytest.mark.parametrize("kind", ["by hand", "login of the URL", "site", "auth of one's own", "digest"])
def test_no_credential_reaches_another_origin(kind: str, certificates: Certificates, tmp_path: pathlib.Path) -> None:
    """Each kind of redirect, each change of the origin, each way of asking: 700 cases for each transport.

    A crawl asks for each origin's robots.txt, too, where no credential may go either.
    """
    witness = Witness()
    options: dict[str, Any] = {
        "by hand": BY_HAND,
        "auth of one's own": {"auth": Token()},
        "digest": {"auth": HTTPDigestAuth("ada", CANARY), "headers": {"Cookie": CANARY}},
    }.get(kind, {})
    with (
        origins(witness, certificates) as at,
        SessionPool(
            threads=4,
            retry=False,
            trust_env=False,
            verify=str(certificates.authority),
            queue_size=400,
            addresses=AddressRules("allow"),
        ) as pool,
    ):
        if kind == "site":
            for origin in (at.home, at.tls):
                pool.site(origin, headers={"X-Api-Key": CANARY}, auth=Token())
        witness.wrong = at.wrong()
        # What holds for one way to give them holds for the others; these have fewer kinds of redirect.
        statuses = STATUSES if kind == "by hand" else (302, 307)
        cases = list(itertools.product(MODES, at.changes(kind), statuses))
        wanted: dict[str, list[str]] = {mode: [] for mode in MODES}
        paths: list[str] = []
        for number, (mode, (begin, end, is_by_way), status) in enumerate(cases):
            path = f"/go/{number}"
            witness.to[path] = Answer(status, {"Location": f"{end}/end/{number}"})
            if is_by_way:
                witness.to[path] = Answer(status, {"Location": f"/go/{number}/way"})
                witness.to[f"{path}/way"] = Answer(status, {"Location": f"{end}/end/{number}"})
                paths.append(f"{path}/way")
            paths.append(path)
            given = begin.replace("//", f"//ada:{CANARY}@") if kind.startswith("login") else begin
            wanted[mode].append(f"{given}{path}")
        for mode, urls in wanted.items():
            ask(pool, mode, urls, tmp_path, options)
    assert len(cases) == {"by hand": 280, "site": 84}.get(kind, 112)
    assert len(witness.arrived) == len(cases)
    assert witness.leaks == []
    # They did go where they belong: by digest only what is hand-written, as nobody there challenged.
    assert set(paths) - witness.came <= {path for path in paths if kind == "digest" and path.endswith("/way")}


@pytest.mark.parametrize("status", STATUSES)
def test_within_the_origin_they_are_kept(status: int, certificates: Certificates) -> None:
    """By a relative and by an absolute Location: Authorization, a call's cookies and what an auth set."""
    seen: list[Request] = []

    def site(request: Request) -> Answer:
        seen.append(request)
        to = {"/a": "/b", "/b": f"http://127.0.0.1:{request.headers['host'][10:]}/c"}.get(request.path)
        return Answer(200) if to is None else Answer(status, {"Location": to})

    with SiteServer(site) as server, SessionPool(retry=False, trust_env=False) as pool:
        pool.get(server.url("/a"), auth=Token(), cookies={"own": "1"}).raise_for_status()
        pool.get(server.url("/a").replace("//", "//ada:pw@")).raise_for_status()
    assert [request.path for request in seen] == ["/a", "/b", "/c"] * 2
    assert all(request.headers["x-token"] == CANARY for request in seen[:3])
    assert all(request.headers["cookie"] == "own=1" for request in seen[:3])
    assert all(request.headers["authorization"] == "Basic YWRhOnB3" for request in seen[3:])


@pytest.mark.parametrize("status", STATUSES)
def test_a_body_and_what_tells_of_it_go_where_the_method_stays(status: int) -> None:
    """After 301, 302 and 303 a POST is a GET without body and Content-*; after 307 and 308 it is the same again."""
    seen: list[Request] = []

    def site(request: Request) -> Answer:
        seen.append(request)
        return Answer(200) if request.path == "/b" else Answer(status, {"Location": "/b"})

    told = {"Content-Type": "text/x", "Content-Encoding": "identity", "Content-Language": "en"}
    with SiteServer(site) as server, SessionPool(retry=False, trust_env=False) as pool:
        pool.post(server.url("/a"), data=b"body", headers=told).raise_for_status()
        (result,) = pool.map([Target(server.url("/a"), "POST", told, b"body")])
        result.unwrap()
    for request in (seen[1], seen[3]):
        of_body = [name for name, _ in request.fields if name.lower().startswith(("content-", "transfer-"))]
        if status in (307, 308):
            assert (request.method, request.body, sorted(of_body)) == (
                "POST",
                b"body",
                sorted([*told, "Content-Length"]),
            )
        else:
            assert (request.method, request.body, of_body) == ("GET", b"", [])


@pytest.mark.parametrize(
    ("status", "location"), [(302, "//eve:{}@127.0.0.1:{}/end"), (307, "http://eve:{}@127.0.0.1:{}/end")]
)
def test_a_login_in_a_location_is_neither_used_nor_shown(status: int, location: str) -> None:
    """Who redirects doesn't decide by which login somebody is asked; no URL of the answer and its history has it."""

    def site(request: Request) -> Answer:
        if request.path == "/end":
            return Answer(200, {}, request.headers.get("authorization", "-").encode())
        return Answer(status, {"Location": location.format(CANARY, request.headers["host"][10:])})

    with SiteServer(site) as server, SessionPool(retry=False, trust_env=False) as pool:
        response = pool.get(server.url("/"))
        (result,) = pool.map([server.url("/")])
        unfollowed = pool.get(server.url("/"), allow_redirects=False)
        for one in (response, *response.history, result.response):
            assert one is not None and "@" not in one.url and "@" not in (one.request.url or "")
        assert response.text == "-"
        assert unfollowed.next is not None and "@" not in (unfollowed.next.url or "")
        assert CANARY not in repr(result.record | {"headers": None})


@pytest.mark.parametrize("location", ["http://ada:{}@[bad/", "http://ada:{}/x@127.0.0.1/", "http://ada:{}@h:99999/"])
def test_a_location_that_is_no_url_shows_nothing_in_its_error(location: str) -> None:
    """Where the login ends can't be told, so all that may be one goes."""
    site = Answer(302, {"Location": location.format(CANARY)})
    with SiteServer(lambda _: site) as server, SessionPool(retry=False, trust_env=False) as pool:
        with pytest.raises(requests.RequestException) as caught:
            pool.get(server.url("/"))
        (result,) = pool.map([server.url("/")])
    assert isinstance(result.error, requests.RequestException)
    for error in (caught.value, result.error):
        assert CANARY not in "".join(traceback.format_exception(type(error), error, error.__traceback__))
    assert CANARY not in repr(result.record)


def test_the_login_of_a_url_becomes_auth_and_is_gone() -> None:
    """In URLs of answers, requests and history, of prepared requests, too; without a colon the password is empty."""
    with SiteServer(lambda request: Answer(200, {}, request.headers.get("authorization", "-").encode())) as server:
        url = server.url("/x")
        with SessionPool(retry=False, trust_env=False) as pool, Session() as alone:
            for given, header in (
                (f"ada:{CANARY}%40", f"ada:{CANARY}@"),
                ("ada", "ada:"),
                ("ada:", "ada:"),
                ("", None),
            ):
                wanted = "-" if header is None else f"Basic {base64.b64encode(header.encode()).decode()}"
                for session in (pool.session, alone):
                    response = session.get(url.replace("//", f"//{given}@"))
                    assert (response.text, response.url, response.request.url) == (wanted, url, url)
            prepared = requests.Request("GET", url.replace("//", f"//ada:{CANARY}@")).prepare()
            response = pool.session.send(prepared)
            assert (response.url, response.text[:6]) == (url, "Basic ")
            assert CANARY in (prepared.url or "")  # the caller's own object is left as it is
            assert pool.get(url.replace("//", "//ada:pw@"), auth=("eve", "x")).text == "Basic ZXZlOng="


@pytest.mark.parametrize(
    "url",
    [
        f"http://ada:{CANARY}@127.0.0.1:9/",
        f"http://ada:{CANARY}@bad host/",
        f"http://ada:{CANARY}@127.0.0.1:99999/",
        f"http://ada:{CANARY}/x@127.0.0.1/",
        f"http://ada:{CANARY}@[::1/",
        f"http://ada:{CANARY}@.example/",
        f"http://ada:{CANARY}@{'x' * 70}.\u00e4/",
        f"ftp://ada:{CANARY}@127.0.0.1/",
        f"ada:{CANARY}@127.0.0.1/",
        f"//ada:{CANARY}@127.0.0.1/",
    ],
)
def test_no_error_shows_the_login_of_its_url(url: str) -> None:
    """Not in its text, its repr, its arguments, its request, nor in those of what it was made of."""
    with SessionPool(retry=False, trust_env=False) as pool:
        for asked in (
            pool.get,
            lambda one: next(iter(pool.map([one]))).unwrap(),
            lambda one: pool.submit("GET", one).result(),
        ):
            with pytest.raises(Exception) as caught:
                asked(url)
            error = caught.value
            told = [*traceback.format_exception(type(error), error, error.__traceback__), repr(error), repr(error.args)]
            told.append(repr(getattr(getattr(error, "request", None), "url", None)))
            assert CANARY not in "".join(told)


def test_a_target_and_a_result_show_no_login() -> None:
    """Their repr has neither the login of the URL nor the values of headers nor a body."""
    target = Target(
        f"http://ada:{CANARY}@h.example/", "POST", {"X-Key": CANARY}, data=CANARY, input=f"http://a:{CANARY}@h/"
    )
    assert (
        repr(target) == "Target('http://h.example/', method='POST', headers=['X-Key'], data=…, input='http://***@h/')"
    )
