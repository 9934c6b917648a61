"""Several proxies: one exit for each host, those that fail rest, and only their hosts move."""

from __future__ import annotations

import collections

import hypothesis
import pytest
from hypothesis import strategies as st

from crawlpool.politeness import Exit, Exits, Passage, Rate, Valve
from crawlpool.politeness.exits import FAILURES, REST_S, TRIES, key_of
from crawlpool.politeness.outage import DOMAINS, EXCUSES

URLS = tuple(f"http://10.0.0.{number}:3128" for number in range(1, 6))
HOSTS = [f"www.site{number}.example" for number in range(3000)]
NOW = 1000.0

names = st.from_regex(r"[a-z0-9]{1,8}(\.[a-z0-9]{1,8}){0,2}", fullmatch=True)
lists = st.lists(st.sampled_from(URLS), min_size=2, unique=True)


def send(exits: Exits, host: str, passage: Passage, now: float = NOW, avoided: tuple[Exit, ...] = ()) -> Exit | None:
    """Have a request go and end so; return its exit."""
    exit_ = exits.take(host, now, avoided)
    if exit_ is not None:
        exits.ended(exit_, host, passage, now, is_try=exit_.is_resting)
    return exit_


def rest(exits: Exits, exit_: Exit, now: float = NOW) -> None:
    """Have an exit fail until it rests."""
    while not exit_.is_resting:
        exits.ended(exit_, "any.example", Passage.FAILED, now, is_try=False)


def rest_all(exits: Exits, now: float = NOW) -> None:
    """Have all rest."""
    for exit_ in exits.all:
        rest(exits, exit_, now)


def told(exits: Exits) -> list[tuple[str, str]]:
    """Return the news, and have none left."""
    news, exits.news = exits.news, []
    return [(event, exit_.name) for event, exit_ in news]


@hypothesis.given(names, lists, st.data())
def test_a_host_has_the_same_exit_as_long_as_it_is_well(host: str, urls: list[str], data: st.DataObject) -> None:
    """Whatever the order of the list, whatever came before, with other logins, and in another process's objects."""
    exits = Exits(urls)
    home = exits.home(host).name
    again = Exits([url.replace("//", "//me:secret@") for url in data.draw(st.permutations(urls))])
    assert again.home(host).name == home
    for _ in range(5):
        taken = send(exits, host, data.draw(st.sampled_from([Passage.THROUGH, Passage.UNKNOWN, Passage.UNSENT])))
        assert taken is not None and taken.name == home
    assert exits.of(host).name == home


@hypothesis.given(st.lists(names, min_size=1, max_size=30, unique=True), lists, st.data())
def test_only_the_hosts_of_those_that_rest_move(hosts: list[str], urls: list[str], data: st.DataObject) -> None:
    """To the next exit in the host's own order, where nothing else is changed; and back when it is well."""
    exits = Exits(urls)
    before = {host: exits.home(host) for host in hosts}
    resting = data.draw(st.sets(st.sampled_from(exits.all), max_size=len(urls) - 1))
    for exit_ in resting:
        rest(exits, exit_)
    left = Exits([url for url, exit_ in zip(urls, exits.all, strict=True) if exit_ not in resting])
    for host in hosts:
        taken = exits.take(host, NOW)
        assert taken is not None
        assert taken is (exits.of(host))
        assert taken.name == left.home(host).name, "as if those that rest weren't there"
        assert (taken is before[host]) == (before[host] not in resting)
    for exit_ in resting:
        exits.ended(exit_, "any.example", Passage.THROUGH, NOW, is_try=True)
    assert {host: exits.take(host, NOW) for host in hosts} == before


def test_the_shares_are_about_equal() -> None:
    """Of 3,000 hosts each of five exits has a fifth, and when one rests the others share what it had."""
    exits = Exits(URLS)
    shares = collections.Counter(exits.home(host).name for host in HOSTS)
    assert all(abs(count - 600) < 100 for count in shares.values()), shares  # 4.5 standard deviations
    gone = exits.all[0]
    rest(exits, gone)
    taken = [exits.take(host, NOW) for host in HOSTS if exits.home(host) is gone]
    moved = collections.Counter(one.name for one in taken if one is not None)
    assert all(abs(count - shares[gone.name] / 4) < 50 for count in moved.values()), moved


