"""Whole commands: each gets the same URLs, writes what it fetched, and is checked by what it wrote.

Each has 16 transfers at once and is told to be quiet, to read no configuration of the user's, and not to ask for
robots.txt. Those that write pages have all of them compared; those that write records have each page's digest compared.
"""

from __future__ import annotations

import functools
import hashlib
import json
import pathlib
import re
import sys
from typing import TYPE_CHECKING

from bench.contenders import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.work import Work


def command(slug: str, work: Work, folder: pathlib.Path) -> list[str]:
    """Write what a command reads into ``folder``, and return its arguments; it writes into ``folder / "out"``."""
    (folder / "out").mkdir()
    (folder / "urls.txt").write_text("".join(f"{url}\n" for url in work.urls), "utf-8")
    return _COMMANDS[slug](work, folder)


def check(slug: str, work: Work, folder: pathlib.Path) -> str | None:
    """Return what is wrong with what a command wrote, or ``None``."""
    if slug in ("run_curl", "run_urllib3", "scrapy"):
        return _check_records(work, folder / "out" / "out.jsonl")
    return _check_files(work, folder / "out", _names(work) if slug != "wget2" else _wget2_names(work))


def _crawlpool(transport: str) -> Callable[[Work, pathlib.Path], list[str]]:
    def arguments(work: Work, folder: pathlib.Path) -> list[str]:
        options = ["--transport", transport, "--threads", str(work.threads), "--progress", "none", "-q"]
        if transport == "curl":
            options += ["--in-flight", str(work.in_flight)]
        return [sys.executable, "-m", "crawlpool", "run", "urls.txt", *options, "-o", "out/out.jsonl"]

    return arguments


def _wget2(work: Work, folder: pathlib.Path) -> list[str]:
    at_once = f"--max-threads={work.in_flight}"
    return ["wget2", "--no-config", "--quiet", "--no-robots", at_once, "-P", "out", "-i", "urls.txt"]


def _curl(work: Work, folder: pathlib.Path) -> list[str]:
    pairs = zip(work.urls, _names(work), strict=True)
    (folder / "curl.cfg").write_text("".join(f'url = "{url}"\noutput = "out/{name}"\n' for url, name in pairs), "utf-8")
    return ["curl", "-q", "-sS", "--fail", "--parallel", "--parallel-max", str(work.in_flight), "--config", "curl.cfg"]


def _aria2(work: Work, folder: pathlib.Path) -> list[str]:
    pairs = zip(work.urls, _names(work), strict=True)
    (folder / "aria2.txt").write_text("".join(f"{url}\n  out={name}\n" for url, name in pairs), "utf-8")
    options = ["--no-conf", "--quiet", "--split=1", "--file-allocation=none", "--no-netrc"]
    return ["aria2c", *options, f"--max-concurrent-downloads={work.in_flight}", "-d", "out", "-i", "aria2.txt"]


def _scrapy(work: Work, folder: pathlib.Path) -> list[str]:
    settings = {
        "LOG_ENABLED": False,
        "ROBOTSTXT_OBEY": False,
        "TELNETCONSOLE_ENABLED": False,
        "DOWNLOAD_DELAY": 0,
        "CONCURRENT_REQUESTS": work.in_flight,
        "CONCURRENT_REQUESTS_PER_DOMAIN": work.in_flight,
    }
    spider = str(REPOSITORY / "bench" / "spider.py")
    found = [sys.executable, "-m", "scrapy", "runspider", spider, "-a", "urls=urls.txt", "-O", "out/out.jsonl"]
    return found + [argument for name, value in settings.items() for argument in ("-s", f"{name}={value}")]


_COMMANDS: dict[str, Callable[[Work, pathlib.Path], list[str]]] = {
    "run_curl": _crawlpool("curl"),
    "run_urllib3": _crawlpool("urllib3"),
    "wget2": _wget2,
    "curl_parallel": _curl,
    "aria2": _aria2,
    "scrapy": _scrapy,
}


def _names(work: Work) -> list[str]:
    """Return the file of each URL, for a command that is told it."""
    return [f"{number}.html" for number in range(len(work.urls))]


def _wget2_names(work: Work) -> list[str]:
    """Return the file of each URL as wget2 names it by itself."""
    return [url.rpartition("/")[2] for url in work.urls]


def _check_files(work: Work, out: pathlib.Path, names: list[str]) -> str | None:
    written = sum(1 for _ in out.iterdir())
    if written != len(names):
        return f"{written} files for {len(names)} URLs"
    for url, name in zip(work.urls, names, strict=True):
        path = out / name
        if not path.exists() or path.read_bytes() != work.page(url):
            return f"{url}: {name} is missing, or its text differs"
    return None


def _check_records(work: Work, path: pathlib.Path) -> str | None:
    digest_of = functools.cache(lambda page: hashlib.sha256(page).hexdigest())
    missing = set(work.urls)
    if not path.exists():
        return f"no {path.name} was written"
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            url = record["url"]
            if url not in missing:
                return f"{url}: two records, or it was not asked for"
            missing.remove(url)
            page = work.page(url)
            if (record["status"], record["bytes"], record["sha256"]) != (200, len(page), digest_of(page)):
                return f"{url}: status {record['status']}, {record['bytes']} bytes, or their digest differs"
    return f"{len(missing)} records are missing" if missing else None


def wrk(work: Work) -> list[str]:
    """Return the arguments of the load generator: one page, asked for as long as the work says."""
    duration = f"-d{work.duration_s:g}s"
    return ["wrk", "-t1", f"-c{work.in_flight}", duration, "--timeout", "30s", work.urls[0]]


def wrk_found(said: str, work: Work) -> tuple[int, float]:
    """Return how many requests the load generator made, and in how many seconds.

    Raises:
        ValueError: when it had errors, or told nothing that can be read.
    """
    found = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m), ([\d.]+)([KMG]?)B read", said)
    if found is None or "Non-2xx" in said or "Socket errors" in said:
        raise ValueError(f"wrk said: {said.strip()[-500:]}")
    count, read = int(found[1]), float(found[4]) * 1024 ** " KMG".index(found[5] or " ")
    if read < count * len(work.page(work.urls[0])) * 0.95:
        raise ValueError(f"wrk read {read:,.0f} bytes in {count} requests: these were not the pages")
    return count, float(found[2]) * {"ms": 0.001, "s": 1.0, "m": 60.0}[found[3]]
