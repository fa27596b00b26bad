"""Finds the disks of a session in a running QEMU: which node has the overlay open, and which device the guest sees it through.

QEMU tells the name under which it opened a file, and keeps it after a rename; so the inode must be among the open files of its
process, too.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phd_daemon.operations.instant.guest_monitor import GuestMonitor
from phd_daemon.operations.instant.session_disks import HeldDisk
from restore_core import durable
from restore_core.errors import DestinationInUse, TryAgainLater, UsageError
from restore_core.naming import printable

_PAUSE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveDisk:
    """One disk in a running QEMU: the nodes of its overlay and of its backing, by the names that QEMU has for them.

    `name` is that of our copy job, and of the node of the restored disk.
    """

    held: HeldDisk
    node: str
    backing: str
    name: str


def live_disk(qmp: GuestMonitor, held: HeldDisk, session: str, number: int) -> LiveDisk:
    """Returns the disk in this QEMU.

    Raises `UsageError` if that does not run on the overlay, `DestinationInUse` if its guest cannot go over to another disk now.
    """
    overlay = held.path(held.overlay_name)
    where = f"{qmp.where}: {printable(str(overlay))}"
    if not _has_open(qmp.pid, held.disk.overlay_inode):
        raise UsageError(f"{where} is not open in that QEMU", remedy="Name the socket of the QEMU whose guest runs on it.")
    nodes = qmp.command("query-named-block-nodes", {"flat": True})
    opened = (one for one in nodes if one["drv"] == "qcow2" and _file_of(one, qmp.pid) == os.path.realpath(overlay))
    node = next((one["node-name"] for one in opened), None)
    served = (one for one in nodes if one["drv"] == "raw" and held.disk.export in str(one.get("file")))
    backing = next((one["node-name"] for one in served), None)
    roots = {one["inserted"]["node-name"] for one in qmp.command("query-block") if one.get("inserted")}
    if node is None or backing is None or node not in roots:
        raise DestinationInUse(
            f"{where}: something lies above it in that QEMU (a snapshot, a limit of its speed, a backup that runs), or it is not "
            "over the server of the session",
            remedy="Take that away first, or switch the guest off and finish without --qmp.",
        )
    if qmp.command("query-block-exports"):
        raise DestinationInUse(f"{where}: QEMU exports disks itself", remedy="End that (block-export-del), then finish again.")
    return LiveDisk(held=held, node=node, backing=backing, name=f"phd-{session}-{number}")


def name_backing(qmp: GuestMonitor, disk: LiveDisk, name: str) -> None:
    """Writes another name of the backing, which is a raw image, into the header of the overlay, durably.

    It is a stream of nothing: `change-backing-file` would write that the backing has the format of the overlay.
    """
    job = f"{disk.name}-header"
    arguments = {"job-id": job, "device": disk.node, "base-node": disk.backing, "backing-file": name, "auto-dismiss": False}
    qmp.command("block-stream", arguments)
    while (found := {one["id"]: one for one in qmp.command("query-jobs")}[job])["status"] != "concluded":
        time.sleep(_PAUSE)
    qmp.command("job-dismiss", {"id": job})
    if found.get("error"):
        remedy = "Switch the guest off, then finish without --qmp."
        raise TryAgainLater(f"{qmp.where}: the overlay's header: {printable(str(found['error']))}", remedy=remedy)
    fd = disk.held.destination.open(disk.held.overlay_name)
    try:
        durable.sync_file(fd)
    finally:
        os.close(fd)


def device_is_on(qmp: GuestMonitor, disk_node: str) -> bool:
    """Whether a device of the guest is on this node."""
    return any(one.get("inserted", {}).get("node-name") == disk_node for one in qmp.command("query-block"))


def open_elsewhere(inode: os.stat_result, pid: int) -> int | None:
    """Returns another process than `pid` and this one that has the file open, as far as this user may see; None if none has."""
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) not in (pid, os.getpid()) and _opens(int(entry), inode.st_ino, inode.st_dev):
            return int(entry)
    return None


def _has_open(pid: int, inode: int) -> bool:
    return _opens(pid, inode, None)


def _opens(pid: int, inode: int, device: int | None) -> bool:
    with contextlib.suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                facts = os.stat(f"/proc/{pid}/fd/{fd}")
                if facts.st_ino == inode and device in (None, facts.st_dev):
                    return True
    return False


def _file_of(node: dict[str, Any], pid: int) -> str:
    name = str(node.get("file", ""))
    if name.startswith("json:"):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            name = json.loads(name[5:])["file"]["filename"]
    folder = Path("/")
    with contextlib.suppress(OSError):
        folder = Path(os.readlink(f"/proc/{pid}/cwd"))
    return os.path.realpath(folder / name)
