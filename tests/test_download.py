"""Downloads: whole or not there, resumed where they broke, never of two versions."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

from crawlpool import DeadlineExceeded, DownloadMismatch, PoolClosed, RetryPolicy, SessionPool
from crawlpool.testing import Answer, Request, SiteServer
from tests.gates import PATIENCE_S, Gate, Threads

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

pytestmark = pytest.mark.transports()

BODY = bytes(range(256)) * 2048  # its half and its quarter are whole pieces of what is read at once
FAST = RetryPolicy(attempts=4, backoff_s=0, budget=None)


class File:
    """A route that serves a file with ranges, and cuts as many answers as it is told."""

    def __init__(self, body: bytes = BODY, validator: tuple[str, str] = ("ETag", '"v1"'), cuts: int = 0) -> None:
        self.body, self.validator, self.cuts = body, validator, cuts
        self.ranges: list[str | None] = []

    def __call__(self, request: Request) -> Answer:
        asked, held = request.headers.get("Range"), request.headers.get("If-Range")
        self.ranges.append(asked)
        assert request.headers["Accept-Encoding"] == "identity"
        headers = dict([self.validator])
        start = 0
        if asked is not None and held == self.validator[1]:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(self.body):
                return Answer(416, {"Content-Range": f"bytes */{len(self.body)}"})
            headers["Content-Range"] = f"bytes {start}-{len(self.body) - 1}/{len(self.body)}"
        rest = self.body[start:]
        headers["Content-Length"] = str(len(rest))
        if self.cuts:
            self.cuts -= 1
            rest = rest[: len(rest) // 2]
        return Answer(206 if start else 200, headers, rest)


@pytest.fixture
def pool() -> Iterator[SessionPool]:
    with SessionPool(retry=FAST) as pool:
        yield pool


def left_over(folder: pathlib.Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_fetched_whole(pool: SessionPool, tmp_path: pathlib.Path) -> None:
    """The file has the server's bytes, its size is returned, a file of that name is replaced, nothing else stays."""
    path = tmp_path / "big.zip"
    path.write_bytes(b"old")
    with SiteServer({"/": File()}) as server:
        assert pool.download(server.url("/"), path, sha256=hashlib.sha256(BODY).hexdigest().upper()) == len(BODY)
    assert path.read_bytes() == BODY
    assert left_over(tmp_path) == ["big.zip"]


@pytest.mark.parametrize("validator", [("ETag", '"v1"'), ("Last-Modified", "Sun, 22 Nov 2026 10:00:00 GMT")])
def test_a_cut_download_resumes(pool: SessionPool, tmp_path: pathlib.Path, validator: tuple[str, str]) -> None:
    """After a cut the rest is asked for, by If-Range, and only the rest."""
    file = File(validator=validator, cuts=2)
    with SiteServer({"/": file}) as server:
        assert pool.download(server.url("/"), tmp_path / "f") == len(BODY)
    half = len(BODY) // 2
    assert file.ranges == [None, f"bytes={half}-", f"bytes={half + half // 2}-"]
    assert (tmp_path / "f").read_bytes() == BODY


def test_a_later_call_resumes(tmp_path: pathlib.Path) -> None:
    """A download that failed leaves its part, not its file, and a later call of another pool goes on from there."""
    file = File(cuts=1)
    with SiteServer({"/": file}) as server:
        with SessionPool(retry=False) as pool, pytest.raises(requests.RequestException):
            pool.download(server.url("/"), tmp_path / "f")
        assert left_over(tmp_path) == ["f.part", "f.part.json"]
        with SessionPool(retry=False) as pool:
            pool.download(server.url("/"), tmp_path / "f")
    assert file.ranges == [None, f"bytes={len(BODY) // 2}-"]
    assert (tmp_path / "f").read_bytes() == BODY
    assert left_over(tmp_path) == ["f"]


