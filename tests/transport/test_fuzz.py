"""Answers with changed bytes: a short run of ``python -m tests.fuzz``, and what both readers of headers agree on."""

from __future__ import annotations

import http.client
import os
import random
import re

import pytest
import requests
from hypothesis import example, given
from hypothesis import strategies as st

from crawlpool.testing import SiteServer
from crawlpool.transport.answer import Answer
from crawlpool.transport.curl.header import _body_length, read_head
from tests.fuzz import fuzz, judged
from tests.mutants import case_of, key_of
from tests.transport.test_answer import Socket

COUNTS = {"map": 500, "get": 150, "crawl": 100}
#: In CI the same each time.
SEED = 1 if os.environ.get("CI") else random.SystemRandom().randrange(10**6)


@pytest.mark.transports
@pytest.mark.parametrize("way", COUNTS)
def test_changed_answers_end_as_what_they_are(way: str, transport: str) -> None:
    """Each target has one result, of a kind that isn't ``internal``, without a byte of another's; the pool goes on."""
    report = fuzz(transport, SEED, range(COUNTS[way]), way)
    assert report.wrong == []
    assert report.ended.total() == COUNTS[way]
    assert report.ended["ok"] > COUNTS[way] // 10
    assert report.ended["protocol"] > COUNTS[way] // 20


def test_the_judge_sees_what_is_wrong() -> None:
    """A foreign mark, a body that isn't the sound one, an error of another's making and one of time are found."""
    sound = next(number for number in range(100) if (case_of(7, number).expected or (0, b""))[1])
    with SiteServer({"/": case_of(7, sound).expected[1] + key_of(7, sound + 1).encode()}) as server:  # type: ignore[index]
        response = requests.get(server.url())
    number, how, wrong = judged(7, sound, response, None)
    assert (number, how) == (sound, "ok")
    assert [line.split(" ")[0] for line in wrong] == ["holds", "is"]
    assert any("ended as" in line for line in judged(7, sound, None, ValueError("x"))[2])
    assert any("too long" in line for line in judged(7, sound, None, requests.ReadTimeout("x"))[2])
    assert judged(7, sound, None, requests.ReadTimeout("x"))[1] == "timeout"


def test_a_case_is_the_same_each_time_and_leads_nowhere_else() -> None:
    """Seed and number make it; whatever was changed in it, no Location names a host that could be asked."""
    for number in range(300):
        case = case_of(3, number)
        case_of.cache_clear()
        assert case_of(3, number) == case
        for answer in case.answers:
            for value in re.findall(rb"(?i)location[ \t]*:([^\r\n]*)", answer):
                assert not re.match(rb"\s*(https?:)?//[0-9a-z.]+[/:]", value) or b"127.0.0.1" in value, answer


# Two readers of one header -------------------------------------------------------------------------------------------

NAMES = st.sampled_from(
    ["Content-Length", "content-length", "Transfer-Encoding", "transfer-encoding", "Connection", "X", "A-B", "", "X Y"]
)
VALUES = st.one_of(
    st.sampled_from(
        ["4", "5", "04", "4, 4", "4,5", "+4", "-1", "9" * 19, "chunked", "Chunked", "gzip, chunked", "close"]
    ),
    st.text(st.characters(max_codepoint=255, exclude_characters="\n"), max_size=8),
)
LINES = st.builds(
    lambda name, sep, value, end: f"{name}{sep}{value}{end}".encode("latin-1"),
    NAMES,
    st.sampled_from([":", ": ", ": ", ": ", " : ", ""]),
    VALUES,
    st.sampled_from(["\r\n", "\r\n", "\r\n", "\n", "\r\n folded\r\n"]),
)
STATUSES = st.one_of(
    st.sampled_from([b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 404 N\r\n", b"HTTP/1.1 204 N\r\n", b"HTTP/1.1 200\n"]),
    st.builds(
        lambda start, status, rest: start + status + rest,
        st.sampled_from([b"HTTP/1.1 ", b"HTTP/1.", b"http/1.1 ", b"HTTP/1.1  "]),
        st.sampled_from([b"200", b"99", b"1000", b"101", b"7"]),
        st.sampled_from([b" OK\r\n", b"\r\n", b" O\0K\r\n", b"OK\r\n", b" O\rK\r\n"]),
    ),
)


@given(st.lists(st.just([b"HTTP/1.1 103 E\r\n", b"\r\n"]), max_size=2), STATUSES, st.lists(LINES, max_size=5))
@example([], b"HTTP/1.1 200 OK\r\n", [b"Content-Length: 4\r\n", b"Transfer-Encoding: chunked\r\n"])
@example([], b"HTTP/1.1 200 OK\r\n", [b"Content-Length: 4\r\n", b"content-length: 04\r\n"])
@example([], b"HTTP/1.1 200 OK\r\n", [b"A: 1\r\n", b" 2\r\n"])
def test_what_one_reader_refuses_the_other_refuses(
    early: list[list[bytes]], status: bytes, given_: list[bytes]
) -> None:
    """Of any header both transports make the same: status, fields, length and coding; or both refuse it."""
    data = b"".join([*(line for one in early for line in one), status, *given_, b"\r\n"])
    lines = [line + b"\n" for line in data.split(b"\n")[:-1]]
    try:
        answer = Answer(Socket(data + b"\r\n"))  # type: ignore[arg-type]
        answer.begin()
    except http.client.HTTPException:
        with pytest.raises(requests.ConnectionError):
            read_head(lines, None)
        return
    for _ in range(2):  # the second time from memory
        found, reason, version, fields, store = read_head(lines, None)
        assert (found, reason, version) == (answer.status, answer.reason, "1.0" if answer.version == 10 else "1.1")
        assert fields == answer.headers.items()
        if found not in (204, 304) and found >= 200:
            assert ("transfer-encoding" in store) == answer.chunked
            assert _body_length(store) == answer.length
