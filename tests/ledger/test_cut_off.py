"""A ledger whose writer was killed in a transaction is read as it was before that, and nothing of it is changed."""

from __future__ import annotations

import os
import pathlib
import sqlite3
import subprocess
import sys
import tempfile

import pytest

from crawlpool import JobError
from crawlpool.ledger import cut_off
from crawlpool.ledger.schema import open_to_read

# A small cache, so that pages of the transaction lie in the file when it is killed.
KILLED = """
import os, sys
from crawlpool.ledger.schema import open_to_write
database = open_to_write(sys.argv[1], True)
database.execute("INSERT INTO job VALUES ('a', '1')")
database.executemany("INSERT INTO seen VALUES (?, 1)", [(n,) for n in range(2000)])
database.execute("PRAGMA cache_size = 2")
database.execute("BEGIN IMMEDIATE")
database.execute("UPDATE job SET value = '2'")
database.execute("UPDATE seen SET id = 2")
database.execute("DELETE FROM seen WHERE digest > 1000")
os.kill(os.getpid(), 9)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return the folder of such a ledger."""
    folder = tmp_path_factory.mktemp("killed")
    path = os.pathsep.join(sys.path)
    arguments = [sys.executable, "-c", KILLED, str(folder / "ledger.sqlite3")]
    assert subprocess.run(arguments, env={**os.environ, "PYTHONPATH": path}, timeout=50, check=False).returncode == -9
    return folder


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    """Return all that a folder has."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_it_is_read_as_it_was_before(killed: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the half transaction shows, no file is changed, and the copy leaves nothing."""
    temporary = pathlib.Path(tempfile.mkdtemp(dir=killed.parent))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    before = contents(killed)
    assert before["ledger.sqlite3-journal"]
    database = open_to_read(str(killed / "ledger.sqlite3"))
    try:
        assert database.execute("SELECT value FROM job WHERE key = 'a'").fetchall() == [("1",)]
        assert database.execute("SELECT count(*), min(id), max(id) FROM seen").fetchall() == [(2000, 1, 1)]
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            database.execute("DELETE FROM seen")
        assert list(temporary.iterdir()) == []
    finally:
        database.close()
    assert contents(killed) == before
    torn = sqlite3.connect(f"file:{killed}/ledger.sqlite3?immutable=1", uri=True)
    assert torn.execute("SELECT count(*), min(id), max(id) FROM seen").fetchall() != [(2000, 1, 1)]  # as it lies there
    torn.close()


def test_a_writer_that_lives_is_waited_for(killed: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file changes meanwhile no copy counts; if that never ends, one line says so."""
    monkeypatch.setattr(cut_off, "APART_S", 0.0)
    stamps = iter(range(1000))
    monkeypatch.setattr(cut_off, "_stamps", lambda *paths: next(stamps))
    with pytest.raises(JobError, match="is written to all the time; its lock isn't seen here"):
        open_to_read(str(killed / "ledger.sqlite3"))


def test_no_room_for_the_copy_is_one_clear_line(killed: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the ledger, and where room is needed."""
    monkeypatch.setattr(tempfile, "tempdir", str(killed / "none"))
    with pytest.raises(
        JobError, match=r"ledger\.sqlite3: its last writer was cut off.*in the folder of TMPDIR: No such"
    ):
        open_to_read(str(killed / "ledger.sqlite3"))


def test_older_pythons_tell_it_by_the_journal(killed: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Their errors have no name."""
    error = sqlite3.OperationalError("attempt to write a readonly database")
    assert cut_off.is_cut_off(error, str(killed / "ledger.sqlite3"))
    assert not cut_off.is_cut_off(error, str(tmp_path / "ledger.sqlite3"))
