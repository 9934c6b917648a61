"""What ``crawlpool plan`` says of shards: the dominant one, what it costs, and how many workers are enough."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from crawlpool.cli import main
from crawlpool.cli.plan_shards import sentences_of
from crawlpool.plan import Terms
from crawlpool.shards.hashing import Sharding
from crawlpool.shards.shares import shares_of
from crawlpool.suffixes import SuffixList

Capture = pytest.CaptureFixture[str]
SUFFIXES = SuffixList(b"example\n")


def said(counts: dict[str, int], shards: int, workers: int, **terms: Any) -> str:
    """Return the sentences about some hosts."""
    shares = shares_of(counts, Sharding(shards, SUFFIXES), Terms(**terms), workers)
    return "\n".join(sentences_of(shares, sum(counts.values())))


def test_a_dominant_host_is_named_with_what_it_costs() -> None:
    """The shard that it is in decides; the text says how many workers are enough beside it."""
    text = said({"big.example": 9_000, **{f"h{n}.example": 10 for n in range(100)}}, 64, 8)
    assert text.startswith("Of 64 shards (--shards) ")
    assert "of them, an even share would be 1.6 %.\n" in text
    assert "\n8 workers (--workers) with 32 shards open at once take at least 2 h 30 min; 1 is enough.\n" in text
    assert "No number of workers is faster than the slowest shard, 2 h 30 min: " in text
    assert "a host stays in one shard" in text and "big.example" in text


def test_a_shard_of_one_host_is_told_as_such() -> None:
    """Where no other host is in it nothing is said of its registrable domain."""
    text = said({"big.example": 100}, 1, 1)
    assert text.splitlines()[0] == (
        "Of 1 shard (--shards) 1 have URLs; the largest has 100.0 % of them, an even share would be 100.0 %."
    )
    assert text.endswith(": it has big.example alone, and a host stays in one shard.")


def test_more_workers_are_spoken_of_where_they_bring_something() -> None:
    """Where all shards together are the bound the text says up to how many workers it goes faster."""
    text = said({f"h{n}.example": 100 for n in range(640)}, 640, 2, in_flight=1000)
    assert "\n2 workers (--workers) with 32 shards open at once take at least " in text
    assert "; more would be faster, up to " in text


def test_nothing_is_said_of_shards_that_have_nothing() -> None:
    """An empty list has one sentence, and that is the plan's."""
    assert said({}, 4, 2) == ""


@pytest.fixture
def urls(tmp_path: pathlib.Path) -> str:
    """Make a list of two hosts."""
    path = tmp_path / "urls.txt"
    path.write_text("".join(f"http://{host}.example/{n}\n" for n in range(5) for host in "ab"))
    return str(path)


def told(capfd: Capture, *arguments: str) -> str:
    """Return what the command says on standard output."""
    assert main(["plan", *arguments]) == 0
    return capfd.readouterr().out


def test_json_has_the_same_facts(urls: str, capfd: Capture) -> None:
    """The key is there in any case, so that a program needn't look for it."""
    assert json.loads(told(capfd, urls, "--json"))["sharded"] is None
    found = json.loads(told(capfd, urls, "--json", "--shards", "7", "--workers", "3"))["sharded"]
    assert (found["shards"], found["workers"], found["at_once"]) == (7, 3, 32)
    assert found["slowest"]["demanded_s"] == found["total_s"] == 5.5
    assert set(found["largest"]) == {"shard", "hosts", "urls", "share", "demanded_s", "host", "host_urls"}
    assert json.loads(told(capfd, urls, "--json", "--workers", "2"))["sharded"]["shards"] == 64
    assert json.loads(told(capfd, urls, "--json", "--shards", "4"))["sharded"]["workers"] == 1


def test_shards_are_spoken_of_only_where_they_are_asked_for(urls: str, capfd: Capture) -> None:
    """One of the options is enough, and without both the plan is what it was."""
    assert "shard" not in told(capfd, urls)
    assert "Of 5 shards (--shards) " in told(capfd, urls, "--shards", "5")
    assert "2 workers (--workers)" in told(capfd, urls, "--workers", "2")


@pytest.mark.parametrize("more", [["--shards", "0"], ["--shards", "10000"], ["--workers", "0"], ["--workers", "x"]])
def test_numbers_that_cant_be_are_usage_errors(urls: str, more: list[str], capfd: Capture) -> None:
    """The message names the option and the value; exit code 2."""
    assert main(["plan", urls, *more]) == 2
    assert more[0] in capfd.readouterr().err
