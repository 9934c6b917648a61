"""Valid answers of all sorts, and what becomes of them when their bytes are changed: for the fuzz of the transports.

All of a case follows from a seed and a number, so that one that fails can be made again. No change ever makes a
``Location`` that isn't one of ours: what is fuzzed here is a server, and only the one on loopback is to be asked.
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
import hashlib
import importlib
import random
import re
import zlib
from collections.abc import Callable

from crawlpool.decode import supported

END_MODES = ("close", "close", "close", "keep", "keep", "reset")
_PIECES = (
    b"\r\n", b"\n", b"\r", b"\0", b":", b" ", b"\t", b"\r\n\r\n", b"\xff\xfe", b"\x1b[2J", b"-1", b"+5", b"0x5", b"5,5",
    b"9" * 30, b"ffffffffffffffff", b"0\r\n\r\n", b"1000", b"99", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n",
    b"Content-Length: -1\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Trailer: x\r\n",
    b"Content-Encoding: gzip\r\n", b"Content-Encoding: br\r\n", b"Content-Encoding: zstd\r\n", b"Connection: close\r\n",
    b"Connection: keep-alive\r\n", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 103 E\r\n\r\n", b"HTTP/1.1 101 S\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n", b"HTTP/3.7 200 OK\r\n", b"HTTP/1.1 204 N\r\n", b"nocolon\r\n", b" folded\r\n", b"X : 1\r\n",
    b"Set-Cookie: a=b\r\n", b"A: " + b"x" * 70_000 + b"\r\n", b"A: 1\r\n" * 120,
)  # fmt: skip
#: Where a redirect leads, beside to the case's own next answer: nowhere, or to what is no URL.
_JUNK_LOCATIONS = (
    b"", b"/\xe4", b"\xff\xfe", b"http://", b"http://[", b"http://[::1", b"//", b"javascript:alert(1)", b"ftp://127.0.0.1/",
    b"file:///etc/passwd", b"http://\xe4\xf6/", b"http:///x", b"?", b"#", b"/%", b"/\x1b[2J", b"http://127.0.0.1:99999/",
)  # fmt: skip
_LOCATION = re.compile(rb"location[ \t]*:?([^\r\n]*)(?:\r?\n[ \t])?", re.IGNORECASE)
_DIGITS = re.compile(rb"[0-9]+")


@dataclasses.dataclass(frozen=True)
class Case:
    """One target of the fuzz, and what the server answers to it.

    Args:
        number: which one.
        key: its mark: what no other case's answers contain.
        method: of the request.
        answers: the bytes for the target and for each redirect after it.
        ends_by: what the server does after the last byte: ``close``, ``keep`` or ``reset``.
        expected: status and decoded body where nothing was changed; ``None`` where it was.
    """

    number: int
    key: str
    method: str
    answers: tuple[bytes, ...]
    ends_by: str
    expected: tuple[int, bytes] | None

    @property
    def path(self) -> str:
        """Where the server has its first answer."""
        return path_of(self.number, self.key, 0)


def path_of(number: int, key: str, hop: int) -> str:
    """Return the path of one answer of a case."""
    return f"/{number}/{key}/{hop}"


def key_of(seed: int, number: int) -> str:
    """Return the mark of a case: 16 hexadecimal digits."""
    return hashlib.blake2b(f"{seed}:{number}".encode(), digest_size=8).hexdigest()


@functools.lru_cache(maxsize=2000)
def case_of(seed: int, number: int) -> Case:
    """Return a case."""
    rng = random.Random(f"{seed}:{number}")
    key = key_of(seed, number)
    method, answers, expected = _whole(rng, number, key)
    ends_by = rng.choice(END_MODES)
    if rng.random() < 0.08:  # sound, and more behind it: what a server would have the next one read
        planted = b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n" + key.encode()
        answers[-1] += planted * rng.choice((1, 3, 400, 3000))
        return Case(number, key, method, tuple(answers), "keep", None)
    times = rng.choice((0, 0, 1, 1, 1, 2, 2, 3, 5))
    if not times and ends_by != "reset":
        return Case(number, key, method, tuple(answers), ends_by, expected)
    at = rng.randrange(len(answers))
    for _ in range(times):
        changed = _changed(rng, answers[at])
        if _leads_home(changed, number, key):
            answers[at] = changed
    return Case(number, key, method, tuple(answers), ends_by, None)


def encodings() -> dict[str, Callable[[bytes], bytes]]:
    """Return how to encode a body, by what ``Content-Encoding`` then says; those that can be undone here."""
    found: dict[str, Callable[[bytes], bytes]] = {
        "gzip": functools.partial(gzip.compress, mtime=0),
        "deflate": zlib.compress,
        "gzip, gzip": lambda body: gzip.compress(gzip.compress(body, mtime=0), mtime=0),
    }
    if "br" in supported():
        found["br"] = functools.partial(importlib.import_module("brotli").compress, quality=1)
    if "zstd" in supported():
        for name in ("compression.zstd", "backports.zstd"):
            try:
                module = importlib.import_module(name)
                summed = {module.CompressionParameter.checksum_flag: 1}
                found["zstd"] = functools.partial(module.compress, options=summed)
                break
            except ImportError:
                continue
        else:
            found["zstd"] = importlib.import_module("zstandard").ZstdCompressor(write_checksum=True).compress
    return found


@functools.cache
def _encoders() -> tuple[tuple[str, Callable[[bytes], bytes]], ...]:
    return tuple(encodings().items())


def _whole(rng: random.Random, number: int, key: str) -> tuple[str, list[bytes], tuple[int, bytes]]:
    """Make valid answers; return the method, their bytes, and the last one's status and body."""
    mark = key.encode()
    body = (mark + b" ") * rng.choice((0, 1, 3, 20, 100, 1200)) + (b"" if rng.random() < 0.97 else mark * 12_000)
    status = rng.choice((b"200 OK",) * 6 + (b"404 Not Found", b"503 Busy", b"204 No Content", b"304 Not Modified"))
    method = "HEAD" if rng.random() < 0.1 else "GET"
    early = b"".join(
        b"HTTP/1.1 %d E\r\nLink: %s\r\n\r\n" % (rng.choice((100, 102, 103)), mark)
        for _ in range(rng.choice((0,) * 6 + (1, 3)))
    )
    answer = early + _answer(rng, status, mark, body, method)
    code = int(status[:3])
    if code in (204, 304) or method == "HEAD":
        body = b""
    hops = rng.choice((0,) * 8 + (1, 3))
    answers = [_redirect(rng, number, key, hop) for hop in range(hops)]
    return method, [*answers, answer], (code, body)


