"""Begins a program of a drill: `python -m phd_daemon.drill.launch PARENT LIMITS COMMAND...` becomes that command.

    joins or makes namespaces > limits > gives up all capabilities > is confined > dies with its parent > executes

The command cannot outlive the drill: the kernel kills it when the drill ends, however that ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from phd_daemon.host.process import be_killed_first
from phd_daemon.worker import sandbox

_SYSTEM: tuple[str, ...] = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/alternatives", "/etc/ld.so.cache")
_SYSTEM += ("/etc/qemu", "/sys/devices/system", "/proc/cpuinfo", "/proc/meminfo", "/proc/sys/vm")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random", "/dev/kvm")
_NEWUSER, _NEWNS = 0x10000000, 0x00020000
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_CAP_AMBIENT, _CLEAR_ALL = 1, 24, 47, 4
_CAPABILITY_VERSION_3 = 0x20080522
_LAST_CAPABILITY = 63
_NICE = 10
_FAILED = 126
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramLimits:
    """What a program of a drill may do. Zero is no limit; sizes are bytes, `cpu` are seconds.

    `confined`: it has no capability and no network, executes and reads the system's files alone, and writes below `writable`.
    `own_mounts`: it may mount, where nobody else sees it; `mounts_of` is the pid of the program whose mounts it sees.
    """

    cpu: int = 0
    memory: int = 0
    file_size: int = 0
    confined: bool = True
    writable: tuple[str, ...] = ()
    own_mounts: bool = False
    mounts_of: int = 0

    def to_argument(self) -> str:
        """Returns these limits as an argument of the launcher."""
        return json.dumps(asdict(self))


def become(parent: int, limits: ProgramLimits, command: Sequence[str]) -> None:
    """Executes the command in this process. Raises `OSError`."""
    if limits.own_mounts:
        _own_namespaces()
    if limits.mounts_of:
        _join(limits.mounts_of)
    os.nice(_NICE)
    be_killed_first()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a file that would grow too large is an error of its write
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number, most in (
        (resource.RLIMIT_CPU, limits.cpu),
        (resource.RLIMIT_AS, limits.memory),
        (resource.RLIMIT_FSIZE, limits.file_size),
    ):
        if most:
            resource.setrlimit(number, (most, most))
    if limits.confined:
        _drop_capabilities()
        with sandbox.opened(_SYSTEM) as system, sandbox.opened(_DEVICES) as devices, sandbox.opened(limits.writable) as writable:
            sandbox.confine_program([*system, *_itself()], devices=devices, writable=writable)
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise ProcessLookupError("the drill has ended")
    os.execv(command[0], list(command))  # noqa: S606  what this module is for


def _itself() -> Iterator[int]:
    """Yields /proc/self, of this process: what it executes keeps the number."""
    with contextlib.suppress(OSError):
        yield os.open("/proc/self", os.O_PATH | os.O_CLOEXEC)


def _own_namespaces() -> None:
    user, group = os.geteuid(), os.getegid()
    _call(_libc.unshare(_NEWUSER | _NEWNS))
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def _join(pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    try:
        _call(_libc.setns(pidfd, _NEWUSER | _NEWNS))
    finally:
        os.close(pidfd)


def _drop_capabilities() -> None:
    """Gives up every capability, and the means to get one by executing a program. What is missing already stays missing."""
    _libc.prctl(_PR_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0)
    for capability in range(_LAST_CAPABILITY + 1):
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    _libc.capset(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), struct.pack("=6I", 0, 0, 0, 0, 0, 0))


def _call(answer: int) -> None:
    if answer != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def main() -> None:
    """The entry point; 126 is the exit code if the command could not be begun."""
    parent, limits, *command = sys.argv[1:]
    try:
        become(int(parent), ProgramLimits(**json.loads(limits)), command)
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror or error}\n")
    os._exit(_FAILED)


if __name__ == "__main__":
    main()
