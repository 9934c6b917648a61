"""Targets, results and reports: what they refuse, and what they tell."""

from __future__ import annotations

import dataclasses

import pytest
import requests

from crawlpool.errors import ConfigError, CrawlPoolError, DeadlineExceeded, ErrorKind, TargetSkipped
from crawlpool.models import Outcome, Report, Result, Target


def response(status: int) -> requests.Response:
    """Return an answer that was read."""
    answer = requests.Response()
    answer.status_code, answer.url, answer._content = status, "http://h.example/", b"body"
    return answer


def test_a_target_is_made_of_a_url_or_is_one() -> None:
    """A plain URL becomes a GET; a target stays the very object."""
    target = Target.of("http://h.example/")
    assert (target.url, target.method, target.depth, target.n) == ("http://h.example/", "GET", 0, None)
    assert Target.of(target) is target


def test_methods_are_upper_case() -> None:
    """However a method was written, it is sent upper-case."""
    assert Target("http://h.example/", "post").method == "POST"


def test_a_target_has_what_it_was_given_and_else_the_defaults() -> None:
    """Only what differs from a default is stored, and nobody can tell: by name, in copies, compared, as a key."""
    fields = {
        "url": "http://h.example/", "method": "PUT", "headers": {"a": "b"}, "data": b"x", "params": {"q": "1"},
        "meta": [1], "priority": -2, "depth": 3, "parent": "http://h.example/p", "n": 4, "input": "h.example",
    }  # fmt: skip
    assert dataclasses.asdict(Target(**fields)) == fields  # type: ignore[arg-type]
    assert dataclasses.astuple(Target(*fields.values())) == tuple(fields.values())  # type: ignore[arg-type]
    plain = Target("http://h.example/")
    defaults = {field.name: field.default for field in dataclasses.fields(Target)}
    assert dataclasses.asdict(plain) == {**defaults, "url": "http://h.example/"}
    for name, value in fields.items():
        changed = dataclasses.replace(plain, **{name: value})  # type: ignore[arg-type]
        assert getattr(changed, name) == value and dataclasses.replace(changed, **{name: getattr(plain, name)}) == plain  # type: ignore[arg-type]
    assert {plain: 1}[Target("http://h.example/", "get", depth=0, n=None)] == 1


@pytest.mark.parametrize("url", [None, b"http://h/", 7])
def test_a_url_that_is_no_text_is_named(url: object) -> None:
    """That is a fault of the caller's code, told at once."""
    with pytest.raises(ConfigError, match="url="):
        Target(url)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["", None, 7])
def test_a_method_that_is_no_word_is_named(method: object) -> None:
    """The same for the method."""
    with pytest.raises(ConfigError, match="method="):
        Target("http://h.example/", method)  # type: ignore[arg-type]


def test_a_bad_url_is_no_exception_here() -> None:
    """Whether a URL can be fetched is found when it is prepared: one bad line must not end a crawl."""
    assert Target("not a url").url == "not a url"


def test_targets_and_results_are_frozen() -> None:
    """What is handed between threads can't change."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Target("http://h.example/").url = "x"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        Result(Target("http://h.example/"), Outcome.OK).reason = "x"  # type: ignore[misc]


def test_unwrap_gives_the_response_or_raises() -> None:
    """ok gives the response; an HTTP error, a failure and a skip raise, each its own."""
    target = Target("http://h.example/")
    fine = response(200)
    assert Result(target, Outcome.OK, response=fine).unwrap() is fine
    with pytest.raises(requests.HTTPError, match="404"):
        Result(target, Outcome.HTTP_ERROR, response=response(404)).unwrap()
    private = response(404)
    private.url = "http://user:secret@h.example/x"
    with pytest.raises(requests.HTTPError, match=r"for url: http://\*\*\*@h.example/x") as told:
        Result(target, Outcome.HTTP_ERROR, response=private).unwrap()
    assert told.value.response is private
    error = DeadlineExceeded("late")
    with pytest.raises(DeadlineExceeded) as caught:
        Result(target, Outcome.FAILED, error=error).unwrap()
    assert caught.value is error
    with pytest.raises(TargetSkipped, match="skipped: duplicate"):
        Result(target, Outcome.SKIPPED, reason="duplicate").unwrap()


def test_a_result_knows_its_kind_and_record() -> None:
    """Its error's kind is told, and its record has its outcome."""
    result = Result(Target("http://h.example/"), Outcome.FAILED, error=DeadlineExceeded("late"))
    assert (result.is_ok, result.error_kind) == (False, ErrorKind.DEADLINE)
    assert (result.record["outcome"], result.record["error"]["kind"]) == ("failed", "deadline")
    fine = Result(Target("http://h.example/"), Outcome.OK, response=response(200))
    assert (fine.is_ok, fine.error_kind) == (True, None)


def test_outcomes_are_their_words() -> None:
    """An outcome prints and compares as the record's word."""
    assert [str(outcome) for outcome in Outcome] == ["ok", "http_error", "failed", "disallowed", "skipped"]
    assert Outcome.OK == "ok"


def test_books_that_do_not_balance_are_a_fault() -> None:
    """inputs + found = the sum of outcomes, or check raises."""
    fine = Report(inputs=3, found=2, ok=1, http_error=1, failed=1, disallowed=1, skipped=1)
    assert fine.check() is fine
    assert fine.settled == 5
    with pytest.raises(CrawlPoolError, match=r"3 \+ 0 != 2"):
        Report(inputs=3, ok=2).check()


def test_books_of_shards_are_merged() -> None:
    """Numbers are added up; what one has handed over and none has taken in is on its way: it isn't complete then."""
    one = Report(inputs=3, ok=1, moved_out=2, elapsed_s=2.0)
    two = Report(found=1, moved_in=1, ok=1, pending=1, elapsed_s=3.0, is_complete=False)
    both = Report.merged([one, two])
    assert one.is_balanced and two.is_balanced and both.is_balanced
    assert (both.inputs, both.settled, both.on_the_way, both.elapsed_s, both.is_complete) == (3, 2, 1, 3.0, False)
    arrived = Report(moved_in=2, ok=2)
    assert (Report.merged([one, arrived]).is_complete, Report.merged([one]).is_complete) == (True, False)
    assert Report.merged([]) == Report()
    with pytest.raises(CrawlPoolError, match=r"3 \+ 0 \+ 1 != 1 \+ 2"):
        Report(inputs=3, moved_in=1, ok=1, moved_out=2).check()
