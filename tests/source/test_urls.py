"""Tests of crawlpool.source.urls: what becomes of a URL as somebody wrote it."""

from __future__ import annotations

import re
import time

import pytest
import requests
from hypothesis import example, given
from hypothesis import strategies as st

from crawlpool.errors import InputError
from crawlpool.redact import hide
from crawlpool.source.urls import PLAIN, hide_cut, normalize, quoted

LABEL = st.from_regex(r"[a-z0-9_][a-z0-9_-]{0,5}", fullmatch=True)
HOST = st.lists(LABEL, min_size=1, max_size=4).map(".".join)
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
#: Texts that are nearly URLs: the parts are often right, and joined in the right order.
NEARLY_URL = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["http://", "https://", "HTTP://", "ftp://", "//", "", "http:/"]),
        st.sampled_from(["", "user@", "user:pw@", "ü:%41@", "@"]),
        st.one_of(HOST, ANY_TEXT, st.sampled_from(["[::1]", "EXAMPLE.com", "ä.de", "h%6fst", "[fe80::1%25eth0]"])),
        st.sampled_from(["", ":80", ":0", ":", ":65536", ":08080", ":x"]),
        st.sampled_from(["", "/", "/a/../b/.", "/%7e%zz%C3", "/ü ö/", "\\x", "/a%2Fb"]),
        st.one_of(st.just(""), ANY_TEXT.map("?{}".format), ANY_TEXT.map("#{}".format), ANY_TEXT),
    ),
)


@pytest.mark.parametrize(
    ("given_", "fetched"),
    [
        ("http://Example.COM", "http://example.com/"),
        ("HTTPS://example.com/A", "https://example.com/A"),
        ("http://bücher.example/ü ö?q=ä", "http://xn--bcher-kva.example/%C3%BC%20%C3%B6?q=%C3%A4"),
        ("http://faß.de/", "http://xn--fa-hia.de/"),
        ("http://\uff41\u3002com/", "http://a.com/"),
        ("http://example.com/a#part", "http://example.com/a"),
        ("http://example.com#a?b", "http://example.com/"),
        ("http://user:p%40w@example.com/", "http://user:p%40w@example.com/"),
        ("http://h/a/../b/./c", "http://h/b/c"),
        ("http://h?x=1", "http://h/?x=1"),
        ("http://h/100%", "http://h/100%25"),
        ("http://h:080/", "http://h:80/"),
        ("http://h:/x", "http://h/x"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
        ("http://my_host.example./", "http://my_host.example./"),
        ("http://a:1\\@evil/", "http://a:1/%5C@evil/"),
        ("\u00a0http://h/\u3000", "http://h/"),
    ],
)
def test_a_url_is_brought_into_its_normal_form(given_: str, fetched: str) -> None:
    """Host and scheme are lower-cased, IDN becomes punycode, the rest percent-encoded, the fragment dropped."""
    assert normalize(given_) == fetched


@pytest.mark.parametrize(
    ("given_", "reason"),
    [
        ("example.com/a", "no scheme"),
        ("localhost:8080/a", "no scheme"),
        ("//example.com/a", "no scheme"),
        ("://example.com", "no scheme"),
        ("ftp://example.com/", "unsupported scheme"),
        ("httpx://example.com/", "unsupported scheme"),
        ("mailto:somebody", "unsupported scheme"),
        ("javascript:void(0)", "unsupported scheme"),
        ("https:/example.com", "two slashes are missing"),
        ("http:///path", "no host"),
        ("http://user@/path", "no host"),
        ("http://:80/", "no host"),
        ("http://h:65536/", "bad port"),
        ("http://h:0/", "bad port"),
        ("http://h:-1/", "bad port"),
        ("http://h:٣/", "bad port"),
        ("http://h:" + "9" * 5000 + "/", "bad port"),
        ("http://☃☃.example/", "bad international host name"),
        ("http://℀.example/", "bad international host name"),
        ("http://" + "ä" * 300 + "/", "host name of more than 253"),
        ("http://a..b/", "bad host name"),
        ("http://" + "a" * 64 + ".example/", "bad host name"),
        ("http://" + "a." * 127 + "com/", "host name"),
        ("http://[fe80::1%25eth0]/", "bad host name"),
        ("http://a]b/", "bad host name"),
        ("http://[::1/", "bad host name"),
        ("http://[::1]x/", "bad host name"),
        ("http://a^b/", "bad host name"),
        ("http://ex ample/", "no URL that can be fetched"),
        ("http://*.example/", "no URL that can be fetched"),
        ("http://h/\0", "NUL byte at character 10"),
        ("http://h/\x1b[2J", "control character '\\x1b' at character 10"),
        ("http://h/\ta", "control character"),
        ("http://h/\ud800", "half a surrogate pair"),
        ("\u00a0", "no URL"),
    ],
)
def test_what_is_no_url_gets_one_clear_line(given_: str, reason: str) -> None:
    """The message says what is wrong in one printable line of bounded length."""
    with pytest.raises(InputError) as caught:
        normalize(given_)
    assert reason in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 350


@pytest.mark.parametrize(
    ("given_", "fetched"),
    [
        ("example.com/a", "https://example.com/a"),
        ("//example.com/a", "https://example.com/a"),
        ("localhost:8080", "https://localhost:8080/"),
        ("http://example.com/", "http://example.com/"),
        ("bücher.example", "https://xn--bcher-kva.example/"),
    ],
)
def test_a_default_scheme_completes_urls_without_one(given_: str, fetched: str) -> None:
    """``default_scheme`` is put before a host, and never before something that has a scheme."""
    assert normalize(given_, "https") == fetched


@pytest.mark.parametrize("given_", ["mailto:a@b.example", "ftp://h/", "javascript:alert(1)", "http:h"])
def test_a_default_scheme_makes_no_url_of_another_scheme(given_: str) -> None:
    """``mailto:a@b`` isn't a host ``b`` with a user ``mailto``."""
    with pytest.raises(InputError):
        normalize(given_, "https")


@given(NEARLY_URL)
@example("http://[fe80::1%25eth0]/a%20b")
@example("http://h/%2541%")
def test_a_normal_form_is_stable(text: str) -> None:
    """The normal form of a normal form is itself, and requests prepares it as itself."""
    try:
        url = normalize(text)
    except InputError:
        return
    assert normalize(url) == url
    prepared = requests.models.PreparedRequest()
    prepared.prepare_url(url, None)
    assert prepared.url == url
    assert url.isascii()
    assert re.match(r"https?://[^/]+/", url)


@given(NEARLY_URL)
def test_what_requests_makes_of_a_url_is_fetched(text: str) -> None:
    """Where a URL is accepted, it is the very one that requests would fetch, without its fragment."""
    try:
        url = normalize(text)
    except InputError:
        return
    prepared = requests.models.PreparedRequest()
    try:
        prepared.prepare_url(text.strip(), None)
    except requests.RequestException:
        return  # UTS 46 in front of urllib3 accepts a few hosts more
    assert (prepared.url or "").partition("#")[0] == url


SAFE = "aZ09._~!$&'()*+,;=:@-"
ESCAPE = st.sampled_from(["%20", "%25", "%2F", "%3A", "%C3", "%FF", "%00"])
SEGMENT = st.lists(st.one_of(st.sampled_from(list(SAFE)), ESCAPE), max_size=4).map("".join)
PLAIN_URL = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["http://", "https://"]),
        HOST,
        st.sampled_from(["", ":80", ":1", ":9999"]),
        st.one_of(
            st.just(""),
            st.lists(SEGMENT, min_size=1, max_size=4).map(lambda found: "/" + "/".join(found)),
            st.tuples(SEGMENT, SEGMENT).map("/{0[0]}?{0[1]}/?x".format),
        ),
    ),
).filter(lambda text: "/." not in text)


