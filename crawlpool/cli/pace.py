"""How hard hosts may be asked in a run: what the options say, said back at the start, and what to change at the end."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from crawlpool.cli.config_file import place_of
from crawlpool.limits import POLITE, HostLimits

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Pace:
    """The limits of a run.

    Args:
        limits: of each host.
        rate: requests a second over all hosts; ``None`` for any number.
        ignores_robots: whether robots.txt isn't asked.
        holds_blocked: whether a host that doesn't want us is left alone.
    """

    limits: HostLimits = POLITE
    rate: float | None = None
    ignores_robots: bool = False
    holds_blocked: bool = True

    def __str__(self) -> str:
        limits = self.limits
        host = "host, and per address" if limits.per_ip else "host"
        if limits.delay_s:
            said = f"one request at a time per {host}, the next {limits.delay_s:g} s after the last ended"
        else:
            found_out = ", as many as it bears" if limits.adaptive else ""
            said = f"at most {limits.concurrency} at once per {host}{found_out}"
        if limits.loopback_exempt:
            said += " (loopback hosts: no limit)"
        if self.rate is not None:
            said += f"; at most {self.rate:g} requests/s in all"
        return f"{said}; robots.txt is IGNORED" if self.ignores_robots else said

    def fields(self) -> dict[str, Any]:
        """Return the same for the log as JSON."""
        return {
            "delay_s": self.limits.delay_s,
            "per_host": self.limits.concurrency,
            "adaptive": self.limits.adaptive,
            "per_ip": self.limits.per_ip,
            "rate": self.rate,
            "loopback_exempt": self.limits.loopback_exempt,
            "ignore_robots": self.ignores_robots,
            "on_block": "hold" if self.holds_blocked else "record",
        }

    def advice(self) -> str:
        """Say what to change where the limits, and not the machine, were what the run waited for."""
        hosts = "addresses" if self.limits.per_ip else "hosts"
        if self.limits.delay_s:
            return (
                f"--delay {self.limits.delay_s:g} sets the pace; more {hosts} side by side, or a lower --delay for "
                "hosts that allow it, go faster, more threads don't"
            )
        if self.limits.adaptive:
            said = "what the hosts bear (--adaptive), and their refusals, set the pace"
            return f"{said}; more {hosts} side by side go faster"
        return f"--per-host {self.limits.concurrency} sets the pace; raise it for hosts that allow more"


def pace_of(ctx: click.Context, given: Mapping[str, Any]) -> Pace:
    """Return the limits that the options make; those of ``run``, or of a command that has some of them.

    ``--per-host`` alone means so many at once and no delay; ``--delay`` alone one at a time. Where one of them is
    given it holds for loopback hosts, too.

    Raises:
        click.UsageError: when a delay and more than one at once are asked for.
    """
    delay_s, per_host = given["delay"], given["per_host"]
    cap_s = given.get("max_retry_after", POLITE.max_cooldown_s)  # a command that sends nothing has no such option
    rate, ignores = given["rate"], given["ignore_robots"]
    if delay_s and per_host is not None and per_host > 1:
        delay, several = place_of(ctx, "delay"), place_of(ctx, "per_host")
        raise click.UsageError(
            f"{delay} {delay_s:g} is between one request and the next, and {several} {per_host} asks for several at "
            "once: give --delay 0, or leave one of them out",
            ctx,
        )
    if given.get("adaptive") and (per_host is None or per_host < 2):
        raise click.UsageError(f"{place_of(ctx, 'adaptive')} needs --per-host N, with N of 2 or more", ctx)
    per_ip = bool(given.get("per_ip"))
    limits = HostLimits(per_host or 1, delay_s or 0.0, cap_s, adaptive=bool(given.get("adaptive")), per_ip=per_ip)
    if delay_s is None and per_host is None:
        limits = dataclasses.replace(POLITE, max_cooldown_s=cap_s, per_ip=per_ip)
    return Pace(limits, rate, ignores, given.get("on_block") != "record")
