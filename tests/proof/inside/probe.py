"""Tries what the daemon may and may not do, under the very settings of its unit, then what a worker may; prints JSON."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from phd_daemon.config.load import parse_config
from phd_daemon.worker import sandbox
from restore_core.targets.remote.secret import read_password

_libc = ctypes.CDLL(None, use_errno=True)
STORE = Path("/vmfs/volumes/ds")
WITH_CREDENTIAL = b'[targets.nas1]\nurl = "ftp://me@127.0.0.1/x"\n'


def call(number: int) -> None:
    """The end of a system call that ctypes made."""
    if number != 0:
        raise OSError(ctypes.get_errno(), "call")


def allocate() -> None:
    with (STORE / "probe").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 1 << 20)
    (STORE / "probe").unlink()


def connect() -> None:
    with socket.socket() as line:
        line.settimeout(5)
        line.connect_ex(("127.0.0.1", 9))


def password() -> None:
    (spec,) = parse_config(WITH_CREDENTIAL, Path("/etc/phd/phd.toml")).targets
    if spec.password_file is None or read_password(spec.password_file, target="nas1") != "canary":
        raise PermissionError("no credential")


def ready() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.sendto(b"STATUS=probing", os.environ["NOTIFY_SOCKET"])


def private_tmp() -> None:
    if Path("/tmp/of-others").exists():
        raise PermissionError("seen")


def no_core() -> None:
    import resource

    if resource.getrlimit(resource.RLIMIT_CORE)[1] != 0:
        raise PermissionError("core files")


def write(path: str) -> Callable[[], object]:
    return lambda: Path(path).write_text("x")


def chmod(mode: int) -> Callable[[], object]:
    def do() -> None:
        (STORE / "mine").touch()
        (STORE / "mine").chmod(mode)

    return do


DAEMON: dict[str, Callable[[], object]] = {
    "write a datastore": write("/vmfs/volumes/ds/new"),
    "make a folder there": (STORE / "folder").mkdir,
    "allocate a disk": allocate,
    "write /etc/phd": write("/etc/phd/new"),
    "write the spool": write("/etc/phd/restore/.probe"),
    "write state_dir": write("/var/lib/phd/new"),
    "read a target": lambda: list(Path("/nas").iterdir()),
    "an inet socket": connect,
    "start a program": lambda: subprocess.run(["/bin/true"], check=True),
    "tell systemd": ready,
    "read its credential": password,
    "chmod its own file": chmod(0o640),
    "a memfd": lambda: os.close(os.memfd_create("x")),
    "a pidfd": lambda: os.close(os.pidfd_open(os.getpid())),
    "no core files": no_core,
    "the /tmp of others": private_tmp,
    "write /etc": write("/etc/new"),
    "write /usr": write("/usr/new"),
    "write /opt/phd": write("/opt/phd/bin/new"),
    "write a target": write("/nas/new"),
    "read /home": lambda: Path("/home/u/secret").read_text(),
    "read /root": lambda: Path("/root/secret").read_text(),
    "write /proc/sys": write("/proc/sys/kernel/hostname"),
    "a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close(),
    "a packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close(),
    "chown": lambda: os.chown(STORE / "new", 65534, 65534),
    "setuid": lambda: os.setuid(65534),
    "chmod setuid": chmod(0o4755),
    "nice": lambda: os.nice(-5),
    "mknod": lambda: os.mknod("/vmfs/volumes/ds/null", stat.S_IFCHR | 0o666, os.makedev(1, 3)),
    "open a disk device": lambda: os.open("/dev/vda", os.O_RDONLY),
    "mount": lambda: call(_libc.mount(b"none", b"/vmfs/volumes", b"tmpfs", 0, None)),
    "a new namespace": lambda: call(_libc.unshare(0x10000000)),
    "set the clock": lambda: call(_libc.settimeofday((ctypes.c_long * 2)(1, 1), None)),
    "ptrace": lambda: call(_libc.ptrace(16, 1, None, None)),
    "load a module": lambda: call(_libc.syscall(313, -1, b"", 0)),
    "memory to write and execute": lambda: __import__("mmap").mmap(-1, 4096, prot=7),
}
WORKER: dict[str, Callable[[], object]] = {
    "worker writes its datastore": write("/vmfs/volumes/ds/new"),
    "worker reads a target": lambda: list(Path("/nas").iterdir()),
    "worker reads its credential": password,
    "worker an inet socket": connect,
    "worker starts a program": lambda: subprocess.run(["/bin/true"], check=True),
    "worker becomes a shell": lambda: os.execv("/bin/sh", ["sh", "-c", "exit 3"]),  # noqa: S606  this is what must not work
    "worker writes /etc/phd": write("/etc/phd/new"),
    "worker writes the spool": write("/etc/phd/restore/.probe"),
    "worker writes another datastore": write("/vmfs/volumes/other/new"),
    "worker signals its daemon": lambda: os.kill(os.getppid(), 0),
}


def answers(tries: dict[str, Callable[[], object]]) -> dict[str, str]:
    """What came of each: "done", or how it was refused."""
    found = {}
    for name, do in tries.items():
        try:
            do()
        except (OSError, ValueError) as error:
            found[name] = f"refused: {error}"
        else:
            found[name] = "done"
    return found


def main() -> None:
    """Both sets; the second after giving up what a worker gives up."""
    found = answers(DAEMON)
    lines = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    found["status"] = " ".join(f"{key}={lines[key].strip()}" for key in ("CapEff", "NoNewPrivs", "Seccomp"))
    with sandbox.opened([STORE]) as folders:
        found["held"] = sandbox.confine(folders).describe()
    found |= answers(WORKER)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
