"""A shard that this process has claimed, and one that it couldn't: what ``LeaseKeeper.claim`` returns."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Protocol

from crawlpool.errors import JobError
from crawlpool.redact import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crawlpool.clock import Clock
    from crawlpool.shards.tenure import Tenure


class Keeper(Protocol):
    """Who refreshes what is held, as ``Held`` knows it."""

    clock: Clock

    def refresh(self, held: Held, **changed: Any) -> None:
        """Write the tenure again, with changes; raise ``JobError`` when the lease has ended."""

    def release(self, held: Held, **told: Any) -> bool:
        """Write that it is given up, and drop it; return whether it was still held."""

    def drop(self, held: Held) -> None:
        """Let go of it without a word."""


@dataclasses.dataclass(frozen=True)
class Busy:
    """A shard that somebody else has.

    Args:
        number: of the tenure that counts.
        owner: whose it is, for people.
        free_in_s: in how many seconds the shard may be claimed if nothing is heard of its owner until then.
    """

    number: int
    owner: str
    free_in_s: float


class Held:
    """A shard that this process has, from ``LeaseKeeper.claim`` until ``release`` or ``abandon``.

    Thread-safe.

    Attributes:
        folder: the shard's.
        number: of the tenure.
        former: the tenure before, ``None`` where there was none, or where its file is damaged.
        is_former_released: whether that one was given up by its owner, and nobody else can write to its folder, so that
            it may be gone on with.
        is_former_damaged: whether there was one, and its file can't be read.
    """

    def __init__(
        self, keeper: Keeper, folder: str, fd: int, now: Tenure, former: Tenure | None, ends_at: float
    ) -> None:
        self.folder = folder
        self.number = now.number
        self.former = former
        self.is_former_released = former is not None and former.is_released and former.is_sole
        self.is_former_damaged = former is None and self.number > 1
        self._keeper = keeper
        # These are the keeper's, guarded by its lock; `ends_at` is read without.
        self._fd = fd
        self._tenure = now
        self._is_writing = False
        self._ends_at = ends_at

    @property
    def ends_at(self) -> float:
        """Until when it is held unless it is refreshed, by the keeper's clock."""
        return self._ends_at

    @property
    def epoch(self) -> int:
        """The number of the folder in use; 0 while there is none."""
        return self._tenure.epoch

    def is_held(self) -> bool:
        """Tell whether the shard is still ours. Never waits."""
        return self._keeper.clock.monotonic() < self._ends_at

    def check(self) -> None:
        """Raise unless the shard is still ours.

        Raises:
            JobError: when the lease has ended.
        """
        if not self.is_held():
            raise JobError(f"{one_line(self.folder)}: the lease has ended")

    def use(self, epoch: int) -> None:
        """Say which folder is in use, durably: one that nobody else can write to.

        Raises:
            JobError: when the lease has ended.
            SinkError: when that can't be written.
        """
        self._keeper.refresh(self, epoch=epoch, is_sole=True)

    def release(
        self,
        *,
        pending: int | None = None,
        is_input_done: bool = False,
        report: Mapping[str, Any] | None = None,
        reason: str | None = None,
    ) -> bool:
        """Give the shard up, with all its files closed; others may claim it at once.

        Args:
            pending: targets that are left.
            is_input_done: whether all of the input has come in.
            report: the shard's books; JSON-ready.
            reason: why it is given up before its end.

        Returns:
            Whether it was released; not where its lease had ended before: then nothing is written.

        Raises:
            SinkError: when that can't be written; the lease is at its end all the same.
        """
        told = {"is_released": True, "pending": pending, "is_input_done": is_input_done}
        return self._keeper.release(self, **told, report=report, reason=reason)

    def abandon(self) -> None:
        """Let go of the shard without a word, as one must whose lease has ended. May be called again."""
        self._keeper.drop(self)

    def __repr__(self) -> str:
        left_s = self._ends_at - self._keeper.clock.monotonic()
        return f"<Held tenure {self.number} epoch {self.epoch}, {left_s:.1f} s left>"
