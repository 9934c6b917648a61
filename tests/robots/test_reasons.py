"""Which line of a robots.txt decides: the one by which ``Robots`` itself comes to its verdict."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlpool.robots.reasons import deciding_lines
from crawlpool.robots.rules import Robots

FILE = b"""\xef\xbb\xbf# all
User-agent: other
Disallow: /

User-agent: MyBot/2.0
user agent: third
Disallow: /private
Allow: /private/open  # but that
Disallow: /*.pdf$
Sitemap: https://h.example/s.xml
Disallow:
User-agent: *
Disallow: /everybody
"""


@pytest.mark.parametrize(
    ("token", "path", "agent", "rule"),
    [
        ("mybot", "/private/x", 5, 7),
        ("third", "/private/x", 6, 7),
        ("mybot", "/private/open", 5, 8),
        ("mybot", "/a.pdf", 5, 9),
        ("other", "/private/open", 2, 3),
        ("none", "/everybody/x", 12, 13),
        ("", "/everybody", 12, 13),
    ],
)
def test_the_line_that_decides(token: str, path: str, agent: int, rule: int) -> None:
    """Of the group that names the crawler, or of that for everybody, the longest rule that matches."""
    found = deciding_lines(FILE, token, f"https://h.example{path}")
    assert found is not None
    assert (found[0].number, found[1].number) == (agent, rule)
    lines = FILE.decode("utf-8-sig").split("\n")
    assert (found[0].text, found[1].text) == (lines[agent - 1], lines[rule - 1])


@pytest.mark.parametrize(("token", "path"), [("mybot", "/everybody"), ("none", "/private"), ("mybot", "/a.pdfx")])
def test_no_line_decides(token: str, path: str) -> None:
    """Then it is allowed."""
    assert deciding_lines(FILE, token, f"https://h.example{path}") is None
    assert Robots(FILE, token).allows(f"https://h.example{path}")


def test_a_group_without_rules_counts() -> None:
    """Who is named and told nothing may fetch everything."""
    body = b"User-agent: *\nDisallow: /\nUser-agent: mybot\n"
    assert deciding_lines(body, "mybot", "https://h.example/") is None
    assert deciding_lines(body, "other", "https://h.example/") is not None
    assert deciding_lines(b"", "mybot", "https://h.example/") is None


paths = st.text("ab/*$", min_size=1, max_size=5).map(
    lambda text: "/" + text.replace("$", "") + "$" * text.endswith("$")
)
rules = st.lists(st.tuples(st.sampled_from(["Allow", "Disallow"]), paths), max_size=6)


@given(
    groups=st.lists(st.tuples(st.sampled_from(["*", "mybot", "other"]), rules), max_size=4),
    path=st.text("ab/", max_size=6),
)
def test_it_agrees_with_the_verdict(groups: list[tuple[str, list[tuple[str, str]]]], path: str) -> None:
    """The rule that is named says what was decided; where none is, all is allowed."""
    text = "\n".join(
        line for name, rules in groups for line in (f"User-agent: {name}", *(f"{kind}: {at}" for kind, at in rules))
    )
    url = f"https://h.example/{path}"
    found = deciding_lines(text.encode(), "mybot", url)
    assert Robots(text.encode(), "mybot").allows(url) is (found is None or found[1].text.startswith("Allow"))
