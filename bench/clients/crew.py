"""Plain threads over one list of URLs: what every way that blocks is run in.

Not an executor: its queue, its futures and the threads that it wakes cost as much for each page as the fastest of these
ways does by itself, and would be counted as theirs.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.work import Work


def in_threads(work: Work, fetch: Callable[[str], None]) -> None:
    """Have ``fetch`` called with each URL, by as many threads as may be in flight; return when all are done.

    Raises:
        BaseException: what ``fetch`` raised first; nothing new is fetched after it.
    """
    urls = iter(work.urls)
    lock = threading.Lock()  # guards urls and faults
    faults: list[BaseException] = []

    def run() -> None:
        while True:
            with lock:
                url = None if faults else next(urls, None)
            if url is None:
                return
            try:
                fetch(url)
            except BaseException as fault:
                with lock:
                    faults.append(fault)

    threads = [threading.Thread(target=run, name=f"bench-{number}") for number in range(work.in_flight)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]