def test_one_address_with_several_logins_is_several_exits() -> None:
    """They share the hosts, and are told apart by a number; no name has a login in it."""
    exits = Exits([f"http://u{number}:secret@gate.example:1" for number in range(3)])
    assert [one.name for one in exits.all] == [f"http://gate.example:1{more}" for more in ("", "#2", "#3")]
    assert len({exits.home(host) for host in HOSTS[:100]}) == 3
    assert "secret" not in repr(exits.all)


@pytest.mark.parametrize(
    ("host", "same"), [("[::1]", "::1"), ("A.example.", "a.example"), ("bücher.example", "xn--bcher-kva.example")]
)
def test_a_host_is_the_same_in_each_spelling(host: str, same: str) -> None:
    """With brackets or without, in Unicode or as DNS has it; what is no name has a key, too."""
    assert key_of(host) == key_of(same)
    assert key_of("ü..x")


def test_three_failures_in_a_row_and_it_rests() -> None:
    """For a minute; then one request tries it, alone: if it fails the rest goes on, if it comes through it is over."""
    exits = Exits(URLS[:2])
    host = HOSTS[0]
    home = exits.home(host)
    for _ in range(FAILURES - 1):
        assert send(exits, host, Passage.FAILED) is home
    assert send(exits, host, Passage.THROUGH) is home, "something came through in between"
    for _ in range(FAILURES):
        assert send(exits, host, Passage.FAILED) is home
    assert told(exits) == [("proxy rests", home.name)]
    assert send(exits, host, Passage.THROUGH, NOW + REST_S - 0.1) is not home
    assert exits.take(host, NOW + REST_S) is home
    assert exits.take(host, NOW + REST_S) is not home, "one tries it"
    exits.ended(home, host, Passage.FAILED, NOW + REST_S, is_try=True)
    assert told(exits) == []
    later = NOW + 2 * REST_S
    assert send(exits, host, Passage.UNSENT, later) is home, "it came to nothing: the next may try"
    assert send(exits, host, Passage.THROUGH, later) is home
    assert told(exits) == [("proxy back", home.name)]
    assert exits.take(host, later) is exits.take(host, later) is home
    assert (home.rests, home.failures, home.tries) == (1, 0, 0)


def test_what_was_under_way_when_a_rest_began_tells_nothing_new() -> None:
    """Its failure neither lengthens the rest nor counts as a try; but what comes through ends it."""
    exits = Exits(URLS[:2])
    home = exits.home(HOSTS[0])
    rest(exits, home)
    until = home.until
    exits.ended(home, HOSTS[0], Passage.FAILED, NOW + 5, is_try=False)
    assert (home.until, home.tries, home.rests) == (until, 0, 1)
    exits.ended(home, HOSTS[0], Passage.THROUGH, NOW + 5, is_try=False)
    assert not home.is_resting


def test_a_request_that_failed_goes_by_another() -> None:
    """Those that failed it are the last to be chosen; where there is no other it is one of them all the same."""
    exits = Exits(URLS[:3])
    order = []
    for _ in range(3):
        taken = exits.take(HOSTS[0], NOW, tuple(order))
        assert taken is not None
        order.append(taken)
    assert set(order) == set(exits.all)
    assert order[0] is exits.home(HOSTS[0])
    assert exits.take(HOSTS[0], NOW, tuple(order)) is order[0]


def test_a_refusal_is_held_against_a_proxy_when_another_takes_it() -> None:
    """A host that nobody gets to is to blame itself, however often; one that another proxy gets to isn't."""
    exits = Exits(URLS[:2])
    home = exits.home(HOSTS[0])
    other = next(one for one in exits.all if one is not home)
    for _ in range(10):
        assert send(exits, HOSTS[0], Passage.REFUSED) is home
        assert send(exits, HOSTS[0], Passage.REFUSED, NOW, (home,)) is other
    assert told(exits) == []
    for _ in range(FAILURES):
        exits.ended(home, HOSTS[0], Passage.REFUSED, NOW, is_try=False)
        exits.ended(other, HOSTS[0], Passage.THROUGH, NOW, is_try=False, refused_by=(home,))
    assert told(exits) == [("proxy rests", home.name)]


def dead_behind(exits: Exits, exit_: Exit, count: int = 50) -> None:
    """Have so many requests of many domains not reach their hosts by an exit."""
    for number in range(count):
        exits.ended(exit_, HOSTS[number % DOMAINS], Passage.UNREACHED, NOW, is_try=False)


