"""What the values of options look like: seconds, sizes, lists, bounds. Each a click type with a clear message."""

from __future__ import annotations

import ipaddress
import math
import re
from typing import TYPE_CHECKING, Any

import click
import idna

from crawlpool.address import network_of
from crawlpool.cli.exits import FailureBound
from crawlpool.errors import ConfigError
from crawlpool.retry import parse_statuses

if TYPE_CHECKING:
    _Type = click.ParamType[Any]
else:  # older versions of click have no type argument
    _Type = click.ParamType

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_RATE = re.compile(r"(\d+(?:\.\d+)?)(?:/([smh]))?", re.IGNORECASE)
_PART = re.compile(r"(\d{1,4})/(\d{1,4})")
_SPANS_S = {"s": 1, "m": 60, "h": 3600}
_RESOLVE = re.compile(r"(\[[^\]]+\]|[^:\[\]]+):(\d{1,5}):(.+)")


class Seconds(_Type):
    """A number of seconds, fractions included.

    Args:
        zero_is_none: whether 0 means "no limit" and becomes ``None``.
        zero: whether 0 is a number like any other.
        most: the largest that makes sense; ``None`` for any.
        least: the smallest.
    """

    name = "seconds"

    def __init__(
        self, *, zero_is_none: bool = False, zero: bool = False, most: float | None = None, least: float = 0.0
    ) -> None:
        self._zero_is_none = zero_is_none
        self._most = most
        self._least = least
        self._zero = zero

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Return how the value is called in the help."""
        return "S"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        """Return the number; fail for what is none."""
        try:
            number = float(value) if not isinstance(value, bool) else math.nan
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number) or number < 0 or (number == 0 and not (self._zero or self._zero_is_none)):
            hint = "; 0 for no limit" if self._zero_is_none else ""
            self.fail(f"{value!r} is no number of seconds{hint}.", param, ctx)
        if self._most is not None and number > self._most:
            self.fail(f"{value!r} is more than {self._most:g} seconds.", param, ctx)
        if number < self._least:
            self.fail(f"{value!r} is less than {self._least:g} seconds.", param, ctx)
        return None if number == 0 and self._zero_is_none else number


class Part(_Type):
    """One part of several: ``2/4`` becomes ``(2, 4)``."""

    name = "part"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Return how the value is called in the help."""
        return "I/N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Return the two numbers; fail for what is no part."""
        found = _PART.fullmatch(str(value).strip())
        number, of = (int(found[1]), int(found[2])) if found is not None else (0, 0)
        if not 1 <= number <= of:
            self.fail(f"{value!r} is no part such as 2/4: the second of four.", param, ctx)
        return number, of


class PerSecond(_Type):
    """A rate: ``5``, ``5/s``, ``300/m`` or ``10000/h``; it becomes a number a second."""

    name = "rate"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Return how the value is called in the help."""
        return "N/s"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number a second; fail for what is none."""
        found = _RATE.fullmatch(str(value).strip())
        number = float(found[1]) / _SPANS_S[(found[2] or "s").lower()] if found is not None else 0.0
        if not number or not math.isfinite(number):
            self.fail(f"{value!r} is no rate such as 5/s, 300/m or 10000/h.", param, ctx)
        return number


class Size(_Type):
    """A number of bytes, as ``500k``, ``32M`` or ``1G`` (powers of 1,024); 0 means "no limit" and becomes ``None``."""

    name = "size"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Return how the value is called in the help."""
        return "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """Return the number of bytes; fail for what is none."""
        found = _SIZE.fullmatch(str(value).strip())
        if found is None:
            self.fail(f"{value!r} is no size such as 500k, 32M or 1G; 0 for no limit.", param, ctx)
        size = int(float(found[1]) * 1024 ** _POWERS[found[2].lower()])
        if size == 0 and float(found[1]) > 0:
            self.fail(f"{value!r} is less than a byte; 0 for no limit.", param, ctx)
        return size or None


class Words(_Type):
    """Words separated by commas: names of fields, of headers, media types."""

    name = "words"

    def __init__(self, metavar: str) -> None:
        self._metavar = metavar

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Return how the value is called in the help."""
        return f"{self._metavar},…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return the words; fail when there are none."""
        parts = value if isinstance(value, (list, tuple)) else str(value).split(",")
        words = tuple(str(part).strip() for part in parts)
        if not words or not all(words):
            self.fail(f"{value!r} has an empty word; give words with commas between.", param, ctx)
        return words


