"""What a worker process of a local Dask cluster does first.

Ctrl-C on a terminal reaches every process of the command. The command's own one drains; the workers are told by it, and
must not end of the signal.
"""

from __future__ import annotations

import signal
import threading

if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
