"""The record a restore leaves of what it wrote: whose disk this is, and what is in it.

    FOLDER/KEY.json         path, inode, size, mtime and ctime of the disk as we left it, the boot, the Delta it came from
    FOLDER/KEY.digests      a digest for each block, zeros for a zero block: the whole map of the disk
    FOLDER/KEY.next.json    the same two of a restore that has not given the disk its name yet, or has not said so;
    FOLDER/KEY.next.digests   `settle` turns them into those above

*Ours*: inode, size and mtime are as we left them. *Untouched*: the ctime too, which no program can set back, and the machine has
not been started anew since; only then the digests are trusted instead of reading the disk. After another boot the stamps prove
nothing: a guest's write that was flushed outlives a power cut that takes its mtime away (seen on ext4 and XFS). Then the disk is
hashed against the digests (`decide`). The device number is not compared, since it may change with a boot. Deleting a receipt
costs nothing but time, except that a replication pass leaves a disk without one alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import blake3

from restore_core import durable
from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.digests import BlockDigest
from restore_core.archive.index_map import BLOCKS_PER_PAGE
from restore_core.disk.alone import Alone, alone
from restore_core.disk.destination import Destination
from restore_core.durable import read_plain
from restore_core.errors import TryAgainLater, remedy_for
from restore_core.naming import printable

VERSION = 2
_NEXT = ".next"
_TICK_NS = 20_000_000
"""More than one clock tick of a file system: a write within the same tick as ours would leave the same mtime."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """One receipt. Times in nanoseconds; `digests` is the BLAKE3 of the digests file, `boot` the kernel's id of the boot.

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
    """Returns the kernel's id of this boot; a new one each time where it cannot be read, so that no old stamps count."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return os.urandom(8).hex()


class DigestsFile:
    """The digests of a disk as we left it, read page by page from an open file."""

    def __init__(self, fd: int, digest_size: int) -> None:
        self._fd, self._size = fd, digest_size

    def page(self, index: int, blocks: int) -> list[bytes | None]:
        """Returns one digest a block, None for a zero block and beyond the end."""
        data = os.pread(self._fd, blocks * self._size, index * BLOCKS_PER_PAGE * self._size)
        found = [data[at : at + self._size] for at in range(0, len(data), self._size)]
        return [digest if any(digest) else None for digest in found] + [None] * (blocks - len(found))

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


class Receipts:
    """The receipts of one destination. Without a folder none are kept, and all of this does nothing."""

    def __init__(self, folder: Path | None, destination: Destination) -> None:
        self._folder, self._destination = folder, destination
        # One key for every path to the disk: the folder as the kernel named it, and the disk's name.
        where = destination.folder or os.fspath(destination.path.parent)
        self._key = hashlib.sha256(os.fsencode(f"{where}/{destination.disk_name}")).hexdigest()[:32]

    def load(self, facts: os.stat_result | None = None) -> Receipt | None:
        """Returns the receipt; None when there is none that can be read.

        With the facts of the disk that is there: the one that is about it, be it settled or not.
        """
        settled = self._read("")
        if facts is None or (settled is not None and settled.ours(facts)):
            return settled
        unsettled = self.load_next()
        return unsettled if unsettled is not None and unsettled.ours(facts) else settled

    def load_next(self) -> Receipt | None:
        """Returns the receipt of a restore that was interrupted before it was settled."""
        return self._read(_NEXT)

    def digests(self, receipt: Receipt) -> DigestsFile | None:
        """Opens the digests of a receipt; None when the file is gone or not what was recorded."""
        for part in ("", _NEXT) if receipt.digests and self._folder is not None else ():
            with contextlib.suppress(OSError):
                fd = os.open(self._path(part, "digests"), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                sha = blake3.blake3()
                for data in iter(lambda fd=fd: os.read(fd, 1 << 20), b""):  # type: ignore[misc]  # mypy knows no such default
                    sha.update(data)
                if sha.hexdigest() == receipt.digests:
                    return DigestsFile(fd, BlockDigest(receipt.block_digest).size)
                os.close(fd)
        return None

    def prepare(self, delta: DeltaReader, facts: os.stat_result, *, mtime_ns: int | None = None) -> None:
        """Record, durably, what the disk with these facts is going to hold, before it is shown. Raises `TryAgainLater`.

        `mtime_ns` is for a disk that is yet to be written: a time that it can be given afterwards (`date_as_announced`).
        The receipt of the disk that is there now stays as it is until `settle`.
        """
        if self._folder is None:
            return
        _let_the_tick_pass(facts)
        with _errors_told(self._folder):
            receipt = Receipt(
                path=os.fspath(self._destination.path),
                inode=facts.st_ino,
                size=delta.header.disk_size,
                mtime_ns=facts.st_mtime_ns if mtime_ns is None else mtime_ns,
                ctime_ns=0,
                delta_id=delta.header.delta_id,
                block_size=delta.header.block_size,
                block_digest=delta.header.block_digest.value,
                digests=_write_digests(self._folder, self._key, delta),
                boot=boot_id(),
                archive=delta.where,
                taken=delta.header.time,
                written=time.time(),
            )
            self._write(_NEXT, receipt)

    def stamp_next(self, facts: os.stat_result) -> None:
        """Give the receipt that `prepare` wrote the facts of the disk, which is written now. Raises `TryAgainLater`."""
        receipt = self.load_next()
        if self._folder is None or receipt is None:
            return
        _let_the_tick_pass(facts)
        stamped = replace(receipt, inode=facts.st_ino, size=facts.st_size, mtime_ns=facts.st_mtime_ns, ctime_ns=0, boot=boot_id())
        with _errors_told(self._folder):
            self._write(_NEXT, stamped)

    def date_as_announced(self, fd: int) -> None:
        """Give the disk the time that `prepare` announced, so that it stays ours: its facts cannot be recorded. Never raises."""
        receipt = self.load_next()
        if receipt is not None:
            with contextlib.suppress(OSError):
                os.utime(fd, ns=(os.fstat(fd).st_atime_ns, receipt.mtime_ns))

    def settle(self, fd: int, ctime_ns: int) -> None:
        """Make the prepared receipt the valid one: the disk behind `fd` has its final name. Never raises.

        From now on its ctime tells whether anybody touched it. `ctime_ns` is what it was when nobody could have had the disk open
        yet, 0 if that is not known: if it has changed, somebody may have written the disk and set the mtime back. Then, and if this
        write fails, the next refresh hashes the disk.
        """
        receipt = self.load_next()
        if receipt is None:
            return
        facts = os.fstat(fd)
        # A program that has it open already may write at any moment, through a mapping even without a new mtime.
        sure = receipt.ours(facts) and facts.st_ctime_ns == ctime_ns and alone(fd) is not Alone.NO
        # Durably: a power cut may leave a replacement that was not synced empty, and then nobody would know the disk as ours.
        self._settle(replace(receipt, ctime_ns=facts.st_ctime_ns if sure else 0, boot=boot_id()))

    def catch_up(self, facts: os.stat_result) -> None:
        """Settle the receipt of the disk that is there if a crash or an error came before: the next `prepare` would replace it.

        Its ctime stays unknown. Never raises.
        """
        settled, unsettled = self._read(""), self.load_next()
        if unsettled is None or not unsettled.ours(facts):
            return
        if settled is None or not settled.ours(facts):
            self._settle(unsettled)
        elif settled.digests == unsettled.digests:  # else what was prepared for this disk was not written
            self._settle(None)

    def forget_next(self) -> None:
        """Delete what `prepare` wrote: the disk was not written. It does no harm if this fails. Never raises."""
        for end in ("json", "digests") if self._folder is not None else ():
            with contextlib.suppress(OSError):
                durable.remove(self._path(_NEXT, end), durable=False)

    def stamp(self, facts: os.stat_result, *, sure: bool = True) -> None:
        """Give the receipt the new stamps of the disk, which we changed; its bytes are what they were. Never raises.

        `sure`: those are the bytes of its receipt, because they were read, or because the stamps before proved it (`untouched`).
        Otherwise the new stamps prove as little as the old ones did.
        """
        receipt = self._read("")
        if receipt is None:
            return
        _let_the_tick_pass(facts)
        stamped = replace(receipt, inode=facts.st_ino, mtime_ns=facts.st_mtime_ns, ctime_ns=0)
        if sure:
            stamped = replace(stamped, ctime_ns=facts.st_ctime_ns, boot=boot_id())
        with contextlib.suppress(OSError):
            self._write("", stamped)

    def _settle(self, receipt: Receipt | None) -> None:
        with contextlib.suppress(OSError):
            if receipt is not None:
                self._write("", receipt)
            durable.move(self._path(_NEXT, "digests"), self._path("", "digests"), replace=True, durable=False)
            durable.remove(self._path(_NEXT, "json"), durable=False)

    def _path(self, part: str, end: str) -> Path:
        return (self._folder or Path()) / f"{self._key}{part}.{end}"

    def _read(self, part: str) -> Receipt | None:
        if self._folder is None:
            return None
        try:
            data = json.loads(read_plain(self._path(part, "json")))
            known = data.pop("version") in (1, VERSION) and BlockDigest(data["block_digest"])
            return Receipt(**data) if known else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def _write(self, part: str, receipt: Receipt) -> None:
        text = json.dumps({"version": VERSION, **asdict(receipt)}, indent=1)
        data, made = text.encode("utf-8", "surrogateescape"), partial(_give_to_owner, self._folder or Path())
        durable.write_whole(self._path(part, "json"), data, mode=0o600, made=made)


def _give_to_owner(folder: Path, fd: int) -> None:
    """Gives a record that root writes to the owner of the folder: a daemon that does not run as root has to read it."""
    owner = os.stat(folder)
    if os.geteuid() == 0 != owner.st_uid:
        os.fchown(fd, owner.st_uid, owner.st_gid)


@contextlib.contextmanager
def _errors_told(records: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        gone = "Somebody removed that folder: make it again (install -d -m 0700)." if isinstance(error, FileNotFoundError) else ""
        raise TryAgainLater(
            f"{printable(str(records))}: the record of the finished disk cannot be written: {error.strerror or error}",
            remedy=f"{gone or remedy_for(error)} What was written of the disk is kept.",
        ) from error


def _let_the_tick_pass(facts: os.stat_result) -> None:
    wait = facts.st_mtime_ns + _TICK_NS - time.time_ns()
    if 0 < wait <= _TICK_NS:
        time.sleep(wait / 1e9)


def _write_digests(records: Path, key: str, delta: DeltaReader) -> str:
    folder = os.open(records, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        part, name = f"{key}.digests.phd-part", f"{key}{_NEXT}.digests"
        fd = durable.take_part(part, dir_fd=folder)
        sha = blake3.blake3()
        try:
            _give_to_owner(records, fd)
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
