"""QEMU for a guest that is not trusted: the command line, its sockets, its monitor, and whether KVM really boots here.

No network card, no user configuration, QEMU's own seccomp filter, and `launch`: no capability, no network, files only below the
drill's folder. The serial line, the agent's channel and the monitor are socket pairs: there is no path that others could open.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from phd_daemon.drill.hardware import DrillHardware, disk_arguments
from phd_daemon.drill.launch import ProgramLimits
from phd_daemon.drill.programs import Program, find_program, started
from phd_daemon.drill.tiny_guest import boot_sector
from phd_daemon.host.qmp import Qmp, QmpError
from restore_core.targets.base import Stop

PROGRAM = "qemu-system-x86_64"
_PROBE_TEXT = b"phd: this machine boots\r\n"
_PROBE_SECONDS = 5.0
_ENDING = 2.0
_SERCON_PORT = b"\xf8\x03"
"""SeaBIOS prints on this serial port, too: so `No bootable device` is seen, and what a boot loader prints through the BIOS."""
_FIRMWARE = tuple(
    (f"{folder}/OVMF_CODE{kind}.fd", f"{folder}/OVMF_VARS{kind}.fd")
    for folder in ("/usr/share/OVMF", "/usr/share/edk2/ovmf", "/usr/share/edk2-ovmf/x64")
    for kind in ("_4M", "")
)
_SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


@dataclass(slots=True, kw_only=True)
class RunningGuest:
    """A guest that was started, with this side of its serial line, its agent's channel, and its monitor."""

    program: Program
    serial: socket.socket
    agent: socket.socket
    monitor: Qmp


def firmware_files() -> tuple[str, str] | None:
    """Returns UEFI firmware for QEMU, and its empty variables; None if it is not installed."""
    return next(((code, variables) for code, variables in _FIRMWARE if os.path.exists(code) and os.path.exists(variables)), None)


def cpu_options(accelerator: str) -> list[str]:
    """Returns the options for an accelerator. `la57` is left out: kernels before 2018 fail with it."""
    return ["-accel", accelerator, "-cpu", "host" if accelerator == "kvm" else "max,la57=off"]


def machine_options(hardware: DrillHardware, nodes: Sequence[str], *, memory: int, accelerator: str, folder: Path) -> list[str]:
    """Returns the options of the machine itself; `memory` in MiB. Writes what QEMU reads from files into `folder`."""
    sercon = folder / "sercon-port"
    sercon.write_bytes(_SERCON_PORT)
    options = ["-no-user-config", "-nodefaults", "-machine", "pc", *cpu_options(accelerator), "-m", str(memory)]
    options += ["-display", "none", "-vga", "std", "-nic", "none", "-no-reboot", "-sandbox", _SANDBOX, "-device", "pvpanic"]
    options += ["-rtc", "base=utc", "-fw_cfg", f"name=etc/sercon-port,file={_comma(sercon)}"]
    if hardware.uefi and (found := firmware_files()) is not None:
        variables = folder / "uefi-variables"
        shutil.copyfile(found[1], variables)
        options += ["-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={found[0]}"]
        options += ["-drive", f"if=pflash,format=raw,unit=1,file={_comma(variables)}"]
    return options + disk_arguments(hardware.buses, nodes)


def block_options(nodes: Sequence[dict[str, object]]) -> list[str]:
    """Returns the options of block nodes."""
    return [word for node in nodes for word in ("-blockdev", json.dumps(node))]


@contextlib.contextmanager
def running_guest(options: Sequence[str], *, folder: Path, file_size: int = 0) -> Iterator[RunningGuest]:
    """Starts QEMU, and kills it at the end. Raises `QmpError` if it does not begin; why is in its log."""
    log = folder / "qemu.log"
    with contextlib.ExitStack() as held:
        mine: list[socket.socket] = []
        theirs: list[socket.socket] = []
        for _ in range(3):
            pair = socket.socketpair()
            mine.append(held.enter_context(pair[0]))
            theirs.append(held.enter_context(pair[1]))
        serial, agent, monitor = (one.fileno() for one in theirs)
        command = [find_program(PROGRAM) or PROGRAM, *options]
        command += ["-chardev", f"socket,id=serial,fd={serial}", "-serial", "chardev:serial"]
        command += ["-chardev", f"socket,id=agent,fd={agent}", "-device", "virtio-serial-pci"]
        command += ["-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"]
        command += ["-chardev", f"socket,id=monitor,fd={monitor}", "-mon", "chardev=monitor,mode=control"]
        limits = ProgramLimits(writable=(str(folder),), file_size=file_size)
        program = held.enter_context(started(command, log=log, limits=limits, pass_fds=(serial, agent, monitor)))
        for one in theirs:
            one.close()
        try:
            yield RunningGuest(program=program, serial=mine[0], agent=mine[1], monitor=Qmp(mine[2]))
        except QmpError as error:
            ended = select.select([program.pidfd], [], [], _ENDING)[0]
            if ended and (said := program.said()):
                raise QmpError(f"QEMU has ended: {said.replace(chr(10), '; ')[-400:]}") from error
            raise


def works(accelerator: str, *, folder: Path, stop: Stop) -> bool:
    """Returns whether a guest really boots with this accelerator here. Raises what `stop` raises."""
    if accelerator == "kvm" and not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    folder.mkdir(mode=0o700)
    disk = folder / "disk.img"
    disk.write_bytes(boot_sector(_PROBE_TEXT).ljust(1 << 20, b"\0"))
    node: dict[str, object] = {"driver": "raw", "node-name": "d0", "read-only": True}
    node["file"] = {"driver": "file", "filename": str(disk)}
    options = ["-no-user-config", "-nodefaults", "-machine", "pc", *cpu_options(accelerator), "-m", "32", "-display", "none"]
    options += ["-nic", "none", "-no-reboot", "-sandbox", _SANDBOX, *block_options([node]), "-device", "virtio-blk-pci,drive=d0"]
    said, deadline = b"", time.monotonic() + _PROBE_SECONDS
    try:
        with running_guest(options, folder=folder) as guest:
            while time.monotonic() < deadline and _PROBE_TEXT.strip() not in said:
                stop()
                if select.select([guest.serial], [], [], 0.2)[0]:
                    data = guest.serial.recv(4096)
                    if not data:
                        break
                    said += data
    except QmpError:
        return False
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _PROBE_TEXT.strip() in said


def _comma(path: Path) -> str:
    return re.sub(",", ",,", str(path))