class Kinds(_Type):
    """Kinds of failures, such as ``timeout,5xx``; without any, all of them."""

    name = "kinds"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Return how the value is called in the help."""
        return "[=KIND,…]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return the words, as a job takes them; fail for what is no kind."""
        from crawlpool.jobs.again import check_kinds

        if isinstance(value, tuple):
            return value
        kinds = tuple(word.strip() for word in str(value).split(",")) if str(value).strip() else ()
        for kind in kinds:
            try:
                check_kinds([kind])
            except ConfigError:
                self.fail(f"{kind!r} is no kind of failure such as timeout, 503 or 5xx.", param, ctx)
        return kinds


class Statuses(_Type):
    """Status codes such as ``429,5xx``."""

    name = "statuses"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Return how the value is called in the help."""
        return "STATUS,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> frozenset[int]:
        """Return the statuses; fail for what is none."""
        if isinstance(value, frozenset):
            return value
        text = ",".join(str(part) for part in value) if isinstance(value, (list, tuple)) else str(value)
        try:
            return parse_statuses(text)
        except ConfigError:
            self.fail(f"{text!r} is no list of statuses such as 429,503 or 5xx.", param, ctx)


class Resolve(_Type):
    """An address to connect to instead of asking DNS: ``HOST:PORT:ADDRESS``, as curl takes it."""

    name = "resolve"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Return how the value is called in the help."""
        return "HOST:PORT:ADDR"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int, str]:
        """Return host, port and address; fail for anything else."""
        if isinstance(value, tuple):
            return value
        found = _RESOLVE.fullmatch(str(value).strip())
        try:
            if found is None or not 0 < int(found[2]) < 65536:
                raise ValueError
            host = found[1].strip("[]").lower()
            host = host if host.isascii() else idna.encode(host, uts46=True).decode("ascii")
            return host, int(found[2]), str(ipaddress.ip_address(found[3].strip("[]")))
        except ValueError:  # a bad address, and idna's errors, are of this kind
            self.fail(f"{value!r} is not HOST:PORT:ADDRESS, such as example.org:443:127.0.0.1.", param, ctx)


class Net(_Type):
    """A network in CIDR notation, or one address."""

    name = "network"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Return how the value is called in the help."""
        return "CIDR"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the network as it is usually written; fail for anything else."""
        try:
            return str(network_of(str(value)))
        except ConfigError as error:
            said = str(error).removeprefix("allow_nets: ")
            self.fail(said if said.endswith("?") else f"{said}.", param, ctx)


class MaxFailures(_Type):
    """How many failures are borne: a number or a percentage."""

    name = "failures"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Return how the value is called in the help."""
        return "N|P%"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> FailureBound:
        """Return the bound; fail for anything else."""
        if isinstance(value, FailureBound):
            return value
        found = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)\s*%", str(value).strip())
        if found is None or isinstance(value, bool) or (found[2] is not None and float(found[2]) > 100):
            self.fail(f"{value!r} is neither a number such as 10 nor a percentage such as 2%.", param, ctx)
        return FailureBound(count=int(found[1])) if found[1] else FailureBound(percent=float(found[2]))


class Lines(_Type):
    """Text that may hold spaces: in an environment variable, several stand on lines of their own."""

    name = "text"
    envvar_list_splitter = "\n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text."""
        if not isinstance(value, str):
            self.fail("a text is needed (in a config file: in quotes).", param, ctx)
        return value.strip()