def test_a_changed_file_is_fetched_anew(tmp_path: pathlib.Path) -> None:
    """When the file changed between two calls, the part of the old one is thrown away: never half of each."""
    with SiteServer({"/": (file := File(cuts=1))}) as server:
        with SessionPool(retry=False) as pool, pytest.raises(requests.RequestException):
            pool.download(server.url("/"), tmp_path / "f")
        file.body, file.validator = BODY[::-1], ("ETag", '"v2"')
        with SessionPool(retry=False) as pool:
            assert pool.download(server.url("/"), tmp_path / "f") == len(BODY)
    assert (tmp_path / "f").read_bytes() == BODY[::-1]


@pytest.mark.parametrize("validator", [("ETag", 'W/"v1"'), ("X-Nothing", "x")])
def test_without_a_strong_validator_nothing_is_resumed(
    pool: SessionPool, tmp_path: pathlib.Path, validator: tuple[str, str]
) -> None:
    """A server that names its file by a weak ETag, or not at all, is asked for all of it again."""
    file = File(validator=validator, cuts=1)
    with SiteServer({"/": file}) as server:
        pool.download(server.url("/"), tmp_path / "f")
    assert file.ranges == [None, None]
    assert (tmp_path / "f").read_bytes() == BODY


def test_the_part_of_another_url_is_not_taken(tmp_path: pathlib.Path) -> None:
    """A part file of another URL, or one whose note is rubbish, is not resumed."""
    file = File()
    with SiteServer({"/": file}) as server, SessionPool() as pool:
        for note in (json.dumps({"url": server.url("/other"), "validator": '"v1"'}), "rubbish", "[]", '{"url": 5}'):
            (tmp_path / "f.part").write_bytes(b"part of something else")
            (tmp_path / "f.part.json").write_text(note)
            pool.download(server.url("/"), tmp_path / "f")
            assert (tmp_path / "f").read_bytes() == BODY
    assert file.ranges == [None] * 4


def test_a_wrong_digest_leaves_nothing(pool: SessionPool, tmp_path: pathlib.Path) -> None:
    """A whole file with another digest isn't put in place, nothing of it stays, and both digests are named."""
    (tmp_path / "f").write_bytes(b"old")
    with (
        SiteServer({"/": File()}) as server,
        pytest.raises(DownloadMismatch, match=f"{hashlib.sha256(BODY).hexdigest()}.*0{{64}}"),
    ):
        pool.download(server.url("/"), tmp_path / "f", sha256="0" * 64)
    assert left_over(tmp_path) == ["f"]
    assert (tmp_path / "f").read_bytes() == b"old"


def test_a_range_that_cannot_be(pool: SessionPool, tmp_path: pathlib.Path) -> None:
    """A server that answers 416 to the rest is asked for all of it."""
    file = File()
    with SiteServer({"/": file}) as server:
        (tmp_path / "f.part").write_bytes(b"x" * (len(BODY) + 5))
        (tmp_path / "f.part.json").write_text(json.dumps({"url": server.url("/"), "validator": '"v1"'}))
        pool.download(server.url("/"), tmp_path / "f")
    assert file.ranges == [f"bytes={len(BODY) + 5}-", None]
    assert (tmp_path / "f").read_bytes() == BODY


