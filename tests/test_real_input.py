"""Real documentation trees, served by nginx from twenty hosts, crawled by the real command."""

from __future__ import annotations

import hashlib
import json
import pathlib
from collections.abc import Iterator

import pytest

from crawlpool import cli
from crawlpool.testing.nginx import NginxServer, find_nginx, nginx
from crawlpool.testing.server import loopback_hosts

# Debian's python3-doc (530 pages) and postgresql-doc (about 1,170); either alone will do for the test.
TREES = [
    tree
    for pattern in ("python3.*/html", "postgresql-doc-*/html")
    for tree in sorted(pathlib.Path("/usr/share/doc").glob(pattern))
]
HOSTS = 20

pytestmark = [
    pytest.mark.above_transports,
    pytest.mark.skipif(find_nginx() is None, reason="nginx is not installed"),
    pytest.mark.skipif(not TREES, reason="neither python3-doc nor postgresql-doc of Debian is installed"),
    pytest.mark.timeout(170),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NginxServer, dict[str, pathlib.Path]]]:
    """nginx over links to the trees, and the file of each URL; the pages are spread over the hosts in turn."""
    root = tmp_path_factory.mktemp("trees")
    for tree in TREES:
        (root / tree.parent.name).symlink_to(tree, target_is_directory=True)
    hosts = loopback_hosts(HOSTS)
    with nginx(root, hosts=hosts) as server:
        pages = [
            (f"/{tree.parent.name}/{page.relative_to(tree).as_posix()}", page)
            for tree in TREES
            for page in sorted(tree.rglob("*.html"))
        ]
        yield server, {server.url(path, hosts[n % len(hosts)]): page for n, (path, page) in enumerate(pages)}


def crawl(urls: list[str], folder: pathlib.Path) -> tuple[int, dict[str, dict[str, object]]]:
    """Run the command over ``urls``; return its exit code and the records by input line."""
    listed, records = folder / "urls.txt", folder / "results.jsonl"
    listed.write_text("".join(f"{url}\n" for url in urls), "utf-8")
    code = cli.main(["run", str(listed), "--threads", "16", "-o", str(records), "--progress", "none"])
    lines = [json.loads(line) for line in records.read_text("utf-8").splitlines()]
    by_input = {str(line["input"]): line for line in lines}
    assert len(by_input) == len(lines), "a URL has two records"
    return code, by_input


def test_every_page_of_a_real_tree_has_one_record_with_the_bytes_of_its_file(
    site: tuple[NginxServer, dict[str, pathlib.Path]], tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """16 threads over 20 hosts: one record a page, sizes and digests equal to the files', books balanced, exit 0."""
    _, pages = site
    code, records = crawl(list(pages), tmp_path)
    assert code == 0
    assert records.keys() == pages.keys()
    for url, page in pages.items():
        content = page.read_bytes()
        assert (records[url]["outcome"], records[url]["bytes"]) == ("ok", len(content)), url
        assert records[url]["sha256"] == hashlib.sha256(content).hexdigest(), url
    told = capsys.readouterr().err
    assert f"{len(pages):,}" in told or str(len(pages)) in told


def test_one_wrong_url_in_a_hundred_is_recorded_and_nothing_else_is(
    site: tuple[NginxServer, dict[str, pathlib.Path]], tmp_path: pathlib.Path
) -> None:
    """With 1 % of the URLs wrong the exit code is 8, and exactly those are ``http_error``."""
    _, pages = site
    urls = list(pages)
    wrong = {f"{urls[n]}.missing" for n in range(0, len(urls), 100)}
    asked = [f"{url}.missing" if f"{url}.missing" in wrong else url for url in urls]
    code, records = crawl(asked, tmp_path)
    assert code == 8
    assert {url for url, record in records.items() if record["outcome"] == "http_error"} == wrong
    assert {record["status"] for record in records.values() if record["outcome"] == "http_error"} == {404}
    assert {record["outcome"] for url, record in records.items() if url not in wrong} == {"ok"}
