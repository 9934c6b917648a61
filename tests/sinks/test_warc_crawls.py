"""Crawls that keep what they fetch: WARC files and body files, over both transports, beside records that say where."""

from __future__ import annotations

import hashlib
import json
import pathlib
from typing import Any

import pytest

from crawlpool import BodiesSink, JsonlSink, Result, SessionPool, Target, WarcSink
from crawlpool.cli import main
from crawlpool.sinks.warc_reading import read_response
from crawlpool.testing import Answer, SiteServer
from crawlpool.testing.nginx import find_nginx, nginx
from tests.sinks.exchanges import check_by_tools, records_in

TREES = sorted(pathlib.Path("/usr/share/doc").glob("python3.*/html"))

pytestmark = pytest.mark.above_transports


def records_of(path: pathlib.Path) -> list[dict[str, Any]]:
    """Return the records of a JSONL file."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_a_crawl_keeps_bodies_before_it_writes_records(tmp_path: pathlib.Path) -> None:
    """In whatever order the sinks are given: each record says where its body lies, redirects and errors included."""

    def answers(request: Any) -> Answer:
        if request.path == "/moved":
            return Answer(302, {"Location": "/page"}, b"gone there")
        return Answer(200 if request.path == "/page" else 404, {"Set-Cookie": "a=QUJD"}, b"page " * 100)

    sinks = [JsonlSink(str(tmp_path / "r.jsonl")), WarcSink(str(tmp_path / "p.warc.gz")), BodiesSink(f"{tmp_path}/b/")]
    seen: list[Result] = []
    with SiteServer(answers) as server, SessionPool(threads=1) as pool:
        urls = [server.url(path) for path in ("/page", "/moved", "/none")]
        targets = [*urls[1:], Target(urls[0], method="POST", data={"q": "x"}), "nonsense"]
        pool.crawl(targets, sinks=sinks, robots=False, on_result=seen.append)
    for sink in sinks:
        sink.close()
    check_by_tools(tmp_path)
    records = {record["url"]: record for record in records_of(tmp_path / "r.jsonl")}
    assert records["nonsense"]["body"] == []
    for url in urls:
        in_warc, in_bodies = records[url]["body"]
        stored = read_response(str(tmp_path), in_warc["file"], in_warc["offset"], in_warc["length"])
        assert stored.status == records[url]["status"]
        assert stored.url == records[url]["final_url"]
        assert stored.content() == (tmp_path / in_bodies["file"]).read_bytes() == b"page " * 100
    found = records_in(tmp_path)
    assert sorted(record.kind for record in found[1::2]) == ["response", "response", "revisit", "revisit"]
    assert b"QUJD" not in b"".join(value.encode() for record in found for _, value in record.headers)
    assert [record.content for record in found if record.content == b"q=x"] == [b"q=x"]


def test_the_command_writes_them_too(tmp_path: pathlib.Path) -> None:
    """``-o`` with ``*.warc.gz`` and with a folder; --rotate begins new files, --warc-credentials keeps credentials."""
    pages = {f"/{n}": bytes([65 + n]) * 900 + b"%d" % n * 5000 for n in range(4)}
    with SiteServer(lambda request: Answer(200, {"Set-Cookie": "a=QUJD"}, pages[request.path])) as server:
        urls = [server.url(path) for path in pages]
        outputs = [f"{tmp_path}/{name}" for name in ("p.warc.gz", "b/", "r.jsonl")]
        arguments = [argument for output in outputs for argument in ("-o", output)]
        assert main(["run", *urls, *arguments, "--rotate", "600", "-q"]) == 0
        assert len(list(tmp_path.glob("p*.warc.gz"))) > 1
        assert not any("QUJD" in str(record.headers) for record in records_in(tmp_path))
        (tmp_path / "all").mkdir()
        assert main(["run", *urls, "-o", f"{tmp_path}/all/p.warc.gz", "--warc-credentials", "-q"]) == 0
        assert any("QUJD" in str(record.headers) for record in records_in(tmp_path / "all"))
        assert main(["run", *urls, "-o", f"{tmp_path}/b/", "-q"]) == 3  # it isn't empty
    check_by_tools(tmp_path)
    assert sorted(path.read_bytes() for path in (tmp_path / "b").rglob("*.bin")) == sorted(pages.values())
    for record in records_of(tmp_path / "r.jsonl"):
        place = record["body"][0]
        content = read_response(str(tmp_path), place["file"], place["offset"], place["length"]).content()
        assert hashlib.sha256(content).hexdigest() == record["sha256"]


@pytest.mark.skipif(find_nginx() is None or not TREES, reason="needs nginx and Debian's python3-doc")
@pytest.mark.timeout(170)
def test_a_real_tree_comes_back_byte_for_byte(tmp_path: pathlib.Path, transport: str) -> None:
    """Pages of python3-doc, through gzip and rotation: warcio and our own reader give each file as it lies there."""
    files = sorted(path for path in TREES[0].rglob("*.html") if path.is_file() and not path.is_symlink())[:200]
    with nginx(TREES[0], extra="gzip on; gzip_min_length 1; gzip_types *;") as server:
        urls = {server.url("/" + file.relative_to(TREES[0]).as_posix()): file.read_bytes() for file in files}
        sink = WarcSink(str(tmp_path / "pages.warc.gz"), rotate_bytes=1 << 20)
        seen: list[Result] = []
        with SessionPool(threads=4) as pool:
            report = pool.crawl(urls, sinks=[sink], on_result=seen.append, robots=False)
        sink.close()
    assert report.ok == len(urls) == sink.responses
    check_by_tools(tmp_path)
    pairs = [record for record in records_in(tmp_path) if record.kind == "response"]
    assert {record.fields["warc-target-uri"]: record.content for record in pairs} == urls
    assert any(("Content-Encoding", "gzip") in record.headers for record in pairs)
    for result in seen:
        (place,) = result.bodies
        stored = read_response(str(tmp_path), place.file, place.offset, place.length)
        assert stored.content() == urls[result.target.url]
