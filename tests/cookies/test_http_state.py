"""The cases of the IETF's http-state working group: each holds, or is named here with the reason why it doesn't."""

from __future__ import annotations

import datetime
import pathlib
import re
from typing import NamedTuple

import pytest

from crawlpool.cookies import CookieStore
from crawlpool.cookies.dates import parse_date
from tests.cookies.helpers import posed_time

HERE = pathlib.Path(__file__).parent
SET_AT = "http://home.example.org:8888/cookie-parser"
SENT_TO = "http://home.example.org:8888/cookie-parser-result"
#: The cases are of this time: cookies of 2007 have expired, those of 2017 haven't.
POSED_S = datetime.datetime(2011, 4, 27, tzinfo=datetime.timezone.utc).timestamp()

NAMELESS = "RFC 6265 dropped a cookie without a name; RFC 6265bis, sections 5.6 and 5.8.3, sends its value alone"
CONTROL = "RFC 6265 cut a cookie at NUL or CR; RFC 6265bis, section 5.6, drops it as a whole"
LAST_DOMAIN = (
    "RFC 6265 passed an empty Domain over; by RFC 6265bis, section 5.7, the last Domain counts, an empty one too"
)
AS_WRITTEN = "paths are compared as they are written (5.1.4 of both); requests writes %6F as o before it comes here"
ORDER = "the case lists the cookies in the order of their creation; both RFCs put longer paths first"

#: What differs, what is sent instead, and why. All of it is so by RFC 6265bis.
MISSES: dict[str, tuple[list[str], str]] = {
    "0004": (["foo"], NAMELESS),
    "0021": (["a=b", "x", "c=d"], NAMELESS),
    **dict.fromkeys(("0023", "0024", "0025", "0026", "0028"), (["foo"], NAMELESS)),
    "0027": (["bar"], NAMELESS),
    "CHROMIUM0009": (["BLAHHH"], NAMELESS),
    "CHROMIUM0010": (['"BLA\\"HHH"'], NAMELESS),
    "CHROMIUM0012": (["ABC"], NAMELESS),
    "CHROMIUM0019": (["a" * 4096], NAMELESS),
    "MOZILLA0012": (['test="fubar! = foo', "five"], NAMELESS),
    "MOZILLA0014": (["six"], NAMELESS),
    "MOZILLA0015": (["seven"], NAMELESS),
    "MOZILLA0016": (["eight"], NAMELESS),
    "MOZILLA0017": (["eight", "test=six"], NAMELESS),
    "NAME0017": (["a=bar"], NAMELESS),
    "NAME0023": (["foo"], NAMELESS),
    "NAME0025": (["==a=bar"], NAMELESS),
    "NAME0028": (["a"], NAMELESS),
    "NAME0031": (['"foo'], NAMELESS),
    "NAME0032": (['"foo\\"bar'], NAMELESS),
    "NAME0033": (["aaa"], NAMELESS),
    "DISABLED_CHROMIUM0022": ([], CONTROL),
    "DISABLED_CHROMIUM0023": ([], CONTROL),
    "DISABLED_PATH0029": ([], AS_WRITTEN),
    "OPTIONAL_DOMAIN0042": (["foo=bar"], LAST_DOMAIN),
    "ORDERING0001": (["key=val5", "key=val1", "key=val2", "key=val4"], ORDER),
}


class Case(NamedTuple):
    """One case: the lines that came in, where the next request goes, and the cookies that it is to send."""

    received: list[str]
    to: list[str]
    sent: list[str]


def cases() -> dict[str, Case]:
    """Return the cases of ``http_state.txt``."""
    found: dict[str, Case] = {}
    for line in (HERE / "http_state.txt").read_text("utf-8").splitlines():
        if re.fullmatch(r"[A-Z_]*[0-9]{4}", line):
            found[line] = case = Case([], [], [])
        elif found and line:
            {"<": case.received, "@": case.to, ">": case.sent}[line[0]].append(unescaped(line[2:]))
    return found


def unescaped(text: str) -> str:
    """Return what a line of the file stands for, each character one octet."""
    text = re.sub(r"\\(.)", lambda found: {"s": " ", "0": "\0", "r": "\r", "\\": "\\"}[found[1]], text)
    text = re.sub(r"^a\*([0-9]+)$", lambda found: "a" * int(found[1]), text)
    return text.encode("utf-8").decode("latin-1")


CASES = cases()


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    """What is sent is what the case says, or what its named difference says."""
    case = CASES[name]
    expected = MISSES[name][0] if name in MISSES else case.sent
    with posed_time() as clock:
        clock.now_s = POSED_S
        store = CookieStore()
        store.take(case.received, f"{SET_AT}?{name.lower()}")
        to = case.to[0] if case.to else SENT_TO
        line = store.header_for(f"http://home.example.org:8888{to}" if to.startswith("/") else to)
    assert line == ("; ".join(expected) or None)


def test_count_and_differences() -> None:
    """There are 222 cases; 29 of them differ, and each difference is one."""
    assert len(CASES) == 222
    assert len(MISSES) == 29
    assert set(MISSES) <= set(CASES)
    assert {name for name, (sent, _) in MISSES.items() if CASES[name].sent == sent} == set()


#: By the algorithm of both RFCs, ``00: 00:00`` holds no time of day; the case's authors took it for one.
NO_DATE = "Mon, 01-Jan-2011 00: 00:00 GMT"
DATES = re.findall(r"^(\S+)  \[(.*)\]$", (HERE / "http_state_dates.txt").read_text("utf-8"), re.MULTILINE)


def test_dates() -> None:
    """Of the 70 dates all but one are read as the cases say."""
    assert len(DATES) == 70
    for expected, text in DATES:
        seconds = parse_date(text)
        if expected == "never" or text == NO_DATE:
            assert seconds is None, text
        else:
            assert seconds is not None, text
            moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
            assert moment.strftime("%Y-%m-%dT%H:%M:%S") == expected, text


def test_years_of_two_digits() -> None:
    """Years below 70 are of this century, 70 and above of the last, and none is before 1601."""
    years = {"00": 2000, "69": 2069, "70": 1970, "99": 1999, "1601": 1601}
    for text, year in years.items():
        seconds = parse_date(f"1 Jan {text} 00:00:00")
        moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds or 0)
        assert moment.year == year
    assert parse_date("1 Jan 100 00:00:00") is None, "nothing before 1601"
