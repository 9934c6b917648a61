"""The hosts of a pool, each once, as few of them as have something to be remembered, and where they are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from crawlpool.politeness.address import Addresses, Whereabouts
from crawlpool.politeness.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_FEW = 1024
_MOST_COOLED = 10_000  # hosts that are remembered to have new cooldowns; where there are more all are looked at


class Hosts:
    """Hosts by name. One that nothing is known of any more is forgotten: a crawl may meet millions.

    Args:
        kept_s: how long a host is kept after its last answer, as a delay may count from there.

    Not thread-safe: its owner's lock guards it.
    """

    def __init__(self, kept_s: float = 60.0) -> None:
        self._kept_s = kept_s
        self._hosts: dict[str, Host] = {}
        self.sought: list[Any] = []  # by whom hosts are sought, one for each host; taken by who finds them
        self._addresses = Addresses()
        # Those whose cooldown has changed since somebody asked; `None` where they are to be looked for among all.
        self._cooled: set[Host] | None = None
        self.has_cooled = False  # whether there may be any
        self._resumed_at = (
            -math.inf
        )  # when the last answer of each ended, as far as an earlier process may have asked it
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
            host = self._hosts[name] = Host(name, self._note_cooldown, self._resumed_at)
        return host

    def find(self, name: str) -> Host | None:
        """Return a host if it is known."""
        return self._hosts.get(name)

    def forgive(self) -> None:
        """Forget of each host that it couldn't be reached: it was no fault of theirs."""
        for host in self:
            host.forgive()

    def cooled(self, now: float, owns: Callable[[str], bool] | None = None) -> list[tuple[str, float]]:
        """Return the hosts whose cooldown has changed since the last call, each with the seconds that are left.

        There are none left where it was lifted. The first call, and one after very many changes, names all that rest.

        Args:
            now: the time.
            owns: tells which hosts are asked about; others are kept for who asks about these. ``None`` for all.
        """
        cooled = self._cooled
        if cooled is None:
            cooled = {host for host in self if host.cooled_until > now or host.lifted_at != -math.inf}
        others = set() if owns is None else {host for host in cooled if not owns(host.name)}
        self._cooled, self.has_cooled = others, bool(others)
        cooled = cooled - others
        return [(host.name, max(host.cooled_until - now, 0.0)) for host in cooled]

    def resume(
        self,
        cooled: Iterable[tuple[str, float]],
        now: float,
        *,
        waits_delay: bool,
        owns: Callable[[str], bool] | None = None,
    ) -> None:
        """Have hosts go on where an earlier process left them.

        Args:
            cooled: those that rest, and for how many seconds from now.
            now: the time.
            waits_delay: whether each host, and each address, counts as having ended an answer now.
            owns: tells which hosts of those that are known already are meant; ``None`` for all.
        """
        if waits_delay:
            self._resumed_at = self._addresses.ended_at = now
            for host in self if owns is None else [host for host in self if owns(host.name)]:
                host.ended_at = max(host.ended_at, now)
                if host.address is not None:
                    host.address.ended_at = max(host.address.ended_at, now)
        for name, seconds in cooled:
            if seconds > 0:
                self.of(name, now).rest(seconds, now)

    def seek(self, host: Host, by: object) -> None:
        """Have a host's address found, unless it is or is going to be; ``by`` tells those who find it how."""
        if host.whereabouts in (Whereabouts.UNKNOWN, Whereabouts.LOST):
            host.whereabouts = Whereabouts.SOUGHT
            self.sought.append(by)

    def locate(self, name: str, found: Iterable[str] | None) -> Host | None:
        """Take the addresses of a host; return the host if that is news. It counts as long as the host is remembered.

        Args:
            name: the host's.
            found: its addresses; none where its name can't be resolved, ``None`` where it isn't for us to resolve it.
        """
        host = self._hosts.get(name)
        if host is None or host.whereabouts is Whereabouts.FOUND:
            return None
        host.address = None if found is None else self._addresses.of(found)
        if host.address is not None:
            host.whereabouts = Whereabouts.FOUND
        else:
            host.whereabouts = Whereabouts.FOREIGN if found is None else Whereabouts.LOST
        return host

    def _note_cooldown(self, host: Host) -> None:
        self.has_cooled = True
        if self._cooled is not None:
            self._cooled.add(host)
            if len(self._cooled) > _MOST_COOLED:  # nobody asks
                self._cooled = None

    def _forget(self, now: float) -> None:
        # Looked for when they have doubled since the last time: a constant cost for each host.
        old = now - self._kept_s
        self._hosts = {
            name: host for name, host in self._hosts.items() if host.ended_at > old or not host.is_forgettable(now)
        }
        self._look_at = max(_FEW, 2 * len(self._hosts))