def _answer(rng: random.Random, status: bytes, mark: bytes, body: bytes, method: str) -> bytes:
    version = b"HTTP/1.0 " if rng.random() < 0.05 else b"HTTP/1.1 "
    lines = [version + status, b"X-Mark: " + mark, b"Content-Type: text/plain"]
    lines += [b"X-%d: %s" % (number, mark) for number in range(rng.choice((0,) * 9 + (90,)))]
    if rng.random() < 0.03:
        lines.append(b"X-Long: " + mark * 3500)
    if rng.random() < 0.05:
        lines.append(b"Set-Cookie: mark=" + mark)
    has_body = status[:3] not in (b"204", b"304")
    sent = body
    if has_body and rng.random() < 0.4:
        name, encode = rng.choice(_encoders())
        lines.append(b"Content-Encoding: " + name.encode())
        sent = encode(body)
    framing = rng.choice(("length", "length", "chunked", "close"))
    if not has_body:
        sent = b""
    elif framing == "length":
        lines.append(b"Content-Length: %d" % len(sent))
    elif framing == "chunked" and version == b"HTTP/1.1 ":
        lines.append(b"Transfer-Encoding: chunked")
        sent = _chunked(rng, sent, mark)
    else:
        lines.append(b"Connection: close")
    if method == "HEAD":
        sent = b""
    rng.shuffle(rest := lines[1:])
    return b"\r\n".join([lines[0], *rest, b"", b""]) + sent


