"""A crawl that is kept, and what it does besides: a client of ``bench/test_jobs.py``, each in a process of its own.

``python -m bench.clients.kept WHAT FOLDER ARGUMENT…`` prints one JSON object. WHAT is a way to keep the pages of a list
(``KEPT``: lines, job, job+warc, warc), or one of the long looks at a single job: ``import``, ``start``.
"""

from __future__ import annotations

import json
import pathlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from crawlpool import HostLimits, Job, JsonlSink, SessionPool, Target
from crawlpool.sinks.warc import WarcSink

FREE: dict[str, Any] = {"limits": HostLimits(concurrency=None), "robots": False}
KEPT = ("lines", "job", "job+warc", "warc")


def keep(what: str, folder: pathlib.Path, base: str, pages: int, count: int, threads: int, in_flight: int) -> None:
    """Crawl so many URLs, of so many pages, in one of the ways."""
    urls = (f"{base}/{number % pages}.html?{number}" for number in range(count))
    lines, packed = str(folder / "lines.jsonl"), str(folder / "pages.warc.gz")
    with SessionPool(transport="curl", threads=threads, in_flight=in_flight) as pool:
        begin, cpu = time.perf_counter(), time.process_time()
        if what.startswith("job"):
            outputs = ("pages.warc.gz", "results.jsonl") if what.endswith("warc") else ("results.jsonl",)
            report = pool.crawl(urls, job=Job(str(folder / "job"), outputs), **FREE)
        else:
            sinks = [*([WarcSink(packed)] if what == "warc" else []), JsonlSink(lines)]
            report = pool.crawl(urls, sinks=sinks, **FREE)  # type: ignore[arg-type]
            for sink in sinks:
                sink.close()
        took = {"seconds": time.perf_counter() - begin, "cpu_s": time.process_time() - cpu}
    written = folder / "job" / "results.jsonl" if what.startswith("job") else pathlib.Path(lines)
    with open(written, "rb") as file:
        records = sum(1 for _ in file)
    print(json.dumps({**took, "ok": report.ok, "records": records}))


def take_in(folder: pathlib.Path, count: int, hosts: int) -> None:
    """Have a list taken in and nothing fetched: its hosts are held."""
    names = [f"h{number}.example" for number in range(hosts)]

    def seeds() -> Iterator[Target]:
        for n in range(1, count + 1):
            url = f"http://{names[n % hosts]}/some/path/of/a/page/{n}.html"
            yield Target(url, n=n, input=url)

    with SessionPool(threads=2) as pool:
        crawl = pool.new_crawl(job=str(folder / "job"), robots=False)
        for name in names:
            crawl.hold(name)
        begin = time.perf_counter()
        report = crawl.run(seeds())
        print(json.dumps({"seconds": time.perf_counter() - begin, "pending": report.pending}))


def start(folder: pathlib.Path, since: float) -> None:
    """Go on with a job until something has come of its first target; print how long that is after ``since``."""
    with SessionPool(threads=2, retry=False) as pool:
        first = threading.Event()
        crawl = pool.new_crawl(job=str(folder / "job"), robots=False, on_result=lambda result: first.set())
        for standing in crawl.hosts_told():
            crawl.release(standing.host)
        threading.Thread(target=lambda: (first.wait(60), crawl.stop()), daemon=True).start()
        report = crawl.run([])
        print(json.dumps({"seconds": time.time() - since, "pending": report.pending, "settled": report.settled}))


def main(arguments: list[str]) -> None:
    """Do what the arguments say."""
    what, folder, *rest = arguments
    if what == "import":
        take_in(pathlib.Path(folder), *map(int, rest))
    elif what == "start":
        start(pathlib.Path(folder), float(rest[0]))
    else:
        keep(what, pathlib.Path(folder), rest[0], *map(int, rest[1:]))


if __name__ == "__main__":
    main(sys.argv[1:])
