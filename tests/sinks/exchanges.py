"""Results whose answers kept the wire, for the tests of sinks that store exchanges; and their files read by warcio."""

from __future__ import annotations

import gzip
import io
import pathlib
import subprocess
import sys
from typing import Any, NamedTuple

import requests
from warcio.archiveiterator import ArchiveIterator

from crawlpool.decode import decode_body
from crawlpool.models import Outcome, Result, Target
from crawlpool.transport.keeping import Kept
from crawlpool.wire import Wire

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
ASKED = b"GET /page HTTP/1.1\r\nHost: h.example\r\nAccept: */*\r\n\r\n"


def answer(url: str, head: bytes, body: bytes | None, asked: bytes = ASKED, **more: Any) -> requests.Response:
    """Return a response that kept these bytes; ``method`` and ``data`` are the request's, ``ip`` the server's."""
    response = requests.Response()
    response.status_code = int(head[9:12])
    response.url = url
    for line in head.splitlines()[1:-1]:
        name, _, value = line.decode("latin-1").partition(":")
        response.headers[name] = value.strip()
    coding = response.headers.get("content-encoding")
    response._content = decode_body(body, coding) if body and coding else body or b""
    response.request = requests.PreparedRequest()
    response.request.url, response.request.method = url, more.get("method", "GET")
    response.request.body = more.get("data")
    response.wire = Wire(more.get("ip", "192.0.2.7"), None, "1.1", len(body or b""), False, ())  # type: ignore[attr-defined]
    response.kept = kept = Kept(head, asked, body)  # type: ignore[attr-defined]
    kept.started_s = more.get("started_s", 1_800_000_000.5)
    return response


def exchanged(
    url: str = "http://h.example/page", body: bytes | None = b"<p>hello</p>", head: bytes = OK + b"\r\n", **more: Any
) -> Result:
    """Return the result of a target that was answered so; ``history`` are the redirects before."""
    history = more.pop("history", [])
    response = answer(url, head, body, **more)
    response.history = history
    return Result(Target(url), Outcome.OK, response=response, elapsed_s=0.1, started_at_s=1_800_000_000.0, waited_s=0.0)


class Read(NamedTuple):
    """A record as warcio reads it."""

    kind: str
    fields: dict[str, str]
    status: str | None
    headers: list[tuple[str, str]]
    content: bytes


def read_warc(data: bytes) -> list[Read]:
    """Return the records of a file's bytes; a digest that isn't right fails."""
    found = []
    for record in ArchiveIterator(io.BytesIO(data), check_digests="raise"):
        http = record.http_headers
        found.append(
            Read(
                record.rec_type,
                {name.lower(): value for name, value in record.rec_headers.headers},
                http.get_statuscode() if http else None,
                list(http.headers) if http else [],
                record.content_stream().read(),
            )
        )
    return found


def records_in(folder: pathlib.Path) -> list[Read]:
    """Return the records of the WARC files of a folder, in order; one that isn't whole gzip fails."""
    found = []
    for path in sorted(folder.glob("*.warc.gz*"), key=lambda path: (len(path.name), path.name)):
        data = path.read_bytes()
        gzip.decompress(data)  # warcio reads a damaged end without a word
        found += read_warc(data)
    return found


def check_by_tools(folder: pathlib.Path) -> None:
    """Hold that ``gzip -t`` and ``warcio check`` find nothing wrong with the WARC files of a folder."""
    for path in map(str, sorted(folder.glob("*.warc.gz"))):
        for tool in (["gzip", "-t", path], [sys.executable, "-m", "warcio.cli", "check", path]):
            done = subprocess.run(tool, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, (path, done.stdout, done.stderr)
