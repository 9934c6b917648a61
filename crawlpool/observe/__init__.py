"""What a run tells while it runs: lines and logs on stderr, and how far it is."""

from __future__ import annotations

from crawlpool.events import redact_keys
from crawlpool.observe.display import Display, make_display
from crawlpool.observe.logs import logs_to
from crawlpool.observe.pace import Meter, Pace
from crawlpool.observe.telling import Telling
from crawlpool.redactor import SECRET_WORDS, Redactor

__all__ = [
    "SECRET_WORDS",
    "Display",
    "Meter",
    "Pace",
    "Redactor",
    "Telling",
    "logs_to",
    "make_display",
    "redact_keys",
]