def test_a_server_that_resumes_elsewhere(pool: SessionPool, tmp_path: pathlib.Path) -> None:
    """A 206 that begins at another place than asked for is no rest; all is fetched again."""
    answers = iter(
        [Answer(206, {"Content-Range": f"bytes 7-{len(BODY) - 1}/{len(BODY)}"}, BODY[7:]), Answer(200, body=BODY)]
    )
    with SiteServer({"/": lambda _: next(answers)}) as server:
        (tmp_path / "f.part").write_bytes(b"12345")
        (tmp_path / "f.part.json").write_text(json.dumps({"url": server.url("/"), "validator": '"v1"'}))
        pool.download(server.url("/"), tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == BODY


def test_an_encoded_answer_is_decoded(pool: SessionPool, tmp_path: pathlib.Path) -> None:
    """A server that compresses although it was asked not to is understood: the file is what the URL names."""
    import gzip

    packed = Answer(200, {"Content-Encoding": "gzip", "ETag": '"z"'}, gzip.compress(BODY))
    with SiteServer({"/": packed}) as server:
        assert pool.download(server.url("/"), tmp_path / "f") == len(BODY)
    assert (tmp_path / "f").read_bytes() == BODY


def test_errors_of_the_server_are_raised(pool: SessionPool, tmp_path: pathlib.Path) -> None:
    """An HTTP error is raised as such and leaves no file."""
    with SiteServer({}) as server, pytest.raises(requests.HTTPError, match="404"):
        pool.download(server.url("/"), tmp_path / "f")
    assert left_over(tmp_path) == []


def test_a_download_that_stays_cut(pool: SessionPool, tmp_path: pathlib.Path) -> None:
    """When the retries are used up the error is raised, and the part stays for later."""
    with SiteServer({"/": File(cuts=99)}) as server, pytest.raises(requests.exceptions.ChunkedEncodingError):
        pool.download(server.url("/"), tmp_path / "f")
    assert left_over(tmp_path) == ["f.part", "f.part.json"]


def test_the_deadline_holds_for_the_body(tmp_path: pathlib.Path) -> None:
    """A server that drips or stalls in the middle of the body is given up at the deadline, and what came is kept."""
    with (
        Gate() as gate,
        SiteServer({"/": lambda r: Answer(200, {"Content-Length": "99", "ETag": '"1"'}, held(gate, r))}) as server,
    ):
        with gate, SessionPool(timeout=None) as pool:
            started = time.monotonic()
            with pytest.raises(DeadlineExceeded):
                pool.download(server.url("/"), tmp_path / "f", deadline=0.3)
            assert time.monotonic() - started < PATIENCE_S / 2
    assert not (tmp_path / "f").exists()


def test_a_deadline_that_passed_is_said_as_such(tmp_path: pathlib.Path) -> None:
    """A deadline that passes between two attempts is a ``DeadlineExceeded`` and no complaint about settings."""
    slow = RetryPolicy(attempts=9, backoff_s=0.05, jitter=False, budget=None)
    with SessionPool(retry=slow) as pool:
        wait = pool._shared.shutdown.wait
        pool._shared.shutdown.wait = lambda s: wait(s + 0.2)  # type: ignore[method-assign]
        with pytest.raises(DeadlineExceeded):
            pool.download("http://127.0.0.1:1/", tmp_path / "f", deadline=0.2)


def test_closing_the_pool_ends_a_download(tmp_path: pathlib.Path) -> None:
    """A download that stalls ends with ``PoolClosed`` when its pool closes, though the body has no length to miss."""
    with Gate() as gate, SiteServer({"/": lambda r: Answer(200, {}, held(gate, r))}) as server, gate:
        pool = SessionPool(timeout=None)

        def work() -> None:
            with pytest.raises(PoolClosed):
                pool.download(server.url("/"), tmp_path / "f")

        with Threads() as threads:
            threads.start(work)
            gate.wait_for(1)
            pool.close()
    assert not (tmp_path / "f").exists()


def held(gate: Gate, request: Request) -> Any:
    yield b"part"
    yield gate(request)


def test_threads_download_at_the_same_time(pool: SessionPool, tmp_path: pathlib.Path) -> None:
    """Several threads may download different files with one pool."""
    names = iter(range(6))
    lock = threading.Lock()

    def work() -> None:
        with lock:
            name = next(names)
        pool.download(server.url("/"), tmp_path / str(name))

    with SiteServer({"/": lambda _: BODY}) as server, Threads() as threads:
        threads.start(work, 6)
        threads.join()
    assert all((tmp_path / str(n)).read_bytes() == BODY for n in range(6))


def test_a_folder_that_is_not_there(pool: SessionPool, tmp_path: pathlib.Path) -> None:
    """A path that can't be written is an ``OSError`` that isn't retried."""
    with SiteServer({"/": File()}) as server, pytest.raises(FileNotFoundError):
        pool.download(server.url("/"), tmp_path / "none" / "f")
