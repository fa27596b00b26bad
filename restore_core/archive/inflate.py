"""Inflates one gzip member, and sees that it ends where it should.

libdeflate is 1.1 to 1.3 times as fast as ISA-L. Its Python package `deflate` does not tell how many bytes a member took, so what
lies between the deflate data and the trailer would pass. The library in the package does tell: its public functions are called by
ctypes. Where the package does not show them (another build of it), ISA-L decodes.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

from isal import igzip_lib

from restore_core.archive.digests import Buffer


def _by_isal(member: Buffer, size: int) -> bytes | None:
    decoder = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    try:
        data: bytes = decoder.decompress(member, size + 1)
    except igzip_lib.IsalError:  # type: ignore[misc]  # its stub declares an instance, not a class
        return None
    return data if decoder.eof and len(data) == size and not decoder.unused_data else None


_new_bytearray = ctypes.pythonapi.PyByteArray_FromStringAndSize
"""Makes a bytearray whose bytes are not set to zero first, which costs a twentieth of a restore."""
_new_bytearray.argtypes, _new_bytearray.restype = [ctypes.c_char_p, ctypes.c_ssize_t], ctypes.py_object


class _Decompressor:
    """One decompressor of the library. A thread has its own, since it must not be shared; it is freed with its thread."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._free = library.libdeflate_free_decompressor
        self.address: int | None = library.libdeflate_alloc_decompressor()
        if not self.address:
            raise MemoryError("no memory for a decompressor")

    def __del__(self) -> None:
        if self.address:
            self._free(self.address)


def _by_libdeflate(library: ctypes.CDLL, threads: threading.local, member: Buffer, size: int) -> bytearray | None:
    try:
        own: _Decompressor = threads.own
    except AttributeError:
        own = threads.own = _Decompressor(library)
    data: bytearray = _new_bytearray(None, size)
    taken, made = ctypes.c_size_t(), ctypes.c_size_t()
    result = library.libdeflate_gzip_decompress_ex(
        own.address, _pointer(member), len(member), _pointer(data), size, ctypes.byref(taken), ctypes.byref(made)
    )
    return data if (result, taken.value, made.value) == (0, len(member), size) else None


def _pointer(held: Buffer) -> object:
    """Returns what a function of C takes as the address of these bytes, without a copy if they can be had so."""
    if isinstance(held, bytes):
        return held
    return bytes(held) if memoryview(held).readonly else ctypes.byref(ctypes.c_char.from_buffer(held))


def _chosen() -> Callable[[Buffer, int], bytes | bytearray | None]:
    found = find_spec("deflate._deflate")
    try:
        library = ctypes.CDLL(found.origin if found else None)
        library.libdeflate_alloc_decompressor.restype = ctypes.c_void_p
        library.libdeflate_alloc_decompressor.argtypes = []
        library.libdeflate_free_decompressor.argtypes = [ctypes.c_void_p]
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        library.libdeflate_gzip_decompress_ex.argtypes = [pointer, pointer, size, pointer, size, pointer, pointer]
    except (OSError, AttributeError, TypeError):
        return _by_isal
    return partial(_by_libdeflate, library, threading.local())


inflate_member = _chosen()
"""Returns the `size` bytes in one gzip member; None unless it is exactly one that is sound. Releases the GIL."""
