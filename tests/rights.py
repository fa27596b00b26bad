"""Rights of root, given up for a while by the thread that asks, and by those that it starts."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator

_libc = ctypes.CDLL(None, use_errno=True)
_VERSION = 0x20080522
_DAC = 1 << 1 | 1 << 2
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH."""
_CHOWN = 1 << 0


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def of_no_more_than_a_user() -> contextlib.AbstractContextManager[None]:
    """Modes of files count for root, too, as they do for everybody else. Nothing for who is not root."""
    return _without(_DAC)


def that_give_nothing_away() -> contextlib.AbstractContextManager[None]:
    """No file can be given to another owner. Nothing for who is not root."""
    return _without(_CHOWN)


@contextlib.contextmanager
def _without(capabilities: int) -> Iterator[None]:
    if os.geteuid() != 0:
        yield
        return
    header, sets = _Header(_VERSION, 0), (_Sets * 2)()
    _call("capget", header, sets)
    before = sets[0].effective
    sets[0].effective &= ~capabilities
    _call("capset", header, sets)
    try:
        yield
    finally:
        sets[0].effective = before
        _call("capset", header, sets)


def _call(name: str, header: _Header, sets: ctypes.Array[_Sets]) -> None:
    if getattr(_libc, name)(ctypes.byref(header), sets) != 0:
        raise OSError(ctypes.get_errno(), name)
