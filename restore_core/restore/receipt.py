"""The record a restore leaves of what it wrote: whose disk this is, and what is in it.

    RECORDS/KEY.json        path, inode, size, mtime and ctime of the disk as we left it, the boot, the Delta it came from
    RECORDS/KEY.digests     a digest for each block, zeros for a zero block: the whole map of the disk
    RECORDS/KEY.next.json   the same two of a restore that has not given the disk its name yet, or has not said so;
    RECORDS/KEY.next.digests  `settle` turns them into those above

*Ours*: inode, size and mtime are as we left them. *Untouched*: the ctime too, which no program can set back, and the machine has
not been started anew since; only then the digests are trusted instead of reading the disk. After another boot the stamps prove
nothing: a guest's write that was flushed outlives a power cut that takes its mtime away (seen on ext4 and XFS). Then the disk is
hashed against the digests (`situation`). The device number is not compared, since it may change with a boot. Deleting a record
costs nothing but time, except that a replication pass leaves a disk without one alone.
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
from restore_core.archive.digests import BlockDigest
from restore_core.archive.index_map import BLOCKS_PER_PAGE
from restore_core.disk.alone import Alone, alone
from restore_core.disk.destination import Destination
from restore_core.durable import read_plain
from restore_core.errors import TryAgainLater
from restore_core.naming import printable

VERSION = 2
_NEXT = ".next"
_TICK_NS = 20_000_000
"""A clock tick of a file system, generously: a write within the same tick as ours would leave the same mtime."""
_REMEDIES = {
    errno.ENOSPC: "Free space there",
    errno.EDQUOT: "Free space there",
    errno.ENOENT: "Somebody removed that folder: make it again (install -d -m 0700)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """One record. Times in nanoseconds; `digests` is the BLAKE3 of the digests file, `boot` the kernel's id of the boot.

    `archive` is where the Delta was read, as a control file names it, `taken` when that backup was made, `written` when it
    was restored, in seconds since the epoch; older records say none of them.
    """

    path: str
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    delta_id: str
    block_size: int
    block_digest: str
    digests: str
    boot: str = ""
    archive: str = ""
    taken: int = 0
    written: float = 0.0

    def ours(self, facts: os.stat_result) -> bool:
        """Whether the stamps say that nobody has written the disk since we did."""
        return (self.inode, self.size, self.mtime_ns) == (facts.st_ino, facts.st_size, facts.st_mtime_ns)

    def of_this_boot(self) -> bool:
        """Whether its stamps prove anything: the machine was not started anew since."""
        return self.boot == boot_id()

    def untouched(self, facts: os.stat_result) -> bool:
        """Whether nobody can have written it."""
        return self.ours(facts) and self.ctime_ns == facts.st_ctime_ns and self.of_this_boot()


def boot_id() -> str:
    """The kernel's id of this boot; a new one each time where it cannot be read, so that nothing old is believed."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return os.urandom(8).hex()


