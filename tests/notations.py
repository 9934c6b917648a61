"""The ways to write one loopback address in a URL, and a canary that listens there."""

from __future__ import annotations

import itertools
import socket
from typing import Any

from crawlpool.testing import SiteServer

#: Where the canary listens; no test names one of these in an input.
CANARY = ("127.0.0.2", "::1")
#: Where the site is that tests name: it permits itself.
FRONT = "127.0.0.3"

_PARTS = ((127, 0, 0, 2), (127, 0, 2), (127, 2), (2130706434,))
_BASES = ("{}", "0{:o}", "000{:o}", "0x{:x}", "0X{:X}", "0x000{:x}")


def _in_numbers() -> list[str]:
    """Return IPv4 in one to four numbers of each base, and in mixed ones."""
    found = [".".join(base.format(part) for part in parts) for parts in _PARTS for base in _BASES]
    found += [f"{a.format(127)}.{b.format(2)}" for a, b in itertools.permutations(_BASES, 2)]
    return found


#: Of 127.0.0.2; in decimal with all four numbers it is written in the usual way.
NUMBERS = [one for one in _in_numbers() if one != "127.0.0.2"]
MAPPED = ["[::ffff:127.0.0.2]", "[::ffff:7f00:2]", "[::FFFF:7F00:2]"]
USUAL = ["127.0.0.2", "127.0.0.2.", "[::1]", "[0:0:0:0:0:0:0:1]", "[0000::0001]", *MAPPED]
NAMES = ["localhost", "LOCALHOST", "LocalHost", "localhost.", "app.localhost", "a.b.LOCALHOST"]
HIDDEN = [
    *("127.2.", "2130706434.", "0x7f000002."),
    *("\uff11\uff12\uff17.0.0.2", "127\uff0e0\uff0e0\uff0e2", "127\u30020\u30020\u30022", "\u2460\u2461\u2466.0.0.2"),
    *("%31%32%37.0.0.2", "127%2e0%2e0%2e2", "%32130706434", "%3127.2", "%6cocalhost", "local%68ost"),
]
UNSPECIFIED = ["0", "0.0.0.0", "0x0", "00.0", "[::]", "[::0]"]
WITH_LOGIN = ["user@127.0.0.2", "u:p@2130706434", "www.example.com@0x7f.2", "a:b@[::1]", "127.0.0.3@127.0.0.2"]
NOTATIONS = [*NUMBERS, *USUAL, *NAMES, *HIDDEN, *UNSPECIFIED, *WITH_LOGIN]
assert len(set(NOTATIONS)) == len(NOTATIONS) >= 60


def canary() -> SiteServer:
    """Return a server that nobody may reach."""
    return SiteServer(lambda request: b"canary", hosts=CANARY)


def numbers_only(patch: Any) -> None:
    """Have no name looked up for real; what the system takes for an address is one."""
    ask = socket.getaddrinfo

    def look_up(host: Any, port: Any, family: int = 0, kind: int = 0, proto: int = 0, flags: int = 0) -> Any:
        if str(host).lower().rstrip(".").endswith("localhost"):
            host = "127.0.0.2"
        return ask(host, port, family, kind, proto, flags | socket.AI_NUMERICHOST)

    patch.setattr(socket, "getaddrinfo", look_up)
