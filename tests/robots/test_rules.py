"""robots.txt by RFC 9309: the cases that Google publishes for its own parser, counted, and what else it asks for."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlpool.robots import Robots, product_token
from crawlpool.robots.rules import LINE_CHARS, READ_BYTES

H = "http://foo.bar"
FISH_YES = "/fish /fish.html /fish/salmon.html /fishheads /fishheads/yummy.html /fish.html?id=anything"
FISH_NO = "/bar /Fish.asp /catfish /?id=fish"
GROUPS = (
    "allow: /foo/bar/\n\nuser-agent: FooBot\ndisallow: /\nallow: /x/\nuser-agent: BarBot\ndisallow: /\nallow: /y/\n\n\n"
    "allow: /w/\nuser-agent: BazBot\n\nuser-agent: FooBot\nallow: /z/\ndisallow: /\n"
)
LONG_A, LONG_B = ("/x/" + letter * (LINE_CHARS - 3 - len("allow: ") + 1) for letter in "ab")
LONG_X = "/x/" + "a" * (LINE_CHARS - 3 - len("disallow: ") + 1)

#: What Google's robots_test.cc holds: the file (FooBot's rules where no group is named), the crawler, the paths that it
#: may fetch, and those that it may not.
GOOGLE: list[tuple[str, str, str, str]] = [
    # An empty file, an empty crawler.
    ("", "FooBot", "/x/y", ""),
    ("user-agent: FooBot\ndisallow: /\n", "", "/", ""),
    ("", "", "/", ""),
    # Lines.
    ("user-agent: FooBot\ndisallow: /\n", "FooBot", "", "/x/y"),
    ("foo: FooBot\nbar: /\n", "FooBot", "/x/y", ""),
    ("user-agent FooBot\ndisallow /\n", "FooBot", "", "/x/y"),
    # Groups: one goes on after an empty line, its name may come again, rules outside of any are none.
    (GROUPS, "FooBot", "/x/b /z/d", "/y/c /foo/bar/"),
    (GROUPS, "BarBot", "/y/c /w/a", "/z/d /foo/bar/"),
    (GROUPS, "BazBot", "/z/d", "/foo/bar/"),
    ("User-agent: BarBot\nSitemap: https://foo.bar/sitemap\nUser-agent: *\nDisallow: /\n", "FooBot", "", "/"),
    ("User-agent: BarBot\nSitemap: https://foo.bar/sitemap\nUser-agent: *\nDisallow: /\n", "BarBot", "", "/"),
    ("User-agent: FooBot\nInvalid-Unknown-Line: unknown\nUser-agent: *\nDisallow: /\n", "FooBot", "", "/"),
    ("User-agent: FooBot\nInvalid-Unknown-Line: unknown\nUser-agent: *\nDisallow: /\n", "BarBot", "", "/"),
    # Names of lines and of crawlers: of any case, and up to the first character that a name can't have.
    ("USER-AGENT: FooBot\nALLOW: /x/\nDISALLOW: /\n", "FooBot", "/x/y", "/a/b"),
    ("user-agent: FooBot\nallow: /x/\ndisallow: /\n", "FooBot", "/x/y", "/a/b"),
    ("uSeR-aGeNt: FooBot\nAlLoW: /x/\ndIsAlLoW: /\n", "FooBot", "/x/y", "/a/b"),
    *[
        (f"User-Agent: {name}\nAllow: /x/\nDisallow: /\n", agent, "/x/y", "/a/b")
        for name in ("FOO BAR", "foo bar", "FoO bAr")
        for agent in ("Foo", "foo")
    ],
    ("User-Agent: *\nDisallow: /\nUser-Agent: Foo Bar\nAllow: /x/\nDisallow: /\n", "Foo", "/x/y", ""),
    # Everybody's rules are for those who have none of their own.
    ("user-agent: *\nallow: /\nuser-agent: FooBot\ndisallow: /\n", "FooBot", "", "/x/y"),
    ("user-agent: *\nallow: /\nuser-agent: FooBot\ndisallow: /\n", "BarBot", "/x/y", ""),
    (
        "user-agent: FooBot\nallow: /\nuser-agent: BarBot\ndisallow: /\nuser-agent: BazBot\ndisallow: /\n",
        "QuxBot",
        "/x/y",
        "",
    ),
    # Paths have case.
    ("disallow: /x/", "FooBot", "", "/x/y"),
    ("disallow: /X/", "FooBot", "/x/y", ""),
    # The longest match counts, and of two of one length the one that allows.
    ("disallow: /x/page.html\nallow: /x/", "FooBot", "", "/x/page.html"),
    ("allow: /x/page.html\ndisallow: /x/", "FooBot", "/x/page.html", "/x/"),
    ("disallow: \nallow: ", "FooBot", "/x/page.html", ""),
    ("disallow: /\nallow: /", "FooBot", "/x/page.html", ""),
    ("disallow: /x\nallow: /x/", "FooBot", "/x/", "/x"),
    ("disallow: /x/page.html\nallow: /x/page.html", "FooBot", "/x/page.html", ""),
    ("allow: /page\ndisallow: /*.html", "FooBot", "/page", "/page.html"),
    ("allow: /x/page.\ndisallow: /*.html", "FooBot", "/x/page.html", "/x/y.html"),
    ("User-agent: *\nDisallow: /x/\nUser-agent: FooBot\nDisallow: /y/\n", "FooBot", "/x/page", "/y/page"),
    # Encoding.
    (
        "Disallow: /\nAllow: /foo/bar?qux=taz&baz=http://foo.bar?tar&par",
        "FooBot",
        "/foo/bar?qux=taz&baz=http://foo.bar?tar&par",
        "",
    ),
    ("Disallow: /\nAllow: /foo/bar/ツ", "FooBot", "/foo/bar/%E3%83%84", ""),
    ("Disallow: /\nAllow: /foo/bar/%E3%83%84", "FooBot", "/foo/bar/%E3%83%84", ""),
    ("Disallow: /\nAllow: /foo/bar/%62%61%7A", "FooBot", "/foo/bar/%62%61%7A", ""),
    # Special characters.
    ("Disallow: /foo/bar/quz\nAllow: /foo/*/qux", "FooBot", "/foo/quz /foo//quz /foo/bax/quz", "/foo/bar/quz"),
    ("Disallow: /foo/bar$\nAllow: /foo/bar/qux", "FooBot", "/foo/bar/qux /foo/bar/ /foo/bar/baz", "/foo/bar"),
    ("# Disallow: /\nDisallow: /foo/quz#qux\nAllow: /", "FooBot", "/foo/bar", "/foo/quz"),
    # Google's own: index.html means its folder, too; long lines are cut.
    (
        "User-Agent: *\nAllow: /allowed-slash/index.html\nDisallow: /\n",
        "foobot",
        "/allowed-slash/ /allowed-slash/index.html",
        "/allowed-slash/index.htm /anyother-url",
    ),
    (f"disallow: {LONG_X}/qux", "FooBot", "/fux", f"{LONG_X}/fux"),
    (f"disallow: /\nallow: {LONG_A}/qux\nallow: {LONG_B}/qux", "FooBot", f"{LONG_A}/qux {LONG_B}/fux", "/"),
    # The tables of its documentation.
    ("disallow: /\nallow: /fish", "FooBot", FISH_YES, FISH_NO),
    ("disallow: /\nallow: /fish*", "FooBot", FISH_YES, FISH_NO.replace("asp", "bar")),
    (
        "disallow: /\nallow: /fish/",
        "FooBot",
        "/fish/ /fish/salmon /fish/?salmon /fish/salmon.html /fish/?id=anything",
        "/bar /fish /fish.html /Fish/Salmon.html",
    ),
    (
        "disallow: /\nallow: /*.php",
        "FooBot",
        "/filename.php /folder/filename.php /folder/filename.php?parameters //folder/any.php.file.html /filename.php/ "
        "/index?f=filename.php/",
        "/bar /php/ /index?php /windows.PHP",
    ),
    (
        "disallow: /\nallow: /*.php$",
        "FooBot",
        "/filename.php /folder/filename.php",
        "/bar /filename.php?parameters /filename.php/ /filename.php5 /php/ /filename?php /aaaphpaaa //windows.PHP",
    ),
    (
        "disallow: /\nallow: /fish*.php",
        "FooBot",
        "/fish.php /fishheads/catfish.php?parameters",
        "/bar /Fish.PHP",
    ),
    ("allow: /p\ndisallow: /", "FooBot", "/page", ""),
    ("allow: /folder\ndisallow: /folder", "FooBot", "/folder/page", ""),
    ("allow: /page\ndisallow: /*.htm", "FooBot", "", "/page.htm"),
    ("allow: /$\ndisallow: /", "FooBot", "/", "/page.html"),
]

#: Where its tests ask for another answer, and why ours stands.
MISSES: list[tuple[str, str, str, bool]] = [
    # It leaves the encoding of URLs to its caller. We do it: RFC 9309 2.2.2 compares encoded octets.
    ("Disallow: /\nAllow: /foo/bar/ツ", "FooBot", "/foo/bar/ツ", True),
    ("Disallow: /\nAllow: /foo/bar/%E3%83%84", "FooBot", "/foo/bar/ツ", True),
    # RFC 9309 2.2.2: an encoded character that isn't reserved must be decoded before the comparison.
    ("Disallow: /\nAllow: /foo/bar/%62%61%7A", "FooBot", "/foo/bar/baz", True),
    # A crawler is asked for by its product token, which has no space: of "Foo Bar" that is Foo, which has a group.
    ("User-Agent: *\nDisallow: /\nUser-Agent: Foo Bar\nAllow: /x/\nDisallow: /\n", "Foo Bar", "/x/y", True),
    # An empty URL is never asked about: the path of http://foo.bar is /.
]
CHECKS = [
    (file, agent, path, is_allowed)
    for file, agent, yes, no in GOOGLE
    for paths, is_allowed in ((yes, True), (no, False))
    for path in paths.split(" ")
    if path
]


def robots(file: str, agent: str) -> Robots:
    """Return the rules of a file for a crawler; FooBot's where the file names nobody."""
    text = file if "agent" in file.lower() or not file or "foo:" in file else f"user-agent: FooBot\n{file}\n"
    return Robots(text.encode(), product_token(agent))


