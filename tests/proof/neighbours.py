"""What others do to a disk while it is restored: real QEMU programs, plain programs, copies, moves, a second restore, a script.

Each acts once, while the restore stands still, on what it finds under the disk's name; some stay, and let go at the end.
`after` is what the disk must be then: None while it has no name.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import re
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from tests.proof.stopped import Work, to_its_end

PIECE = 4096
_CAPACITY = re.compile(rb"^RW (\d+) (?:FLAT|VMFS)", re.MULTILINE)


@dataclass(slots=True, kw_only=True)
class Site:
    """One disk in a folder of its own. `here` is where that folder is by now. `other` is what a second restore would write."""

    folder: Path
    name: str
    other: bytes
    second: Work
    records: Path
    script: Path
    here: Path = field(init=False)

    def __post_init__(self) -> None:
        self.here = self.folder

    @property
    def path(self) -> Path:
        """The path that is asked for."""
        return self.folder / self.name

    @property
    def disk(self) -> Path:
        """The file with the bytes."""
        return self.here / self.name.replace(".vmdk", "-flat.vmdk")

    @property
    def descriptor(self) -> Path:
        """The VMDK's descriptor; of a raw image the image."""
        return self.here / self.name

    def look(self) -> bytes | None:
        """The bytes under the disk's name. Nobody else may have the disk stalled by a lease now."""
        try:
            return self.disk.read_bytes()
        except OSError:
            return None

    def half_shown(self) -> str:
        """What is wrong with the descriptor that people see."""
        if self.disk == self.descriptor or not self.descriptor.exists():
            return ""
        if not self.disk.exists():
            return "a descriptor without its disk"
        found = _CAPACITY.search(self.descriptor.read_bytes())
        size = self.disk.stat().st_size
        return "" if found and int(found[1]) * 512 == size else f"a descriptor over a disk of another size ({size} bytes)"

    def names(self) -> list[str]:
        """What lies in the folder."""
        return sorted(os.listdir(self.here)) if self.here.exists() else []

    def own_names(self) -> list[str]:
        """What shall lie there, and nothing else."""
        return sorted({self.disk.name, self.name})


class Neighbour:
    """One of them. `found` and `after`: the disk before and after it acted. `changed`: it made the disk something else."""

    stays: ClassVar[bool] = False
    """It keeps the disk open until `leave`: then nobody may change or replace what it has open."""
    moves: ClassVar[bool] = False
    """It takes the folder, not the disk: a restore may go on in it, and may not say done."""
    harmless: ClassVar[bool] = True
    """It does nothing for which a replica would have to be given up."""
    precious: ClassVar[bool] = True
    """What it makes of the disk is somebody's work, not a restore of ours."""

    def __init__(self, site: Site, offset: int) -> None:
        self.site, self.offset = site, offset
        self.found: bytes | None = None
        self.after: bytes | None = None
        self.acted = False

    @property
    def changed(self) -> bool:
        return self.acted and self.after != self.found

    def act(self) -> None:
        """Do it."""
        self.found = self.after = self.site.look()
        self.acted = self.found is not None and self.do()

    def do(self) -> bool:
        """Whether it came to anything; a disk is there."""
        raise NotImplementedError

    def leave(self) -> None:
        """Let go of what it has open; write once more before that."""

    def complaint(self) -> str:
        """What of its own it misses at the end."""
        return ""

    def write(self, letter: bytes, shift: int = 0) -> tuple[int, bytes]:
        """Remember a write that is about to be made."""
        offset, data = self.offset + shift, letter * PIECE
        if self.after is None:
            raise AssertionError
        self.after = self.after[:offset] + data + self.after[offset + PIECE :]
        return offset, data


class Writes(Neighbour):
    """A program without locks opens the disk, writes, and is gone."""

    harmless = False

    def do(self) -> bool:
        with self.site.disk.open("r+b", buffering=0) as file:
            offset, data = self.write(b"w")
            os.pwrite(file.fileno(), data, offset)
        return True


class WritesAndSetsTheTimeBack(Writes):
    """As `touch -r` and `rsync -t` do."""

    def do(self) -> bool:
        before = self.site.disk.stat()
        super().do()
        os.utime(self.site.disk, ns=(before.st_atime_ns, before.st_mtime_ns))
        return True


class WritesBeforeThePowerIsCut(Writes):
    """Its bytes outlive the cut, the times of the write do not; seen on ext4 and XFS. Only after a death."""

    def do(self) -> bool:
        before = self.site.disk.stat()
        super().do()
        os.utime(self.site.disk, ns=(before.st_atime_ns, before.st_mtime_ns))
        after = self.site.disk.stat()
        for path in self.site.records.glob("*.json"):
            facts = json.loads(path.read_text())
            if facts["inode"] == after.st_ino and facts["ctime_ns"] == before.st_ctime_ns:
                path.write_text(json.dumps({**facts, "ctime_ns": after.st_ctime_ns, "boot": "the boot before"}))
        return True


