"""What a disk may hold after a loss of power, made of all that a run wrote: ``python -m tests.torture.powercuts``.

strace writes down each call by which a crawl changes its files. Of any prefix of these calls follows what must be on
the disk, and what may be: of what was written and not synced each sector of 512 bytes may be there or not, in any
order; a file made, renamed or removed may be so or not until its folder is synced. What is mapped into memory isn't
seen by strace: SQLite's ``-shm`` is made anew by its next reader, and of ``flight`` nothing is promised, so both get
what chance gives them.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import pathlib
import random
import re
from collections.abc import Iterator

SECTOR = 512
TRACED = "openat,mkdir,write,pwrite64,fsync,fdatasync,ftruncate,rename,unlink"
#: Options of strace for a recording.
RECORDING = ("-y", "-xx", "-s", "8000000", "-e", f"trace={TRACED}")
#: Files that are mapped into memory.
MAPPED = ("ledger.sqlite3-shm", "flight")

_CALL = re.compile(r"^(?:\d+ +)?(\w+)\((.*)\) += (-?\d+|\?)(?:<.*>)?", re.DOTALL)
_UNFINISHED = re.compile(r"^(\d+) +(.*) <unfinished \.\.\.>$", re.DOTALL)
_RESUMED = re.compile(r"^(\d+) +<\.\.\. \w+ resumed>(.*)$", re.DOTALL)
_FD = re.compile(r"^(\w+)<([^>]*)>")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


@dataclasses.dataclass(frozen=True)
class Event:
    """One call that changed the files, or synced one."""

    call: str
    path: str
    data: bytes = b""
    at: int | None = None  # where it was written; None for at the file's end
    other: str = ""  # the new name


def events_of(trace: str, folder: pathlib.Path) -> Iterator[Event]:
    """Yield the calls of a trace that succeeded and are about what lies in a folder, as they ended one by one."""
    root = str(folder)
    for name, arguments, returned in _calls(trace):
        if returned < 0:
            continue
        texts = [_unescaped(text) for text in _TEXT.findall(arguments)]
        described = _FD.match(arguments)
        path = "" if described is None else _path(described[2])
        if name in ("write", "pwrite64"):
            at = int(arguments.rsplit(", ", 1)[1]) if name == "pwrite64" else None
            event = Event("write", path, texts[0][:returned], at)
        elif name in ("fsync", "fdatasync"):
            event = Event("sync", path)
        elif name == "ftruncate":
            event = Event("cut", path, at=int(arguments.rsplit(", ", 1)[1]))
        elif name == "openat":
            if "O_CREAT" not in arguments:
                continue
            event = Event("make", os.fsdecode(texts[0]))
        elif name == "rename":
            event = Event("rename", os.fsdecode(texts[0]), other=os.fsdecode(texts[1]))
        else:
            event = Event({"mkdir": "mkdir", "unlink": "unlink"}[name], os.fsdecode(texts[0]))
        if event.path == root or event.path.startswith(root + "/"):
            yield event


def _calls(trace: str) -> Iterator[tuple[str, str, int]]:
    begun: dict[str, str] = {}
    for line in trace.splitlines():
        if match := _UNFINISHED.match(line):
            begun[match[1]] = match[2]
            continue
        if match := _RESUMED.match(line):
            line = begun.pop(match[1], "") + match[2]
        if (match := _CALL.match(line)) and match[3] != "?":
            yield match[1], match[2], int(match[3])


def _unescaped(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _path(text: str) -> str:
    return os.fsdecode(_unescaped(text)) if text.startswith("\\x") else text


@dataclasses.dataclass
class _File:
    """A file: what is on the disk for sure, and what was written since."""

    content: bytearray = dataclasses.field(default_factory=bytearray)
    pending: list[tuple[int, bytes] | int] = dataclasses.field(default_factory=list)
    size: int = 0  # as it is seen now

    def write(self, data: bytes, at: int | None) -> None:
        at = self.size if at is None else at  # nobody here writes anywhere else without saying where
        self.pending.append((at, data))
        self.size = max(self.size, at + len(data))

    def cut(self, length: int) -> None:
        self.pending.append(length)
        self.size = length

    def sync(self) -> None:
        self.content = self.kept(lambda: True)
        self.pending.clear()

    def kept(self, is_kept: collections.abc.Callable[[], bool]) -> bytearray:
        """Return what is left, when of what isn't synced that is there which ``is_kept`` says, sector by sector."""
        content = bytearray(self.content)
        for change in self.pending:
            if isinstance(change, int):
                if is_kept():
                    del content[change:]
                    content.extend(bytes(change - len(content)))
                continue
            at, data = change
            begin = at
            while begin < at + len(data):
                end = min((begin // SECTOR + 1) * SECTOR, at + len(data))
                if is_kept():
                    content.extend(bytes(max(0, end - len(content))))
                    content[begin:end] = data[begin - at : end - at]
                begin = end
        return content


class Disk:
    """What is known of the files below a folder while events go by.

    Args:
        folder: it is there, and empty.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self._root = str(folder)
        self._now: dict[str, _File | None] = {self._root: None}  # as they are seen now; None is a folder
        self._synced = dict(self._now)  # names that are there for sure, and what they are the names of
        self._changes: list[tuple[str, str, _File | None, bool]] = []  # old name, new name, of what, is it a folder

    def see(self, event: Event) -> None:
        """Take an event."""
        call, path = event.call, event.path
        if call in ("rename", "unlink") and path not in self._now:
            return  # a socket
        if call in ("make", "mkdir"):
            if path not in self._now:
                self._now[path] = None if call == "mkdir" else _File()
                self._changes.append(("", path, self._now[path], call == "mkdir"))
        elif call == "rename":
            file = self._now[event.other] = self._now.pop(path)
            self._changes.append((path, event.other, file, file is None))
        elif call == "unlink":
            self._changes.append((path, "", self._now.pop(path), False))
        elif call == "sync":
            file = self._now.get(path)
            if file is not None:
                file.sync()
            elif path in self._now:
                self._sync_names(path)
        elif (file := self._now.get(path)) is not None:
            if call == "cut":
                file.cut(event.at or 0)
            else:
                file.write(event.data, event.at)

    def _sync_names(self, folder: str) -> None:
        left = []
        for change in self._changes:
            if any(name and os.path.dirname(name) == folder for name in change[:2]):
                _apply(self._synced, change)
            else:
                left.append(change)
        self._changes = left

    def lose(self, into: pathlib.Path, chance: random.Random) -> None:
        """Write to a new folder what may be left."""
        names, dropped = dict(self._synced), set[str]()
        share = chance.choice((0.0, 0.5, 0.9, 1.0))  # of changed names that are kept
        for change in self._changes:
            mine = {name for name in change[:2] if name}
            parents = {os.path.dirname(name) for name in mine}
            if chance.random() >= share or mine & dropped or parents & dropped:
                dropped |= mine
            else:
                _apply(names, change)
        share = chance.choice((0.0, 0.0, 0.2, 0.5, 0.9, 1.0))  # of sectors that are kept
        into.mkdir()
        for name, file in sorted(names.items()):
            path = into / os.path.relpath(name, self._root)
            if name == self._root or not path.parent.is_dir():
                continue
            if file is None:
                path.mkdir()
            elif path.name in MAPPED:
                _write_mapped(path, chance)
            else:
                path.write_bytes(file.kept(lambda: chance.random() < share))


def _apply(names: dict[str, _File | None], change: tuple[str, str, _File | None, bool]) -> None:
    old, new, file, _ = change
    if old:
        names.pop(old, None)
    if new:
        names[new] = file


def _write_mapped(path: pathlib.Path, chance: random.Random) -> None:
    if path.name == "flight":
        slots = [chance.choice((0, 0, chance.randrange(40))) for _ in range(16)]
        path.write_bytes(b"".join(slot.to_bytes(8, "little") for slot in slots)[: chance.choice((0, 56, 128))])
    elif chance.random() < 0.5:
        path.write_bytes(chance.randbytes(32768))