@given(PLAIN_URL)
@example("https://1.2.3.4:80/;a=b//c?/?%20%FF")
@example("http://0x7f.1/")
def test_the_fast_path_is_the_slow_path(text: str) -> None:
    """Each line that the fast path takes comes out of the slow path as itself, with a slash where there was none."""
    match = PLAIN.fullmatch(text.encode())
    assert match is not None
    assert normalize(text) == (text if match[1] is not None else f"{text}/")


@given(NEARLY_URL)
def test_the_fast_path_takes_nothing_that_the_slow_path_changes(text: str) -> None:
    """Of texts of any form, the fast path takes only those that are their own normal form."""
    match = PLAIN.fullmatch(text.encode())
    if match is not None:
        assert normalize(text) == (text if match[1] is not None else f"{text}/")


@pytest.mark.parametrize("end", [b"/a.b%20", b"/", b"a", b"?a", b"%20", b".a", b"-"])
def test_a_line_that_nearly_matches_costs_linear_time(end: bytes) -> None:
    """The pattern of the fast path doesn't backtrack: four times the line is nowhere near 4² times the time."""

    def cost_s(count: int) -> float:
        line = b"https://www.example.com/" + end * count + b"\xff"
        best = 1.0
        for _ in range(5):
            start = time.thread_time()
            assert PLAIN.fullmatch(line) is None
            best = min(best, time.thread_time() - start)
        return best

    assert cost_s(40_000) < 16 * cost_s(10_000) + 0.005


@pytest.mark.parametrize(
    "text",
    [
        "http://user:s3cret@host:99999/",
        "http://user:s3/cret@host/",
        "http://user:s3 cret?x#y@host/",
        "user:s3cret@host/",
        "ftp://user:s3cret@host//x",
        "user:s3cret@host//x",
        r"{\"url\": \"http:\/\/user:s3cret@host\"",
        "http://user:s3cret@ho\0st/",
        "http://user:s3@cret@a^b/",
        "http://user:?s3cret@host:1/qm",
        "http://user:/s3cret@host/",
        "http://user:#s3cret@host/",
        "http://user:s3#cret@[::1]:8080/",
        "http://us:er:80/s3cret@host/",
        "//user:p#s3cret@host",
        "user:s3//cret@host/",
        "http://s3cret:päss@☃.example/",
    ],
)
def test_a_credential_never_shows_in_a_message(text: str) -> None:
    """Whatever is wrong with a URL, its user and password are in no message and in no given input."""
    assert "s3" not in hide(text)
    assert "cret" not in hide(text)
    assert "cret" not in quoted(text)
    for scheme in (None, "https"):
        with pytest.raises(InputError) as caught:
            normalize(text, scheme)
        assert "s3" not in str(caught.value)
        assert "cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("head", "shown"),
    [
        ("http://user:s3cretsecret", "http://…"),
        ("http://user:s3/cret", "http://…"),
        ("http://example.com/aaaa", "http://example.com/aaaa…"),
        ("http://example.com:80/aaaa", "http://example.com:80/aaaa…"),
        ("http://u:s3@h/aaaa", "http://***@h/aaaa…"),
        ("user:s3cretsecret", "user…"),
        ("aaaa", "aaaa…"),
    ],
)
def test_the_head_of_a_cut_line_shows_no_half_credential(head: str, shown: str) -> None:
    """Where the cut may have taken the ``@`` away, what could be a password isn't shown."""
    assert hide_cut(head) == shown
