"""The crawl of one shard: its targets come from its inbox, and what belongs to others goes to theirs."""

from __future__ import annotations

from crawlpool.jobs.crawl import JobCrawl


class ShardCrawl(JobCrawl):
    """A crawl of a shard; all that ``JobCrawl`` says holds for it, and ``run(())`` reads the inbox instead of seeds.

    Its run ends when the input is done, as far as it is shared out and known here, the inbox is empty, nothing waits,
    and what belongs to other shards is published. Its lease is asked before each request and each commit; where it is
    lost the crawl stops, commits nothing more, and ``run`` raises ``LeaseLost``: its targets are the next owner's.

    Thread-safe as ``JobCrawl`` is.
    """

    def lost(self) -> None:
        """Take it that the shard is somebody else's: stop at once, running transfers too; from any thread."""
        raise NotImplementedError
