"""The example site and the demo that crawls it with the real command."""

from __future__ import annotations

import gzip
import json
import pathlib

import pytest

from crawlpool.testing import Answer
from crawlpool.testing.demo import main
from crawlpool.testing.example import MISSING, MOVED, PACKED, SLOW, example_site


def test_the_example_site_is_whole_and_always_the_same() -> None:
    """60 pages, each linked from the index and to its neighbours; the special pages are what they say."""
    site = example_site()
    assert site == example_site()
    pages = [path for path, route in site.items() if isinstance(route, bytes) and path.endswith(".html")]
    assert len(pages) == 60
    index = site["/"]
    assert isinstance(index, bytes)
    for number, path in enumerate(pages):
        assert f'href="{path}"'.encode() in index
        page = site[path]
        assert isinstance(page, bytes)
        assert f'href="{pages[(number + 1) % 60]}"'.encode() in page
        assert b"$" not in page
    moved, slow, packed = site[MOVED], site[SLOW], site[PACKED]
    assert isinstance(moved, Answer) and dict(moved.pairs)["Location"] in pages
    assert isinstance(slow, Answer) and slow.delay_s > 0
    assert isinstance(packed, Answer) and isinstance(packed.body, bytes)
    assert gzip.decompress(packed.body) == site[pages[0]]
    assert MISSING not in site


@pytest.mark.parametrize(("arguments", "code", "not_found"), [([], 0, 0), (["--with-missing"], 8, 1)])
def test_the_demo_runs_the_command(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, not_found: int
) -> None:
    """The demo writes one record for each URL and ends with the command's code: 8 only when a page is missing."""
    assert main(["--folder", str(tmp_path), "--threads", "8", *arguments]) == code
    lines = (tmp_path / "results.jsonl").read_text("utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    urls = [line for line in (tmp_path / "urls.txt").read_text("utf-8").splitlines() if line.startswith("http")]
    assert sorted(record["input"] for record in records) == sorted(urls)
    assert len(urls) == 63 + not_found
    assert sum(record["status"] == 404 for record in records) == not_found
    assert sum(record["outcome"] == "ok" for record in records) == 63
    shown, told = capsys.readouterr()
    assert str(tmp_path / "results.jsonl") in told
    assert shown.count('"outcome": "ok"') >= 1
