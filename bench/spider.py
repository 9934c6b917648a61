"""Scrapy, as its user would write it for a list of URLs: ``scrapy runspider bench/spider.py -a urls=FILE -O FILE``."""

from __future__ import annotations

import hashlib
import pathlib
from typing import TYPE_CHECKING, Any

import scrapy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


class PagesSpider(scrapy.Spider):
    """One item for each URL of a file: what crawlpool's record has of it, too."""

    name = "pages"

    def __init__(self, urls: str, **more: Any) -> None:
        super().__init__(**more)
        self._urls = pathlib.Path(urls)

    async def start(self) -> AsyncIterator[scrapy.Request]:
        """Ask for each URL; all are different."""
        with self._urls.open(encoding="utf-8") as lines:
            for line in lines:
                yield scrapy.Request(line.strip(), callback=self.parse, dont_filter=True)

    def parse(self, response: Any, **_: Any) -> Iterator[dict[str, Any]]:
        """Make the item."""
        yield {
            "url": response.url,
            "status": response.status,
            "bytes": len(response.body),
            "sha256": hashlib.sha256(response.body).hexdigest(),
        }
