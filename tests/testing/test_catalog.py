"""The named faults against crawlpool itself, all at once: each ends, in time, as a correct client ends it."""

from __future__ import annotations

import pytest

from crawlpool import SessionPool, Target
from crawlpool.testing import FAULTS, FaultServer
from crawlpool.testing.bombs import can_code
from tests.fault_table import CAP_BYTES, measure

ANSWERS = [fault for fault in FAULTS.values() if fault.place == "answer" and fault.asks == 1]
ENDLESS_S, PATIENCE_S = 1.0, 30.0


@pytest.mark.transports()
@pytest.mark.parametrize("is_endless", [True, False], ids=["endless", "others"])
def test_every_fault_of_an_answer_ends_as_it_should(is_endless: bool, transport: str) -> None:
    """By ``map``, all of them side by side: outcome, kind and body are those of the catalogue."""
    faults = [fault for fault in ANSWERS if fault.is_endless is is_endless and can_code(fault.coding or "gzip")]
    deadline_s = ENDLESS_S if is_endless else PATIENCE_S
    with FaultServer() as server, SessionPool(threads=len(faults), retry=False) as pool:
        targets = [Target(server.url(fault.path), meta=fault.name) for fault in faults]
        wrong = {}
        for result in pool.map(targets, deadline=deadline_s, max_body_bytes=CAP_BYTES):
            fault = FAULTS[str(result.target.meta)]
            error = result.record["error"]
            kind = None if error is None else str(error["kind"])
            body = result.response.content if result.outcome == "ok" and result.response is not None else None
            is_met = fault.is_met(str(result.outcome), kind, body)
            if is_met and result.outcome == "ok":
                is_met = result.record["length_unverified"] == fault.is_unverified
            if not is_met:
                wrong[fault.name] = f"{result.outcome} {error}, wanted {fault.expected}"
    assert wrong == {}


@pytest.mark.transports()
@pytest.mark.parametrize(
    "name",
    ["tls_expired", "tls_wrong_name", "tls_plain", "tls_cut", "proxy_refuses", "listen_none", "surplus", "planted"],
)
def test_faults_of_other_places_end_as_they_should(name: str, transport: str) -> None:
    """In TLS, in a proxy, in a listener, and those that it takes two requests to see."""
    row = measure(FAULTS[name], transport, "get")
    assert row.is_met, row
