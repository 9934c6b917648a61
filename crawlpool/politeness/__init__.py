"""When a host may be asked: its state machine. Pure: no network, no threads, no locks; the time is given."""

from crawlpool.politeness.breaker import Breaker
from crawlpool.politeness.came import ANSWERED, BROKEN, REFUSALS, UNSENT, Came, How
from crawlpool.politeness.host import Host
from crawlpool.politeness.hosts import Hosts
from crawlpool.politeness.rate import Rate

__all__ = ["ANSWERED", "BROKEN", "REFUSALS", "UNSENT", "Breaker", "Came", "Host", "Hosts", "How", "Rate"]
