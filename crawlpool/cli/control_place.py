"""The place of a control socket: made so that nothing else is ever replaced, and nobody else can get in."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from typing import TYPE_CHECKING

from crawlpool.cli.control import ControlError, check_length, check_supported
from crawlpool.redact import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

_WAITING = 16  # connections that wait to be accepted
_TRIES = 3


@contextlib.contextmanager
def listening_at(path: str | None) -> Iterator[socket.socket | None]:
    """Listen on a Unix socket within this block; nothing is there after it.

    A socket that nobody listens on, as a run leaves it that was killed, is replaced. It has its name only when it
    listens and is its owner's alone, so there is no moment in which others could connect, or take it for a dead one.

    Args:
        path: where; ``None`` for no socket at all.

    Raises:
        ControlError: when it can't be made there.
    """
    if path is None:
        yield None
        return
    check_supported()
    own = os.path.join(os.path.dirname(path), f".{os.getpid()}")  # until it is fit to be found
    for one in (path, own):
        check_length(one)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        try:
            _remove_socket(own)
            listening.bind(own)
            try:
                os.chmod(own, 0o600)
                listening.listen(_WAITING)
                made = os.lstat(own)
                _name(own, path)
            finally:
                os.unlink(own)
        except (OSError, ValueError) as error:  # ValueError: a NUL
            raise ControlError(f"{one_line(path)}: can't be made: {_reason(error, path)}") from None
        listening.setblocking(False)
        try:
            yield listening
        finally:
            _remove_if(path, made)


def _name(own: str, path: str) -> None:
    """Give a socket the name that it shall have; what is there already stays, unless it is a dead socket."""
    for _ in range(_TRIES):
        try:
            os.link(own, path)  # unlike renaming it never replaces anything
            return
        except FileExistsError:
            _remove_dead(own, path)
    raise ControlError(f"{one_line(path)}: can't be made: another run makes one there again and again")


def _remove_dead(own: str, path: str) -> None:
    """Remove a socket that nobody listens on.

    Raises:
        ControlError: when it is something else.
    """
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(there.st_mode):
        raise ControlError(f"{one_line(path)}: there is something else, which is no socket; it was left alone")
    if _is_alive(path):
        raise ControlError(f"{one_line(path)}: another run listens there; give each run a control socket of its own")
    # Another run may have replaced it in this very moment. So it is moved aside first: what that was can be looked at
    # in peace, and given its name back. (Its inode tells nothing: a new socket may have the number of the dead one.)
    aside = f"{own}x"
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    if _is_alive(aside):
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)
    os.unlink(aside)


def _is_alive(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(1.0)
        try:
            asking.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # too many wait, or it isn't ours: somebody may be there
        return True


def _remove_socket(path: str) -> None:
    """Remove what an earlier process of the same number has left; only a socket can be that."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)


def _remove_if(path: str, made: os.stat_result) -> None:
    """Remove a socket, if it is still the one that was made: as long as that is open its inode is nobody else's."""
    with contextlib.suppress(OSError):
        if os.path.samestat(os.lstat(path), made):
            os.unlink(path)


def _reason(error: OSError | ValueError, path: str) -> str:
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        return "its folder does not exist"
    if not os.access(folder, os.W_OK | os.X_OK):
        return "no permission to write in its folder"
    return getattr(error, "strerror", None) or str(error)
