"""The verbs: each is one call of ``request``, with requests' own manners."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from crawlpool import SessionPool
from crawlpool.testing import Answer, Request, SiteServer
from crawlpool.verbs import CallOptions, Verbs


class Recorder(Verbs):
    """Keeps what ``request`` was called with."""

    def request(self, method: str, url: str, **kwargs: Any) -> requests.Response:
        self.call = (method, url, kwargs)
        return requests.Response()


@pytest.mark.parametrize("verb", ["get", "options", "head", "post", "put", "patch", "delete"])
def test_each_verb_is_its_method(verb: str) -> None:
    """A verb calls ``request`` with the method of its name and hands every option on."""
    recorder = Recorder()
    getattr(recorder, verb)("http://h/", headers={"a": "b"}, deadline=3, retry=False)
    method, url, options = recorder.call
    assert (method, url) == (verb.upper(), "http://h/")
    assert (options["headers"], options["deadline"], options["retry"]) == ({"a": "b"}, 3, False)


def test_head_follows_no_redirects_unless_told() -> None:
    """HEAD follows no redirect, as in requests, and does when it is told to."""
    recorder = Recorder()
    recorder.head("http://h/")
    assert recorder.call[2]["allow_redirects"] is False
    recorder.head("http://h/", allow_redirects=True)
    assert recorder.call[2]["allow_redirects"] is True


def test_bodies_go_by_position_as_in_requests() -> None:
    """``post(url, data, json)`` and ``put(url, data)`` take their bodies by position."""
    recorder = Recorder()
    recorder.post("http://h/", b"d", {"j": 1})
    assert (recorder.call[2]["data"], recorder.call[2]["json"]) == (b"d", {"j": 1})
    recorder.put("http://h/", b"d", json={"j": 1})
    assert (recorder.call[2]["data"], recorder.call[2]["json"]) == (b"d", {"j": 1})
    recorder.patch("http://h/", b"d")
    assert recorder.call[2]["data"] == b"d"


def test_the_options_are_those_of_requests_and_three_more() -> None:
    """What the verbs are typed to take is what ``requests.Session.request`` takes, and crawlpool's own three."""
    import inspect

    known = set(inspect.signature(requests.Session.request).parameters) - {"self", "method", "url"}
    options = CallOptions.__required_keys__ | CallOptions.__optional_keys__
    assert options == known | {"deadline", "retry", "max_body_bytes"}


def test_the_verbs_of_a_pool_reach_the_server() -> None:
    """Each verb of a pool sends its method and body and returns a ``requests.Response``."""

    def echo(request: Request) -> Answer:
        return Answer(200, {"X-Method": request.method}, request.body)

    with SiteServer({"/echo": echo}) as server, SessionPool() as pool:
        url = server.url("/echo")
        assert pool.post(url, data={"a": "1"}).text == "a=1"
        assert pool.post(url, json={"a": 1}).json() == {"a": 1}
        assert pool.put(url, b"put").content == b"put"
        assert pool.patch(url, b"patch").content == b"patch"
        for verb in ("get", "options", "head", "delete"):
            answer = getattr(pool, verb)(url)
            assert isinstance(answer, requests.Response)
            assert answer.headers["X-Method"] == verb.upper()
        assert pool.request("BREW", url).headers["X-Method"] == "BREW"


def test_unknown_options_are_refused() -> None:
    """A misspelled option is a ``TypeError``, as in requests."""
    with SessionPool() as pool, pytest.raises(TypeError, match="dedline"):
        pool.get("http://127.0.0.1:1/", dedline=3)  # type: ignore[call-arg]