class Grows(Neighbour):
    """`truncate -s +64K`."""

    harmless = False

    def do(self) -> bool:
        os.truncate(self.site.disk, self.site.disk.stat().st_size + 65536)
        self.after = (self.after or b"") + bytes(65536)
        return True


class WritesAndStays(Neighbour):
    """A VM without locks."""

    stays = True
    harmless = False

    def do(self) -> bool:
        self.fd = os.open(self.site.disk, os.O_RDWR | os.O_CLOEXEC)
        offset, data = self.write(b"w")
        os.pwrite(self.fd, data, offset)
        return True

    def leave(self) -> None:
        if self.acted:
            offset, data = self.write(b"x", PIECE)
            os.pwrite(self.fd, data, offset)
            os.close(self.fd)


class Reads(Neighbour):
    """A program that has it open for reading, for long: a copy to tape."""

    stays = True

    def do(self) -> bool:
        self.fd = os.open(self.site.disk, os.O_RDONLY | os.O_CLOEXEC)
        return True

    def leave(self) -> None:
        if self.acted:
            self.read = os.pread(self.fd, len(self.found or b"") + 1, 0)
            os.close(self.fd)

    def complaint(self) -> str:
        return "what it reads changed under it" if self.acted and self.read != self.found else ""


class Maps(Neighbour):
    """A writer through a mapping, its descriptor closed long ago."""

    stays = True
    harmless = False

    def do(self) -> bool:
        with self.site.disk.open("r+b") as file:
            self.map = mmap.mmap(file.fileno(), 0)
        self._put(*self.write(b"m"))
        return True

    def _put(self, offset: int, data: bytes) -> None:
        self.map[offset : offset + len(data)] = data

    def leave(self) -> None:
        if self.acted:
            self._put(*self.write(b"n"))  # the same page, which is dirty: no new mtime
            self._put(*self.write(b"o", PIECE))
            self.map.close()


class MapsAndGoes(Neighbour):
    """It is gone before what it wrote is on the disk."""

    harmless = False

    def do(self) -> bool:
        with self.site.disk.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            offset, data = self.write(b"m")
            mapped[offset : offset + len(data)] = data
        return True


class _Qemu(Neighbour):
    def image(self) -> list[str]:
        """Format and path: half of them through the descriptor."""
        site = self.site
        by_descriptor = site.disk != site.descriptor and site.descriptor.exists() and self.offset // PIECE % 2
        return ["-f", "vmdk", str(site.descriptor)] if by_descriptor else ["-f", "raw", str(site.disk)]

    def command(self, letter: bytes, shift: int = 0) -> str:
        """For qemu-io."""
        offset, _ = self.write(letter, shift)
        return f"write -P {letter[0]} {offset} {PIECE}"


class QemuWrites(_Qemu):
    """A VM that starts, writes, flushes and goes off."""

    harmless = False

    def do(self) -> bool:
        before = self.after
        ran = subprocess.run(["qemu-io", *self.image(), "-c", self.command(b"q"), "-c", "flush"], capture_output=True, check=False)
        if ran.returncode != 0 or b"wrote" not in ran.stdout:
            self.after = before
            return False
        return True


