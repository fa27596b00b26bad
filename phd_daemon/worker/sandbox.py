"""Takes from a process, for its whole life, the right to execute programs and to write anywhere but in some folders.

    Landlock   no file is executed; files are created, written, truncated and deleted only below the named folders;
               no signal to a process outside (ABI 6), no change of mounts. Reading and the network are not restricted
    seccomp    execve and execveat are refused (EPERM), whatever they name

Both hold for the process, its threads and its children, and cannot be undone. `confine` is called while there is one thread.
`confine_program` is for a process that goes on as another program, which reads what guests wrote: that one executes and reads the
system's own files alone, and has no network (seccomp refuses sockets other than AF_UNIX, and io_uring, which could make them).
`confine_to_what_is_open` is for one that reads what guests wrote and needs nothing else: it opens nothing more at all.
Where a kernel lacks one of them the other one still holds: `Confinement` says what is in force, and the job's log repeats it.

Not guaranteed: that a process after `confine` harms nothing. It can read what its user may read and use the network.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import errno
import os
import stat
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

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
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
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
_READING = _Right.READ_FILE | _Right.READ_DIR
_ON_FILES = _Right.EXECUTE | _Right.READ_FILE | _Right.WRITE_FILE | _Right.TRUNCATE
"""The rights that a rule for a single file may have."""
_AF_UNIX = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Machine:
    """What seccomp must know of a processor: its number for audit, and the numbers of some system calls."""

    audit: int
    execve: int
    execveat: int
    socket: int


_MACHINES = {
    "x86_64": _Machine(audit=0xC000003E, execve=59, execveat=322, socket=41),
    "aarch64": _Machine(audit=0xC00000B7, execve=221, execveat=281, socket=198),
}
_IO_URING_SETUP = 425
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
    return Confinement(landlock=_landlock(rules, ~_READING), seccomp=_seccomp(_no_execution))


def confine_program(system: Iterable[int], *, devices: Iterable[int], writable: Iterable[int]) -> Confinement:
    """From now on this process executes and reads only below `system`, and reads and writes only `devices` and below `writable`.

    Only Unix sockets are made. Never raises.
    """
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    rules = [(fd, _READING | _Right.EXECUTE) for fd in system]
    rules += [(fd, _Right.READ_FILE | _Right.WRITE_FILE) for fd in devices]
    rules += [(fd, _USED | _READING) for fd in writable]
    return Confinement(landlock=_landlock(rules, ~_Right(0)), seccomp=_seccomp(_no_network))


def confine_to_what_is_open() -> Confinement:
    """From now on this process opens no file, executes nothing and makes no socket: it has what is open already. Never raises."""
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return Confinement(landlock=_landlock((), ~_Right(0)), seccomp=_seccomp(_no_execution) and _seccomp(_no_socket))


def _landlock_abi() -> int:
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG))))


def _landlock(rules: Iterable[tuple[int, _Right]], restricted: _Right) -> int:
    """Denies what is `restricted` but for the rules. Returns the ABI in force; 0 where the kernel has none or refuses."""
    abi = _landlock_abi()
    if abi < 1:
        return 0
    known = ~_Right(sum(right for right, since in _SINCE.items() if since > abi))
    handled = sum(right for right in _Right if right & known & restricted)
    # struct landlock_ruleset_attr: file system, since ABI 4 network, since ABI 6 scopes.
    sizes = struct.pack("=QQQ", handled, 0, _SCOPES)[: 8 if abi < 4 else 16 if abi < 6 else 24]
    ruleset = int(_libc.syscall(_CREATE_RULESET, sizes, ctypes.c_size_t(len(sizes)), ctypes.c_uint32(0)))
    if ruleset < 0:
        return 0
    try:
        for fd, rights in rules:
            possible = known if stat.S_ISDIR(os.fstat(fd).st_mode) else known & _ON_FILES
            rule = struct.pack("=Qi", int(rights & possible), fd)
            if _libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, ctypes.c_uint32(0)) != 0:
                return 0
        return abi if _libc.syscall(_RESTRICT_SELF, ruleset, ctypes.c_uint32(0)) == 0 else 0
    finally:
        os.close(ruleset)


_Line: TypeAlias = tuple[int, int, int, int]
_LOAD, _EQUAL, _AT_LEAST, _ANSWER = 0x20, 0x15, 0x35, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
_NUMBER, _AUDIT, _FIRST_ARGUMENT = 0, 4, 16
"""Offsets in struct seccomp_data."""


def _seccomp(refused: Callable[[_Machine], tuple[_Line, ...]]) -> bool:
    """Forbids some calls to this thread, and all that it will start."""
    machine = _MACHINES.get(os.uname().machine)
    if machine is None:
        return False
    lines = refused(machine)
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in lines), 8 * len(lines))
    header = struct.pack("@HP", len(lines), ctypes.addressof(program))
    # By prctl: the call seccomp(2) is in no group of system calls of systemd, and a unit may forbid it.
    return bool(_libc.prctl(_PR_SET_SECCOMP, 2, header, 0, 0) == 0)


def _no_execution(machine: _Machine) -> tuple[_Line, ...]:
    """Returns the program in classic BPF. Calls of another processor and the x32 numbers, which would evade it, are all refused."""
    return (
        (_LOAD, 0, 0, _AUDIT),
        (_EQUAL, 0, 5, machine.audit),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 3, 0, _X32),
        (_EQUAL, 2, 0, machine.execve),
        (_EQUAL, 1, 0, machine.execveat),
        (_ANSWER, 0, 0, _ALLOW),
        (_ANSWER, 0, 0, _REFUSE),
    )


def _no_socket(machine: _Machine) -> tuple[_Line, ...]:
    """Returns the program that refuses every socket, and io_uring."""
    return (
        (_LOAD, 0, 0, _AUDIT),
        (_EQUAL, 0, 5, machine.audit),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 3, 0, _X32),
        (_EQUAL, 2, 0, _IO_URING_SETUP),
        (_EQUAL, 1, 0, machine.socket),
        (_ANSWER, 0, 0, _ALLOW),
        (_ANSWER, 0, 0, _REFUSE),
    )


def _no_network(machine: _Machine) -> tuple[_Line, ...]:
    """Returns the program that refuses every socket but those of AF_UNIX, and io_uring."""
    return (
        (_LOAD, 0, 0, _AUDIT),
        (_EQUAL, 0, 7, machine.audit),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 5, 0, _X32),
        (_EQUAL, 4, 0, _IO_URING_SETUP),
        (_EQUAL, 0, 2, machine.socket),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_EQUAL, 0, 1, _AF_UNIX),
        (_ANSWER, 0, 0, _ALLOW),
        (_ANSWER, 0, 0, _REFUSE),
    )


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
