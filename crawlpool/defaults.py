"""What every request of a pool starts with, changeable from any thread, and a session's own changes over it.

The rule: a session sees a change of its pool's defaults from its next request on, except for what was set on that
session itself. Headers, params and proxies are compared key by key, all else value by value.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

from requests.models import DEFAULT_REDIRECT_LIMIT
from requests.structures import CaseInsensitiveDict
from requests.utils import default_headers

from crawlpool.config import DEFAULT_TIMEOUT, TimeoutValue, check, is_count, split_timeout


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The defaults at one moment; never changed after it was made, so that it can be read without a lock."""

    headers: CaseInsensitiveDict[Any] = dataclasses.field(default_factory=default_headers)
    params: dict[str, Any] = dataclasses.field(default_factory=dict)
    proxies: dict[str, str] = dataclasses.field(default_factory=dict)
    hooks: tuple[Callable[..., Any], ...] = ()
    auth: Any = None
    verify: Any = True
    cert: Any = None
    stream: bool = False
    max_redirects: int = DEFAULT_REDIRECT_LIMIT
    timeout: TimeoutValue = DEFAULT_TIMEOUT

    def __post_init__(self) -> None:
        split_timeout(self.timeout)
        check(is_count(self.max_redirects, 0), "max_redirects", self.max_redirects, "a whole number, 0 or more")


class Defaults:
    """The changeable defaults of a pool.

    Thread-safe. Each change publishes a new snapshot; readers take ``current`` without a lock and see all of a change
    or nothing of it.
    """

    def __init__(self, first: Snapshot) -> None:
        # Guards the making of a new snapshot: the read of `current` and its replacement by a changed copy.
        self._lock = threading.Lock()
        self.current = first
        self.headers: SharedMapping = SharedMapping(self, "headers")
        self.params: SharedMapping = SharedMapping(self, "params")
        self.proxies: SharedMapping = SharedMapping(self, "proxies")

    def set(self, **changes: Any) -> None:
        """Replace whole values, by the names of ``Snapshot``'s fields.

        Raises:
            ConfigError: for a value that can't be; nothing is changed then.
        """
        with self._lock:
            self.current = dataclasses.replace(self.current, **changes)

    def change(self, field: str, edit: Callable[[Any], Any]) -> Any:
        """Replace the mapping ``field`` by a copy that ``edit`` changed; return what ``edit`` returned."""
        with self._lock:
            copied = getattr(self.current, field).copy()
            answer = edit(copied)
            self.current = dataclasses.replace(self.current, **{field: copied})
            return answer

    def _reset_after_fork(self) -> None:
        self._lock = threading.Lock()


class SharedMapping(MutableMapping[str, Any]):
    """``pool.headers``, ``pool.params`` or ``pool.proxies``: a dict whose every change is atomic.

    Thread-safe; iteration goes over the keys of one moment.
    """

    def __init__(self, defaults: Defaults, field: str) -> None:
        self._defaults = defaults
        self._field = field

    def _now(self) -> Any:
        return getattr(self._defaults.current, self._field)

    def __getitem__(self, key: str) -> Any:
        return self._now()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._defaults.change(self._field, lambda d: d.__setitem__(key, value))

    def __delitem__(self, key: str) -> None:
        self._defaults.change(self._field, lambda d: d.__delitem__(key))

    def __iter__(self) -> Iterator[str]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set several keys in one atomic change."""
        self._defaults.change(self._field, lambda d: d.update(*args, **kwargs))

    def pop(self, key: str, *default: Any) -> Any:
        """Remove a key and return its value, atomically; takes a default as ``dict.pop`` does."""
        return self._defaults.change(self._field, lambda d: d.pop(key, *default))

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, setting it first where it is missing, atomically."""
        return self._defaults.change(self._field, lambda d: d.setdefault(key, default))

    def clear(self) -> None:
        """Remove every key in one atomic change."""
        self._defaults.change(self._field, lambda d: d.clear())

    def copy(self) -> Any:
        """Return an independent copy of this moment's content."""
        return self._now().copy()

    def __repr__(self) -> str:
        return repr(dict(self.items()))


class OwnHeaders(CaseInsensitiveDict[Any]):
    """A session's headers: the pool's, with the session's own changes over them. For the session's thread only."""

    def __init__(self, base: Mapping[str, Any]) -> None:
        self._own: set[str] | None = None
        super().__init__(base)
        self._own = set()

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        if self._own is not None:
            self._own.add(key.lower())

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        if self._own is not None:
            self._own.add(key.lower())

    def sync(self, base: CaseInsensitiveDict[Any]) -> None:
        """Take over the pool's headers ``base``, keeping the session's own changes."""
        own = self._own or set()
        kept = {key: pair for key, pair in self._store.items() if key in own}
        self._store.clear()
        for key, pair in base._store.items():  # the session's own in the place of the pool's: order is seen on the wire
            if key not in own:
                self._store[key] = pair
            elif key in kept:
                self._store[key] = kept[key]
        self._store.update(kept)

    def copy(self) -> CaseInsensitiveDict[Any]:
        """Return an independent, plain copy."""
        copied: CaseInsensitiveDict[Any] = CaseInsensitiveDict()
        copied._store = self._store.copy()
        return copied

    def __reduce__(self) -> Any:
        return CaseInsensitiveDict, (dict(self.items()),)


class OwnMapping(dict[str, Any]):
    """A session's params or proxies: the pool's, with the session's own changes over them. For its thread only."""

    def __init__(self, base: Mapping[str, Any]) -> None:
        super().__init__(base)
        self._own: set[str] = set()

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self._own.add(key)

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self._own.add(key)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set several keys."""
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    def pop(self, key: str, *default: Any) -> Any:
        """Remove a key and return its value, or the default."""
        if key in self:
            self._own.add(key)
        return super().pop(key, *default)

    def popitem(self) -> tuple[str, Any]:
        """Remove the last key and return it with its value."""
        key, value = super().popitem()
        self._own.add(key)
        return key, value

    def __ior__(self, other: Any) -> OwnMapping:  # type: ignore[override,misc]
        self.update(other)
        return self

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, setting it first where it is missing."""
        if key not in self:
            self[key] = default
        return self[key]

    def clear(self) -> None:
        """Remove every key, for this session."""
        self._own.update(self)
        super().clear()

    def sync(self, base: Mapping[str, Any]) -> None:
        """Take over the pool's values ``base``, keeping the session's own changes."""
        kept = {key: value for key, value in self.items() if key in self._own}
        super().clear()
        super().update({key: value for key, value in base.items() if key not in self._own})
        super().update(kept)

    def __reduce__(self) -> Any:
        return dict, (dict(self),)


def as_hooks(hooks: Any) -> tuple[Callable[..., Any], ...]:
    """Return the response hooks of any form that requests takes: a function, a list of them, or a dict of either."""
    if isinstance(hooks, Mapping):
        hooks = hooks.get("response")
    if hooks is None:
        return ()
    if callable(hooks):
        return (hooks,)
    check(isinstance(hooks, Iterable), "hooks", hooks, "a function, a list of functions or {'response': …}")
    return tuple(hooks)
