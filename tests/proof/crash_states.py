"""A recorder of what a process does to the disk, and from that every state a power cut may leave.

The model is harsher than any journal: what was fsynced is there (a folder's fsync for its names, a file's for its bytes), of
all else anything may be, in any order.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from restore_core import durable


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Entries that change together: (folder, name) to an inode, or to nothing."""

    entries: dict[tuple[int, bytes], int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bytes:
    """Bytes into a file; `size` cuts or extends it instead."""

    inode: int
    offset: int = 0
    data: bytes = b""
    size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """An fsync that returned."""

    inode: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What somebody was told at this moment."""

    word: str


Step = Names | Bytes | Synced | Promise


@dataclass(slots=True, kw_only=True)
class Tree:
    """Files by inode, folders by inode, as a disk holds them."""

    root: int
    files: dict[int, bytearray] = field(default_factory=dict)
    folders: dict[int, dict[bytes, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, top: Path) -> Tree:
        """The one that lies below a folder."""
        tree = cls(root=top.stat().st_ino)
        for where, folders, files in os.walk(os.fsencode(top)):
            here = tree.folders.setdefault(os.stat(where).st_ino, {})
            for name in (*folders, *files):
                facts = os.lstat(os.path.join(where, name))
                here[name] = facts.st_ino
                if name in files:
                    tree.files[facts.st_ino] = bytearray(Path(os.fsdecode(os.path.join(where, name))).read_bytes())
        return tree

    def do(self, step: Step) -> None:
        """Let a step have reached the disk."""
        if isinstance(step, Names):
            for (folder, name), inode in step.entries.items():
                entries = self.folders.setdefault(folder, {})
                if inode is None:
                    entries.pop(name, None)
                else:
                    entries[name] = inode
        elif isinstance(step, Bytes):
            file = self.files.setdefault(step.inode, bytearray())
            if step.size is not None:
                del file[step.size :]
                file.extend(bytes(step.size - len(file)))
            else:
                file.extend(bytes(max(0, step.offset - len(file))))
                file[step.offset : step.offset + len(step.data)] = step.data

    def lay_out(self, top: Path, inode: int | None = None) -> dict[int, Path]:
        """Make it below a folder that is not there yet; what became of each file."""
        top.mkdir(mode=0o700)
        became: dict[int, Path] = {}
        for name, number in self.folders.get(self.root if inode is None else inode, {}).items():
            path = top / os.fsdecode(name)
            if number in self.folders:
                became |= self.lay_out(path, number)
            else:
                path.write_bytes(self.files.get(number, b""))
                became[number] = path
        return became


class Recorder:
    """Between `with` and its end every change below `top`, by whatever thread, becomes a step."""

    def __init__(self, top: Path) -> None:
        self.top = os.path.realpath(top)
        self.steps: list[Step] = []
        self._lock = threading.RLock()
        self._numbers: dict[int, int] = {}
        self.real: dict[int, int] = {}
        """Our number of a file, and its inode: the kernel gives the inode of a removed file away again at once."""

    def promise(self, word: str) -> None:
        """Somebody was told this now."""
        self.steps.append(Promise(word=word))

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Every call that changes something is watched; put back at the end."""
        for info in map(os.lstat, self._everything()):
            self._numbers[info.st_ino] = info.st_ino
            self.real[info.st_ino] = info.st_ino
        names = ("open", "write", "pwrite", "ftruncate", "fsync", "rename", "replace", "unlink", "mkdir")
        real = {name: getattr(os, name) for name in names}
        noreplace = durable._rename_noreplace
        watched: dict[str, Callable[..., Any]] = {
            "open": self._open(real["open"]),
            "write": self._write(real["write"]),
            "pwrite": self._pwrite(real["pwrite"]),
            "ftruncate": self._ftruncate(real["ftruncate"]),
            "fsync": self._fsync(real["fsync"]),
            "rename": self._rename(real["rename"]),
            "replace": self._rename(real["replace"]),
            "unlink": self._unlink(real["unlink"]),
            "mkdir": self._mkdir(real["mkdir"]),
        }

        def rename_noreplace(source: str, to: str, source_dir_fd: int | None, to_dir_fd: int | None) -> None:
            with self._lock:
                entries = self._moved(source, to, source_dir_fd, to_dir_fd)
                noreplace(source, to, source_dir_fd, to_dir_fd)
                self._note(Names(entries=entries))

        try:
            for name, function in watched.items():
                setattr(os, name, function)
            setattr(durable, "_rename_noreplace", rename_noreplace)  # noqa: B010  mypy forbids the plain form
            yield
        finally:
            for name, function in real.items():
                setattr(os, name, function)
            setattr(durable, "_rename_noreplace", noreplace)  # noqa: B010  the same

    def _everything(self) -> Iterator[str]:
        yield self.top
        for where, folders, files in os.walk(self.top):
            yield from (os.path.join(where, name) for name in (*folders, *files))

    def _note(self, step: Step) -> None:
        self.steps.append(step)

    def _place(self, path: Any, dir_fd: int | None) -> tuple[int, bytes]:
        """Folder and name of a path."""
        folder, name = os.path.split(os.fsencode(path))
        inode = os.fstat(dir_fd).st_ino if dir_fd is not None and not folder else os.stat(folder or b".", dir_fd=dir_fd).st_ino
        return self._numbers.get(inode, -1), name

    def _inode(self, path: Any, dir_fd: int | None) -> int | None:
        try:
            return self._numbers.get(os.stat(path, dir_fd=dir_fd, follow_symlinks=False).st_ino)
        except OSError:
            return None

    def _new(self, inode: int) -> int:
        """A number for a file that was just made; inodes of those before it may come again."""
        number = (len(self.real) + 1) << 40
        self._numbers[inode], self.real[number] = number, inode
        return number

    def _moved(self, source: Any, to: Any, source_dir_fd: int | None, to_dir_fd: int | None) -> dict[tuple[int, bytes], int | None]:
        return {self._place(source, source_dir_fd): None, self._place(to, to_dir_fd): self._inode(source, source_dir_fd)}

    def _ours(self, fd: int) -> int | None:
        """The inode behind a descriptor, if it lies below our folder."""
        return self._numbers.get(os.fstat(fd).st_ino)

    def _open(self, real: Callable[..., int]) -> Callable[..., int]:
        def watched(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
            with self._lock:
                new = bool(flags & os.O_CREAT) and not _is_there(path, dir_fd)
                fd = real(path, flags, mode, dir_fd=dir_fd)
                if new and self._below(fd):
                    self._note(Names(entries={self._place(path, dir_fd): self._new(os.fstat(fd).st_ino)}))
                if flags & os.O_TRUNC and (number := self._ours(fd)) is not None:
                    self._note(Bytes(inode=number, size=0))
                return fd

        return watched

    def _below(self, fd: int) -> bool:
        return os.readlink(f"/proc/self/fd/{fd}").startswith(self.top)

    def _write(self, real: Callable[..., int]) -> Callable[..., int]:
        def watched(fd: int, data: Any) -> int:
            with self._lock:
                number = self._ours(fd)
                if number is None:
                    return real(fd, data)
                done = real(fd, data)
                self._note(Bytes(inode=number, offset=os.lseek(fd, 0, os.SEEK_CUR) - done, data=bytes(data)[:done]))
                return done

        return watched

    def _pwrite(self, real: Callable[..., int]) -> Callable[..., int]:
        def watched(fd: int, data: Any, offset: int) -> int:
            with self._lock:
                number, done = self._ours(fd), real(fd, data, offset)
                if number is not None:
                    self._note(Bytes(inode=number, offset=offset, data=bytes(data)[:done]))
                return done

        return watched

    def _ftruncate(self, real: Callable[..., None]) -> Callable[..., None]:
        def watched(fd: int, size: int) -> None:
            with self._lock:
                real(fd, size)
                if (number := self._ours(fd)) is not None:
                    self._note(Bytes(inode=number, size=size))

        return watched

    def _fsync(self, real: Callable[..., None]) -> Callable[..., None]:
        def watched(fd: int) -> None:
            with self._lock:
                real(fd)
                if (number := self._ours(fd)) is not None:
                    self._note(Synced(inode=number))

        return watched

    def _rename(self, real: Callable[..., None]) -> Callable[..., None]:
        def watched(source: Any, to: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
            with self._lock:
                entries = self._moved(source, to, src_dir_fd, dst_dir_fd)
                real(source, to, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
                self._note(Names(entries=entries))

        return watched

    def _unlink(self, real: Callable[..., None]) -> Callable[..., None]:
        def watched(path: Any, *, dir_fd: int | None = None) -> None:
            with self._lock:
                place = self._place(path, dir_fd) if self._inode(path, dir_fd) is not None else None
                real(path, dir_fd=dir_fd)
                if place is not None:
                    self._note(Names(entries={place: None}))

        return watched

    def _mkdir(self, real: Callable[..., None]) -> Callable[..., None]:
        def watched(path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
            with self._lock:
                real(path, mode, dir_fd=dir_fd)
                place = self._place(path, dir_fd)
                if place[0] >= 0:
                    self._note(Names(entries={place: self._new(os.stat(path, dir_fd=dir_fd).st_ino)}))

        return watched


def _is_there(path: Any, dir_fd: int | None) -> bool:
    try:
        os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
    except OSError:
        return False
    return True


def cuts(steps: list[Step], dice: random.Random) -> Iterator[tuple[int, frozenset[int], bool]]:
    """Every cut: after how many steps, which of them are lost, and whether the last write that is there is torn."""
    for end in range(len(steps) + 1):
        loose = [at for at in range(end) if not _is_durable(steps, at, end)]
        names = frozenset(at for at in loose if isinstance(steps[at], Names))
        data = frozenset(loose) - names
        lost = {frozenset[int](), names, data, names | data}
        for at in dice.sample(loose, min(len(loose), 4)):
            lost |= {frozenset({at}), frozenset(loose) - {at}}
        yield from ((end, gone, False) for gone in sorted(lost, key=sorted))
        if data:
            yield end, frozenset(), True


def _is_durable(steps: list[Step], at: int, end: int) -> bool:
    step = steps[at]
    later = {each.inode for each in steps[at:end] if isinstance(each, Synced)}
    if isinstance(step, Names):
        return bool(later & {folder for folder, _ in step.entries})
    return step.inode in later if isinstance(step, Bytes) else True


def state(before: Tree, steps: list[Step], end: int, lost: frozenset[int], *, torn: bool) -> tuple[Tree, set[str]]:
    """The disk after a cut, and what had been promised before it."""
    tree = Tree(
        root=before.root,
        files={number: bytearray(data) for number, data in before.files.items()},
        folders={number: dict(entries) for number, entries in before.folders.items()},
    )
    last = max((at for at in range(end) if isinstance(steps[at], Bytes) and not _is_durable(steps, at, end)), default=-1)
    for at in range(end):
        step = steps[at]
        if torn and at == last and isinstance(step, Bytes) and step.size is None:
            step = Bytes(inode=step.inode, offset=step.offset, data=step.data[: len(step.data) // 2])
        if at not in lost:
            tree.do(step)
    return tree, {step.word for step in steps[:end] if isinstance(step, Promise)}
