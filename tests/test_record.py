"""One record for one URL: always the same keys, never a credential, always JSON."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from crawlpool.errors import ErrorKind
from crawlpool.models import BodyPlace, Hop, Outcome, Result, Target
from crawlpool.record import EMPTY, EVERY_HEADER, MAX_INPUT_CHARS, record_line, record_of, to_line
from crawlpool.wire import Wire

DESIGN_KEYS = (
    "v n input url method meta depth parent outcome reason status final_url redirects attempts error content_type "
    "bytes wire_bytes sha256 length_unverified http_version ip proxy headers robots robots_tag blocked duplicate_of "
    "not_modified change started_at elapsed_s waited_s timings body run"
).split()

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def answer(**headers: str) -> requests.Response:
    """Return a response whose body was read over a wire."""
    response: Any = requests.Response()
    response.status_code, response.url, response._content = 200, "http://u:secret@h.example/final", b"body"
    response.headers.update({"Content-Type": "text/html", **headers})
    response.wire = Wire("127.0.0.1", "http://u:secret@proxy.example:3128", "1.1", 4, False, ())
    return response  # type: ignore[no-any-return]


@st.composite
def results(draw: st.DrawFn) -> Result:
    """Draw a settled result of any kind."""
    texts = st.text(max_size=20)
    target = Target(
        draw(texts), meta=draw(json_values), n=draw(st.none() | st.integers(1)), input=draw(st.none() | texts)
    )
    outcome = draw(st.sampled_from(Outcome))
    return Result(
        target,
        outcome,
        reason=draw(st.none() | texts),
        error=draw(st.none() | st.builds(ValueError, texts)),
        response=draw(st.none() | st.just(answer())),
        redirects=tuple(draw(st.lists(st.builds(Hop, texts, st.integers(300, 308)), max_size=2))),
        started_at_s=draw(st.none() | st.floats(0, 4e9)),
        elapsed_s=draw(st.none() | st.floats(0, 1e6)),
        waited_s=draw(st.none() | st.floats(0, 1e6)),
    )


@given(results())
def test_every_record_has_the_same_keys_in_the_same_order_and_is_one_line_of_json(result: Result) -> None:
    """Whatever happened, the keys are those of the design, and the line reads back as the record."""
    record = record_of(result)
    assert list(record) == DESIGN_KEYS == list(EMPTY)
    line = to_line(record)
    assert line.count(b"\n") == 1
    assert line.endswith(b"}\n")
    assert json.loads(line) == record


@st.composite
def pages(draw: st.DrawFn) -> Result:
    """Draw the result of a page that was fetched, with little that is out of the way."""
    texts = st.text(st.characters(), max_size=20)
    seconds = st.floats(0, 1e6)
    is_plain = draw(st.booleans())
    rare_number = st.none() if is_plain else st.none() | st.integers(1, 9)

    def seldom(rare: st.SearchStrategy[Any]) -> Any:
        return None if is_plain else draw(st.none() | rare)

    response: Any = answer()
    response.status_code = draw(st.sampled_from([200, 204, 304, 404]))
    response.url = draw(st.just("http://h.example/") | texts)
    response._content = draw(st.binary(max_size=20)) if is_plain else False
    response.headers = draw(st.dictionaries(st.just("Content-Type"), texts))
    proxy = seldom(st.just("http://u:secret@proxy.example:3128"))
    sizes = st.none() | st.integers(0)
    moments = st.just(()) | st.tuples(*[seconds] * 5)
    response.wire = Wire(
        draw(st.none() | texts), proxy, draw(st.none() | texts), draw(sizes), draw(st.booleans()), draw(moments)
    )
    url = draw(st.sampled_from(["http://h.example/", "http://user:secret@h.example/", "x" * 3000]) | texts)
    target = Target(
        url,
        draw(st.sampled_from(["GET", 'G"T'])),
        n=draw(st.none() | st.integers(1)),
        depth=draw(st.integers(0, 9)),
        input=draw(st.none() | st.just(url) | texts),
        meta=seldom(json_values),
        parent=seldom(texts),
    )
    outcome, reason = draw(st.sampled_from(Outcome)), seldom(texts)
    made = Result(target, outcome, reason, response=response, attempts=draw(st.integers(0, 9)))
    return dataclasses.replace(
        made,
        started_at_s=draw(st.floats(0, 4e9)),
        elapsed_s=draw(seconds if is_plain else st.none() | seconds),
        waited_s=draw(seconds if is_plain else st.none() | seconds),
        robots=draw(st.sampled_from([None, "allowed"])),
        duplicate_of=draw(rare_number),
        is_blocked=draw(st.booleans()),
        bodies=tuple(draw(st.lists(st.builds(BodyPlace, texts, st.integers(0), st.integers(0)), max_size=2))),
    )


@given(results() | pages(), st.sampled_from([None, EVERY_HEADER]), st.integers(1))
def test_the_short_way_to_a_line_gives_the_same_line(result: Result, headers: Any, run: int) -> None:
    """Byte for byte what the record says as JSON, for whatever ended however."""
    assert record_line(result, run=run, headers=headers) == to_line(record_of(result, run=run, headers=headers))


@given(st.text(st.characters(codec="utf-8", exclude_characters="/?#\\@ ", min_codepoint=33), min_size=6, max_size=12))
def test_userinfo_never_reaches_a_record(secret: str) -> None:
    """A password in any URL of a result is in no field of its record."""
    secret = f"pw{secret}"
    url = f"http://user:{secret}@h.example/page"
    response = answer(Location=url)
    response.url = url
    result = Result(
        Target(url, parent=url, input=url),
        Outcome.FAILED,
        error=requests.exceptions.InvalidURL(f"Invalid URL {url!r}"),
        response=response,
        redirects=(Hop(url, 302),),
    )
    record = record_of(result, headers={"location"})
    line = json.dumps(record, ensure_ascii=False)
    assert secret not in line
    assert json.dumps(secret, ensure_ascii=False)[1:-1] not in line
    assert record["final_url"] == "http://h.example/page"
    assert record["input"] == "http://***@h.example/page"


def test_userinfo_of_a_line_without_scheme_is_not_told_either() -> None:
    """With a default scheme the line is ``user:pw@host``: the URL made of it says what its userinfo is."""
    record = record_of(Result(Target("http://user:secret@h.example/", input="user:secret@h.example/"), Outcome.OK))
    assert record["input"] == "***@h.example/"
    assert record["url"] == "http://h.example/"


def test_what_the_answer_tells_is_there() -> None:
    """Status, digest, sizes, address and kept headers come from the response; a proxy's password doesn't."""
    record = record_of(Result(Target("http://h.example/"), Outcome.OK, response=answer(ETag="x")), headers={"etag"})
    assert record["status"] == 200
    assert (record["bytes"], record["wire_bytes"]) == (4, 4)
    assert record["sha256"] == hashlib.sha256(b"body").hexdigest()
    assert record["headers"] == {"etag": "x"}
    assert record["content_type"] == "text/html"
    assert (record["ip"], record["http_version"], record["length_unverified"]) == ("127.0.0.1", "1.1", False)
    assert record["proxy"] == "http://proxy.example:3128"
    assert record_of(Result(Target("http://h.example/"), Outcome.OK, response=answer()))["headers"] is None


def test_an_answer_not_modified_is_marked() -> None:
    """304 says so in a field of its own."""
    response = answer()
    response.status_code = 304
    assert record_of(Result(Target("http://h.example/"), Outcome.OK, response=response))["not_modified"] is True


def test_an_error_is_one_line_with_its_kind() -> None:
    """Control characters of a server can't forge lines or move a cursor."""
    error = requests.exceptions.InvalidURL("bad\n\x1b[2Jurl")
    record = record_of(Result(Target("http://h.example/"), Outcome.FAILED, error=error))
    assert record["error"] == {"kind": ErrorKind.INVALID_URL.value, "message": "bad\\n\\x1b[2Jurl"}