def _chunked(rng: random.Random, body: bytes, mark: bytes) -> bytes:
    pieces, at = [], 0
    while at < len(body):
        size = rng.choice((1, 7, 100, 5000, 60_000)) if len(body) < 10_000 else 60_000
        piece = body[at : at + size]
        pieces.append(b"%x%s\r\n%s\r\n" % (len(piece), rng.choice((b"", b"", b";x=y")), piece))
        at += size
        if len(pieces) > 50:
            pieces.append(b"%x\r\n%s\r\n" % (len(body) - at, body[at:]) if at < len(body) else b"")
            break
    trailer = rng.choice((b"", b"", b"X-Trailer: %s\r\n" % mark))
    return b"".join(pieces) + b"0\r\n" + trailer + b"\r\n"


def _redirect(rng: random.Random, number: int, key: str, hop: int) -> bytes:
    to = path_of(number, key, hop + 1).encode()
    body = key.encode() * rng.choice((0, 1, 100))
    lines = [
        rng.choice((b"HTTP/1.1 301 Moved", b"HTTP/1.1 302 Found", b"HTTP/1.1 303 See", b"HTTP/1.1 307 T")),
        b"Location: " + to,
        b"X-Mark: " + key.encode(),
        b"Content-Length: %d" % len(body),
    ]
    return b"\r\n".join([*lines, b"", b""]) + body


def _changed(rng: random.Random, answer: bytes) -> bytes:
    """Return an answer with one change, more often in its header than its place there would have it."""
    if not answer:
        return answer
    found = answer.find(b"\r\n\r\n")
    end = len(answer) if rng.random() < 0.5 or found < 0 else found + 4
    at = rng.randrange(end)
    far = min(at + rng.choice((1, 1, 2, 5, 30, 300)), len(answer))
    how = rng.randrange(10)
    if how == 0:
        return answer[:at]
    if how == 1:
        return answer[:at] + answer[far:]
    if how == 2:
        return answer[:far] + answer[at:far] * rng.choice((1, 2, 20)) + answer[far:]
    if how == 3:
        return answer[:at] + bytes([answer[at] ^ (1 << rng.randrange(8))]) + answer[at + 1 :]
    if how == 4:
        return answer[:at] + rng.randbytes(far - at) + answer[far:]
    if how == 5:
        return _with_number(rng, answer, at)
    if how in (6, 7):  # a whole line, in its place
        at = answer.rfind(b"\n", 0, at) + 1
    if how == 8 and b"ocation: " in answer:
        return re.sub(rb"ocation: [^\r\n]*", lambda _: b"ocation: " + rng.choice(_JUNK_LOCATIONS), answer, count=1)
    return answer[:at] + rng.choice(_PIECES) + answer[at:]


def _with_number(rng: random.Random, answer: bytes, at: int) -> bytes:
    found = _DIGITS.search(answer, at)
    if found is None:
        return answer
    old = int(found[0][:15])
    new = rng.choice((old + 1, max(old - 1, 0), old * 10, 0, 2**31, 2**63, 2**64 + 1, 1000, 99, 7))
    return answer[: found.start()] + b"%d" % new + answer[found.end() :]


def _leads_home(answer: bytes, number: int, key: str) -> bool:
    """Tell whether all that could be taken for a Location is one of ours, and goes on in no second line."""
    own = {path_of(number, key, hop).encode() for hop in range(9)}
    for found in _LOCATION.finditer(answer):
        value = found[1].strip(b" \t")
        if b"\n" in found[0] or (value not in own and value not in _JUNK_LOCATIONS):
            return False
    return True