class DigestsFile:
    """The digests of a disk as we left it, read page by page."""

    def __init__(self, fd: int, digest_size: int) -> None:
        self._fd, self._size = fd, digest_size

    @classmethod
    def opened(cls, records: Path, destination: Destination, receipt: Receipt) -> Self | None:
        """The file of a receipt; None when it is gone or not what was recorded."""
        if not receipt.digests:
            return None
        for part in ("", _NEXT):
            with contextlib.suppress(OSError):
                fd = os.open(records / f"{_key(destination)}{part}.digests", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                sha = blake3.blake3()
                for data in iter(lambda fd=fd: os.read(fd, 1 << 20), b""):  # type: ignore[misc]  # mypy knows no such default
                    sha.update(data)
                if sha.hexdigest() == receipt.digests:
                    return cls(fd, BlockDigest(receipt.block_digest).size)
                os.close(fd)
        return None

    def page(self, index: int, blocks: int) -> list[bytes | None]:
        """One digest a block, None for a zero block and beyond the end."""
        data = os.pread(self._fd, blocks * self._size, index * BLOCKS_PER_PAGE * self._size)
        found = [data[at : at + self._size] for at in range(0, len(data), self._size)]
        return [digest if any(digest) else None for digest in found] + [None] * (blocks - len(found))

    def close(self) -> None:
        """Give the file back."""
        os.close(self._fd)


def load(records: Path | None, destination: Destination, facts: os.stat_result | None = None) -> Receipt | None:
    """The receipt of a destination; None when there is none that can be read.

    With the facts of the disk that lies there: the one that is about it, be it settled or not.
    """
    settled = _read(records, destination, "")
    if facts is None or (settled is not None and settled.ours(facts)):
        return settled
    unsettled = _read(records, destination, _NEXT)
    return unsettled if unsettled is not None and unsettled.ours(facts) else settled


def load_next(records: Path | None, destination: Destination) -> Receipt | None:
    """The record of a restore that was interrupted before it was settled."""
    return _read(records, destination, _NEXT)


def _read(records: Path | None, destination: Destination, part: str) -> Receipt | None:
    if records is None:
        return None
    try:
        data = json.loads(read_plain(records / f"{_key(destination)}{part}.json"))
        return Receipt(**data) if data.pop("version") in (1, VERSION) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def prepare(
    records: Path | None, destination: Destination, delta: DeltaReader, facts: os.stat_result, *, mtime_ns: int | None = None
) -> None:
    """Record, durably, what the disk with these facts is going to hold, before it is shown. Raises `TryAgainLater`.

    `mtime_ns` is for a disk that is yet to be written: a time that it can be given afterwards (`date_as_announced`).
    The record of the disk that lies there now stays as it is until `settle`.
    """
    if records is None:
        return
    _let_the_tick_pass(facts)
    with _errors_told(records):
        key = _key(destination)
        receipt = Receipt(
            path=os.fspath(destination.path),
            inode=facts.st_ino,
            size=delta.header.disk_size,
            mtime_ns=facts.st_mtime_ns if mtime_ns is None else mtime_ns,
            ctime_ns=0,
            delta_id=delta.header.delta_id,
            block_size=delta.header.block_size,
            block_digest=delta.header.block_digest.value,
            digests=_write_digests(records, key, delta),
            boot=boot_id(),
            archive=delta.where,
            taken=delta.header.time,
            written=time.time(),
        )
        _write(records, key + _NEXT, receipt)


def stamp_next(records: Path | None, destination: Destination, facts: os.stat_result) -> None:
    """The disk that `prepare` announced was written, and has these facts now. Raises `TryAgainLater`."""
    receipt = load_next(records, destination)
    if records is None or receipt is None:
        return
    _let_the_tick_pass(facts)
    with _errors_told(records):
        stamped = replace(receipt, inode=facts.st_ino, size=facts.st_size, mtime_ns=facts.st_mtime_ns, ctime_ns=0, boot=boot_id())
        _write(records, _key(destination) + _NEXT, stamped)


def date_as_announced(records: Path | None, destination: Destination, fd: int) -> None:
    """The disk was written, and that cannot be put on record now: it gets the time that `prepare` announced, so that it stays ours.

    Never raises.
    """
    receipt = load_next(records, destination)
    if receipt is not None:
        with contextlib.suppress(OSError):
            os.utime(fd, ns=(os.fstat(fd).st_atime_ns, receipt.mtime_ns))


def settle(records: Path | None, destination: Destination, fd: int, ctime_ns: int) -> None:
    """The disk behind `fd` has its final name: from now on its ctime tells whether anybody touched it.

    `ctime_ns` is what it was when nobody could have had the disk open yet, 0 if that is not known: with another one by now somebody
    may have written it and set the mtime back, so the next refresh hashes it. So it does if this write fails.
    """
    receipt = load_next(records, destination)
    if records is None or receipt is None:
        return
    facts = os.fstat(fd)
    # Whoever has it open already may write at any moment, through a mapping even without a new mtime: then it is only ours.
    sure = receipt.ours(facts) and facts.st_ctime_ns == ctime_ns and alone(fd) is not Alone.NO
    key = _key(destination)
    with contextlib.suppress(OSError):
        # Durably: a power cut may leave a replacement that was not synced empty, and then nobody would know the disk as ours.
        _write(records, key, replace(receipt, ctime_ns=facts.st_ctime_ns if sure else 0, boot=boot_id()))
        durable.move(records / f"{key}{_NEXT}.digests", records / f"{key}.digests", replace=True, durable=False)
        durable.remove(records / f"{key}{_NEXT}.json", durable=False)


def catch_up(records: Path | None, destination: Destination, facts: os.stat_result) -> None:
    """Settle the record of the disk that lies there if a crash or an error came before that: the next `prepare` would replace it.

    Its ctime stays unknown. Never raises.
    """
    settled, unsettled = _read(records, destination, ""), _read(records, destination, _NEXT)
    if records is None or unsettled is None or not unsettled.ours(facts):
        return
    key, known = _key(destination), settled is not None and settled.ours(facts)
    if known and settled is not None and settled.digests != unsettled.digests:
        return  # what was prepared for this disk did not come about
    with contextlib.suppress(OSError):
        if not known:
            _write(records, key, unsettled)
        durable.move(records / f"{key}{_NEXT}.digests", records / f"{key}.digests", replace=True, durable=False)
        durable.remove(records / f"{key}{_NEXT}.json", durable=False)


def forget_next(records: Path | None, destination: Destination) -> None:
    """What `prepare` announced did not come about. Failing does no harm: it is about no disk that lies there."""
    if records is not None:
        for end in ("json", "digests"):
            with contextlib.suppress(OSError):
                durable.remove(records / f"{_key(destination)}{_NEXT}.{end}", durable=False)


def stamp(records: Path | None, destination: Destination, facts: os.stat_result, *, sure: bool = True) -> None:
    """The disk has new stamps, because we changed them, and the bytes that it had before. Never raises.

    `sure`: those are the bytes of its receipt, because they were read, or because the stamps before proved it (`untouched`).
    Otherwise the new ones prove as little as those did.
    """
    receipt = _read(records, destination, "")
    if records is None or receipt is None:
        return
    _let_the_tick_pass(facts)
    stamped = replace(receipt, inode=facts.st_ino, mtime_ns=facts.st_mtime_ns, ctime_ns=0)
    if sure:
        stamped = replace(stamped, ctime_ns=facts.st_ctime_ns, boot=boot_id())
    with contextlib.suppress(OSError):
        _write(records, _key(destination), stamped)


@contextlib.contextmanager
def _errors_told(records: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TryAgainLater(
            f"{printable(str(records))}: the record of the finished disk cannot be written: {error.strerror or error}",
            remedy=f"{_REMEDIES.get(error.errno or 0, 'Look at that folder and its disk')}; what was written of the disk is kept.",
        ) from error


def _let_the_tick_pass(facts: os.stat_result) -> None:
    wait = facts.st_mtime_ns + _TICK_NS - time.time_ns()
    if 0 < wait <= _TICK_NS:
        time.sleep(wait / 1e9)


def _write(records: Path, name: str, receipt: Receipt) -> None:
    text = json.dumps({"version": VERSION, **asdict(receipt)}, indent=1)
    durable.write_whole(records / f"{name}.json", text.encode("utf-8", "surrogateescape"), mode=0o600)


def _write_digests(records: Path, key: str, delta: DeltaReader) -> str:
    folder = os.open(records, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        part, name = f"{key}.digests.phd-part", f"{key}{_NEXT}.digests"
        fd = durable.take_part(part, dir_fd=folder)
        sha = blake3.blake3()
        try:
            for data in _pages(delta):
                durable.write_all(fd, data)
                sha.update(data)
            # Synced: after a power cut these digests decide whose the disk is.
            durable.sync_file(fd)
            # The receipt, which is written next, makes the name durable.
            durable.move(part, name, replace=True, durable=False, source_dir_fd=folder, to_dir_fd=folder)
        finally:
            os.close(fd)
    finally:
        os.close(folder)
    return sha.hexdigest()


def _pages(delta: DeltaReader) -> Iterator[bytes]:
    for index in range(delta.pages):
        yield b"".join(digest or bytes(delta.header.block_digest.size) for digest in delta.page(index).content())


def _key(destination: Destination) -> str:
    """One for every path to the disk: the folder as the kernel named it, and the disk's name."""
    folder = destination.folder or os.fspath(destination.path.parent)
    return hashlib.sha256(os.fsencode(f"{folder}/{destination.disk_name}")).hexdigest()[:32]
