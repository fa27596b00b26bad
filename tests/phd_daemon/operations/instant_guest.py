"""A guest for tests of sessions: a real QEMU without a system, whose writes are those of its monitor's qemu-io."""

from __future__ import annotations

import os
import select
import subprocess
import time
from pathlib import Path
from typing import Any

from phd_daemon.host.qmp import QmpError
from phd_daemon.operations.instant.guest_monitor import GuestMonitor
from tests.host import program


class Guest:
    """A QEMU with a disk that runs on the overlay; it has no system, its writes are qemu-io's of its monitor."""

    def __init__(self, overlay: Path, monitor: Path, *more: str, named: bool = False) -> None:
        """With `named` its disk is a chain of named nodes, as libvirt makes them; then the device is asked by its id."""
        self.monitor, self.name = monitor, "device0" if named else "d0"
        drive = f"file={overlay},format=qcow2,if=none,id=d0,werror=stop,rerror=stop"
        disk = ["-drive", drive, "-device", "ide-hd,drive=d0"]  # a BIOS lets virtio write through
        if named:
            disk = ["-blockdev", f"driver=file,node-name=storage,filename={overlay},auto-read-only=on,discard=unmap"]
            disk += ["-blockdev", "driver=qcow2,node-name=format,file=storage,discard=unmap"]
            disk += ["-device", "virtio-blk-pci,drive=format,id=device0,werror=stop,rerror=stop"]
        self._said, said = os.openpty()  # a terminal, or its lines would wait in a buffer
        self.process = subprocess.Popen(
            [
                *(program("qemu-system-x86_64"), "-M", "q35", "-m", "32", "-display", "none", "-nodefaults"),
                *("-qmp", f"unix:{monitor},server=on,wait=off", *disk, *more),
            ],
            stdout=said,
            stderr=subprocess.PIPE,
        )
        os.close(said)
        while True:
            try:
                with GuestMonitor(monitor):
                    return
            except QmpError:
                assert self.process.poll() is None, self.process.communicate()
                time.sleep(0.02)

    def ask(self, name: str, **arguments: object) -> object:
        with GuestMonitor(self.monitor) as monitor:
            return monitor.command(name, arguments)

    def io(self, command: str) -> str:
        """What qemu-io says of one command to the disk."""
        named = "-d /machine/peripheral/device0/virtio-backend" if self.name == "device0" else self.name
        error = self.ask("human-monitor-command", **{"command-line": f'qemu-io {named} "{command}"'})
        assert not error, error
        said = b""
        while command != "flush" and b"ops/sec" not in said and b"failed:" not in said:
            assert select.select([self._said], [], [], 30)[0], said
            said += os.read(self._said, 1 << 16)
        return said.decode()

    def writes(self, *writes: tuple[int, int, int], flush: bool = True) -> None:
        for offset, length, byte in writes:
            said = self.io(f"write -P {byte} {offset} {length}")
            assert f"wrote {length}/{length}" in said, said
        if flush:
            self.io("flush")

    def reads(self, offset: int, length: int, byte: int) -> bool:
        """Whether the guest reads this byte there."""
        said = self.io(f"read -P {byte} {offset} {length}")
        assert f"read {length}/{length}" in said, said
        return "Pattern verification failed" not in said

    def copies(self) -> bool:
        """Whether a job of a live finish still has something to copy."""
        jobs: Any = self.ask("query-jobs")
        return any(job["status"] != "ready" or job["current-progress"] != job["total-progress"] for job in jobs)

    def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
            self.process.communicate()
            os.close(self._said)
        self.monitor.unlink(missing_ok=True)
