"""One ``Set-Cookie`` value taken apart: attributes, limits, what is refused, and the time that hostile ones take."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlpool.cookies.setcookie import MAX_AGE_S, MAX_ATTRIBUTE, MAX_COOKIE, parse_set_cookie
from tests.cookies.helpers import NOW_S

NOW = int(NOW_S)


def said(line: str) -> dict[str, Any]:
    """Return what a value says that isn't what ``a=1`` says."""
    found, plain = parse_set_cookie(line, NOW_S), parse_set_cookie("a=1", NOW_S)
    assert found is not None and plain is not None
    return {name: value for name, value in vars(found).items() if value != vars(plain)[name]}


@pytest.mark.parametrize(
    ("line", "differs"),
    [
        ("a=1; Path=/p; path=/q", {"path": "/q"}),
        ("a=1; Path=/p; path=q", {}),
        ("a=1; Domain=.EXAMPLE.com", {"domain": "example.com"}),
        ("a=1; Domain=x.example; Domain", {}),
        ("a=1;SECURE;HttpOnly=0", {"secure": True, "http_only": True}),
        ("a=1; SameSite=lAX", {"same_site": "Lax"}),
        ("a=1; SameSite=strict; SameSite=new", {}),
        ("a=1; Max-Age=60", {"expires": NOW + 60}),
        ("a=1; Max-Age=60; Max-Age=x", {"expires": NOW + 60}),
        ("a=1; Max-Age=+60", {}),
        ("a=1; Max-Age=6\u0660", {}),
        ("a=1; Max-Age=", {}),
        ("a=1; Max-Age=0", {"expires": 0}),
        ("a=1; Max-Age=-5", {"expires": 0}),
        (f"a=1; Max-Age={'9' * 900}", {"expires": NOW + MAX_AGE_S}),
        ("a=1; Expires=Fri, 31 Dec 9999 23:59:59 GMT", {"expires": NOW + MAX_AGE_S}),
        ("a=1; Expires=Thu, 01 Jan 1601 00:00:00 GMT", {"expires": 0}),
        ("a=1; Expires=Thu, 01 Jan 1600 00:00:00 GMT", {}),
        ("a=1; Expires=Mon, 30 Feb 2026 00:00:00 GMT", {}),
        ("a=1; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:01 GMT", {"expires": NOW + 60}),
        ("a=1; Expires=Fri, 31 Dec 9999 23:59:59 GMT; Max-Age=0", {"expires": 0}),
        (f"a=1; Path=/{'p' * (MAX_ATTRIBUTE - 1)}", {"path": "/" + "p" * (MAX_ATTRIBUTE - 1)}),
        (f"a=1; Path=/{'p' * MAX_ATTRIBUTE}; Secure", {"secure": True}),
        ('a="1; Path=/p"', {"value": '"1', "path": '/p"'}),
        ("\t a \t=\t 1 \t;\tSecure\t", {"secure": True}),
        ("a= 1 2 ", {"value": "1 2"}),
        ("\x0ca=1"[1:], {}),
    ],
)
def test_attributes(line: str, differs: dict[str, Any]) -> None:
    """The last of a kind counts, ``Max-Age`` before ``Expires``, 400 days at most; what makes no sense is passed by."""
    assert said(line) == differs


@pytest.mark.parametrize("code", [*range(9), *range(10, 32), 127])
def test_control_characters_are_refused(code: int) -> None:
    """A control character anywhere drops the whole cookie; a tab doesn't."""
    for line in (f"a{chr(code)}=1", f"a=1{chr(code)}", f"a=1; Path=/{chr(code)}", f"a=1; x={chr(code)}"):
        assert parse_set_cookie(line, NOW_S) is None
    assert parse_set_cookie("a=1\t2", NOW_S) is not None


@pytest.mark.parametrize("name_length", [0, 1, 2000, MAX_COOKIE])
def test_size_of_name_and_value(name_length: int) -> None:
    """Name and value have 4,096 octets together at most; blanks around them don't count."""
    name, value = "n" * name_length, "v" * (MAX_COOKIE - name_length)
    found = parse_set_cookie(f"  {name} =  {value}  ; Secure", NOW_S)
    assert found is not None and (found.name, found.value) == (name, value)
    assert parse_set_cookie(f"{name}={value}v", NOW_S) is None


@given(st.text(st.characters(max_codepoint=255), max_size=200))
def test_any_value_is_read_or_refused(line: str) -> None:
    """Whatever comes, nothing raises, and what is taken is within every limit and holds no control character."""
    found = parse_set_cookie(line, NOW_S)
    if found is None:
        return
    assert found.name or found.value
    assert ";" not in found.name + found.value and "=" not in found.name
    text = found.name + found.value + found.domain + found.path
    assert not any(c == "\x7f" or (c < " " and c != "\t") for c in text)
    assert found.expires is None or 0 <= found.expires <= NOW + MAX_AGE_S


JUNK: dict[str, Callable[[int], str]] = {
    "semicolons": lambda n: ";" * n,
    "equals": lambda n: "=" * n,
    "letters": lambda n: "a" * n,
    "blanks": lambda n: "a=1;" + " " * n,
    "blanks and letters": lambda n: "a=1; x=" + " b" * (n // 2),
    "quotes": lambda n: 'a="' + '\\"' * (n // 2),
    "attributes": lambda n: "a=1" + ";Path=/" * (n // 7),
    "dates": lambda n: "a=1" + "; Expires=1 1 1 1:1:1 a" * (n // 23),
    "long date": lambda n: "a=1; Expires=" + "1:1:" * (n // 4),
    "many tokens": lambda n: "a=1; Expires=" + "1:" * 511 + "; Expires=" + "9 " * 511 + ";x" * (n // 2),
    "digits": lambda n: "a=1; Max-Age=" + "9" * n,
    "ages": lambda n: "a=1" + ("; Max-Age=" + "9" * 1000) * (n // 1010),
    "domains": lambda n: "a=1; Domain=" + "a." * (n // 2),
    "dots": lambda n: "a=1; Domain=" + "." * n,
    "controls": lambda n: "\t" * n + "\x01",
    "commas": lambda n: "a=1" + ", b=2" * (n // 5),
}


@pytest.mark.parametrize("kind", JUNK)
def test_hostile_values_take_linear_time(kind: str) -> None:
    """64 times as much of any junk takes no more than some 64 times as long; quadratic time would be 4,096 times."""

    def fastest(line: str) -> float:
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            parse_set_cookie(line, NOW_S)
            times.append(time.perf_counter() - begin)
        return min(times)

    short, long = fastest(JUNK[kind](1024)), fastest(JUNK[kind](65_536))
    assert long < max(short, 20e-6) * 64 * 8
