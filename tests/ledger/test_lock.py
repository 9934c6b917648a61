"""One process has a job, and the others are told which."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from crawlpool.errors import JobError, SinkError
from crawlpool.ledger.lock import JobLock

if TYPE_CHECKING:
    import pathlib

_HOLD = "import sys; from crawlpool.ledger.lock import JobLock; lock = JobLock(sys.argv[1]); print('has it'); input()"


def test_the_second_is_told_who_has_it(tmp_path: pathlib.Path) -> None:
    """Within a process, too; when it is given free the next one has it."""
    with JobLock(str(tmp_path)), pytest.raises(JobError, match=f"the job is in use by process {os.getpid()} on "):
        JobLock(str(tmp_path))
    JobLock(str(tmp_path)).close()


def test_a_killed_process_has_it_no_more(tmp_path: pathlib.Path) -> None:
    """The lock goes with the process, by whatever end."""
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "has it\n"
        with pytest.raises(JobError, match=f"in use by process {holder.pid} "):
            JobLock(str(tmp_path))
        holder.kill()
        holder.wait()
    JobLock(str(tmp_path)).close()


def test_a_folder_that_is_not_there_is_told(tmp_path: pathlib.Path) -> None:
    """One line names the file that can't be made."""
    with pytest.raises(SinkError, match=r"nowhere/lock: No such file or directory"):
        JobLock(str(tmp_path / "nowhere"))
