"""One big file to disk: streamed to a part file, resumed by If-Range after a break, checked, renamed when whole."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from typing import TYPE_CHECKING, Any, Protocol

import requests

from crawlpool.clock import Deadline
from crawlpool.errors import CrawlPoolError, DeadlineExceeded, PoolClosed, RequestError, TruncatedBody
from crawlpool.exchange import bounded
from crawlpool.redact import redact_url
from crawlpool.retry import Attempt, GiveUp

if TYPE_CHECKING:
    from crawlpool.layers import LayeredSession
    from crawlpool.shared import Shared


class Requester(Protocol):
    """Whose sessions do the download: a pool."""

    _shared: Shared

    @property
    def session(self) -> LayeredSession:
        """The calling thread's session."""

    def request(self, method: str, url: str, **kwargs: Any) -> requests.Response:
        """Send a request and wait for its answer."""


# What urllib3 has gathered of a piece when the connection breaks is lost: so not too large.
_PIECE_BYTES = 1 << 14
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class DownloadMismatch(RequestError):
    """The file is whole but isn't the one whose digest was asked for; nothing is left on disk."""


def download(
    pool: Requester,
    url: str,
    path: str | os.PathLike[str],
    *,
    sha256: str | None = None,
    deadline: float | None = None,
    **options: Any,
) -> int:
    """Download ``url`` to ``path``.

    The bytes go to ``path`` + ``.part``. A break resumes there, within this call by the pool's retry policy and in a
    later call too, as long as the server names the file by a strong ETag or a Last-Modified date and it is still the
    same (RFC 9110 13.1.5); otherwise the file is fetched anew. ``path`` appears, or is replaced, only when all of it
    is there.

    Args:
        pool: whose sessions, retries and settings are used.
        url: what to fetch.
        path: where to put it; its folder must exist.
        sha256: the digest that the file must have, in hex.
        deadline: wall-clock seconds for all of it; ``None``, other than for the verbs, is none.
        **options: as a verb takes them.

    Returns:
        The size of the file in bytes.

    Raises:
        requests.HTTPError: when the server answers with an error.
        DownloadMismatch: when the digest is another; the part file is removed.
        requests.RequestException: when the retries are used up; the part file stays for a later call.
        OSError: when the file can't be written.
    """
    target = os.fspath(path)
    part = _Part(target, url)
    limit = Deadline(deadline, pool._shared.deadline_clock)
    number = 1
    while True:
        try:
            _fetch(pool, url, part, limit, options)
            break
        except (requests.RequestException, CrawlPoolError) as error:
            if isinstance(error, (requests.HTTPError, PoolClosed)):
                raise
            attempt = Attempt(number=number, method="GET", response=None, error=error, can_resend=True)
            shared = pool._shared
            decision = shared.retry.decide(attempt, limit, shared.budget, shared.clock)
            if isinstance(decision, GiveUp):
                raise
            if shared.shutdown.wait(decision.delay_s):
                raise PoolClosed("the session pool is closed") from error
        number += 1
    return part.finish(sha256)


def _fetch(pool: Requester, url: str, part: _Part, limit: Deadline, options: dict[str, Any]) -> None:
    if limit.is_past():
        raise DeadlineExceeded("the deadline passed before the download was whole")
    have, validator = part.state()
    headers: dict[str, Any] = {**(options.get("headers") or {}), "Accept-Encoding": "identity"}
    if have and validator:
        headers |= {"Range": f"bytes={have}-", "If-Range": validator}
    # The verb's deadline ends with the header, as the body is read here: what is left goes to both.
    left = max(limit.remaining_s(), 0.001) if limit.is_set else None
    settings = {**options, "headers": headers, "stream": True, "deadline": left}
    with pool.request("GET", url, **settings) as response:
        if response.status_code == 416 and have:
            part.begin_anew(None)
            raise TruncatedBody("the server can't resume; starting again", request=response.request)
        response.raise_for_status()
        expected: int | None = None
        if response.status_code == 206:
            found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
            if found is None or int(found[1]) != have:
                part.begin_anew(None)
                raise TruncatedBody("the server resumed at the wrong place", request=response.request)
            expected = None if found[2] == "*" else int(found[2])
        else:
            # A server that encodes all the same: what is written is decoded, so its offsets aren't those of the wire.
            is_plain = response.headers.get("content-encoding", "identity").lower() == "identity"
            part.begin_anew(_validator_of(response) if is_plain else None)
            length = response.headers.get("content-length", "")
            expected = int(length) if length.isdecimal() and is_plain else None
        with bounded(pool.session, response, limit):
            got = part.append(response)
        if expected is not None and got != expected:
            raise TruncatedBody(f"got {got:,} of {expected:,} bytes", request=response.request)


def _validator_of(response: requests.Response) -> str | None:
    etag = response.headers.get("etag", "")
    if etag.startswith('"'):
        return etag
    return None if etag else response.headers.get("last-modified")


class _Part:
    """The part file and its note: which URL it is of, and by what the server recognises the file."""

    def __init__(self, target: str, url: str) -> None:
        self.target, self.url = target, redact_url(url)
        self.body, self.note = f"{target}.part", f"{target}.part.json"

    def state(self) -> tuple[int, str | None]:
        """Return (bytes that are there, validator); (0, None) where nothing can be resumed."""
        try:
            with open(self.note, encoding="utf-8") as file:
                note = json.load(file)
            if note["url"] == self.url and isinstance(note["validator"], str):
                return os.path.getsize(self.body), note["validator"]
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return 0, None

    def begin_anew(self, validator: str | None) -> None:
        """Empty the part file; note the validator after, so that the two never disagree."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.note)
        with open(self.body, "wb"):
            pass
        if validator is not None:
            with open(self.note, "w", encoding="utf-8") as file:
                json.dump({"url": self.url, "validator": validator}, file)

    def append(self, response: requests.Response) -> int:
        """Write the rest of the body behind what is there; return the size after it."""
        with open(self.body, "ab") as file:
            for piece in response.iter_content(_PIECE_BYTES):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
            return file.tell()

    def finish(self, sha256: str | None) -> int:
        """Check the digest, rename the part file, and return its size."""
        if sha256 is not None:
            digest = hashlib.sha256()
            with open(self.body, "rb") as file:
                while piece := file.read(1 << 20):
                    digest.update(piece)
            if digest.hexdigest() != sha256.lower():
                os.unlink(self.body)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.note)
                raise DownloadMismatch(f"{self.url}: sha256 is {digest.hexdigest()}, not {sha256.lower()}")
        size = os.path.getsize(self.body)
        os.replace(self.body, self.target)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.note)
        return size
