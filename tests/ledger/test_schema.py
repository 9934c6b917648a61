"""How a ledger is opened: made, known again, and refused where it is none, or of another version."""

from __future__ import annotations

import os
import sqlite3
import stat
from typing import TYPE_CHECKING

import pytest

from crawlpool.errors import JobError, SinkError
from crawlpool.ledger import schema
from crawlpool.ledger.schema import APPLICATION_ID, VERSION, open_to_read, open_to_write, transaction

if TYPE_CHECKING:
    import pathlib


def test_a_new_ledger_is_private_and_says_what_it_is(tmp_path: pathlib.Path) -> None:
    """It has mode 0600, crawlpool's mark and its version, a write-ahead log, and syncs each commit."""
    path = tmp_path / "ledger.sqlite3"
    database = open_to_write(str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    pragmas = {name: database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")}
    assert pragmas == {"application_id": APPLICATION_ID, "user_version": VERSION}
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert database.execute("PRAGMA synchronous").fetchone() == (2,)
    database.close()
    open_to_write(str(path)).close()


@pytest.mark.parametrize("opens", [open_to_write, open_to_read])
@pytest.mark.parametrize("content", [b"this is a text and no database, however long it may be" * 40, b"\0" * 4096])
def test_a_file_that_is_no_ledger_is_refused(tmp_path: pathlib.Path, opens: object, content: bytes) -> None:
    """A text, zeros: one line says so, and the file is left as it was."""
    path = tmp_path / "ledger.sqlite3"
    path.write_bytes(content)
    with pytest.raises((JobError, SinkError), match=r"ledger\.sqlite3: "):
        opens(str(path)).close()  # type: ignore[operator]
    assert path.read_bytes() == content


def test_another_sqlite_file_is_refused(tmp_path: pathlib.Path) -> None:
    """Somebody else's database isn't touched."""
    path = str(tmp_path / "ledger.sqlite3")
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE mine (x)")
    other.close()
    for opens in (open_to_write, open_to_read):
        with pytest.raises(JobError, match="another SQLite file"):
            opens(path)


def test_a_later_version_is_refused_and_an_earlier_one_brought_up_to_date(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger of a later crawlpool is left alone; of an earlier one a copy is kept, and then it is changed."""
    path = str(tmp_path / "ledger.sqlite3")
    open_to_write(path).close()
    monkeypatch.setattr(schema, "VERSION", VERSION + 1)
    monkeypatch.setitem(schema._STEPS, VERSION, ("CREATE TABLE news (x)",))
    database = open_to_write(path)
    assert database.execute("SELECT count(*) FROM news").fetchone() == (0,)
    database.close()
    assert os.path.exists(f"{path}.v{VERSION}")
    monkeypatch.undo()
    with pytest.raises(JobError, match=r"later crawlpool \(ledger version 3, here 2\)"):
        open_to_write(path)
    with pytest.raises(JobError, match="a ledger of version 3"):
        open_to_read(path)


def test_a_reader_sees_what_is_committed_and_nothing_else(tmp_path: pathlib.Path) -> None:
    """A reader beside the writer sees each commit once it is there; it can't write."""
    path = str(tmp_path / "ledger.sqlite3")
    writer = open_to_write(path)
    reader = open_to_read(path)
    query = "SELECT count(*) FROM job"
    with transaction(writer):
        writer.execute("INSERT INTO job VALUES ('a', 'b')")
        assert reader.execute(query).fetchone() == (0,)
    assert reader.execute(query).fetchone() == (1,)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("DELETE FROM job")
    reader.close()
    writer.close()


def test_a_transaction_that_raises_leaves_nothing(tmp_path: pathlib.Path) -> None:
    """Whatever is raised within, what was done is taken back."""
    database = open_to_write(str(tmp_path / "ledger.sqlite3"))
    with pytest.raises(KeyboardInterrupt), transaction(database):
        database.execute("INSERT INTO job VALUES ('a', 'b')")
        raise KeyboardInterrupt
    assert database.execute("SELECT count(*) FROM job").fetchone() == (0,)
    database.close()


def test_an_old_sqlite_is_refused(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says which version is needed, and which is there."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 31, 1))
    with pytest.raises(JobError, match=r"needs SQLite 3\.35 or newer"):
        open_to_write(str(tmp_path / "ledger.sqlite3"))
