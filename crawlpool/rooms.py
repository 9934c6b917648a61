"""The wait of feeders for room in the frontier: who waits, when enough is there, and when one may go on."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from crawlpool.clock import LOOK_S

if TYPE_CHECKING:
    from crawlpool.leg import Group
    from crawlpool.schedule import Schedule

_ENOUGH = 64  # legs that may go at once, beside those for whom there is room: so many are enough to wait with the input
_MOST_BYTES = 64 * 1024 * 1024  # of the targets of a group that wait


class Wait(threading.Condition):
    """The wait for one thing."""

    waiting = 0


class Waits(dict[Any, Wait]):
    """Who waits under one lock, by what for: those of one thing aren't woken for another. Those nobody waits for go.

    Args:
        lock: guards all of this; it is held in every call, and given up while one waits.
    """

    def __init__(self, lock: Any) -> None:
        super().__init__()
        self._lock = lock

    def wait(self, thing: Any, most_s: float = LOOK_S) -> None:
        """Wait until somebody wakes those who wait for a thing, or for so many seconds."""
        one = self.setdefault(thing, Wait(self._lock))
        one.waiting += 1
        try:
            one.wait(most_s)
        finally:
            one.waiting -= 1
            if not one.waiting:
                del self[thing]

    def wake_all(self) -> None:
        """Wake everybody."""
        for one in self.values():
            one.notify_all()


class Rooms:
    """The feeders that wait, by group: those of one aren't woken for another's room.

    Args:
        lock: the frontier's, which guards all of this; it is held in every call, and given up while one waits.
        schedule: what there is to do.
    """

    def __init__(self, lock: Any, schedule: Schedule) -> None:
        self._schedule = schedule
        self._rooms = Waits(lock)  # by group

    def wait(self, group: Group) -> None:
        """Wait for room in a group, or for a while."""
        self._rooms.wait(group)

    def took(self, group: Group, idle: int) -> None:
        """Wake a feeder of a group of which legs were taken, if there is room for many again.

        Args:
            group: whose legs.
            idle: how many workers wait for work.
        """
        if self._rooms and group in self._rooms and self._has_room(group, idle):
            self._rooms[group].notify()

    def settled(self, idle: int) -> None:
        """Wake feeders whose groups could do with more, now that legs have ended."""
        for group, room in self._rooms.items():
            if self._has_room(group, idle):
                room.notify()

    def put(self, group: Group) -> None:
        """Wake the next feeder: one was woken for many places, the next one is for it to wake."""
        if self._rooms and group in self._rooms and not group.is_full:
            self._rooms[group].notify()

    def wake(self, group: Group) -> None:
        """Wake all feeders of a group."""
        if group in self._rooms:
            self._rooms[group].notify_all()

    def wake_all(self) -> None:
        """Wake all feeders."""
        self._rooms.wake_all()

    def has_enough(self, group: Group, idle: int) -> bool:
        """Tell whether a group has all that helps: more legs would only wait.

        Where it has a backlog that is: as many as may wait, and as many of them may go as there is room for. As long as
        too few may go further ones are of use, up to the group's most: their hosts may be free.
        """
        if group.most is None or group.capacity is None:
            return group.is_full
        if group.queued >= group.most or group.queued_bytes >= _MOST_BYTES:
            return True
        return group.queued >= group.capacity and self._schedule.has_turns(_ENOUGH + idle)

    def _has_room(self, group: Group, idle: int) -> bool:
        if group.has_much_room:
            return True
        if group.most is None:
            return self._schedule.is_out_of_turns
        # With far fewer than it was stopped by: woken for each single one, it would be woken all the time.
        has_places = group.queued <= group.most - _ENOUGH and group.queued_bytes < _MOST_BYTES
        return has_places and not self._schedule.has_turns(_ENOUGH // 2 + idle)
