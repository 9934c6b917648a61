"""A job of shards over a scripted web of any number of hosts: a client of ``bench/test_engines.py``.

``python -m bench.clients.sharded ENGINE FOLDER COUNT HOSTS WORKERS`` prints one JSON object. Nothing is connected to:
an adapter in each worker's pool answers at once. So what is measured is the machinery, and how it grows with the list.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pathlib
import resource
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse

from crawlpool import HostLimits, Job, SessionPool, Target
from crawlpool.engines import notes

if TYPE_CHECKING:
    from collections.abc import Iterator

    import requests

FREE: dict[str, Any] = {"limits": HostLimits(concurrency=None), "robots": False}


class Scripted(HTTPAdapter):
    """Answers each request at once, with a short page."""

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Return the page."""
        body = b"page " + (request.url or "").encode()
        headers = {"Content-Type": "text/plain", "Content-Length": str(len(body))}
        raw = HTTPResponse(io.BytesIO(body), headers, 200, reason="OK", preload_content=False)
        return self.build_response(request, raw)


def pool(threads: int) -> SessionPool:
    """Return a pool to which the scripted web is all that there is."""
    made = SessionPool(threads=threads, transport="urllib3")
    for scheme in ("http://", "https://"):
        made.mount(scheme, Scripted)
    return made


def seeds(count: int, hosts: int) -> Iterator[Target]:
    """Yield so many targets over so many registrable domains."""
    for n in range(1, count + 1):
        url = f"http://h{n * 7919 % hosts}.example/some/path/of/a/page/{n}.html"
        yield Target(url, n=n, input=url)


def memory_of(pid: int) -> int:
    """Return the resident memory of a process in bytes; 0 where that can't be told."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    return 0


def most(folder: str, found: dict[str, int], over: threading.Event) -> None:
    """Keep the most memory of this process, which has the scheduler, and of any worker."""
    while not over.wait(2.0):
        found["client"] = max(found["client"], memory_of(os.getpid()))
        for name in notes.names(folder):
            note = notes.read_note(folder, name)
            if note is not None:
                found["worker"] = max(found["worker"], note.rss_bytes)


def main(engine: str, folder: str, count: int, hosts: int, workers: int) -> None:
    """Crawl, and tell what it took."""
    found, over = {"client": 0, "worker": 0}, threading.Event()
    job = str(pathlib.Path(folder) / "job")
    watch = threading.Thread(target=most, args=(job, found, over))
    watch.start()
    begin = time.perf_counter()
    try:
        with pool(8) as made:
            if engine == "none":
                report = made.crawl(seeds(count, hosts), job=Job(job), **FREE)
            else:
                many = workers if engine == "dask" else None
                report = made.crawl(seeds(count, hosts), job=Job(job, shards=64), engine=engine, workers=many, **FREE)
    finally:
        seconds = time.perf_counter() - begin
        over.set()
        watch.join()
    first, last = span(job)
    told = {"seconds": seconds, "crawl_s": last - first, "ok": report.ok, **found}
    print(json.dumps(told))


def span(job: str) -> tuple[float, float]:
    """Return when the first and the last target of a job were begun, in seconds; the start of a cluster isn't in it."""
    from datetime import datetime

    from crawlpool import open_job

    with open_job(job) as reader:
        times = [record["started_at"] for record in reader.records()]
    first, last = (datetime.fromisoformat(when.replace("Z", "+00:00")).timestamp() for when in (min(times), max(times)))
    return first, last


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
