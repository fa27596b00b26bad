"""Takes from a process, for its whole life, the right to execute programs and to write anywhere but in some folders.

    Landlock   no file is executed; files are created, written, truncated and deleted only below the named folders;
               no signal to a process outside (ABI 6), no change of mounts. Reading and the network are not restricted
    seccomp    execve and execveat are refused (EPERM), whatever they name

Both hold for the process, its threads and its children, and cannot be undone. `confine` is called while there is one thread.
Where a kernel lacks one of them the other one still holds: `Confinement` says what is in force, and the job's log repeats it.

Not guaranteed: that such a process harms nothing. It can read what its user may read and use the network.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import errno
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_PATH_BENEATH = 1
_PR_GET_SECCOMP, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 21, 22, 38
_SCOPES = 3
"""No abstract sockets of other processes, no signals to them."""

_libc = ctypes.CDLL(None, use_errno=True)


class _Right(enum.IntFlag):
    """The rights LANDLOCK_ACCESS_FS_* that execute or change something."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14


_SINCE = {_Right.REFER: 2, _Right.TRUNCATE: 3}
_USED = (
    _Right.WRITE_FILE
    | _Right.REMOVE_DIR
    | _Right.REMOVE_FILE
    | _Right.MAKE_DIR
    | _Right.MAKE_REG
    | _Right.REFER
    | _Right.TRUNCATE
)  # fmt: skip
"""What a restore does below its folders. It makes no devices, links, sockets or FIFOs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Machine:
    """What seccomp must know of a processor: its number for audit, and the numbers of two system calls."""

    audit: int
    execve: int
    execveat: int


_MACHINES = {
    "x86_64": _Machine(audit=0xC000003E, execve=59, execveat=322),
    "aarch64": _Machine(audit=0xC00000B7, execve=221, execveat=281),
}
_X32 = 0x40000000
"""The bit of the x32 numbers, under which x86_64 has the same calls again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """What is in force, or is available. `landlock` is the kernel's ABI, 0 for none."""

    landlock: int
    seccomp: bool

    @property
    def execution_denied(self) -> bool:
        """Whether no program can be started."""
        return self.landlock > 0 or self.seccomp

    def describe(self) -> str:
        """Returns one line for the job's log and the doctor, which also says what is missing."""
        means = [f"Landlock ABI {self.landlock}"] * bool(self.landlock) + ["seccomp"] * self.seccomp
        if not means:
            return "NOT confined: this kernel offers neither Landlock nor seccomp"
        parts = [f"executes nothing ({', '.join(means)})"]
        parts.append("writes only where it must" if self.landlock else "this kernel has no Landlock: may write anywhere")
        if not self.seccomp:
            parts.append("no seccomp here")
        return "confined: " + "; ".join(parts)


def available() -> Confinement:
    """Returns what this kernel offers. Changes nothing."""
    machine = _MACHINES.get(os.uname().machine)
    return Confinement(landlock=_landlock_abi(), seccomp=machine is not None and _libc.prctl(_PR_GET_SECCOMP, 0, 0, 0, 0) >= 0)


def confine(writable: Iterable[int], *, removable: Iterable[int] = ()) -> Confinement:
    """From now on this process executes nothing and writes only below these open folders; in `removable` it deletes files only.

    Never raises.
    """
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    rules = [*((fd, _USED) for fd in writable), *((fd, _Right.REMOVE_FILE) for fd in removable)]
    return Confinement(landlock=_landlock(rules), seccomp=_seccomp())


def _landlock_abi() -> int:
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG))))


def _landlock(rules: Iterable[tuple[int, _Right]]) -> int:
    """Returns the ABI that is now in force; 0 where the kernel has none or refuses."""
    abi = _landlock_abi()
    if abi < 1:
        return 0
    known = ~_Right(sum(right for right, since in _SINCE.items() if since > abi))
    handled = sum(right for right in _Right if right & known)
    # struct landlock_ruleset_attr: file system, since ABI 4 network, since ABI 6 scopes.
    sizes = struct.pack("=QQQ", handled, 0, _SCOPES)[: 8 if abi < 4 else 16 if abi < 6 else 24]
    ruleset = int(_libc.syscall(_CREATE_RULESET, sizes, ctypes.c_size_t(len(sizes)), ctypes.c_uint32(0)))
    if ruleset < 0:
        return 0
    try:
        for fd, rights in rules:
            rule = struct.pack("=Qi", int(rights & known), fd)
            if _libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, ctypes.c_uint32(0)) != 0:
                return 0
        return abi if _libc.syscall(_RESTRICT_SELF, ruleset, ctypes.c_uint32(0)) == 0 else 0
    finally:
        os.close(ruleset)


def _seccomp() -> bool:
    """Forbids this thread, and all that it will start, to execute programs."""
    machine = _MACHINES.get(os.uname().machine)
    if machine is None:
        return False
    program = ctypes.create_string_buffer(_filter(machine))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(program))
    # By prctl: the call seccomp(2) is in no group of system calls of systemd, and a unit may forbid it.
    return bool(_libc.prctl(_PR_SET_SECCOMP, 2, header, 0, 0) == 0)


def _filter(machine: _Machine) -> bytes:
    """Returns the program in classic BPF. Calls of another processor and the x32 numbers, which would evade it, are all refused."""
    load, equal, at_least, answer = 0x20, 0x15, 0x35, 0x06
    allow, refuse = 0x7FFF0000, 0x00050000 | errno.EPERM
    number, audit = 0, 4  # offsets in struct seccomp_data
    lines = (
        (load, 0, 0, audit),
        (equal, 0, 5, machine.audit),
        (load, 0, 0, number),
        (at_least, 3, 0, _X32),
        (equal, 2, 0, machine.execve),
        (equal, 1, 0, machine.execveat),
        (answer, 0, 0, allow),
        (answer, 0, 0, refuse),
    )
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


@contextlib.contextmanager
def opened(folders: Iterable[str | os.PathLike[str]]) -> Iterator[list[int]]:
    """Yields descriptors of the folders that are there, for `confine`."""
    fds: list[int] = []
    try:
        for folder in folders:
            with contextlib.suppress(OSError):
                fds.append(os.open(folder, os.O_PATH | os.O_CLOEXEC))
        yield fds
    finally:
        for fd in fds:
            os.close(fd)
