"""The record a restore leaves of what it wrote: whose disk this is, and what is in it.

    RECORDS/KEY.json      path, inode, size, mtime and ctime of the disk as we left it, the Delta it came from
    RECORDS/KEY.digests   32 bytes a block, zeros for a zero block: the whole map of the disk

*Ours*: inode, size and mtime are as we left them, so nobody has written the disk since. *Untouched*: the ctime too, which no
program can set back; only then the digests are trusted instead of reading the disk. The device number is not compared,
since it may change with a reboot. Deleting a record costs nothing but time, except that a replication pass leaves a
disk without one alone.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

import blake3

from restore_core import durable
from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.index_map import BLOCKS_PER_PAGE
from restore_core.disk.destination import Destination
from restore_core.errors import TryAgainLater
from restore_core.naming import printable
from restore_core.plain import read_plain

VERSION = 1
_ZERO = bytes(32)
_TICK_NS = 20_000_000
"""A clock tick of a file system, generously: a write within the same tick as ours would leave the same mtime."""
_REMEDIES = {
    errno.ENOSPC: "Free space there",
    errno.EDQUOT: "Free space there",
    errno.ENOENT: "Somebody removed that folder: make it again (install -d -m 0700)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """One record. Times in nanoseconds; `digests` is the BLAKE3 of the digests file."""

    path: str
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    delta_id: str
    block_size: int
    block_digest: str
    digests: str

    def ours(self, facts: os.stat_result) -> bool:
        """Whether nobody has written the disk since we did."""
        return (self.inode, self.size, self.mtime_ns) == (facts.st_ino, facts.st_size, facts.st_mtime_ns)

    def untouched(self, facts: os.stat_result) -> bool:
        """Whether nobody can have written it."""
        return self.ours(facts) and self.ctime_ns == facts.st_ctime_ns


class DigestsFile:
    """The digests of a disk as we left it, read page by page."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def opened(cls, records: Path, destination: Destination, receipt: Receipt) -> Self | None:
        """The file of a receipt; None when it is gone or not what was recorded."""
        try:
            fd = os.open(records / f"{_key(destination)}.digests", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        sha = blake3.blake3()
        for data in iter(lambda: os.read(fd, 1 << 20), b""):
            sha.update(data)
        if sha.hexdigest() != receipt.digests:
            os.close(fd)
            return None
        return cls(fd)

    def page(self, index: int, blocks: int) -> list[bytes | None]:
        """One digest a block, None for a zero block and beyond the end."""
        data = os.pread(self._fd, blocks * 32, index * BLOCKS_PER_PAGE * 32)
        found = [data[at : at + 32] for at in range(0, len(data), 32)]
        return [None if digest == _ZERO else digest for digest in found] + [None] * (blocks - len(found))

    def close(self) -> None:
        """Give the file back."""
        os.close(self._fd)


def load(records: Path | None, destination: Destination) -> Receipt | None:
    """The receipt of a destination; None when there is none that can be read."""
    if records is None:
        return None
    try:
        data = json.loads(read_plain(records / f"{_key(destination)}.json"))
        return Receipt(**data) if data.pop("version") == VERSION else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save(records: Path | None, destination: Destination, delta: DeltaReader, facts: os.stat_result) -> None:
    """Record, durably, a finished disk that `delta` describes, before it gets its final name. Raises `TryAgainLater`.

    The rename changes its ctime, so the digests are not trusted yet; `settle` makes them so.
    """
    if records is None:
        return
    _let_the_tick_pass(facts)
    try:
        _save(records, destination, delta, facts)
    except OSError as error:
        raise TryAgainLater(
            f"{printable(str(records))}: the record of the finished disk cannot be written: {error.strerror or error}",
            remedy=f"{_REMEDIES.get(error.errno or 0, 'Look at that folder and its disk')}; what was written of the disk is kept.",
        ) from error


def _save(records: Path, destination: Destination, delta: DeltaReader, facts: os.stat_result) -> None:
    key = _key(destination)
    receipt = Receipt(
        path=os.fspath(destination.path),
        inode=facts.st_ino,
        size=facts.st_size,
        mtime_ns=facts.st_mtime_ns,
        ctime_ns=0,
        delta_id=delta.header.delta_id,
        block_size=delta.header.block_size,
        block_digest=delta.header.block_digest.value,
        digests=_write_digests(records, key, delta),
    )
    _write(records, key, receipt)


def claim(records: Path | None, destination: Destination, delta_id: str, facts: os.stat_result) -> None:
    """Record that a disk is ours as it is now, without its digests, which nobody has at hand. Failing costs that, and no more."""
    if records is None:
        return
    _let_the_tick_pass(facts)
    receipt = Receipt(
        path=os.fspath(destination.path),
        inode=facts.st_ino,
        size=facts.st_size,
        mtime_ns=facts.st_mtime_ns,
        ctime_ns=0,
        delta_id=delta_id,
        block_size=0,
        block_digest="",
        digests="",
    )
    with contextlib.suppress(OSError):
        _write(records, _key(destination), receipt)


def settle(records: Path | None, destination: Destination) -> None:
    """The disk has its final name: from now on its ctime tells whether anybody touched it. Losing this costs a hashing, no more."""
    receipt, facts = load(records, destination), destination.stat_disk()
    if records is not None and receipt is not None and facts is not None and receipt.ours(facts):
        with contextlib.suppress(OSError):
            # Durably: a power cut may leave a replacement that was not synced empty, and then nobody would know the disk as ours.
            _write(records, _key(destination), replace(receipt, ctime_ns=facts.st_ctime_ns))


def _let_the_tick_pass(facts: os.stat_result) -> None:
    wait = facts.st_mtime_ns + _TICK_NS - time.time_ns()
    if 0 < wait <= _TICK_NS:
        time.sleep(wait / 1e9)


def _write(records: Path, key: str, receipt: Receipt) -> None:
    text = json.dumps({"version": VERSION, **asdict(receipt)}, indent=1)
    durable.write_whole(records / f"{key}.json", text.encode("utf-8", "surrogateescape"), mode=0o600)


def _write_digests(records: Path, key: str, delta: DeltaReader) -> str:
    folder = os.open(records, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        part = durable.take_part(f"{key}.digests.phd-part", dir_fd=folder)
        sha = blake3.blake3()
        try:
            for data in _pages(delta):
                durable.write_all(part, data)
                sha.update(data)
            durable.move(f"{key}.digests.phd-part", f"{key}.digests", replace=True, source_dir_fd=folder, to_dir_fd=folder)
        finally:
            os.close(part)
    finally:
        os.close(folder)
    return sha.hexdigest()


def _pages(delta: DeltaReader) -> Iterator[bytes]:
    for index in range(delta.pages):
        yield b"".join(digest or _ZERO for digest in delta.page(index).content())


def _key(destination: Destination) -> str:
    """One for every path to the disk: the folder as the kernel names it, and the disk's name."""
    folder = os.fspath(destination.path.parent)
    with contextlib.suppress(OSError):
        folder = os.readlink(f"/proc/self/fd/{destination.folder_fd}")
    return hashlib.sha256(os.fsencode(f"{folder}/{destination.disk_name}")).hexdigest()[:32]
