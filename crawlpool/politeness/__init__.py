"""When a host may be asked: its state machine. Pure: no network, no threads, no locks; the time is given."""

from crawlpool.politeness.address import Address, Addresses, Whereabouts
from crawlpool.politeness.blocks import Blocks, is_block
from crawlpool.politeness.breaker import Breaker
from crawlpool.politeness.came import ANSWERED, BLOCKED, BROKEN, REFUSALS, UNSENT, Came, How
from crawlpool.politeness.exits import Exit, ExitProxies, Exits, Passage
from crawlpool.politeness.host import Host
from crawlpool.politeness.hosts import Hosts
from crawlpool.politeness.outage import AGAIN_S, Outage
from crawlpool.politeness.told import NOTHING, Order, Told, on_hold
from crawlpool.politeness.valve import Rate, Valve

__all__ = [
    "AGAIN_S",
    "ANSWERED",
    "BLOCKED",
    "BROKEN",
    "NOTHING",
    "REFUSALS",
    "UNSENT",
    "Address",
    "Addresses",
    "Blocks",
    "Breaker",
    "Came",
    "Exit",
    "ExitProxies",
    "Exits",
    "Host",
    "Hosts",
    "How",
    "Order",
    "Outage",
    "Passage",
    "Rate",
    "Told",
    "Valve",
    "Whereabouts",
    "is_block",
    "on_hold",
]
