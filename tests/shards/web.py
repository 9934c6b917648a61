"""A small web of many hosts on loopback, each a shard's own, whose links and redirects lead from one to another."""

from __future__ import annotations

import json
import os
import random
from typing import TYPE_CHECKING, Any

from crawlpool import SessionPool, Target, open_job
from crawlpool.jobs.job import Job
from crawlpool.ledger.schema import NAME
from crawlpool.limits import HostLimits
from crawlpool.models import Report
from crawlpool.shards import layout, manifest, segments, takeover, tenure
from crawlpool.shards.held import Held
from crawlpool.shards.inputs import input_state, is_visible
from crawlpool.shards.job import ShardJob
from crawlpool.shards.partition import Partitioner
from crawlpool.testing import Answer, SiteServer, loopback_hosts

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterable, Iterator, Sequence

    from crawlpool.crawl import Crawl
    from crawlpool.models import Result
    from crawlpool.shards.keeper import LeaseKeeper
    from crawlpool.testing import Request

#: What of a record says when, where to and by whom it was made, and nothing of what came of the target.
PASSING = ("started_at", "elapsed_s", "waited_s", "timings", "ip", "run", "body")
SHOWN = ("user-agent", "x-own", "x-site", "authorization", "cookie", "content-type", "content-length", "referer")
FOREVER = 40  # activations of shards, after which a test gives up


def _fields(request: Request) -> dict[str, str]:
    return {name.lower(): value for name, value in request.fields}


class Web:
    """The hosts and what they answer; everything follows from the path, so that each run finds the same.

    Args:
        count: how many hosts.
        seed: of the links and redirects.
    """

    def __init__(self, count: int, seed: int = 1) -> None:
        self.hosts = loopback_hosts(count)
        self.server = SiteServer(self.answer, hosts=self.hosts)
        self._seed = seed

    def __enter__(self) -> Web:
        self.server.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.server.stop()
        assert self.server.errors == []

    def url(self, host: int, path: str) -> str:
        """Return the URL of a path on a host."""
        return self.server.url(path, self.hosts[host % len(self.hosts)])

    def answer(self, request: Request) -> Answer:
        """Answer a request: ``/page/3``, ``/hop/5/303`` (five redirects from here on), ``/loop/3``, ``/echo``."""
        mine, parts = self.hosts.index(request.host), request.path.strip("/").split("/")
        dice = random.Random(f"{self._seed} {request.host} {request.path}")
        kind = parts[0]
        if kind == "robots.txt":
            return Answer(200, {"Content-Type": "text/plain"}, b"User-agent: *\nDisallow: /secret\n")
        if kind == "page":
            own = f"{mine}-{parts[1]}"
            links = [self.url(dice.randrange(100), f"/leaf/{own}-{n // 2}") for n in range(4)]
            links += [self.url(mine, f"/leaf/{own}"), self.url(dice.randrange(100), f"/hop/2/301?{own}")]
            links += [self.url(n, "/leaf/shared") for n in range(3)]
            return Answer(200, {"Content-Type": "application/json"}, json.dumps(links).encode())
        if kind == "hop":
            left, status = int(parts[1]), int(parts[2])
            path = f"/hop/{left - 1}/{status}" if left > 1 else "/" + "/".join(parts[3:] or ["echo"])
            return Answer(status, {"Location": self.url(dice.randrange(100), path), "Set-Cookie": f"c{mine}=1"})
        if kind == "loop":
            return Answer(302, {"Location": self.url(mine + 1, request.path)})
        if kind == "gone":
            return Answer(404, {"Content-Type": "text/plain"}, b"gone")
        fields = _fields(request)
        shown = {name: fields[name] for name in SHOWN if name in fields}
        said = [request.method, shown, request.body.decode()]
        return Answer(200, {"Content-Type": "text/plain"}, json.dumps(said).encode())

    def seeds(self, statuses: Sequence[int] = (301, 302, 303, 307, 308), most: int = 4) -> list[str | Target]:
        """Return an input that meets everything: links, redirects of each kind, loops, robots.txt, bodies, duplicates.

        Args:
            statuses: of the redirects.
            most: redirects one after another.
        """
        count = len(self.hosts)
        found: list[str | Target] = [self.url(host, f"/page/{n}") for host in range(count) for n in range(2)]
        for n, status in enumerate(statuses):
            for hops in {1, 2, most}:
                url = self.url(n + hops, f"/hop/{hops}/{status}")
                found += [f"{url}?get", Target(f"{url}?head", "HEAD", n=1000 + n, meta={"of": [hops, status]})]
                found.append(Target(f"{url}?post", "POST", data={"a": "b c"}, headers={"X-Own": "1"}, priority=n))
                found.append(
                    Target(f"{url}?put", "PUT", data=b"\x00\xff"[:1], depth=2, parent="http://parent.example/")
                )
        found += [self.url(n, "/hop/2/302/gone") for n in range(count)]
        found += [self.url(n, "/hop/1/302/secret") for n in range(count)]
        found += [self.url(0, "/loop/1"), self.url(1, "/loop/2"), self.url(2, "/secret/1"), "http://", "gopher://x/"]
        found += [self.url(0, "/page/0"), self.url(n, "/hop/1/301?get"), self.url(1, "/hop/2/301?get")]
        return found


def follow(result: Result, crawl: Crawl) -> None:
    """Add what a page links to, and emit an item for it."""
    if result.response is not None and "/page/" in (result.response.url or ""):
        for url in result.response.json():
            crawl.add(url, parent=result)
        crawl.emit({"page": result.target.url})


