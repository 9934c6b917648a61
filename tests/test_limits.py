"""How hard a host may be asked, as users set it."""

from __future__ import annotations

from typing import Any

import pytest

from crawlpool.errors import ConfigError
from crawlpool.limits import POLITE, HostLimits, is_loopback


@pytest.mark.parametrize("host", ["localhost", "a.localhost", "127.0.0.1", "127.9.8.7", "::1", "[::1]", "localhost."])
def test_loopback_hosts_are_known_by_their_text(host: str) -> None:
    """Nothing is resolved to tell that a host is this machine; it has no limits where they say so, and only there."""
    assert is_loopback(host)
    assert POLITE.of_host(host) is None
    assert HostLimits(concurrency=1).of_host(host) == HostLimits(concurrency=1)


@pytest.mark.parametrize("host", ["example.org", "localhost.example.org", "notlocalhost", "128.0.0.1", "127.0.0.1.nip"])
def test_other_hosts_have_the_limit(host: str) -> None:
    """A name that only looks like this machine's has the limits of any host."""
    assert not is_loopback(host)
    assert POLITE.of_host(host) is POLITE


@pytest.mark.parametrize("concurrency", [0, -1, 1.5, True, "2"])
def test_a_bad_concurrency_is_named(concurrency: object) -> None:
    """A limit is a whole number of at least 1, or None."""
    with pytest.raises(ConfigError, match=f"concurrency={concurrency!r}"):
        HostLimits(concurrency=concurrency)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("delay_s", -0.1),
        ("delay_s", float("nan")),
        ("delay_s", float("inf")),
        ("delay_s", "1"),
        ("delay_s", 86_401),
        ("max_cooldown_s", -1),
        ("max_cooldown_s", None),
        ("connect_failures", 0),
        ("connect_failures", 2.5),
        ("adaptive", 1),
        ("adaptive", True),
        ("per_ip", "yes"),
        ("is_block", "403"),
    ],
)
def test_a_bad_value_is_named(name: str, value: Any) -> None:
    """The message has the setting and the value."""
    with pytest.raises(ConfigError, match=f"^{name}="):
        HostLimits(**{name: value})


@pytest.mark.parametrize("concurrency", [2, None])
def test_a_delay_is_for_one_at_a_time(concurrency: int | None) -> None:
    """A delay between one request and the next means nothing where several run at once: both are refused together."""
    with pytest.raises(ConfigError, match="delay"):
        HostLimits(concurrency=concurrency, delay_s=0.5)
