"""``python -m crawlpool``: the same as the command ``crawlpool``."""

from __future__ import annotations

import sys

from crawlpool.cli import main

if __name__ == "__main__":
    sys.exit(main())