#: A pool whose credentials and headers must not be seen by others than they are for.
def new_pool(web: Web, **more: Any) -> SessionPool:
    """Return a pool with credentials for two hosts, a header for a third, and a retry at once."""
    pool = SessionPool(threads=4, headers={"User-Agent": "testbot/1"}, deadline=30, **more)
    pool.site(web.url(0, "").rstrip("/"), auth=("user", "secret"))
    pool.site(web.url(1, "").rstrip("/"), headers={"X-Site": "one"})
    return pool


LIMITS = HostLimits(delay_s=0.0, concurrency=4)
OPTIONS: dict[str, Any] = {"limits": LIMITS, "max_redirects": 6, "auth": ("all", "of them")}


class Fleet:
    """A job of many shards in a folder, and shards of it run one after another, as somebody who owns them all does.

    Args:
        root: the folder.
        shards: how many.
        part: as ``Manifest`` has it.
        keeper: by which each shard is claimed, and taken over where its last owner was killed; ``None`` to go on in
            the same folders without asking anybody.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        shards: int,
        part: tuple[int, int] | None = None,
        keeper: LeaseKeeper | None = None,
        **fixed: Any,
    ) -> None:
        self.root = os.fspath(root)
        self.keeper = keeper
        os.makedirs(self.root, exist_ok=True)
        if not manifest.is_sharded(self.root):
            made = manifest.new(
                self.root, shards=shards, created_at=0.0, outputs=("results.jsonl",), part=part, fixed=fixed
            )
            manifest.write(self.root, made)
        self.manifest = manifest.read(self.root)

    def feed(self, seeds: Iterable[Any]) -> None:
        """Partition the input."""
        assert Partitioner(self.root, self.manifest).run(seeds)

    def folder(self, shard: int) -> str:
        """Return the epoch folder of a shard that is in use, or is going to be the first."""
        now = tenure.newest(layout.shard_folder(self.root, shard))
        return layout.epoch_folder(self.root, shard, (now.epoch if now is not None else 0) or 1)

    def job(self, shard: int, **more: Any) -> ShardJob:
        """Return a shard as ``new_crawl`` takes it."""
        return ShardJob(
            self.folder(shard),
            root=self.root,
            shard=shard,
            manifest=self.manifest,
            **{"until_idle": True, **more},
        )

    def waiting(self) -> list[int]:
        """Return the shards that have something to do: visible segments, or targets that wait."""
        state = input_state(self.root)
        found = []
        for shard in layout.shards_there(self.root):
            inbox = layout.inbox_folder(self.root, shard)
            has_mail = shard in self.manifest.mine() and any(is_visible(name, state) for name in segments.names(inbox))
            if has_mail or (os.path.exists(os.path.join(self.folder(shard), NAME)) and self.report_of(shard).pending):
                found.append(shard)
        return found

    def run(self, pool: SessionPool, handler: Any = follow, **options: Any) -> Report:
        """Run shards, each until it is idle, until nothing is left to do in any; return the books of all."""
        for _ in range(FOREVER):
            shards = self.waiting()
            if not shards:
                return self.report()
            for shard in shards:
                self.run_one(shard, pool, handler, **options)
        raise AssertionError("it has no end")

    def run_one(self, shard: int, pool: SessionPool, handler: Any = follow, **options: Any) -> Report:
        """Run a shard until it is idle; return its books."""
        if self.keeper is None:
            return pool.new_crawl(handler, job=self.job(shard), **options).run(())
        held = self.keeper.claim(layout.shard_folder(self.root, shard))
        assert isinstance(held, Held), held
        epoch = takeover.enter(held)
        report = pool.new_crawl(handler, job=self.job(shard, lease=held), **options).run(())
        assert os.path.samefile(epoch.path, self.folder(shard))
        assert held.release(pending=report.pending)
        return report

    def report_of(self, shard: int) -> Report:
        """Return the books of a shard."""
        with open_job(self.folder(shard)) as job:
            return job.report

    def there(self) -> list[int]:
        """Return the shards that have a ledger."""
        return [n for n in layout.shards_there(self.root) if os.path.exists(os.path.join(self.folder(n), NAME))]

    def report(self) -> Report:
        """Return the books of all."""
        return Report.merged(self.report_of(shard) for shard in self.there())

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the records of all shards."""
        for shard in self.there():
            with open_job(self.folder(shard)) as job:
                for record in job.records():
                    yield dict(record)

    def items(self) -> list[Any]:
        """Return what handlers emitted, of all shards."""
        found: list[Any] = []
        for shard in self.there():
            with open_job(self.folder(shard)) as job:
                found += job.items()
        return found


def alike(records: Iterable[Any]) -> list[str]:
    """Return records without what differs from one run to the next, in one order."""
    found = []
    for record in records:
        kept = {name: value for name, value in record.items() if name not in PASSING}
        if record["url"].endswith("/shared"):
            del kept["parent"]  # whichever page came first
        found.append(json.dumps(kept, sort_keys=True))
    return sorted(found)


def whole(
    web: Web, folder: pathlib.Path, seeds: Iterable[Any], transport: str = "urllib3"
) -> tuple[list[str], Report, list[Any]]:
    """Return what an unsharded job of the same input comes to: records, books, items."""
    with new_pool(web, transport=transport) as pool:
        report = pool.crawl(seeds, follow, job=Job(str(folder)), **OPTIONS)
    with open_job(str(folder)) as job:
        return alike(dict(record) for record in job.records()), report, list(job.items())