def test_googles_published_cases() -> None:
    """Each of its checks of a URL passes, but for the listed ones, where the RFC or our caller asks for more."""
    wrong = [
        (file[:60], agent, path[:60])
        for file, agent, path, is_allowed in CHECKS
        if robots(file, agent).allows(H + path) is not is_allowed
    ]
    assert wrong == []
    assert len(CHECKS) == 139
    for file, agent, path, is_allowed in MISSES:
        assert robots(file, agent).allows(H + path) is is_allowed, path


@pytest.mark.parametrize(
    ("agent", "token"),
    [
        ("mybot/1.0 (+https://google.example/bot)", "mybot"),
        ("My-Bot_x", "my-bot_x"),
        ("python-requests/2.34.2", "python-requests"),
        ("Mozilla/5.0 (compatible; MyBot/2.1; +http://x.example)", "mybot"),
        ("Mozilla/5.0 (X11; Linux x86_64)", "mozilla"),
        (" crawlpool/0.1 ", "crawlpool"),
        ("2bot", ""),
        ("", ""),
    ],
)
def test_the_product_token(agent: str, token: str) -> None:
    """It is the name before the version; of one that claims to be compatible with Mozilla it is what it says it is."""
    assert product_token(agent) == token


@pytest.mark.parametrize("name", ["foo", "bot", "foobotics", "http", "foobot2x"])
def test_only_ones_own_group_counts(name: str) -> None:
    """Neither a part of the crawler's name nor a longer one is its name, but for what no name can have after it."""
    file = f"User-agent: {name}\nDisallow: /\nUser-agent: *\nAllow: /\n"
    assert Robots(file.encode(), "foobot").allows(H + "/x") is (name != "foobot2x")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf", b"\xef\xbb", b"\xef"])
