"""What a store shares between threads may be copied and pickled by all of them, even while the collector calls code."""

from __future__ import annotations

import subprocess
import sys

# The callback is what hypothesis installs in a process, and profilers: in it threads take turns.
PICKLED_AT_ONCE = """
import copy, gc, pickle, sys, threading
from requests.cookies import create_cookie
from crawlpool.cookies import CookieStore

def look(phase, info):
    for _ in range(200):
        pass

def work(store, start):
    start.wait()
    pickle.dumps(store)
    for cookie in store:
        copy.copy(cookie)
    pickle.dumps(store.get_policy())

gc.callbacks.append(look)
gc.set_threshold(50)
sys.setswitchinterval(5e-5)
for _ in range(20):
    store = CookieStore()
    for n in range(500):
        store.set_cookie(create_cookie(f"c{n}", str(n), domain=f"d{n}.example"))
    start = threading.Barrier(4)
    threads = [threading.Thread(target=work, args=(store, start)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
gc.collect()
print("alive")
"""


def test_threads_that_pickle_the_same_cookies_at_once_get_one_dict_of_each() -> None:
    """CPython 3.11 may give two threads that first ask for an object's dict one each, and free twice what is in it.

    So the store has it made before a cookie is shared. Without that this process dies nearly each time.
    """
    run = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", PICKLED_AT_ONCE],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (run.returncode, run.stdout) == (0, "alive\n"), run.stderr[-3000:]
