"""Processes that die, and calls that fail, in the middle of a restore."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from restore_core import durable
from restore_core.errors import PhdError

_DEAD = 77
CALLS = (
    "write_all_at",
    "write_all",
    "sync_file",
    "sync_folder",
    "move",
    "write_whole",
    "write_new",
    "remove",
    "take_part",
    "exchange",
)
"""All of `durable` that changes something."""


def dies(act: Callable[[], object], *points: tuple[ModuleType | type, str], number: int = 1, of: str = "") -> bool:
    """Do it in a process of its own, which ends without a word just before the call with this number to one of the points.

    `of` counts only calls whose first argument is a descriptor of a file with this end of its name. False if it came to its end.
    """
    pid = os.fork()
    if pid == 0:
        left = [number]
        try:  # whatever happens, the child must not go on as the process of the tests
            for module, name in points:
                setattr(module, name, _counted(getattr(module, name), left, of))
            act()
        except PhdError:
            os._exit(1)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == _DEAD


def _counted(call: Callable[..., object], left: list[int], of: str) -> Callable[..., object]:
    def wrapped(*args: Any, **named: Any) -> object:
        left[0] -= not of or (isinstance(args[0], int) and os.readlink(f"/proc/self/fd/{args[0]}").endswith(of))
        if left[0] == 0:
            left[0] = -1
            os._exit(_DEAD)
        return call(*args, **named)

    return wrapped


def fails_once(
    patch: pytest.MonkeyPatch, module: ModuleType | type, name: str, error: BaseException, *, number: int = 1, of: str = ""
) -> None:
    """The call with this number raises `error`; those after it do not. `of` as above."""
    honest, left = getattr(module, name), [number]

    def wrapped(*args: Any, **named: Any) -> object:
        left[0] -= not of or (isinstance(args[0], int) and os.readlink(f"/proc/self/fd/{args[0]}").endswith(of))
        if left[0] == 0:
            left[0] = -1
            raise error
        return honest(*args, **named)

    patch.setattr(module, name, wrapped)


def every_call() -> list[tuple[ModuleType, str]]:
    """The points of `dies` for a crash at every step."""
    return [(durable, name) for name in CALLS]
