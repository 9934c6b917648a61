"""``python -m crawlpool.testing.demo``: a crawl that needs no network.

It starts a server with the bundled example site on some loopback addresses, writes their URLs into a file, runs the
real command ``crawlpool run`` on it, and shows what came out.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shlex
import sys
import tempfile

from crawlpool import cli
from crawlpool.testing.example import MISSING, MOVED, PACKED, SLOW, example_site
from crawlpool.testing.server import SiteServer, loopback_hosts

HOSTS = 4
SHOWN = 1


def main(argv: list[str] | None = None) -> int:
    """Run the demo.

    Args:
        argv: the arguments; ``None`` for those of the process.

    Returns:
        The exit code of ``crawlpool run``: 0, or 8 with ``--with-missing``.
    """
    parser = argparse.ArgumentParser(prog="python -m crawlpool.testing.demo", description="A crawl without a network.")
    parser.add_argument("--threads", type=int, default=16, metavar="N", help="threads of the crawl (default 16)")
    parser.add_argument("--folder", type=pathlib.Path, help="where urls.txt and results.jsonl go (default: a new one)")
    parser.add_argument("--with-missing", action="store_true", help="also ask for a page that isn't there: exit code 8")
    options = parser.parse_args(argv)
    folder = options.folder or pathlib.Path(tempfile.mkdtemp(prefix="crawlpool-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    urls, records = folder / "urls.txt", folder / "results.jsonl"

    with SiteServer(example_site(), hosts=loopback_hosts(HOSTS)) as server:
        urls.write_text(_url_lines(server, with_missing=options.with_missing), "utf-8")
        command = ["run", str(urls), "--threads", str(options.threads), "-o", str(records)]
        _say(f"serving an example site on {', '.join(server.hosts)}, port {server.port}")
        _say(f"$ crawlpool {shlex.join(command)}")
        code = cli.main(command)
        _say(f"the server saw {server.request_count} requests over {server.connections} connections")

    if records.exists():  # not when the command refused its arguments
        _say(f"the records, one line each, are in {records}; the first of them, spread out:")
        for record in _first_records(records, SHOWN):
            print(json.dumps(record, indent=2, ensure_ascii=False))
    return code


def _url_lines(server: SiteServer, *, with_missing: bool) -> str:
    """Return the lines of urls.txt: each page once, spread over the server's addresses, then the special pages."""
    special = (MOVED, SLOW, PACKED)
    pages = [path for path in example_site() if path.endswith(".html") and path not in special]
    paths = [*pages, *special, *((MISSING,) if with_missing else ())]
    hosts = server.hosts
    lines = ["# The pages of the example site; blank lines and comments are skipped.", ""]
    lines += [server.url(path, hosts[number % len(hosts)]) for number, path in enumerate(paths)]
    return "\n".join([*lines, ""])


def _first_records(path: pathlib.Path, count: int) -> list[object]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line, _ in zip(lines, range(count), strict=False)]


def _say(text: str) -> None:
    # To stderr and at once, as the command's own reports: stdout holds the records alone.
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
