"""Exchanges as WARC 1.1: what was asked and what came back, byte for byte, each record a gzip member of its own."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from crawlpool.clock import iso_utc
from crawlpool.config import check, is_count
from crawlpool.models import BodyPlace
from crawlpool.sinks.base import json_of_item
from crawlpool.sinks.gzipping import compressor
from crawlpool.sinks.marks import Mark
from crawlpool.sinks.parts import Parts
from crawlpool.sinks.warc_records import Captured, Earlier, RecordIds, captured, response_and_request, warcinfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from crawlpool.models import Result

#: What a file holds at most, unless it is told otherwise: what tools and file systems take without a murmur.
ROTATE_BYTES = 1 << 30
_MOST_DIGESTS = 100_000
_MOST_DIGEST_BYTES = 24 << 20
_ENTRY_BYTES = 160  # what the digest, the dict's slot and the two objects take
_LEAST_PAYLOAD_BYTES = 256  # below that, a record that refers to another one is larger than the payload


class Packed(NamedTuple):
    """The two records of an exchange, compressed.

    ``is_first`` tells whether they have a payload which may be referred to later, and hadn't been stored yet.
    """

    response: bytes
    request: bytes
    is_first: bool
    of: Captured


class WarcSink:
    """Writes each exchange of a result to WARC files: the redirects that were followed, then the answer.

    Each file begins with a ``warcinfo`` record. An exchange is a ``response`` record and its ``request``; where the
    same payload was stored before, as far as is remembered, a ``revisit`` record in place of the first. A target
    without an answer has no record here, and no more has an answer that came by an adapter of the user's own, which
    doesn't tell the bytes of the wire. Items of handlers aren't written.

    Args:
        path: the first file's name, which ends in ``.warc.gz``; the further ones are numbered, and what isn't complete
            yet is called ``….open``. See ``crawlpool.sinks.parts``.
        rotate_bytes: how long a file becomes at most, but for one exchange that is longer; ``None`` for any length.
        credentials: whether cookies, logins and the userinfo in headers are stored, too; without it ``***`` stands in
            place of each.
        mark: what a job's ledger has committed of the files; ``None`` where there is no job: an earlier output of
            that name is replaced when this one is complete, which it is at ``close``.
        responses: how many responses the files hold at the mark.

    Raises:
        SinkError: when the file can't be opened; see ``Parts``.

    Thread-safe. In a job one thread drives it: ``write_all``, ``sync``, ``committed``, at last ``complete``; and what
    is written is on the disk after ``sync``, not before.
    """

    #: A crawl has its answers keep the bytes of the wire when a sink says so.
    needs_wire = True
    #: A crawl calls this sink before those whose records say where a body lies.
    keeps_bodies = True

    def __init__(
        self,
        path: str,
        *,
        rotate_bytes: int | None = ROTATE_BYTES,
        credentials: bool = False,
        mark: Mark | None = None,
        responses: int = 0,
    ) -> None:
        check(rotate_bytes is None or is_count(rotate_bytes), "rotate_bytes", rotate_bytes, "1 or more, or None")
        self._credentials = credentials
        self._compress = compressor()
        self._ids = RecordIds()
        self._has_job = mark is not None
        self._is_closed = False
        # Guards _parts, _stored, _stored_bytes, _responses and _is_closed. Held while a file is written, so that
        # records lie there one after another; whoever waits for it has made its records by then.
        self._lock = threading.Lock()
        self._parts = Parts(path, rotate_bytes=rotate_bytes, mark=mark, head=self._head, overwrites=not self._has_job)
        self._stored: dict[bytes, bytes] = {}
        self._stored_bytes = 0
        self._responses = responses

    @property
    def responses(self) -> int:
        """How many responses the files hold, those that refer to an earlier payload included."""
        return self._responses

    def write(self, result: Result) -> None:
        """Write the exchanges of ``result``. Raises ``SinkError`` when these or earlier ones can't be written."""
        self.write_all((result,))

    def write_all(self, results: Iterable[Result]) -> None:
        """Write the exchanges of several results, and note on each result where its body lies.

        Raises:
            SinkError: as ``write`` does.
        """
        for result in results:
            whose, packed = result._packed
            place = None
            for one in packed if whose is self else self._packed(result):
                place = self._write(one)
            result.note("_packed", (None, ()))
            if place is not None and getattr(result.response, "kept", None) is not None:
                result.note("bodies", (*result.bodies, place))
        if not self._has_job:
            self.flush()

    def prepare(self, result: Result) -> None:
        """Make the records of a result, compressed, so that ``write_all`` has nothing left to do but to write them.

        Two threads that take turns at the interpreter pay for each turn: who has the result in hand does this for less.
        What was prepared stays on the result until it is written.
        """
        result.note("_packed", (self, self._packed(result)))

    def emit(self, item: Mapping[str, Any]) -> None:
        """Check an item of a handler; it isn't written. Raises ``ConfigError`` when it isn't JSON."""
        json_of_item(item)

    def flush(self) -> None:
        """Return when all records are with the operating system. Raises ``SinkError`` when they can't be."""
        with self._lock:
            self._parts.flush()

    def sync(self) -> Mark:
        """Return when all records are on the disk: what may be committed now. Raises ``SinkError`` when they aren't."""
        with self._lock:
            return self._parts.sync()

    def complete(self) -> Mark:
        """As ``sync``, for files that are at their end."""
        with self._lock:
            return self._parts.complete()

    def committed(self, mark: Mark) -> None:
        """Give files that are complete their names; the ledger has committed ``mark``. Raises ``SinkError``."""
        with self._lock:
            self._parts.committed(mark)

    def close(self) -> None:
        """Let go of the files; without a job they are complete now. May be called again.

        Raises:
            SinkError: when they couldn't be completed.
        """
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            try:
                if not self._has_job:
                    self._parts.committed(self._parts.complete())
            finally:
                self._parts.close()

    def _head(self, name: str) -> bytes:
        return self._compress(warcinfo(name, self._ids, iso_utc(time.time())))

    def _packed(self, result: Result) -> tuple[Packed, ...]:
        return tuple([self._pack(one) for one in captured(result, credentials=self._credentials)])

    def _pack(self, one: Captured) -> Packed:
        is_large = one.body is not None and len(one.body) >= _LEAST_PAYLOAD_BYTES
        earlier = self._earlier(one) if is_large else None
        # Compressing takes most of the time. No lock is held meanwhile, and the interpreter is free.
        response, request = map(self._compress, response_and_request(one, self._ids, earlier))
        return Packed(response, request, is_large and earlier is None, one)

    def _write(self, one: Packed) -> BodyPlace:
        if one.is_first and self._earlier(one.of) is not None:  # the same payload was stored since this was prepared
            one = self._pack(one.of)
        with self._lock:
            file, offset = self._parts.append(one.response + one.request)
            self._responses += 1
            if one.is_first:
                self._remember(one.of, file, offset)
        return BodyPlace(file, offset, len(one.response))

    def _earlier(self, one: Captured) -> Earlier | None:
        with self._lock:
            found = self._stored.get(one.digest)
        if found is None:
            return None
        file, offset, date, uri = found.decode("ascii").split("\n")
        return Earlier(file, int(offset), date, uri)

    def _remember(self, one: Captured, file: str, offset: int) -> None:
        """Remember where a payload lies; what was met longest ago goes when there are too many."""
        stored = self._stored
        if one.digest in stored:
            return
        entry = f"{file}\n{offset}\n{one.date}\n{one.uri}".encode("ascii", "replace")
        stored[one.digest] = entry
        self._stored_bytes += len(entry) + _ENTRY_BYTES
        while len(stored) > _MOST_DIGESTS or self._stored_bytes > _MOST_DIGEST_BYTES:
            oldest = next(iter(stored))
            self._stored_bytes -= len(stored.pop(oldest)) + _ENTRY_BYTES