def test_a_long_input_is_cut() -> None:
    """A line of ten million characters doesn't make a record of that size."""
    record = record_of(Result(Target("http://h.example/", input="x" * 10_000_000), Outcome.FAILED))
    assert len(record["input"]) == MAX_INPUT_CHARS
    assert record["input"].endswith("…")


def test_surrogates_survive_the_line() -> None:
    """A URL with bytes that were no UTF-8 is written as JSON escapes, and reads back the same."""
    record = record_of(Result(Target("http://h.example/\udc80"), Outcome.FAILED))
    assert json.loads(to_line(record)) == record


def test_each_record_is_its_own() -> None:
    """Changing one record changes no other: the lists of the empty one aren't shared."""
    first = record_of(Result(Target("http://h.example/"), Outcome.OK))
    first["body"].append(1)
    first["redirects"].append(1)
    assert record_of(Result(Target("http://h.example/"), Outcome.OK))["body"] == []
    assert EMPTY["redirects"] == []


def test_meta_that_is_no_json_is_refused() -> None:
    """An object or NaN in meta raises where the line is written; nothing wrong is written."""
    for meta, error in ((object(), TypeError), (float("nan"), ValueError)):
        with pytest.raises(error):
            to_line(record_of(Result(Target("http://h.example/", meta=meta), Outcome.OK)))
