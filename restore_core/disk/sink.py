"""Sinks write verified blocks to a file: through the page cache, or directly, past it.

Direct writing, measured on 2 cores for 1.7 GiB into a preallocated ext4 file: 1.85 s of processor time instead of 2.5, and a final
fsync of 0 s instead of 0.35; and it leaves the page cache to other programs. The kernel wants memory, offset and length aligned,
so each thread copies into an aligned buffer of its own. What is not aligned (the last bytes of an odd disk), and every write on
a file system without direct writing, goes through the page cache.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
from typing import Protocol

from restore_core import durable

ALIGNMENT = 4096
_BUFFER = 1 << 20
_WRITE_BEHIND = 128 << 20
_UNSUPPORTED = {errno.EINVAL, errno.EOPNOTSUPP}


class Sink(Protocol):
    """Writes verified bytes; any number of threads may call it at once."""

    @property
    def waits(self) -> bool:
        """Whether a write waits for the device: then one more thread makes it faster."""

    def write(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        """Writes all of `data` at `offset`. Raises `OSError`."""

    def close(self) -> None:
        """Closes what the sink opened; the file itself stays open."""


class BufferedFile:
    """Writes through the page cache. Tells the kernel every 128 MiB to begin writing, so that the final fsync has little to do."""

    waits = False

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._unwritten = 0

    def write(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        """Writes all of `data` at `offset`."""
        durable.write_all_at(self._fd, data, offset)
        self._unwritten += len(data)  # threads may lose a count here; it is only a hint
        if self._unwritten >= _WRITE_BEHIND:
            self._unwritten = 0
            durable.start_writing(self._fd)

    def close(self) -> None:
        """Does nothing: this sink opens nothing."""


class DirectFile:
    """Writes directly, through a second descriptor of the file behind `fd`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._local = threading.local()
        try:
            self._direct = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
        except OSError:
            self._direct = -1  # tmpfs, some FUSE and network file systems; or no /proc

    @property
    def waits(self) -> bool:
        """Whether writes are direct."""
        return self._direct >= 0

    def write(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        """Writes all of `data` at `offset`: what is aligned directly, the rest through the page cache."""
        view, done = memoryview(data), 0
        if offset % ALIGNMENT == 0:
            aligned = len(view) - len(view) % ALIGNMENT
            while done < aligned and self._direct >= 0:
                piece = view[done : min(aligned, done + _BUFFER)]
                if not self._write_direct(piece, offset + done):
                    break
                done += len(piece)
        if done < len(view):
            durable.write_all_at(self._fd, view[done:], offset + done)

    def _write_direct(self, piece: memoryview, offset: int) -> bool:
        """Returns False where the file system cannot; from then on no write is direct."""
        buffer = self._buffer()
        buffer[: len(piece)] = piece
        try:
            durable.write_all_at(self._direct, buffer[: len(piece)], offset)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            self._direct = -1
            return False
        return True

    def _buffer(self) -> memoryview:
        """Returns the page-aligned buffer of this thread."""
        if not hasattr(self._local, "buffer"):
            self._local.buffer = memoryview(mmap.mmap(-1, _BUFFER))
        buffer: memoryview = self._local.buffer
        return buffer

    def close(self) -> None:
        """Closes the second descriptor; the file itself stays open."""
        if self._direct >= 0:
            os.close(self._direct)
            self._direct = -1