def test_line_ends_and_byte_order_marks(end: str, mark: bytes) -> None:
    """Lines may end in any of three ways, and a byte order mark, even half of one, is no part of the first."""
    body = mark + end.join(["User-agent: *", "Disallow: /x", "Crawl-delay: 0.25"]).encode()
    rules = Robots(body, "foobot")
    assert (rules.allows(H + "/x"), rules.allows(H + "/y"), rules.crawl_delay_s) == (False, True, 0.25)


def test_other_line_ends_of_unicode_are_part_of_a_path() -> None:
    """A form feed or a line separator ends no line: what follows it is no rule of its own."""
    for character in "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029":
        rules = Robots(f"User-agent: *\nDisallow: /a{character}Disallow: /\n".encode(), "foobot")
        assert rules.allows(H + "/b")


def test_the_first_500_kib_are_read_at_least() -> None:
    """A rule there holds, whatever follows; the line that is cut is none."""
    line = b"# %s\n" % (b"x" * 61)
    filler = line * (500 * 1024 // len(line))
    assert not Robots(b"User-agent: *\n" + filler + b"Disallow: /x\n" + filler, "foobot").allows(H + "/x")
    start = b"User-agent: *\nDisallow: /x\n"
    body = start + b"#" * (READ_BYTES - len(start) - 12) + b"\nDisallow: /only-here\n"
    assert Robots(body, "foobot").allows(H + "/o")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<!doctype html><html><body>Not found</body></html>",
        bytes(range(256)) * 50,
        b"\xff\xfeU\x00s\x00",
        b"\x00" * 999,
    ],
)
def test_what_is_no_robots_txt_allows_everything(body: bytes) -> None:
    """HTML in its place, or bytes that are no text, has no rules."""
    rules = Robots(body, "foobot")
    assert rules.allows(H + "/x")
    assert (rules.crawl_delay_s, rules.sitemaps) == (0.0, ())


