"""Which shard a host belongs to: one for each registrable domain, the same whenever and wherever it is asked."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlpool.errors import ConfigError
from crawlpool.shards import hashing
from crawlpool.shards.hashing import MOST_SHARDS, Sharding, default_shards, one_spelling
from crawlpool.suffixes import SuffixList, installed_list, registrable_domain

SUFFIXES = SuffixList(installed_list())
LABELS = st.sampled_from(["www", "a", "shop", "example", "github", "co", "uk", "io", "com", "xn--p1ai", "127", "ü"])
HOSTS = st.lists(LABELS, min_size=1, max_size=5).map(".".join) | st.sampled_from(["[::1]", "127.0.0.1", "localhost"])


@given(host=HOSTS, count=st.integers(1, MOST_SHARDS))
def test_the_shard_is_the_digest_of_the_registrable_domain(host: str, count: int) -> None:
    """Nothing else decides: so any process, of any version, finds the same one."""
    shard = Sharding(count, SUFFIXES).shard_of(host)
    digest = hashlib.blake2b(registrable_domain(one_spelling(host)).encode(), digest_size=8).digest()
    assert shard == int.from_bytes(digest, "big") % count
    assert 0 <= shard < count


def test_known_shards_stay() -> None:
    """These numbers stand in jobs on disks: a change of the rule would send their hosts elsewhere."""
    sharding = Sharding(64, SUFFIXES)
    assert [sharding.shard_of(host) for host in ("example.com", "crawler.co.uk", "127.0.0.1", "a.github.io")] == KNOWN


KNOWN = [38, 34, 12, 39]


def test_hosts_of_one_registrant_share_a_shard() -> None:
    """The names below a registrable domain lie together; those of two registrants needn't."""
    sharding = Sharding(9999, SUFFIXES)
    assert len({sharding.shard_of(host) for host in ("shop.co.uk", "www.shop.co.uk", "a.b.shop.co.uk")}) == 1
    assert len({sharding.shard_of(f"{name}.github.io") for name in "abcdefgh"}) > 1


@pytest.mark.parametrize(
    ("spellings", "usual"),
    [
        (("127.0.0.1", "0x7f.1", "2130706433", "127.1"), "127.0.0.1"),
        (("[::1]", "[0:0:0::1]", "::1"), "::1"),
        (("xn--mnchen-3ya.example", "m\xfcnchen.example", "m%c3%bcnchen.example"), "xn--mnchen-3ya.example"),
        (("a_b.example",), "a_b.example"),
        (("\xfc..example",), "\xfc..example"),
        (("300.1.1.1",), "300.1.1.1"),
    ],
)
def test_a_host_has_one_owner_however_it_is_spelled(spellings: tuple[str, ...], usual: str) -> None:
    """A duplicate is seen as one, and a host is asked by one worker, in whatever notation a link names it."""
    sharding = Sharding(9999, SUFFIXES)
    assert {one_spelling(host) for host in spellings} == {usual}
    assert len({sharding.shard_of(host) for host in spellings}) == 1


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many hosts there are, only so many are kept; the answers don't change with that."""
    monkeypatch.setattr(hashing, "_MOST_HOSTS", 10)
    sharding, fresh = Sharding(97, SUFFIXES), Sharding(97, SUFFIXES)
    first = [sharding.shard_of(f"h{n}.example") for n in range(100)]
    assert first == [fresh.shard_of(f"h{n}.example") for n in range(100)]
    assert len(sharding._shards) <= 10


def row(host: str, ordinal: int | None = 5, digest: int | None = None) -> tuple[Any, ...]:
    """Return a row of the ledger as far as its shard goes."""
    return (ordinal, host, 0.0, "-", None, digest, 0)


def test_what_has_no_host_goes_by_what_it_asks_for_or_by_its_place() -> None:
    """The same asked for twice comes to one shard, to be told as a duplicate there; bad lines are spread."""
    sharding = Sharding(10, SUFFIXES)
    assert sharding.shard_of_row(row("a.example")) == sharding.shard_of("a.example")
    assert [sharding.shard_of_row(row("", n)) for n in (1, 2, 11)] == [1, 2, 1]
    assert {sharding.shard_of_row(row("", n, -1234)) for n in range(20)} == {-1234 % 10}
    assert sharding.shard_of_row(row("", None)) == 0


@pytest.mark.parametrize("count", [0, -1, 10_000, True, 2.0, "4", None])
def test_a_number_of_shards_that_cant_be_is_refused(count: Any) -> None:
    """The message names the value and the rule."""
    with pytest.raises(ConfigError, match="a whole number, 1 to 9999"):
        Sharding(count, SUFFIXES)


def test_the_default_follows_the_workers() -> None:
    """32 shards for each worker, and never more than there may be."""
    assert [default_shards(workers) for workers in (1, 2, 100, 312, 313, 10_000)] == [32, 64, 3200, 9984, 9999, 9999]
