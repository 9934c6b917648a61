"""The command line: a group with its commands; and how its errors are told."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

import click

from crawlpool._version import __version__
from crawlpool.cli.audit import audit_command
from crawlpool.cli.cat import cat_command
from crawlpool.cli.config_file import ConfigFileError, check_variables, read_config
from crawlpool.cli.control import ControlError
from crawlpool.cli.exits import Exit
from crawlpool.cli.explain import explain_command
from crawlpool.cli.export import export_command
from crawlpool.cli.help import PLAN, PREFIX, RESUME, RUN, TeachingCommand
from crawlpool.cli.host import host_command
from crawlpool.cli.job import remedy_for
from crawlpool.cli.job_file import kept_of
from crawlpool.cli.jobs import NotInJob
from crawlpool.cli.network import NetworkFileError
from crawlpool.cli.options import plan_options, resume_options, run_options
from crawlpool.cli.plan import plan, plan_settings_of
from crawlpool.cli.resume import LACKS, NeedsAgain, job_argument, resumed
from crawlpool.cli.run import run, tell_fault
from crawlpool.cli.scale import is_sharded
from crawlpool.cli.secrets import SecretFileError
from crawlpool.cli.settings import settings_of
from crawlpool.cli.status import status_command
from crawlpool.cli.verify import verify_command
from crawlpool.errors import ConfigError, CookieFileError, EngineError, JobError, SinkError
from crawlpool.observe import Telling
from crawlpool.redact import hide, one_line, redact_text
from crawlpool.source import InputFileError

if TYPE_CHECKING:
    from collections.abc import Callable

    from crawlpool.cli.settings import RunSettings

_FILE_TROUBLE = (
    *(InputFileError, SinkError, CookieFileError, ConfigFileError, SecretFileError, NetworkFileError),
    *(ControlError, JobError, NotInJob),
)
_LONGEST = 1000
_LOGIN = re.compile(r"[^\s/:]+:(?:[^\s/]*|(?! )[^/:]*)@")


def _run(**given: Any) -> Exit:
    context = click.get_current_context()
    check_variables(context)
    settings = settings_of(context, given)
    if settings.job is not None:
        settings = dataclasses.replace(settings, kept=kept_of(context, settings.inputs))
    telling = Telling(settings.log_format, is_quiet=settings.is_quiet)
    return _code_of_work(lambda: _done(settings, telling), context, telling, settings.verbosity)


def _resume(**given: Any) -> Exit:
    context = click.get_current_context()
    check_variables(context)
    settings = settings_of(context, resumed(context, given))
    settings = dataclasses.replace(settings, lacks=context.meta.get(LACKS, ()))
    telling = Telling(settings.log_format, is_quiet=settings.is_quiet)
    return _code_of_work(lambda: _done(settings, telling), context, telling, settings.verbosity)


def _done(settings: RunSettings, telling: Telling) -> Exit:
    if is_sharded(settings.job, settings.scale, is_new=settings.overwrites):
        from crawlpool.cli.sharded import run_sharded  # here: it takes its time to import

        return run_sharded(settings, telling)
    return run(settings, telling)


def _plan(**given: Any) -> Exit:
    context = click.get_current_context()
    check_variables(context)
    settings = plan_settings_of(context, given)
    telling = Telling(settings.log_format, is_quiet=settings.is_quiet)
    return _code_of_work(lambda: plan(settings, telling), context, telling)


def _code_of_work(work: Callable[[], Exit], context: click.Context, telling: Telling, verbosity: int = 0) -> Exit:
    """Return the exit code of what a command does; trouble is told in its own form, text or JSON."""
    try:
        return work()
    except ConfigError as error:
        raise click.UsageError(str(error), context) from None
    except EngineError as error:
        telling.fail("engine", _shown(error))
        return Exit.WORK_LEFT
    except _FILE_TROUBLE as error:
        telling.fail("files", _shown(error))
        return Exit.FILES
    except click.Abort:
        telling.fail("aborted", "nothing was changed")
        return Exit.WORK_LEFT
    except Exception as error:
        tell_fault(telling, error, verbosity)
        return Exit.FAULT


def make_command() -> click.Group:
    """Return the command ``crawlpool`` with its subcommands."""
    group = click.Group(
        "crawlpool",
        help="Fetch lists of URLs with many threads, politely, with exactly one record for each URL.",
        epilog="'crawlpool COMMAND --help' shows examples, all options and the exit codes.",
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    click.version_option(__version__, prog_name="crawlpool", message="%(prog)s %(version)s")(group)
    group.add_command(
        TeachingCommand(
            "run",
            callback=_run,
            params=run_options(read_config),
            lesson=RUN,
            help="Fetch each URL of files, standard input (-) or the command line; write one record for each.",
            short_help="Fetch each URL of a list; write one record for each.",
            # Without this the variables would be called CRAWLPOOL_RUN_…
            context_settings={"auto_envvar_prefix": PREFIX},
        )
    )
    group.add_command(
        TeachingCommand(
            "resume",
            callback=_resume,
            params=resume_options(job_argument(), read_config),
            lesson=RESUME,
            help="Go on with a job that 'crawlpool run --job JOB' began, with the options that it had then. Those that "
            "are given now count over them. The input is given only where it lies elsewhere now.",
            short_help="Go on with a job, with the options that it was begun with.",
            context_settings={"auto_envvar_prefix": PREFIX},
        )
    )
    group.add_command(
        TeachingCommand(
            "plan",
            callback=_plan,
            params=plan_options(read_config),
            lesson=PLAN,
            help="Tell what a run over these URLs will be like: its hosts, the time that politeness alone demands, "
            "what decides it, and what more requests at once would bring. Nothing is fetched or resolved.",
            short_help="Tell how long a run will take at least, and why; fetch nothing.",
            context_settings={"auto_envvar_prefix": PREFIX},
        )
    )
    for make in (audit_command, host_command, status_command):
        group.add_command(make())
    for make in (explain_command, cat_command, export_command, verify_command):
        group.add_command(make())
    return group


def run_command(argv: list[str] | None) -> int:
    """Run the command; see ``crawlpool.cli.main``."""
    is_process = argv is None
    if is_process:
        _guard_streams()
        _silence_tracebacks()
    code = _code_of(argv)
    if is_process:
        # All is done and told: a further Ctrl-C on the way out must not take the exit code away.
        with contextlib.suppress(ValueError, OSError):
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
        code = _flush(code)
    return code


def _code_of(argv: list[str] | None) -> int:
    telling = Telling()
    try:
        return int(make_command().main(argv, prog_name="crawlpool", standalone_mode=False) or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        telling.line(error.format_message())
        return Exit.USAGE
    except click.UsageError as error:
        if error.ctx is not None:
            telling.line(error.ctx.get_usage())
            telling.line(f"Try '{error.ctx.command_path} --help' for help.")
        message = error.format_message()
        if error.ctx is not None and isinstance(error.ctx.command, click.Group) and "@" in message:
            message = "no such command (what was given isn't shown: it may hold a login)"
        more = error.lines if isinstance(error, NeedsAgain) else []
        telling.fail("usage", "\n".join([one_line(redact_text(message), _LONGEST), *more]))
        return Exit.USAGE
    except EngineError as error:
        telling.fail("engine", _shown(error))
        return Exit.WORK_LEFT
    except _FILE_TROUBLE as error:
        telling.fail("files", _shown(error))
        return Exit.FILES
    except click.exceptions.Exit as error:
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return Exit.WORK_LEFT
    except SystemExit:  # click's answer to a pipe that was closed while it wrote the help
        return Exit.FILES
    except Exception as error:
        tell_fault(telling, error, 0)
        return Exit.FAULT


def _shown(error: Exception) -> str:
    """Return the message of trouble with a file, and what helps against it.

    A file's name may be a URL with a login that lacks its scheme.
    """
    text = str(error)
    text = one_line(hide(text) if _LOGIN.search(text) else text, _LONGEST)
    remedy = remedy_for(error) if isinstance(error, SinkError) and not text.startswith("stdout") else None
    return f"{text}; {remedy}" if remedy else text


def _guard_streams() -> None:
    """See that descriptors 0 to 2 are taken: else the next socket would get such a number, and records for stdout."""
    with contextlib.suppress(OSError):
        while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(fd)


def _silence_tracebacks() -> None:
    """Have exceptions that nobody caught told in one line: in threads, in destructors, at the interpreter's end."""

    def tell(error: BaseException | None) -> None:
        if error is not None and not isinstance(error, (SystemExit, KeyboardInterrupt)):
            tell_fault(Telling(), error, 0)

    threading.excepthook = lambda args: tell(args.exc_value)
    sys.unraisablehook = lambda args: tell(args.exc_value)
    sys.excepthook = lambda kind, error, trace: tell(error)


def _flush(code: int) -> int:
    """Flush the standard streams; where nobody reads any more, have the interpreter's own flush go nowhere."""
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        if stream is None:
            continue
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, number)
                os.close(nowhere)
            code = code or (Exit.FILES if number == 1 else code)
    return int(code)