def test_an_exit_behind_which_nothing_is_reached_rests() -> None:
    """Fifty in a row, of ten domains, while another one works; what fails meanwhile isn't the hosts' fault."""
    exits = Exits(URLS[:2])
    bad, good = exits.all
    for host in HOSTS[:DOMAINS]:
        exits.ended(bad, host, Passage.THROUGH, NOW, is_try=False)
    exits.ended(good, HOSTS[0], Passage.THROUGH, NOW, is_try=False)
    dead_behind(exits, bad, 2)
    assert not exits.excuses(bad, 0)
    dead_behind(exits, bad, 47)
    assert exits.excuses(bad, EXCUSES - 1)
    assert not exits.excuses(bad, EXCUSES)
    assert told(exits) == []
    dead_behind(exits, bad, 1)
    assert told(exits) == [("proxy rests", bad.name)]
    assert exits.excuses(bad, 10_000)
    exits.ended(bad, HOSTS[0], Passage.UNREACHED, NOW + REST_S, is_try=True)
    assert bad.until == NOW + 2 * REST_S
    exits.ended(bad, HOSTS[0], Passage.THROUGH, NOW + REST_S, is_try=True)
    assert not bad.is_resting


def test_when_no_other_works_it_is_the_network_or_the_hosts() -> None:
    """Then no exit rests for what lies behind it, and nothing is excused for its sake: a list of dead names ends."""
    exits = Exits(URLS[:2])
    for exit_ in exits.all:
        for host in HOSTS[:DOMAINS]:
            exits.ended(exit_, host, Passage.THROUGH, NOW, is_try=False)
    for exit_ in exits.all:
        dead_behind(exits, exit_, 49)
    for exit_ in exits.all:
        dead_behind(exits, exit_, 50)
        assert not exits.excuses(exit_, 0)
    assert told(exits) == []


def test_when_all_rest_nothing_starts_before_one_may_be_tried() -> None:
    """The valve is shut until then, lets one through for each that may be, and is open when one is back."""
    exits = Exits(URLS[:2])
    valve = Valve(None, exits)
    assert not valve.is_timed
    assert valve.room(8, NOW) == 8
    rest(exits, exits.all[0], NOW - 10)
    assert valve.room(8, NOW) == 8
    rest(exits, exits.all[1])
    assert valve.is_timed
    assert (valve.room(8, NOW), valve.opens_at) == (0, NOW - 10 + REST_S)
    at = valve.opens_at
    assert (valve.room(8, at), valve.room(8, at + 10)) == (1, 2)
    assert exits.take(HOSTS[0], at) is exits.all[0]
    assert (valve.room(8, at), valve.opens_at) == (0, NOW + REST_S)
    assert exits.take(HOSTS[1], at + 10) is exits.all[1]
    assert valve.opens_at == float("inf"), "one of those that try them has to end first"
    exits.ended(exits.all[1], HOSTS[1], Passage.THROUGH, at + 11, is_try=True)
    assert not valve.is_timed
    assert valve.room(8, at + 11) == 8
    assert Valve(Rate(1.0), exits).is_timed


def test_proxies_that_stay_away_are_given_up() -> None:
    """After so many tries of each nothing waits for them any more; tries go on, and one that comes through is back."""
    exits = Exits(URLS[:2])
    rest_all(exits)
    now = NOW
    for _ in range(TRIES):
        assert exits.is_shut and not exits.is_given_up
        now += REST_S
        for exit_ in exits.all:
            assert exit_.may_take(now)
            exits.ended(exit_, HOSTS[0], Passage.FAILED, now, is_try=True)
    assert exits.is_given_up and not exits.is_shut
    assert exits.take(HOSTS[0], now) is None
    assert exits.of(HOSTS[0]) is exits.home(HOSTS[0]), "what can't wait has one all the same"
    assert send(exits, HOSTS[0], Passage.THROUGH, now + REST_S) is not None
    assert not exits.is_given_up


def test_all_rest_when_each_has_failed_one_request() -> None:
    """Where nothing takes a request, nothing works; a host that each refuses says no such thing."""
    several = Exits(["http://10.0.0.1:1", "http://10.0.0.2:1"])
    first, second = (several.take("a.example", 0.0), None)
    assert first is not None
    several.ended(first, "a.example", Passage.FAILED, 0.0, is_try=False)
    second = several.take("a.example", 0.0, (first,))
    assert second is not None
    assert second is not first
    several.ended(second, "a.example", Passage.REFUSED, 0.0, is_try=False, avoided=(first,), refused_by=(first,))
    assert not several.is_shut
    several.ended(second, "a.example", Passage.FAILED, 0.0, is_try=False, avoided=(first,))
    assert several.is_shut
    assert several.opens_at == REST_S
