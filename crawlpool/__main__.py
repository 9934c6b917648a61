"""``python -m crawlpool``: the same as the command ``crawlpool``."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    try:
        from crawlpool.cli import main

        code = main()
    except KeyboardInterrupt:  # before or after the command handles it
        code = 7
    sys.exit(code)
