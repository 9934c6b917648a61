"""The crawl that is tortured, in a process of its own: ``python -m tests.torture.crawler JOB INPUT``.

Its records are copied to standard output after they are committed; its exit code is the command's.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import resource
import sys
import threading
from typing import Any

from crawlpool import RetryPolicy, SessionPool
from crawlpool.crawl import Crawl
from crawlpool.errors import CrawlPoolError, JobError, SinkError
from crawlpool.jobs import clerk
from crawlpool.jobs.job import Job
from crawlpool.models import Result
from crawlpool.sinks import JsonlSink
from crawlpool.source import InputFileError, Source, SourceSettings
from tests.torture.site import links_of

#: A page whose process ends when it is handled.
DEADLY = "/deadly/"


def handle(result: Result, crawl: Crawl) -> None:
    """Emit an item of a page, and add what it links to; die of a deadly one."""
    if result.target.url.partition("://")[2].find(DEADLY) > 0:
        os._exit(86)
    if result.response is not None and result.response.ok:
        crawl.emit({"url": result.target.url})
        for url in links_of(result.target.url):
            crawl.add(url, parent=result)


def crawl(options: argparse.Namespace) -> int:
    """Run the crawl; return the exit code."""
    sinks = () if options.silent else (JsonlSink("-"),)
    job = Job(options.job, outputs=options.output or ("results.jsonl",), rotate_bytes=options.rotate)
    with SessionPool(
        threads=4 if options.transport == "curl" else options.in_flight,
        in_flight=options.in_flight,
        transport=options.transport,
        retry=RetryPolicy(attempts=options.attempts, backoff_s=0.01, max_backoff_s=0.02),
    ) as pool:
        if options.wait == "main":
            _pass()
        run = pool.new_crawl(handle if options.handler else None, sinks=sinks, job=job)
        report = run.run(Source([options.input], SourceSettings()))
    if not report.is_balanced:
        return 1
    if report.pending:
        return 7
    return 4 if report.failed else 8 if report.http_error else 0


def _pass() -> None:
    """Tell this thread's number and wait to be let through; so a tracer can be put to this thread alone."""
    os.write(4, f"{threading.get_native_id()}".encode())
    os.read(3, 1)


def _gate_clerk() -> None:
    work = clerk.Clerk._work

    def gated(self: Any) -> None:
        _pass()
        work(self)

    clerk.Clerk._work = gated  # type: ignore[method-assign]


def preload() -> None:
    """Import what is imported when it is needed, and no more: nothing is started or opened."""
    for name in (
        "crawlpool.jobs.crawl",
        "crawlpool.transport._urllib3",
        "crawlpool.transport.curl",
        "crawlpool.sinks.warc",
    ):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def main(arguments: list[str]) -> int:
    """Parse the arguments and crawl; tell trouble with files in one line, as the command does."""
    parser = argparse.ArgumentParser()
    parser.add_argument("job")
    parser.add_argument("input")
    parser.add_argument("--handler", action="store_true")
    parser.add_argument("--silent", action="store_true", help="copy nothing to standard output")
    parser.add_argument("--output", action="append")
    parser.add_argument("--rotate", type=int)
    parser.add_argument("--in-flight", type=int, default=8)
    parser.add_argument("--attempts", type=int, default=3)
    parser.add_argument("--transport", default="urllib3")
    parser.add_argument("--wait", choices=("main", "clerk"), help="which thread tells its number by 4 and waits for 3")
    parser.add_argument("--open-files", type=int)
    options = parser.parse_args(arguments)
    if options.wait == "clerk":
        _gate_clerk()
    if options.open_files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (options.open_files, options.open_files))
    try:
        return crawl(options)
    except (SinkError, JobError, InputFileError) as error:
        print(f"crawlpool: files: {error}", file=sys.stderr)
        return 3
    except CrawlPoolError as error:
        print(f"crawlpool: {type(error).__name__}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