class QemuStays(_Qemu):
    """A VM that starts, writes, flushes and runs on."""

    stays = True
    harmless = False
    arguments: ClassVar[tuple[str, ...]] = ()

    def do(self) -> bool:
        before = self.after
        self.qemu = subprocess.Popen(
            ["qemu-io", *self.arguments, *self.image()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        if self.qemu.stdin is None or self.qemu.stdout is None:
            raise AssertionError
        self.qemu.stdin.write(self.first().encode() + b"\nflush\n")
        with contextlib.suppress(BrokenPipeError):
            self.qemu.stdin.flush()
        while (said := self.qemu.stdout.readline()) and b"bytes at offset" not in said:
            pass
        if not said:
            self.after = before
            self.qemu.communicate()
            return False
        return True

    def first(self) -> str:
        """Its first command."""
        return self.command(b"q")

    def last(self) -> str:
        """Its last."""
        return self.command(b"r", PIECE)

    def leave(self) -> None:
        if self.acted:
            self.qemu.communicate(self.last().encode() + b"\nflush\n")


class QemuReads(QemuStays):
    """`qemu-io -r`: a VM with a disk for reading only."""

    harmless = True
    arguments = ("-r",)

    def first(self) -> str:
        return f"read 0 {PIECE}"

    last = first


class QemuNbdReads(_Qemu):
    """`qemu-nbd -r`: an instant session on the replica."""

    stays = True

    def do(self) -> bool:
        socket = self.site.folder.with_name(f"{self.site.folder.name}.nbd")
        command = ["qemu-nbd", "-r", "-t", "-k", str(socket), *self.image()]
        self.server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 20
        while not socket.exists() and self.server.poll() is None and time.monotonic() < end:
            time.sleep(0.005)
        return self.server.poll() is None

    def leave(self) -> None:
        if self.acted:
            self.server.terminate()
            self.server.wait()
            self.site.folder.with_name(f"{self.site.folder.name}.nbd").unlink(missing_ok=True)


class LooksAtIt(_Qemu):
    """`qemu-img info`, gone at once."""

    def do(self) -> bool:
        return subprocess.run(["qemu-img", "info", *self.image()], capture_output=True, check=False).returncode == 0


class CopiesByLinks(Neighbour):
    """`cp -al` of the folder: yesterday's copy must stay what it is."""

    def act(self) -> None:
        self.found = self.after = self.site.look()
        self.copy = self.site.folder.with_name(f"{self.site.folder.name}.yesterday")
        ran = subprocess.run(["cp", "-al", str(self.site.here), str(self.copy)], capture_output=True, check=False)
        self.acted = ran.returncode == 0

    def complaint(self) -> str:
        if not self.acted or self.found is None:
            return ""
        there = self.copy / self.site.disk.name
        return "" if there.exists() and there.read_bytes() == self.found else "the copy by links was changed"


class LinksIt(Neighbour):
    """`ln` of the disk."""

    def do(self) -> bool:
        self.copy = self.site.folder.with_name(f"{self.site.folder.name}.linked")
        os.link(self.site.disk, self.copy)
        return True

    def complaint(self) -> str:
        return "" if not self.acted or self.copy.read_bytes() == self.found else "the other name of the disk was changed"


class TakesItAway(Neighbour):
    """`mv` of the disk to another name: it is nobody's but theirs from then on."""

    harmless = False

    def do(self) -> bool:
        self.copy = self.site.folder.with_name(f"{self.site.folder.name}.saved")
        os.rename(self.site.disk, self.copy)
        self.after = None
        return True

    def complaint(self) -> str:
        return "" if not self.acted or self.copy.read_bytes() == self.found else "the disk that was moved away was changed"


class RemovesIt(Neighbour):
    """`rm` of the disk and its descriptor."""

    harmless = False

    def do(self) -> bool:
        for path in {self.site.disk, self.site.descriptor}:
            path.unlink(missing_ok=True)
        self.after = None
        return True


class PutsAnother(Neighbour):
    """Another disk is renamed over it."""

    harmless = False

    def act(self) -> None:
        self.found = self.site.look()
        self.acted = self.do()

    def do(self) -> bool:
        self.after = b"p" * (len(self.found or b"") or 65536)
        aside = self.site.folder.with_name(f"{self.site.folder.name}.aside")
        aside.write_bytes(self.after)
        os.rename(aside, self.site.disk)
        return True


class ChangesItsMode(Neighbour):
    """`chmod`."""

    def do(self) -> bool:
        self.site.disk.chmod(0o640)
        return True


class LocksIt(Neighbour):
    """The lock file of an ESX."""

    def do(self) -> bool:
        self.lock = self.site.disk.with_name(f"{self.site.disk.name}.lck")
        self.lock.write_text("esx7")
        return True

    def leave(self) -> None:
        if self.acted:
            self.lock.unlink()


class _Removes(Neighbour):
    pattern: ClassVar[str] = ""

    def act(self) -> None:
        self.found = self.after = self.site.look()
        for path in self.site.here.glob(self.pattern):
            path.unlink()
            self.acted = True


class RemovesTheParts(_Removes):
    """`rm` of files that a restore has at work."""

    pattern = "*.phd-new"


class PutsAnotherPart(Neighbour):
    """The unfinished disk is removed, and another file has its name: a second restore of an earlier version did that."""

    def act(self) -> None:
        self.found = self.after = self.site.look()
        part = self.site.disk.with_name(f"{self.site.disk.name}.phd-new")
        if part.exists():
            part.unlink()
            part.write_bytes(b"half of another")
            self.acted = True


class RemovesTheRedo(_Removes):
    """The same of a redo file that is being staged."""

    pattern = "*.phd-redo-part"


class RemovesTheHold(_Removes):
    """`rm` of the lock file."""

    pattern = "*.phd-hold"


class RestoresToo(Neighbour):
    """A second restore onto the same disk."""

    harmless = False
    precious = False
    broke = ""

    def act(self) -> None:
        self.found = self.after = self.site.look()
        end = to_its_end(self.site.second)
        self.broke = str(end) if end.kind == "broke" else ""
        self.acted = end.done
        if end.done:
            self.after = self.site.other

    def complaint(self) -> str:
        return self.broke


class RemovesAllAndRestoresToo(RestoresToo):
    """The same, after somebody removed lock and part files."""

    def act(self) -> None:
        for pattern in ("*.phd-new", "*.phd-redo-part", "*.phd-hold"):
            for path in self.site.here.glob(pattern):
                path.unlink()
        super().act()
        self.acted = True


class RunsTheScript(Neighbour):
    """`sh DELTA restore`, of the other backup."""

    harmless = False

    def act(self) -> None:
        self.found = self.after = self.site.look()
        command = ["sh", str(self.site.script), "restore", "--to", str(self.site.path), "--overwrite"]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        self.acted = ran.returncode == 0
        if self.acted:
            self.after = self.site.other


class IsAnOldScript(Neighbour):
    """A script of an earlier version: it knows no lock and writes NAME.phd-part."""

    def act(self) -> None:
        self.found = self.after = self.site.look()
        self.part = self.site.disk.with_name(f"{self.site.disk.name}.phd-part")
        self.file = self.part.open("wb", buffering=0)
        self.file.write(b"half of it")
        self.acted = True

    def leave(self) -> None:
        if not self.acted:
            return
        self.file.write(b", and more")
        self.file.close()
        self.ours = self.part.exists() and self.part.read_bytes() == b"half of it, and more"
        self.part.unlink(missing_ok=True)

    def complaint(self) -> str:
        return "" if not self.acted or self.ours else "the part file of the script was taken"


class MovesTheFolder(Neighbour):
    """`mv` of the folder."""

    moves = True

    def act(self) -> None:
        self.found = self.after = self.site.look()
        away = self.site.folder.with_name(f"{self.site.folder.name}.away")
        os.rename(self.site.folder, away)
        self.site.here = away
        self.acted = True

    def leave(self) -> None:
        if not self.acted:
            return
        if self.site.folder.exists():
            os.rmdir(self.site.folder)
        os.rename(self.site.here, self.site.folder)
        self.site.here = self.site.folder


class PutsAnotherFolder(MovesTheFolder):
    """The same, with an empty folder in its place."""

    def act(self) -> None:
        super().act()
        self.site.folder.mkdir()


class Unmounts(Neighbour):
    """`umount -l` of what the folder lies on."""

    moves = True

    def act(self) -> None:
        self.found = self.after = self.site.look()
        subprocess.run(["umount", "-l", str(self.site.folder)], check=True, capture_output=True)
        self.site.here = self.site.folder.with_name(f"{self.site.folder.name}.real")
        self.acted = True

    def leave(self) -> None:
        if not self.acted:
            return
        self.astray = os.listdir(self.site.folder)
        subprocess.run(["mount", "--bind", str(self.site.here), str(self.site.folder)], check=True, capture_output=True)
        self.site.here = self.site.folder

    def complaint(self) -> str:
        return f"it wrote below the mount point: {self.astray}" if self.acted and self.astray else ""


WITH_LOCKS: tuple[type[Neighbour], ...] = (QemuStays, QemuWrites)
WRITERS: tuple[type[Neighbour], ...] = (
    QemuStays,
    QemuWrites,
    WritesAndStays,
    Writes,
    WritesAndSetsTheTimeBack,
    Grows,
    Maps,
    MapsAndGoes,
    PutsAnother,
)
AFTER_A_DEATH: tuple[type[Neighbour], ...] = (
    *WRITERS,
    WritesBeforeThePowerIsCut,
    QemuReads,
    Reads,
    CopiesByLinks,
    LinksIt,
    TakesItAway,
    RemovesIt,
    ChangesItsMode,
    RestoresToo,
    RunsTheScript,
    MovesTheFolder,
)
ALL: tuple[type[Neighbour], ...] = (
    *WRITERS,
    QemuReads,
    QemuNbdReads,
    LooksAtIt,
    Reads,
    CopiesByLinks,
    LinksIt,
    TakesItAway,
    RemovesIt,
    ChangesItsMode,
    LocksIt,
    RemovesTheParts,
    PutsAnotherPart,
    RemovesTheRedo,
    RemovesTheHold,
    RestoresToo,
    RemovesAllAndRestoresToo,
    RunsTheScript,
    IsAnOldScript,
    MovesTheFolder,
    PutsAnotherFolder,
    Unmounts,
)
