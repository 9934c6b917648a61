"""``--help`` that teaches: examples first, then the options by what they are for, then the exit codes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from crawlpool.cli.exits import MEANINGS, PLAN_MEANINGS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crawlpool.cli.exits import Exit

#: Where a context keeps the options that were given, as they were given, by name.
GIVEN = "crawlpool.given"
#: How the name of an option's environment variable begins.
PREFIX = "CRAWLPOOL"

#: The groups of options, in the order of the help; a command shows those that it has options of.
GROUPS = (
    "Input",
    "Speed and politeness",
    "Requests",
    "Addresses",
    "Limits",
    "Handler",
    "Retries",
    "Output",
    "Durability",
    "Scale",
    "Telling",
    "Ends",
    "Settings",
)

_MAY_LACK_VALUE = frozenset({"--retry-failed"})

_RUN_EXAMPLES = (
    ("Fetch each URL of a file; a record for each goes to pages.jsonl:", "crawlpool run urls.txt -o pages.jsonl"),
    (
        "Many hosts, two requests at once for each, and a way to reach you:",
        "crawlpool run urls.txt --threads 64 --per-host 2 --contact you@example.org -o pages.jsonl",
    ),
    ("Fetch URLs as they come, for weeks:", "tail -f new-urls | crawlpool run - | your-program"),
    (
        "A thousand requests at once, from as many hosts (pip install 'crawlpool[curl]'):",
        "crawlpool run urls.txt --in-flight 1000 -o pages.jsonl",
    ),
    (
        "A column of a table; another one comes along in the records:",
        "crawlpool run shop.csv --input-format csv --url-field link --carry sku -o shop.jsonl",
    ),
    (
        "Logged in, with a token from the environment and curl's cookies:",
        "crawlpool run urls.txt --header 'Authorization: env:TOKEN' --cookies cookies.txt",
    ),
    ("Which URLs failed, and why:", "jq -c 'select(.outcome == \"failed\") | [.url, .error.kind]' pages.jsonl"),
)

_PLACES = (
    "Each option can stand in a TOML file (--config FILE, names without the dashes: threads = 32) and in an "
    "environment variable (CRAWLPOOL_THREADS=32). The command line counts over the variable, the variable over the "
    "file."
)
_RUN_AFTER = (
    f"{_PLACES} What may be secret (--header's value, --auth, --proxy) can be @FILE or env:NAME, and is never shown.",
    "Records go to standard output or the files of -o, one line of JSON for each URL; all else goes to standard error. "
    "Ctrl-C or SIGTERM finishes what is under way and ends; a second one stops at once.",
)

_RESUME_EXAMPLES = (
    ("Go on with what a crash, Ctrl-C, a full disk or --run-for has left:", "crawlpool resume shop"),
    ("For an hour more, and gentler:", "crawlpool resume shop --run-for 3600 --delay 2"),
    (
        "Take those again that failed for a while; those that answered 5xx, too:",
        "crawlpool resume shop --retry-failed=timeout,connect,5xx",
    ),
    (
        "A job whose input came by a pipe; what was read of it before is skipped:",
        "generate-urls | crawlpool resume shop",
    ),
    (
        "A credential that was given as it is wasn't kept: give it again:",
        "crawlpool resume shop --header 'Authorization: env:TOKEN'",
    ),
)
_RESUME_AFTER = (
    "Input, --duplicates, --max-per-host and outputs can't change; what does is refused, and named. A job that is "
    "complete fetches nothing, and ends with the same exit code again.",
    "To do without a flag that the job has (--insecure), give the command that began it without the flag.",
)

_PLAN_EXAMPLES = (
    ("How long will it take, and which hosts decide that?", "crawlpool plan urls.txt"),
    (
        "What would a shorter delay bring, and pages that come in 0.2 s?",
        "crawlpool plan urls.txt --delay 0.1 --answer-time 0.2",
    ),
    ("Are 64 requests at once worth it?", "crawlpool plan urls.txt --in-flight 64"),
    ("What would 8 worker processes bring?", "crawlpool plan urls.txt --workers 8"),
    ("For a program; the hours that it takes at least:", "crawlpool plan urls.txt --json | jq '.total_s / 3600'"),
)
_PLAN_AFTER = (
    "A plan is the least that a run takes: retries, redirects, a Crawl-delay in a robots.txt and hosts that refuse "
    "come on top, and nobody knows them before.",
    f"{_PLACES} Those of 'crawlpool run' that don't matter here may stand there, too.",
    "The plan goes to standard output; bad lines are told on standard error.",
)


@dataclasses.dataclass(frozen=True)
class Lesson:
    """What the help of one command teaches beside its options.

    Args:
        examples: what for, and the command line.
        meanings: its exit codes.
        after: paragraphs at the end.
    """

    examples: tuple[tuple[str, str], ...]
    meanings: tuple[tuple[Exit, str], ...]
    after: tuple[str, ...]


RUN = Lesson(_RUN_EXAMPLES, MEANINGS, _RUN_AFTER)
RESUME = Lesson(_RESUME_EXAMPLES, MEANINGS, _RESUME_AFTER)
PLAN = Lesson(_PLAN_EXAMPLES, PLAN_MEANINGS, _PLAN_AFTER)


class GroupedOption(click.Option):
    """An option that belongs to a group of the help."""

    def __init__(self, *args: Any, group: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group

    @property
    def variable(self) -> str:
        """The environment variable that it can stand in."""
        return f"{PREFIX}_{(self.name or '').upper()}"

    def consume_value(self, ctx: click.Context, opts: Mapping[str, Any]) -> tuple[Any, Any]:
        """Return what was given and where; remember it, unless it is a default."""
        value, source = super().consume_value(ctx, opts)
        if source not in (click.core.ParameterSource.DEFAULT, None):
            ctx.meta.setdefault(GIVEN, {})[self.name] = value
        return value, source

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """Return what is blamed for a bad value: the variable where the value stood, else the option."""
        source = None if ctx is None else ctx.get_parameter_source(self.name or "")
        if source is click.core.ParameterSource.ENVIRONMENT:
            return self.variable
        return super().get_error_hint(ctx)  # type: ignore[arg-type, unused-ignore]  # older click knows no None


class TeachingCommand(click.Command):
    """A command whose help teaches.

    Args:
        lesson: what it teaches beside the options.
    """

    def __init__(self, *args: Any, lesson: Lesson, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lesson = lesson

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the arguments apart; an option whose value may be missing takes none from the next argument."""
        end = args.index("--") if "--" in args else len(args)
        return super().parse_args(
            ctx, [f"{one}=" if one in _MAY_LACK_VALUE else one for one in args[:end]] + args[end:]
        )

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help."""
        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        with formatter.section("Examples"):
            for what, how in self._lesson.examples:
                formatter.write(f"{'':>{formatter.current_indent}}{what}\n")
                formatter.write(f"{'':>{formatter.current_indent + 2}}{how}\n")
        for group in GROUPS:
            rows = [
                row
                for param in self.get_params(ctx)
                if _group_of(param) == group and (row := param.get_help_record(ctx)) is not None
            ]
            if rows:
                with formatter.section(group):
                    formatter.write_dl(rows, col_max=26)
        with formatter.section("Exit codes, the first that applies"):
            formatter.write_dl([(str(int(code)), meaning) for code, meaning in self._lesson.meanings])
        for text in self._lesson.after:
            formatter.write_paragraph()
            formatter.write_text(text)


def _group_of(param: click.Parameter) -> str | None:
    if isinstance(param, GroupedOption):
        return param.group
    return "Settings" if isinstance(param, click.Option) else None
