"""What a plan says in its table and sentences: what decides, and what would help."""

from __future__ import annotations

import re
from typing import Any

import pytest

from crawlpool.cli.pace import Pace
from crawlpool.cli.plan_text import LeftOut, number_of, text_of
from crawlpool.limits import POLITE, HostLimits
from crawlpool.plan import Terms, plan_of


def text(counts: dict[str, int], *, top: int = 10, bad_lines: int = 0, duplicates: int = 0, **terms: Any) -> str:
    """Return the text of the plan of some hosts; ``terms`` are those that differ from the defaults."""
    pace = Pace(terms.get("limits", POLITE), terms.get("rate"), not terms.get("robots", True))
    return text_of(plan_of(counts, Terms(**terms), top), pace, LeftOut(bad_lines, duplicates))


def hosts(number: int, urls: int = 1) -> dict[str, int]:
    """Return so many hosts that are alike."""
    return {f"h{n}.example": urls for n in range(number)}


def test_few_hosts_are_told_as_such() -> None:
    """Three of 303 hosts hold 97 % of 10,000 URLs: the text says so, and what the others would take without them."""
    shops = {"shop0.example": 3_234, "shop1.example": 3_233, "shop2.example": 3_233}
    shown = text({**shops, **hosts(300)}, top=2)
    assert "\n301 other hosts   3,533   35.3 %\n" in shown
    assert "10,000 URLs of 303 hosts, and 303 robots.txt; 3 of these hosts hold 97.0 % of the URLs.\n" in shown
    assert "A run takes at least 53 min 54 s" in shown
    assert "3 of the hosts decide that: one request at a time" in shown
    assert "the delay alone takes 26 min 57 s for shop0.example, however fast it answers.\n" in shown
    assert "Without them the other 300 hosts would be done in 18.8 s.\n" in shown
    assert "More in flight than 16 (--in-flight, --threads) would bring nothing; 2 are enough." in shown
    named = text({**shops, **hosts(300)})
    assert "shop0.example, shop1.example and shop2.example decide that: " in named


def test_one_host_alone_has_no_others() -> None:
    """It decides; where no hosts are shown it isn't named, and a limit without a delay has no delay to tell of."""
    shown = text({"a.example": 9}, limits=HostLimits(concurrency=2), robots=False)
    assert "a.example decides that: at most 2 at once per host; robots.txt is IGNORED.\nMore in flight" in shown
    assert "Crawl-delay" not in shown and "Without" not in shown and "delay alone" not in shown
    assert "2 at once per host; robots" in text(
        {"a.example": 9}, limits=HostLimits(concurrency=2), robots=False, rate=9.0
    )
    assert "9 URLs of 1 host, and its robots.txt." in text({"a.example": 9})
    own = text({"a.example": 9, "127.0.0.1": 9}, limits=HostLimits(delay_s=1.0, loopback_exempt=True))
    assert "18 URLs of 2 hosts, and 1 robots.txt." in own
    assert "\nOne host decides that: " in text({"a.example": 9}, top=0)[-400:]
    assert "\nThe hosts decide that: " in text(hosts(9, 50), top=1)


def test_many_hosts_are_told_what_more_in_flight_brings() -> None:
    """How long twice as many take, and from which number on more are of no use."""
    shown = text(hosts(1000), in_flight=10, top=0)
    assert shown.startswith("1,000 URLs of 1,000 hosts, and 1,000 robots.txt.\n")
    assert "The requests in flight decide that, 10 at once; the slowest host alone would take 1.5 s.\n" in shown
    assert shown.endswith(
        "With 20 in flight (--in-flight, --threads) it would be 50.0 s; from 667 on more bring nothing, "
        "and it is 1.5 s."
    )


def test_the_rate_is_told_where_it_decides() -> None:
    """By the option's name."""
    shown = text(hosts(100), rate=0.5)
    assert "--rate 0.5/s decides that; the slowest host alone would take 1.5 s, the requests with 16 in flight" in shown
    assert shown.endswith("More in flight than 16 (--in-flight, --threads) would bring nothing; 1 is enough.")


@pytest.mark.parametrize(("urls", "share"), [(2500, ">99.9 %"), (1000, "99.9 %"), (1, "50.0 %")])
def test_a_share_is_none_and_all_only_where_it_is(urls: int, share: str) -> None:
    """No 0.0 % for a host that has a URL, no 100.0 % for one beside which there is another."""
    rows = dict(re.findall(r"(?m)^(\w)\.example +[\d,]+ +(\S+ %) ", text({"a.example": urls, "b.example": 1})))
    assert rows == {"a": share, "b": {">99.9 %": "<0.1 %", "99.9 %": "0.1 %", "50.0 %": "50.0 %"}[share]}
    assert " 100.0 % " in text({"a.example": urls})


def test_more_in_flight_than_the_option_takes_is_not_advised() -> None:
    """Where each of 200,000 URLs could be fetched at once, only the machine sets the bound."""
    shown = text(hosts(200_000), robots=False)
    assert "it would be 52 min 05 s, and so on: as many as this machine bears are of use." in shown


def test_duplicates_are_told() -> None:
    """How many lines a run would skip."""
    assert "\n2 lines more ask for the same again, and would be skipped." in text({"a.example": 1}, duplicates=2)


def test_bad_lines_stand_at_the_end() -> None:
    """They are what a run would record as failed."""
    end = " can't be fetched, and would be recorded as failed."
    assert text({"a.example": 1}, bad_lines=1).endswith(f"\n1 line{end}")
    assert text({}, bad_lines=2000) == f"There is no URL in this input: nothing to fetch.\n2,000 lines{end}"


def test_a_long_host_is_cut() -> None:
    """A name of 250 characters doesn't tear the table apart."""
    shown = text({f"{'x' * 60}.{'y' * 60}.example": 3, "b.example": 1})
    assert f"\n{'x' * 59}…" in f"\n{shown}"
    assert "y" * 20 not in shown


def test_numbers_have_their_plural() -> None:
    """One host, several hosts."""
    assert (number_of(1, "host"), number_of(12_345, "host")) == ("1 host", "12,345 hosts")
