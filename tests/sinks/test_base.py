"""Tests of crawlpool.sinks.base: one thread writes for many, and none is lost or torn."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from crawlpool.errors import ConfigError, SinkError
from crawlpool.sinks.base import Combiner, json_of_item


class Gate:
    """A destination whose first write waits until it is let through; it keeps what it was given."""

    def __init__(self, fail: BaseException | None = None) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()
        self.batches: list[bytes] = []
        self.fail = fail

    def write(self, data: memoryview) -> int:
        """Wait for the gate, then take all, or fail."""
        self.entered.set()
        assert self.opened.wait(10)
        if self.fail is not None:
            raise self.fail
        self.batches.append(bytes(data))
        return len(data)


def started(run: Callable[[], object]) -> threading.Thread:
    """Start a thread."""
    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_while_one_thread_writes_others_leave_their_lines_and_go_on() -> None:
    """A put during a write returns at once; the writer then takes all that has come as one batch, in order."""
    gate = Gate()
    lines = Combiner(gate.write, "x")
    writer = started(lambda: lines.put(b"1\n"))
    assert gate.entered.wait(10)
    lines.put(b"2\n")
    lines.put(b"3\n")
    assert gate.batches == []
    gate.opened.set()
    writer.join(10)
    assert gate.batches == [b"1\n", b"2\n3\n"]
    lines.put(b"4\n")
    assert gate.batches[-1] == b"4\n"


def test_too_many_waiting_lines_make_their_threads_wait() -> None:
    """When ``max_pending`` lines wait, the next put waits for room instead of taking memory."""
    gate = Gate()
    lines = Combiner(gate.write, "x", max_pending=2)
    threads = [started(lambda: lines.put(b"0\n"))]
    assert gate.entered.wait(10)
    lines.put(b"1\n")
    lines.put(b"2\n")
    threads += [started(lambda: lines.put(b"3\n")) for _ in range(3)]
    while True:  # all three are in wait(): the condition's own list of waiters says so
        with lines._changed:
            if len(lines._changed._waiters) == 3:  # type: ignore[attr-defined]
                assert len(lines._pending) == 2
                break
    gate.opened.set()
    for thread in threads:
        thread.join(10)
    lines.flush()
    assert b"".join(gate.batches) == b"0\n1\n2\n" + b"3\n" * 3


def test_a_failure_is_told_to_everyone_from_then_on() -> None:
    """The writer, those who wait for room and each later call get a SinkError naming destination and cause."""
    gate = Gate(OSError(28, "No space left on device"))
    lines = Combiner(gate.write, "out.jsonl", max_pending=1)
    errors: list[str] = []

    def put() -> None:
        try:
            lines.put(b"x\n")
        except SinkError as error:
            errors.append(str(error))

    threads = [started(put)]
    assert gate.entered.wait(10)
    lines.put(b"pending\n")
    threads += [started(put) for _ in range(3)]
    while True:
        with lines._changed:
            if len(lines._changed._waiters) == 3:  # type: ignore[attr-defined]
                break
    gate.opened.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert errors == ["out.jsonl: No space left on device"] * 4
    for late in (lambda: lines.put(b"y\n"), lines.flush, lines.close):
        with pytest.raises(SinkError, match=r"^out\.jsonl: No space left on device$"):
            late()


def test_a_flush_waits_for_what_others_write() -> None:
    """``flush`` returns when the write under way is done, and what waited behind it."""
    gate = Gate()
    lines = Combiner(gate.write, "x")
    writer = started(lambda: lines.put(b"1\n"))
    assert gate.entered.wait(10)
    lines.put(b"2\n")
    flushed: list[bytes] = []

    def flush() -> None:
        lines.flush()
        flushed.extend(gate.batches)

    flusher = started(flush)
    gate.opened.set()
    flusher.join(10)
    writer.join(10)
    assert flushed == [b"1\n", b"2\n"]


def test_a_partial_write_goes_on_where_it_ended() -> None:
    """However little is written at a time, the lines come out whole and in order."""
    out = bytearray()

    def two_bytes(data: memoryview) -> int:
        out.extend(data[:2])
        return min(2, len(data))

    lines = Combiner(two_bytes, "x")
    for number in range(20):
        lines.put(b"line %d\n" % number)
    assert bytes(out) == b"".join(b"line %d\n" % number for number in range(20))


def test_ctrl_c_in_a_write_tears_no_line() -> None:
    """After KeyboardInterrupt in the writer the next one begins with the rest of the line that was broken off."""
    out = bytearray()
    interrupts = [True]

    def write(data: memoryview) -> int:
        if len(out) == 3 and interrupts:
            interrupts.pop()
            raise KeyboardInterrupt
        out.extend(data[:3])
        return min(3, len(data))

    lines = Combiner(write, "x")
    with pytest.raises(KeyboardInterrupt):
        lines.put(b"first\n")
    lines.put(b"second\n")
    assert bytes(out) == b"first\nsecond\n"
    interrupts.append(True)
    del out[:]
    with pytest.raises(KeyboardInterrupt):
        lines.put(b"third\n")
    lines.close()
    assert bytes(out) == b"third\n"


def test_a_closed_sink_takes_nothing() -> None:
    """A put after ``close`` raises; closing again does nothing."""
    lines = Combiner(len, "x")
    lines.close()
    lines.close()
    with pytest.raises(SinkError, match="x: the sink was closed"):
        lines.put(b"1\n")


def test_items_are_mappings_that_json_can_say() -> None:
    """Anything else is the handler's mistake and is told so."""
    assert json_of_item({"a": [1, "ä"]}) == '{"a":[1,"ä"]}'
    for wrong in ({"a": object()}, {"a": float("inf")}, 7, [1]):
        with pytest.raises(ConfigError, match="an emitted item must be a mapping that is JSON"):
            json_of_item(wrong)  # type: ignore[arg-type]
