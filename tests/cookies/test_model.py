"""The law of RFC 6265bis: for any answers, what goes out is what an independent, tiny model of the RFC sends."""

from __future__ import annotations

import dataclasses
from urllib.parse import urlsplit

from hypothesis import given
from hypothesis import strategies as st

from crawlpool.cookies import CookieStore, RequestCookies
from crawlpool.suffixes import registrable_domain
from tests.cookies.helpers import NOW_S, posed_time

HOSTS = (
    *("example.co.uk", "www.example.co.uk", "a.www.example.co.uk", "other.co.uk", "co.uk", "uk"),
    *("user.github.io", "github.io", "10.0.0.1", "intranet", "xexample.co.uk"),
)
#: What the model takes for public suffixes; the store asks the list.
SUFFIXES = {"uk", "co.uk", "io", "github.io", "intranet", "com"}
PATHS = ("/", "/a", "/a/", "/a/b", "/ab")


@dataclasses.dataclass
class Kept:
    """A cookie as the RFC describes it."""

    name: str
    value: str
    domain: str
    host_only: bool
    path: str
    secure: bool
    dies_at: float


class Model:
    """A user agent by the text of the RFC: one list, looked through from end to end."""

    def __init__(self) -> None:
        self.jar: list[Kept] = []

    def receive(self, url: str, attributes: list[tuple[str, str]], name: str, value: str, now: float) -> None:
        """Do what sections 5.6 and 5.7 say."""
        self.alive(now)
        parts = urlsplit(url)
        host, said = str(parts.hostname), dict(attributes)
        domain = said.get("Domain", "").lstrip(".")
        if domain in SUFFIXES:
            if domain != host:
                return
            domain = ""
        if domain and not self.domain_match(host, domain):
            return
        path = said.get("Path", "")
        if not path.startswith("/"):
            path = parts.path.rsplit("/", 1)[0] or "/"
        secure = "Secure" in said
        if secure and parts.scheme != "https":
            return
        dies_at = now + int(said["Max-Age"]) if "Max-Age" in said else float("inf")
        host_only = not domain or domain[0].isdigit()
        new = Kept(name, value, domain or host, host_only, path, secure, dies_at)
        if parts.scheme != "https" and any(
            kept.secure
            and kept.name == name
            and (self.domain_match(kept.domain, new.domain) or self.domain_match(new.domain, kept.domain))
            and self.path_match(new.path, kept.path)
            for kept in self.jar
        ):
            return
        lowered = name.lower()
        if lowered.startswith("__secure-") and not secure:
            return
        if lowered.startswith("__host-") and not (secure and not domain and said.get("Path") == "/"):
            return
        for n, kept in enumerate(self.jar):
            if (kept.name, kept.domain, kept.host_only, kept.path) == (name, new.domain, new.host_only, path):
                if dies_at <= now:
                    del self.jar[n]
                else:
                    self.jar[n] = new
                return
        if dies_at > now:
            self.jar.append(new)

    def send(self, url: str, now: float) -> list[str]:
        """Do what section 5.8.3 says."""
        parts = urlsplit(url)
        host, path = str(parts.hostname), parts.path or "/"
        going = [
            kept
            for kept in self.alive(now)
            if (host == kept.domain if kept.host_only else self.domain_match(host, kept.domain))
            and self.path_match(path, kept.path)
            and (not kept.secure or parts.scheme == "https")
        ]
        going.sort(key=lambda kept: -len(kept.path))
        return [f"{kept.name}={kept.value}" for kept in going]

    def alive(self, now: float) -> list[Kept]:
        """Return what hasn't expired, and forget the rest."""
        self.jar = [kept for kept in self.jar if kept.dies_at > now]
        return self.jar

    @staticmethod
    def domain_match(host: str, domain: str) -> bool:
        return host == domain or (host.endswith("." + domain) and not host[-1].isdigit())

    @staticmethod
    def path_match(asked: str, path: str) -> bool:
        return asked == path or (asked.startswith(path) and (path[-1] == "/" or asked[len(path)] == "/"))


urls = st.builds("{}://{}{}".format, st.sampled_from(["https", "http"]), st.sampled_from(HOSTS), st.sampled_from(PATHS))
attributes = st.lists(
    st.one_of(
        st.tuples(st.just("Domain"), st.sampled_from(["", *HOSTS, *(f".{host}" for host in HOSTS), "com", "0.0.1"])),
        st.tuples(st.just("Path"), st.sampled_from([*PATHS, "", "x"])),
        st.tuples(st.just("Secure"), st.just("")),
        st.tuples(st.just("Max-Age"), st.sampled_from(["5", "60", "0", "-1"])),
    ),
    max_size=3,
)
names = st.sampled_from(["a", "b", "__Host-a", "__secure-b"])
answers = st.tuples(st.just("answer"), urls, attributes, names)
events = st.one_of(answers, answers, answers, st.tuples(st.just("tick"), st.sampled_from([1, 4, 30])))


@given(st.lists(events, max_size=25), st.lists(urls, min_size=1, max_size=8))
def test_what_goes_out_is_what_the_model_sends(history: list[tuple[object, ...]], asked: list[str]) -> None:
    """A store, and a view of it, send exactly the model's cookies, in its order, to any host, path and scheme."""
    with posed_time() as clock:
        clock.now_s = int(NOW_S)
        store, model = CookieStore(), Model()
        for number, (what, *rest) in enumerate(history):
            if what == "tick":
                clock.now_s += rest[0]  # type: ignore[operator]
                continue
            url, said, name = rest
            line = "; ".join([f"{name}={number}", *(f"{key}={text}" for key, text in said)])  # type: ignore[attr-defined]
            store.take([line], str(url))
            model.receive(str(url), said, str(name), str(number), clock.now_s)  # type: ignore[arg-type]
        for url in asked:
            expected = "; ".join(model.send(url, clock.now_s)) or None
            assert RequestCookies(store).header_for(url) == expected
            assert store.header_for(url) == expected


@given(st.lists(st.tuples(urls, attributes), max_size=20), st.lists(urls, min_size=1, max_size=8))
def test_no_header_has_a_cookie_of_another_registrable_domain(
    history: list[tuple[str, list[tuple[str, str]]]], asked: list[str]
) -> None:
    """Each cookie tells in its value who set it; no header ever has one of a host of another registrable domain."""
    store = CookieStore()
    for number, (url, said) in enumerate(history):
        host = urlsplit(url).hostname
        store.take(["; ".join([f"c{number}={host}", *(f"{key}={text}" for key, text in said)])], url)
    for url in asked:
        mine = registrable_domain(str(urlsplit(url).hostname))
        for part in (store.header_for(url) or "").split("; "):
            assert not part or registrable_domain(part.partition("=")[2]) == mine