def test_crawl_delay_and_sitemaps() -> None:
    """The delay is of the crawler's own group, fractions count, what is no number is none; sitemaps are for all."""
    file = b"Sitemap: https://a.example/1.xml\nUser-agent: *\nCrawl-delay: 9\n\n"
    file += b"User-agent: foobot\nCrawl-delay: .5\nSitemap: /2\n"
    assert Robots(file, "foobot").crawl_delay_s == 0.5
    assert Robots(file, "other").crawl_delay_s == 9
    assert Robots(file, "other").sitemaps == ("https://a.example/1.xml", "/2")
    for value in (b"soon", b"-1", b"nan", b"inf", b""):
        assert Robots(b"User-agent: *\nCrawl-delay: " + value, "foobot").crawl_delay_s == 0.0


HOSTILE = {
    "stars": "*a" * 60 + "b$",
    "one long pattern": "*" + "a" * 250_000 + "b",
    "dollars": "a$" * 4000,
    "percents": "%61" * 5000,
    "stars only": "*" * 16_000,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_patterns_take_no_time(kind: str) -> None:
    """500 KiB of patterns made to be slow are read and asked in time that grows with their length alone."""

    def work(size: int) -> float:
        line = f"Disallow: /{HOSTILE[kind]}\n"
        body = ("User-agent: *\n" + line * (size // len(line) + 1)).encode()[:size]
        begin = time.process_time()
        Robots(body, "foobot").allows(H + "/" + "a" * 2000)
        return time.process_time() - begin

    small, big = min(work(50_000) for _ in range(3)), min(work(500 * 1024) for _ in range(3))
    assert big < 60 * max(small, 0.002)  # ten times as much; the square of that would be a hundred


@given(st.binary(max_size=300), st.text(max_size=40))
def test_nothing_makes_it_raise(body: bytes, path: str) -> None:
    """Any bytes are a file, and any URL can be asked about."""
    assert Robots(b"User-agent: *\nDisallow: /" + body, "foobot").allows(f"{H}/{path}") in (True, False)
