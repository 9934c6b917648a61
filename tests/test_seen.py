"""What counts as the same target, and what each host has had."""

from __future__ import annotations

from typing import Any

import pytest

from crawlpool.models import Target
from crawlpool.seen import Seen, digest_of, normal_form


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://h.example/a", "HTTP://H.Example:80/a#part"),
        ("https://h.example", "https://h.example:443/"),
        ("http://h.example/a/../b/./c", "http://h.example/b/c"),
        ("http://h.example/a b", "http://h.example/a%20b"),
        ("http://h.example\\a", "http://h.example/a"),
        ("http://bücher.example/ä", "http://xn--bcher-kva.example/%C3%A4"),
        ("http://127.0.0.1/", "http://127.1/"),
    ],
)
def test_spellings_of_one_url_are_one(one: str, other: str) -> None:
    """As the WHATWG URL standard has it, and without the fragment."""
    assert normal_form(one) == normal_form(other)
    assert digest_of(Target(one)) == digest_of(Target(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://h.example/a", "https://h.example/a"),
        ("http://h.example/a", "http://h.example/A"),
        ("http://h.example/a", "http://h.example/a/"),
        ("http://h.example/?a=1&b=2", "http://h.example/?b=2&a=1"),
        ("http://h.example/a", "http://h.example:8080/a"),
        ("http://u@h.example/", "http://h.example/"),
    ],
)
def test_what_may_be_something_else_is(one: str, other: str) -> None:
    """Nothing is guessed about servers: another path, order or login may be another page."""
    assert normal_form(one) != normal_form(other)


@pytest.mark.parametrize("url", ["", "no url", "http://", "http://\ud800/", "x://h/a"])
def test_what_is_no_url_is_itself(url: str) -> None:
    """It has to be told apart from others, too."""
    assert normal_form(url + "#x") == normal_form(url)
    assert digest_of(Target(url or "x")) is not None


@pytest.mark.parametrize(
    "fields",
    [
        {"method": "POST"},
        {"data": b"x"},
        {"data": {"a": "b"}},
        {"params": {"a": "b"}},
        {"headers": {"Accept": "text/plain"}},
    ],
)
def test_a_request_is_more_than_its_url(fields: dict[str, Any]) -> None:
    """Method, data, params and headers make another one; what doesn't change the request doesn't."""
    plain = Target("http://h.example/")
    assert digest_of(Target("http://h.example/", **fields)) != digest_of(plain)
    assert digest_of(Target("http://h.example/", **fields, meta=1)) == digest_of(Target("http://h.example/", **fields))


def test_what_cannot_be_told_is_always_new() -> None:
    """Data that is read as it is sent may be anything."""
    seen = Seen(None)
    target = Target("http://h.example/", data=iter([b"x"]))
    assert seen.duplicate_of(target, 1) is None
    assert seen.duplicate_of(target, 2) is None


def test_the_first_input_is_named() -> None:
    """A duplicate says which input asked for the same; 0 for one that a handler had added."""
    seen = Seen(None)
    assert seen.duplicate_of(Target("http://h.example/a"), 1) is None
    assert seen.duplicate_of(Target("http://h.example/b")) is None
    assert seen.duplicate_of(Target("http://h.example/a#x"), 3) == 1
    assert seen.duplicate_of(Target("http://h.example/b"), 4) == 0


def test_nothing_is_remembered_where_nothing_shall_be() -> None:
    """Without dedupe every target is new."""
    seen = Seen(None, remembers=False)
    assert [seen.duplicate_of(Target("http://h.example/"), n) for n in (1, 2)] == [None, None]


def test_the_share_of_a_host() -> None:
    """What is over is refused; what was given back is counted anew."""
    seen = Seen(2)
    targets = [Target(f"http://h.example/{n}") for n in range(4)]
    assert [seen.refusal_of(target) is None for target in targets] == [True, True, False, False]
    for target in targets:
        seen.give_back(target)
    assert seen.refusal_of(targets[0]) is None
    assert seen.refusal_of(Target("http://other.example/")) is None
