"""The hosts of a pool, each once, and as few of them as have something to be remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crawlpool.politeness.host import Host

if TYPE_CHECKING:
    from collections.abc import Iterator

_FEW = 1024


class Hosts:
    """Hosts by name. One that nothing is known of any more is forgotten: a crawl may meet millions.

    Args:
        kept_s: how long a host is kept after its last answer, as a delay may count from there.

    Not thread-safe: its owner's lock guards it.
    """

    def __init__(self, kept_s: float = 60.0) -> None:
        self._kept_s = kept_s
        self._hosts: dict[str, Host] = {}
        self._look_at = _FEW  # so many hosts have the forgettable ones looked for

    def __len__(self) -> int:
        return len(self._hosts)

    def __iter__(self) -> Iterator[Host]:
        return iter(self._hosts.values())

    def of(self, name: str, now: float, delay_s: float = 0.0) -> Host:
        """Return a host, which is new if it isn't known.

        Args:
            name: the host's.
            now: the time.
            delay_s: that it is going to be asked with; it is remembered at least that long.
        """
        self._kept_s = max(self._kept_s, delay_s)
        host = self._hosts.get(name)
        if host is None:
            if len(self._hosts) >= self._look_at:
                self._forget(now)
            host = self._hosts[name] = Host(name)
        return host

    def find(self, name: str) -> Host | None:
        """Return a host if it is known."""
        return self._hosts.get(name)

    def _forget(self, now: float) -> None:
        # Looked for when they have doubled since the last time: a constant cost for each host.
        old = now - self._kept_s
        self._hosts = {
            name: host for name, host in self._hosts.items() if host.ended_at > old or not host.is_forgettable(now)
        }
        self._look_at = max(_FEW, 2 * len(self._hosts))
