"""The pages of real documentation as a job, killed three times on the way: ``python -m tests.torture.pages``.

Its WARC files, read back by warcio, and the job, read back by ``crawlpool.open_job``, have to give each page byte for
byte; so has a copy of the job's folder that is gone on with elsewhere.
"""

from __future__ import annotations

import contextlib
import io
import pathlib
import random
import shutil
import sys
import tempfile
import threading

from warcio.archiveiterator import ArchiveIterator

import crawlpool
from crawlpool import cli
from crawlpool.testing import Answer, Request, SiteServer
from crawlpool.testing.routes import answerer
from crawlpool.testing.server import loopback_hosts
from tests.torture.nursery import Child, Nursery
from tests.torture.opened import settings_of, wrong_when_opened
from tests.torture.process import RECORDS

KILLS, IN_FLIGHT = 3, 8
DOCUMENTATION = pathlib.Path("/usr/share/doc")
OUTPUTS = ("-o", "pages.warc.gz", "-o", RECORDS, "--rotate", "2M")


def documentation() -> pathlib.Path | None:
    """Return the folder of Python's own documentation; ``None`` where it isn't installed."""
    found = sorted(path.resolve().parent for path in DOCUMENTATION.glob("python3*/html/library/index.html"))
    return found[-1].parent if found else None


class _Site:
    """Serves a folder, and kills a process at one of its requests."""

    def __init__(self, root: pathlib.Path) -> None:
        self._answer = answerer(root)
        self._lock = threading.Lock()  # guards what follows
        self._left = 0
        self._child: Child | None = None

    def kill_after(self, requests: int, child: Child) -> None:
        """Kill a process when so many requests have come."""
        with self._lock:
            self._left, self._child = requests, child

    def __call__(self, request: Request) -> Answer:
        with self._lock:
            self._left -= 1
            child = self._child if self._left == 0 else None
        if child is not None:
            child.kill()
        return self._answer(request)


def wrong_with_pages(root: pathlib.Path, folder: pathlib.Path, most: int | None = None, seed: int = 1) -> list[str]:
    """Crawl the pages of a folder and kill the crawl on the way; return what is wrong.

    Args:
        root: the folder of the pages.
        folder: where the jobs lie: the one that is begun, and its copy, which is gone on with.
        most: how many pages; ``None`` for all.
        seed: decides when it is killed.
    """
    chance, site, hosts = random.Random(seed), _Site(root), loopback_hosts(8)
    files = sorted(root.rglob("*.html"))[:most]
    with SiteServer(site, hosts=hosts, remember=False) as server, Nursery() as nursery:
        pages = {
            server.url(f"/{file.relative_to(root).as_posix()}", hosts[number % len(hosts)]): file.read_bytes()
            for number, file in enumerate(files)
        }
        (folder / "input.txt").write_text("".join(f"{url}\n" for url in pages))
        job, wrong = folder / "job", list[str]()
        for kill in range(KILLS):
            child = _started(nursery, job, folder)
            site.kill_after(chance.randrange(len(pages) // 8, len(pages) // 4), child)
            if (ended := child.end()) != (-9, ""):
                wrong.append(f"it wasn't killed: {ended}")
            wrong += wrong_when_opened(job, settings_of(job), b"")
            if kill == 1:
                elsewhere = folder / "elsewhere"
                shutil.copytree(job, elsewhere, ignore=shutil.ignore_patterns("control"))
                job = elsewhere
        if (ended := _started(nursery, job, folder).end()) != (0, ""):
            wrong.append(f"it didn't end well: {ended}")
    return [*wrong, *_wrong_in(job, pages)]


def _started(nursery: Nursery, job: pathlib.Path, folder: pathlib.Path) -> Child:
    arguments = [str(job), str(folder / "input.txt"), "--silent", "--in-flight", str(IN_FLIGHT), "--transport", "curl"]
    return nursery.start([*arguments, *OUTPUTS])


def _wrong_in(job: pathlib.Path, pages: dict[str, bytes]) -> list[str]:
    wrong = wrong_when_opened(job, settings_of(job), b"")
    told, archived = list(wrong), dict[str, bytes]()
    for path in sorted(job.glob("pages*.warc.gz")):
        for record in ArchiveIterator(io.BytesIO(path.read_bytes()), check_digests="raise"):
            if record.rec_type == "response":
                url = record.rec_headers.get_header("WARC-Target-URI")
                if url in archived:
                    told.append(f"{url}: archived twice")
                archived[url] = record.content_stream().read()
            elif record.rec_type == "revisit":
                archived[record.rec_headers.get_header("WARC-Target-URI")] = archived[
                    record.rec_headers.get_header("WARC-Refers-To-Target-URI")
                ]
    told += _differences("the WARC files", archived, pages)
    with crawlpool.open_job(job) as reader:
        told += _differences("open_job", {record.url: record.content or b"" for record in reader.records()}, pages)
    if _verified(job):
        told.append("verify isn't content")
    part = next(job.glob("pages*.warc.gz"))
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 0x20
    part.write_bytes(data)
    if not _verified(job):
        told.append("verify is content with a byte that was changed")
    return told


def _verified(job: pathlib.Path) -> int:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return cli.main(["verify", str(job)])


def _differences(where: str, found: dict[str, bytes], wanted: dict[str, bytes]) -> list[str]:
    told = [f"{where}: {url}: missing" for url in wanted if url not in found]
    told += [f"{where}: {url}: too much" for url in found if url not in wanted]
    return told + [f"{where}: {url}: other bytes" for url in wanted if found.get(url, wanted[url]) != wanted[url]]


def main() -> int:
    """Crawl all pages and tell what came of it."""
    root = documentation()
    if root is None:
        print("skipped: python3-doc isn't installed")
        return 0
    with tempfile.TemporaryDirectory(prefix="crawlpool-pages-") as name:
        wrong = wrong_with_pages(root, pathlib.Path(name))
    print(*wrong, f"{len(list(root.rglob('*.html')))} pages, {KILLS} kills, {len(wrong)} wrong", sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
