"""Retries: the policy that decides about a failed leg, the budget that bounds a pool's retries, and Retry-After."""

from crawlpool.retry.budget import RetryBudget
from crawlpool.retry.policy import (
    IDEMPOTENT_METHODS,
    RETRY_STATUSES,
    Attempt,
    GiveUp,
    Reason,
    Retry,
    RetryPolicy,
    is_transient,
    parse_statuses,
)
from crawlpool.retry.retry_after import retry_after_s

__all__ = [
    "IDEMPOTENT_METHODS",
    "RETRY_STATUSES",
    "Attempt",
    "GiveUp",
    "Reason",
    "Retry",
    "RetryBudget",
    "RetryPolicy",
    "is_transient",
    "parse_statuses",
    "retry_after_s",
]
