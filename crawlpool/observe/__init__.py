"""What a run tells while it runs: lines and logs on stderr, and how far it is."""

from __future__ import annotations

from crawlpool.observe.display import Display, make_display
from crawlpool.observe.logs import logs_to
from crawlpool.observe.pace import Meter, Pace
from crawlpool.observe.telling import Telling

__all__ = ["Display", "Meter", "Pace", "Telling", "logs_to", "make_display"]
