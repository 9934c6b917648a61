"""The crawl that is tortured: ``crawlpool run`` with a job, in a process that stops at a gate for a tracer.

``python -m tests.torture.crawler JOB INPUT`` runs it by hand. Its records are copied to standard output after they are
committed, unless that is ``--silent``.
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

from crawlpool.cli import main as command
from crawlpool.cli import run as command_run
from crawlpool.crawl import Crawl
from crawlpool.jobs import clerk
from crawlpool.jobs.crawl import JobCrawl
from crawlpool.jobs.job import Job
from crawlpool.models import Result
from tests.torture.site import links_of

#: How long a run bears to have no descriptor: nobody is going to close one here.
STARVED_S = 1.0
#: A page whose process ends when it is handled.
DEADLY = "/deadly/"
#: The modules that a run imports when it needs them.
LATE = (
    *("crawlpool.cli.run", "crawlpool.cli.conductor", "crawlpool.jobs.crawl", "crawlpool.jobs.job", "sqlite3"),
    *("crawlpool.transport._urllib3", "crawlpool.transport.curl", "crawlpool.transport.curl.adapter"),
    *("crawlpool.sinks.warc", "crawlpool.sinks.bodies", "rich.progress", "rich.live", "encodings.idna", "structlog"),
)


def handle(result: Result, crawl: Crawl) -> None:
    """Emit an item of a page, and add what it links to; die of a deadly one."""
    if DEADLY in result.target.url:
        os._exit(86)
    if result.response is not None and result.response.ok:
        crawl.emit({"url": result.target.url})
        for url in links_of(result.target.url):
            crawl.add(url, parent=result)


def _pass() -> None:
    """Tell this thread's number and wait to be let through; so a tracer can be put to this thread alone."""
    os.write(4, f"{threading.get_native_id()}".encode())
    os.read(3, 1)


def _gated(owner: Any, name: str) -> None:
    """Have a method wait at the gate before it begins."""
    begin = getattr(owner, name)

    def gated(*args: Any) -> Any:
        _pass()
        return begin(*args)

    setattr(owner, name, gated)


def _limited(most: int) -> None:
    """Have no more than so many open files from when the job is opened: the command doesn't begin with too few."""
    begin = Job.open

    def limited(self: Job, **how: Any) -> Any:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        return begin(self, **how)

    Job.open = limited  # type: ignore[method-assign]


def preload() -> None:
    """Import what is imported when it is needed, and no more: nothing is started or opened."""
    for name in LATE:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def main(arguments: list[str]) -> int:
    """Parse the arguments, run the command, and return its exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("job")
    parser.add_argument("input")
    parser.add_argument("--handler", action="store_true")
    parser.add_argument("--silent", action="store_true", help="copy nothing to standard output")
    parser.add_argument("--in-flight", type=int, default=8)
    parser.add_argument("--transport", default="urllib3")
    parser.add_argument("--wait", help="which thread tells its number by 4 and waits for 3: main, feeder or clerk")
    parser.add_argument("--open-files", type=int)
    options, more = parser.parse_known_args(arguments)
    if options.wait == "feeder":
        _gated(JobCrawl, "run")
    elif options.wait == "clerk":
        _gated(clerk.Clerk, "_work")
    if options.open_files:
        _limited(options.open_files)
    threads = 4 if options.transport == "curl" else options.in_flight
    sys.argv = [
        *("crawlpool", "run", options.input, "--job", options.job, "-q", "--progress", "none", "--min-free", "0"),
        *("--threads", str(threads), "--in-flight", str(options.in_flight), "--transport", options.transport),
        *(("--handler", f"{__package__}.crawler:handle") if options.handler else ()),
        *(() if options.silent else ("-o", "-")),
        *more,
    ]
    if options.wait == "main":
        _pass()
    command_run.STARVED_S = STARVED_S
    return command()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
