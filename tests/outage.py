"""An outage: all servers of a crawl are gone for twenty seconds in the middle of it, and come back.

``python -m tests.outage`` does that, and counts the URLs that don't end ``ok``: there must be none.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time

from crawlpool import HostLimits, Report, SessionPool
from tests.manyhosts import ManyHosts, addresses


def crawl_through(host_count: int, pages: int, gone_s: float, transport: str, delay_s: float = 0.05) -> Report:
    """Crawl, with all hosts gone for so long in the middle; return the books."""
    names = addresses(host_count)
    half = threading.Event()
    lock = threading.Lock()  # guards left
    left = host_count * pages // 2

    def count(result: object) -> None:
        nonlocal left
        with lock:
            left -= 1
            if not left:
                half.set()

    reports: list[Report] = []
    with ManyHosts(names) as hosts, SessionPool(threads=8, transport=transport) as pool:
        urls = [f"http://{name}:{hosts.port}/{number}" for number in range(pages) for name in names]
        crawl = pool.new_crawl(limits=HostLimits(delay_s=delay_s), on_result=count)
        thread = threading.Thread(target=lambda: reports.append(crawl.run(urls)))
        thread.start()
        assert half.wait(120), crawl.progress()
        hosts.stop()
        time.sleep(gone_s)
        hosts.go_on()
        thread.join(240)
        assert reports, crawl.progress()
    return reports[0].check()


def main(host_count: int, pages: int, gone_s: float, transport: str) -> int:
    """Do it and print the books; return how many URLs didn't end ``ok``."""
    report = crawl_through(host_count, pages, gone_s, transport)
    print(
        f"{report.inputs:,} URLs of {host_count} hosts, all gone for {gone_s:g} s in the middle ({transport}): "
        f"{report.ok:,} ok, {report.http_error} http_error, {report.failed} failed; "
        f"{report.legs:,} requests in {report.elapsed_s:.1f} s"
    )
    return report.inputs - report.ok


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=60)
    parser.add_argument("--pages", type=int, default=200)
    parser.add_argument("--gone", type=float, default=20.0)
    parser.add_argument("--transport", choices=["urllib3", "curl"], default="curl")
    given = parser.parse_args()
    sys.exit(main(given.hosts, given.pages, given.gone, given.transport) > 0)
