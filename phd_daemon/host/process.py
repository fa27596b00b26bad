"""Settings that a process makes for itself with the kernel and glibc, before it restores.

A restore is right without them: where a call is missing (musl, another kernel) it is left out.
"""

from __future__ import annotations

import contextlib
import ctypes
import resource

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_PR_SET_DUMPABLE = 4
_libc = ctypes.CDLL(None, use_errno=True)


def tune_malloc() -> None:
    """Keeps the buffers of a frame on the heap from one frame to the next.

    By default glibc gives such buffers back to the kernel when they are freed, so each frame of 1 MiB costs 256 page
    faults again: decoding ran at half the speed. 32 MiB is the largest threshold glibc accepts.
    """
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        mallopt(_M_TRIM_THRESHOLD, 256 << 20)


def use_one_heap() -> None:
    """Lets all threads allocate from one heap, for a process that keeps decoded frames: what one thread frees, another can use.

    By default each thread has a heap of its own, and a cache of 64 MiB took 190 MB of memory instead of 126.
    """
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


def be_killed_first() -> None:
    """Ask the kernel to kill this process before others when memory runs out: a worker can be started again, a daemon not."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("500")


def forbid_core_dumps() -> None:
    """Forbids core files and debuggers: the memory of this process holds parts of disks, and perhaps a password."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
