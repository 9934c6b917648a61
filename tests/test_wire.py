"""What a transport saw of an answer: its moments become the spans that records and results tell."""

from __future__ import annotations

import dataclasses

import pytest

from crawlpool.wire import TIMINGS, Timings, spans_of


@pytest.mark.parametrize(
    ("moments", "spans"),
    [
        ((0.5, 0.1, 0.3, 0.6, 0.9), (0.5, 0.1, 0.2, 1.1, 1.4)),
        ((0.0, 0.1, 0.0, 0.2, 0.3), (0.0, 0.1, 0.0, 0.2, 0.3)),
        ((0.0, 0.3, 0.2, 0.4, 0.5), (0.0, 0.3, 0.0, 0.4, 0.5)),
    ],
    ids=["https", "http", "a clock that went back"],
)
def test_moments_become_spans(moments: tuple[float, ...], spans: tuple[float, ...]) -> None:
    """Connecting and TLS are told by themselves, the first byte and the end from the start of the leg; none below 0."""
    assert spans_of(moments) == pytest.approx(spans)
    assert dataclasses.astuple(Timings.of(moments)) == spans_of(moments)


def test_the_keys_of_a_record_are_the_fields() -> None:
    """A record's ``timings`` and a result's have the same names in the same order."""
    assert tuple(field.name for field in dataclasses.fields(Timings)) == TIMINGS
