"""Tests of crawlpool.retry.budget."""

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlpool.errors import ConfigError
from crawlpool.retry import RetryBudget, RetryPolicy


def test_the_reserve_is_there_from_the_start():
    """Before any request was counted, as many retries are granted as the reserve has, and no more."""
    budget = RetryBudget(0.2, reserve=3)
    assert [budget.withdraw() for _ in range(5)] == [True, True, True, False, False]
    assert (budget.requests, budget.retries, budget.refused, budget.available) == (0, 3, 2, 0)


def test_five_requests_pay_one_retry():
    """At 0.2 the fifth request, exactly, pays for a retry."""
    budget = RetryBudget(0.2, reserve=0)
    budget.deposit(4)
    assert not budget.withdraw()
    budget.deposit()
    assert budget.withdraw()
    assert not budget.withdraw()


def test_without_a_ratio_each_retry_is_granted():
    """``None`` is no bound; retries are still counted."""
    budget = RetryBudget(None, reserve=0)
    assert all(budget.withdraw() for _ in range(1000))
    assert budget.retries == 1000 and budget.available == math.inf


def test_ratio_zero_leaves_the_reserve_alone():
    """A ratio of 0 isn't None: after the reserve no retry is granted, however many requests there are."""
    budget = RetryBudget(0, reserve=1)
    budget.deposit(10**6)
    assert [budget.withdraw(), budget.withdraw()] == [True, False]


def test_tokens_are_not_saved_without_end():
    """A long healthy crawl isn't followed by a storm: only the last 10,000 requests' tokens are kept."""
    budget = RetryBudget(0.2, reserve=10)
    budget.deposit(10**9)
    assert budget.available == 2010


@pytest.mark.parametrize("ratio", [0.1, 0.2, 0.7, 1.001, 1.1])
def test_nothing_drifts(ratio):
    """Ten thousand single deposits are worth exactly ratio times ten thousand retries, whatever floats do."""
    budget = RetryBudget(ratio, reserve=0)
    for _ in range(10_000):
        budget.deposit()
    assert budget.available == Fraction(str(ratio)) * 10_000


@given(st.floats(0, 10), st.integers(0, 20), st.lists(st.one_of(st.just("retry"), st.integers(1, 50_000)), max_size=60))
def test_retries_never_exceed_the_law(ratio, reserve, steps):
    """At any time retries <= ratio * requests + reserve, and what was asked is granted or refused."""
    budget = RetryBudget(ratio, reserve)
    requests = retries = asked = 0
    for step in steps:
        if step == "retry":
            asked += 1
            retries += budget.withdraw()
        else:
            requests += step
            budget.deposit(step)
        assert retries <= Fraction(str(ratio)) * requests + reserve
    assert (budget.requests, budget.retries, budget.retries + budget.refused) == (requests, retries, asked)


def test_threads_lose_no_token():
    """Eight threads that start together deposit and withdraw; the books are exact."""
    budget = RetryBudget(0.5, reserve=0)
    together = threading.Barrier(8)

    def work(_):
        together.wait()
        granted = 0
        for _ in range(2000):
            budget.deposit()
            granted += budget.withdraw()
        return granted

    with ThreadPoolExecutor(8) as threads:
        granted = sum(threads.map(work, range(8)))
    while budget.withdraw():
        granted += 1
    assert budget.requests == 16_000
    assert granted == budget.retries == 8000


def test_a_forked_child_begins_afresh():
    """After _reset_after_fork the budget works although its lock was held at the fork, and starts from the reserve."""
    budget = RetryBudget(1.0, reserve=2)
    budget.deposit(5)
    held = budget._lock
    with held:
        budget._reset_after_fork()
        assert (budget.requests, budget.available) == (0, 2)
        assert budget.withdraw()


@pytest.mark.parametrize("ratio", [-0.1, math.nan, math.inf, True, "0.2"])
def test_a_ratio_that_cant_be_is_refused(ratio):
    """The error names the setting and its value."""
    with pytest.raises(ConfigError, match=r"ratio="):
        RetryBudget(ratio)
    with pytest.raises(ConfigError, match=r"budget="):
        RetryPolicy(budget=ratio)


@pytest.mark.parametrize("reserve", [-1, 1.5, True, None])
def test_a_reserve_that_cant_be_is_refused(reserve):
    """The reserve is a whole number of retries."""
    with pytest.raises(ConfigError, match=r"reserve="):
        RetryBudget(0.2, reserve)
    with pytest.raises(ConfigError, match=r"budget_reserve="):
        RetryPolicy(budget_reserve=reserve)


def test_a_policy_makes_the_budget_that_it_sets():
    """new_budget() gives each pool a budget of its own, by the policy's numbers."""
    policy = RetryPolicy(budget=0.5, budget_reserve=1)
    one, other = policy.new_budget(), policy.new_budget()
    assert one.withdraw() and not one.withdraw() and other.withdraw()
    assert "0 available, 1 retries of 0 requests" in repr(one)
