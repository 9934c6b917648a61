"""The options of the commands, as they stand in the help. What two commands have in common is made once, for both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from crawlpool.address import PRIVATE
from crawlpool.cli.help import GroupedOption
from crawlpool.cli.values import (
    Kinds,
    Lines,
    MaxFailures,
    Net,
    Part,
    PerSecond,
    Resolve,
    Seconds,
    Size,
    Statuses,
    Words,
)
from crawlpool.config import DEFAULT_THREADS, HTTP_VERSIONS
from crawlpool.limits import DAY_S
from crawlpool.observe.display import KINDS
from crawlpool.plan import DEFAULT_ANSWER_S
from crawlpool.retry import RETRY_STATUSES, RetryPolicy
from crawlpool.shards.hashing import MOST_SHARDS
from crawlpool.source.settings import FORMATS

if TYPE_CHECKING:
    from collections.abc import Callable

_POLICY = RetryPolicy()

TRANSPORT_CHOICES = ("auto", "curl", "urllib3")
#: Options whose values may be secrets: no message ever repeats them.
SECRET = frozenset({"header", "auth", "proxy"})
#: What ``crawlpool plan`` has of the parameters of ``crawlpool run``, the very same.
_OF_PLAN = frozenset(
    "inputs input_format url_field default_scheme duplicates threads in_flight delay per_host rate ignore_robots quiet "
    "log_format config shards workers".split()
)


def run_options(read_config: Callable[..., Any]) -> list[click.Parameter]:
    """Return the parameters of ``crawlpool run``.

    Args:
        read_config: the callback of ``--config``.
    """
    found: list[click.Parameter] = [click.Argument(["inputs"], nargs=-1, metavar="[FILE|-|URL]...")]

    def option(group: str, *names: str, **settings: Any) -> None:
        found.append(GroupedOption(list(names), group=group, **settings))

    # fmt: off
    group = "Input"
    option(group, "--input-format", type=click.Choice(FORMATS), default="lines", show_default=True,
           help="A URL a line (blank lines and # comments are skipped), JSON Lines, or CSV with a header row.")
    option(group, "--url-field", metavar="FIELD", default="url", show_default=True,
           help="The field or column that holds the URL.")
    option(group, "--carry", type=Words("FIELD"), help="Fields that come along in the records, as meta.")
    option(group, "--default-scheme", type=click.Choice(["http", "https"]), help="For URLs that have no scheme.")

    option(group, "--duplicates", type=click.Choice(["skip", "fetch"]), default="skip", show_default=True,
           help="A URL that stands there again, in whatever spelling: skip it, with a record that names the first, or "
           "fetch it.")

    group = "Speed and politeness"
    option(group, "--threads", type=click.IntRange(1, 4096), metavar="N", default=DEFAULT_THREADS, show_default=True,
           help="Worker threads.")
    option(group, "--in-flight", type=click.IntRange(1, 100_000), metavar="N",
           help="Requests under way at once, over all threads. With curl it can be far more than threads.  "
           "[default: as many as threads]")
    option(group, "--transport", type=click.Choice(TRANSPORT_CHOICES), default="auto", show_default=True,
           help="What moves the bytes. curl is the faster one and needs pip install 'crawlpool[curl]'; auto is curl "
           "where that is there, else urllib3.")
    option(group, "--http", type=click.Choice(HTTP_VERSIONS), default="1.1", show_default=True,
           help="The HTTP version to ask for. 2 needs curl; 1.1 is faster for most crawls.")
    option(group, "--delay", type=Seconds(zero=True, most=DAY_S),
           help="A host gets one request at a time, the next so long after the last ended. Loopback hosts have no "
           "limit unless this or --per-host is given.  [default: 0.5]")
    option(group, "--per-host", type=click.IntRange(1), metavar="N",
           help="Requests that a host gets at once, without a delay.")
    option(group, "--adaptive", is_flag=True,
           help="Find out how many at once a host bears, from one up to --per-host N.")
    option(group, "--per-ip", is_flag=True,
           help="Hold --delay or --per-host for each address, too: for hosts that share a server.")
    option(group, "--rate", type=PerSecond(),
           help="Requests in all, over all hosts: 5/s, 300/m or 10000/h.  [default: no limit]")
    option(group, "--ignore-robots", is_flag=True,
           help="Don't ask robots.txt. The log and the records say so. Loopback hosts aren't asked for it anyway, "
           "unless an option gives them a limit.")
    option(group, "--on-block", type=click.Choice(["hold", "record"]), default="hold", show_default=True,
           help="A host of whose last 20 answers 18 are 401, 403, 429 or a challenge: hold leaves it alone and skips "
           "what is left of it, record asks on.")
    option(group, "--user-agent", metavar="TEXT", help="Who asks.  [default: crawlpool/VERSION]")
    option(group, "--contact", metavar="TEXT", help="An address or URL for the hosts, put into the User-Agent.")

    group = "Requests"
    option(group, "--method", metavar="METHOD", default="GET", show_default=True, help="The HTTP method.")
    option(group, "--header", type=Lines(), multiple=True, metavar="'NAME: VALUE'",
           help="A header for every request. VALUE can be @FILE or env:NAME. Repeat it for more. WARC files have it, "
           "unless it is known to hold a credential.")
    option(group, "--auth", type=Lines(), multiple=True, metavar="USER:PASS@HOST",
           help="Basic auth for one host, with its port if it has one; @FILE and env:NAME work. Repeat it for more.")
    option(group, "--netrc", is_flag=True,
           help="Log in at the hosts of your netrc file, those that redirects lead to included.  [default: not read]")
    option(group, "--cookies", type=click.Path(), metavar="FILE", help="Begin with the cookies of a cookies.txt.")
    option(group, "--save-cookies", type=click.Path(), metavar="FILE",
           help="Write all cookies there at the end, also of an interrupted run.")
    option(group, "--proxy", type=Lines(), multiple=True, metavar="URL",
           help="A proxy for all requests; @FILE and env:NAME work. Repeated, or with a FILE of several lines: each "
           "host goes by one of them, and by the next one while that fails.  [default: as in the environment]")
    option(group, "--resolve", type=Resolve(), multiple=True,
           help="Connect to this address for a host and port instead of asking DNS. Repeat it for more.")
    option(group, "--ca-bundle", type=click.Path(), metavar="PATH",
           help="Trust the certificates of this file or folder.")
    option(group, "--insecure", is_flag=True, help="Don't verify TLS certificates.")

    group = "Addresses"
    option(group, "--private", type=click.Choice(PRIVATE), default="input", show_default=True,
           help="Loopback, private and other addresses that aren't public: input permits a host that an input line "
           "names by such an address, or as localhost, for this run; deny permits none, allow all.")
    option(group, "--allow-net", type=Net(), multiple=True,
           help="Permit these addresses, whatever leads to them. Repeat it for more.")

    group = "Limits"
    option(group, "--connect-timeout", type=Seconds(zero_is_none=True), default=5, show_default=True,
           help="For connecting; 0 for none here and below.")
    option(group, "--read-timeout", type=Seconds(zero_is_none=True), default=30, show_default=True,
           help="For each wait for bytes.")
    option(group, "--max-time", type=Seconds(zero_is_none=True), default=60, show_default=True,
           help="For one request, from its start to its last byte.")
    option(group, "--max-wait", type=Seconds(zero_is_none=True),
           help="That a URL may wait for its host and between retries.  [default: no limit]")
    option(group, "--max-size", type=Size(), default="32M", show_default=True,
           help="Of a decoded body: 500k, 32M, 1G; 0 for no limit.")
    option(group, "--memory-budget", type=Size(),
           help="Of all bodies under way together, such as 256M: above it reading pauses, and the oldest goes on. "
           "Needs curl.  [default: no limit]")
    option(group, "--max-redirects", type=click.IntRange(0), metavar="N", default=30, show_default=True,
           help="Redirects followed for a URL.")
    option(group, "--content-type", type=Words("TYPE"),
           help="Fetch only such bodies: text/html or image/*. Others fail, their bodies are not read.")
    option(group, "--max-per-host", type=click.IntRange(1), metavar="N",
           help="URLs of one host; the rest is skipped.  [default: no limit]")
    option(group, "--run-for", type=Seconds(), help="Take no more input after that time.  [default: no limit]")
    option(group, "--grace", type=Seconds(zero=True, most=DAY_S), default=10, show_default=True,
           help="After the first Ctrl-C or SIGTERM: how long what is under way may take to finish.")

    option("Handler", "--handler", metavar="MODULE:FUNCTION",
           help="A Python function that is called with each result and the crawl: function(result, crawl). The module "
           "may lie in the current folder.")

    group = "Retries"
    option(group, "--retries", type=click.IntRange(0), metavar="N", default=_POLICY.attempts - 1, show_default=True,
           help="Further tries of a URL that failed in a way that may pass.")
    option(group, "--retry-on", type=Statuses(), help=f"Statuses that are tried again.  [default: {_statuses()}]")
    option(group, "--max-retry-after", type=Seconds(zero=True, most=DAY_S), default=_POLICY.max_retry_after_s,
           show_default=True,
           help="The longest wait that a server's Retry-After gets.")

    group = "Output"
    option(group, "-o", "--output", type=Lines(), multiple=True, metavar="DEST",
           help="Where records go: - for standard output, or a file that ends in .jsonl; exchanges: a file that ends "
           "in .warc.gz; bodies: a folder that ends in /. Repeat it for more.  "
           "[default: -, short lines for eyes on a terminal]")
    option(group, "--record-headers", type=Words("NAME"), help="Response headers to keep in the records, or 'all'.")
    option(group, "--rotate", type=Size(), default="1G", show_default=True,
           help="How large a WARC file grows before the next one begins; 0 for no limit.")
    option(group, "--warc-credentials", is_flag=True,
           help="Keep cookies and logins in WARC files; else *** stands in their place.")

    group = "Durability"
    option(group, "--job", type=click.Path(), metavar="DIR",
           help="Keep the crawl in this folder, so that the same command, or 'crawlpool resume DIR', goes on with it "
           "whatever happened. Outputs lie in it, unless their paths are absolute.  [default output: results.jsonl]")
    option(group, "--retry-failed", type=Kinds(), allow_from_autoenv=False,
           help="First take failed URLs of the job again: all that have an error, but for HTTP errors; or those of "
           "these kinds (timeout, connect, …) and statuses (503, 5xx).")
    option(group, "--overwrite", is_flag=True, allow_from_autoenv=False,
           help="Begin the job anew, and remove what it has; asks first on a terminal.")
    option(group, "--min-free", type=Size(),
           help="Stop, with exit code 3, before less than that is free on the disks of the outputs; 0 not to look.  "
           "[default: 64M with --job, else 0]")

    group = "Scale"
    option(group, "--engine", metavar="ENGINE", default="threads", show_default=True,
           help="What runs the crawl: threads (this process), dask (a worker process for each core), dask://HOST:PORT "
           "or dask://FILE.json (a cluster that runs). Dask needs pip install 'crawlpool[dask]' and --job.")
    option(group, "--shards", type=click.IntRange(1, MOST_SHARDS), metavar="K",
           help="Cut a new job into so many parts, by registrable domain, so that workers can share it.  [default: 1; "
           "with dask or --shard 32 for each worker]")
    option(group, "--shard", type=Part(),
           help="Do this part of the job only, such as 2/4: for machines that share nothing, each with the same input "
           "and a --job of its own.")
    option(group, "--workers", type=click.IntRange(1, 10_000), metavar="N",
           help="Worker processes of the dask engine.  [default: as many as there are]")
    option(group, "--lease", type=Seconds(least=1, most=3600.0),
           help="A worker of a new job that isn't heard of for so long has lost its shards to others.  [default: 30]")
    option(group, "--shared-disk", is_flag=True,
           help="The new job's folder lies on a file system of several machines (NFS): ledgers are kept so that they "
           "are safe there, and slower.  [default with dask://…]")

    group = "Telling"
    option(group, "--progress", type=click.Choice(KINDS), default="auto", show_default=True,
           help="A bar, a line every 30 s, or nothing; auto is a bar on a terminal.")
    option(group, "-q", "--quiet", is_flag=True, help="Tell warnings and errors only.")
    option(group, "-v", "--verbose", count=True, help="Tell of single requests; -vv tells all.")
    option(group, "--log-format", type=click.Choice(["console", "json"]), default="console", show_default=True,
           help="Text, or one JSON object a line.")
    option(group, "--redact-keys", type=Words("WORD"),
           help="Keys of URLs' queries whose values the log shows as ***; 'default' stands for the usual ones (token, "
           "key, sig, …), so that 'default,room' adds one to them; 'none' for no key.  [default: default]")
    option(group, "--control", type=click.Path(), metavar="PATH",
           help="Make a Unix socket there, by which 'crawlpool host' holds, skips or slows down single hosts while the "
           "run goes on, and 'crawlpool status' tells how far it is.")

    option("Ends", "--max-failures", type=MaxFailures(),
           help="Failures and HTTP errors that are acceptable, a number or a percentage: up to that the exit code is "
           "0, beyond it the run stops, with 4.")

    option("Settings", "--config", type=click.Path(), metavar="FILE", is_eager=True, callback=read_config,
           help='A TOML file with options, and [site."https://host"] tables with headers, auth, retries.')
    # fmt: on
    return found


def resume_options(job: click.Argument, read_config: Callable[..., Any]) -> list[click.Parameter]:
    """Return the parameters of ``crawlpool resume``.

    Args:
        job: the argument that names the job.
        read_config: the callback of ``--config``.
    """
    return [job, *(param for param in run_options(read_config) if param.name not in ("job", "overwrite"))]


def plan_options(read_config: Callable[..., Any]) -> list[click.Parameter]:
    """Return the parameters of ``crawlpool plan``.

    Args:
        read_config: the callback of ``--config``.
    """
    # fmt: off
    return [
        *(param for param in run_options(read_config) if param.name in _OF_PLAN),
        GroupedOption(["--answer-time"], group="Speed and politeness", type=Seconds(most=DAY_S),
                      default=DEFAULT_ANSWER_S,
                      show_default=True, help="How long an answer takes: an assumption, as nothing is asked."),
        GroupedOption(["--top"], group="Output", type=click.IntRange(0), metavar="N", default=10, show_default=True,
                      help="Hosts shown: those that demand most."),
        GroupedOption(["--json"], group="Output", is_flag=True, help="One JSON object instead of text."),
    ]
    # fmt: on


def _statuses() -> str:
    return ",".join(str(status) for status in sorted(RETRY_STATUSES))
