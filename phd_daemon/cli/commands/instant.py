"""`phd instant`: a guest runs from its backup at once, its disk is restored meanwhile, and what it wrote is kept."""

from __future__ import annotations

import datetime as dt
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from phd_daemon.cli.complete import files
from phd_daemon.cli.interrupt import interruptible
from phd_daemon.cli.options import (
    PRIORITY,
    NounGroup,
    config_option,
    json_option,
    open_targets,
    restore_options,
    uuid_option,
    warn_if_nobody_serves,
    whole_vm_option,
)
from phd_daemon.cli.questions import agreed, yes_option
from phd_daemon.operations.installation import archive_ref, destination, read_config
from phd_daemon.operations.instant.session_seen import SeenDisk, SeenSession
from phd_daemon.show import output
from phd_daemon.show.times import ZONE, parse_moment
from restore_core.disk.session_record import InstantSession, SessionState
from restore_core.errors import Stopped, UsageError
from restore_core.naming import printable, unescape_name
from restore_core.restore.request import PlanSummary, Progress, RestoreOptions, VmxChoice

if TYPE_CHECKING:
    from phd_daemon.config.model import Config
    from phd_daemon.operations.instant.session_start import WantedDisk
    from restore_core.targets import TargetSet


@click.group(cls=NounGroup)
def instant() -> None:
    """Run a guest from its backup at once; its disk is restored meanwhile."""


@instant.command
@click.argument("delta", required=False, shell_complete=files)
@restore_options
@whole_vm_option
@uuid_option
@click.option("--at", metavar="TIME", help=f'With --vm: its newest backup up to "2026-11-24", "2026-11-24 03:00", or 3d. {ZONE}')
@click.option("--priority", type=PRIORITY, default=5, show_default=True, help="Of the restore: 0 first, 9 last.")
@click.option("--sock", type=click.Path(path_type=Path), metavar="PATH", help="The server's socket; default: one in /run/phd.")
@config_option
def start(
    *,
    delta: str | None,
    vm: str | None,
    uuid: str | None,
    at: str | None,
    to: str,
    full: str | None,
    options: RestoreOptions,
    priority: int,
    sock: Path | None,
    config: Path | None,
) -> None:
    """Let a guest run from DELTA at once, and queue the restore of its disk."""
    from phd_daemon.operations.instant.session_server import after_a_boot
    from phd_daemon.operations.instant.session_start import WantedDisk, WantedSession, start_session

    if (delta is None) == (vm is None):
        raise UsageError("give DELTA or --vm NAME, and not both", remedy="'phd instant start --help' shows the two ways.")
    if options.vmx is not VmxChoice.NONE:
        raise UsageError("--vmx is not for a session", remedy="'phd vmx' writes the VMX of a backup into a folder.")
    if vm is None and (uuid is not None or at is not None):
        raise UsageError("--uuid and --at are only for --vm", remedy="Leave them out.")
    settings = read_config(config)
    targets = open_targets(settings)
    disks: Sequence[WantedDisk]
    if delta is not None:
        reference = archive_ref(full, targets.specs) if full else None
        disks = [WantedDisk(delta=archive_ref(delta, targets.specs), path=destination(to), full=reference)]
    else:
        disks = _disks_of_vm(settings, targets, vm or "", uuid=uuid, at=at, to=to, full=full)
    wanted = WantedSession(disks=tuple(disks), vm=unescape_name(vm or ""), options=options, priority=priority, socket=sock)
    with interruptible() as stop:
        targets.stop = stop
        done = start_session(settings, targets, wanted, reporter=_Notes(), stop=stop)
    output.say(
        f"session {done.session.id}: {output.counted(len(done.session.disks), 'disk')} served at {printable(done.session.socket)}"
    )
    for job in done.jobs:
        output.say(f"{printable(job)}: waiting, restores the disk meanwhile")
    output.say("\n".join(ready_lines(done.session)))
    output.say(after_a_boot(settings, done.session))
    warn_if_nobody_serves(settings)


@instant.command("list")
@json_option
@config_option
def list_all(*, as_json: bool, config: Path | None) -> None:
    """List the sessions."""
    from phd_daemon.operations.instant.session_seen import all_sessions, seen_session

    settings = read_config(config)
    found = [seen_session(settings, one) for one in all_sessions(settings)]
    if as_json:
        output.as_json([_data(one) for one in found])
    elif not found:
        output.say("there is no instant session; 'phd instant start' begins one")
    else:
        output.table(("SESSION", "STATE", "SERVER", "RESTORED", "OVERLAY", "DISK"), [_row(one) for one in found])


@instant.command
@click.argument("disk", shell_complete=files, metavar="DISK_OR_ID")
@json_option
@config_option
def status(*, disk: str, as_json: bool, config: Path | None) -> None:
    """Show how far a session is, and what it waits for."""
    from phd_daemon.operations.instant.session_disks import find_session
    from phd_daemon.operations.instant.session_seen import seen_session

    settings = read_config(config)
    seen = seen_session(settings, find_session(settings, disk))
    if as_json:
        output.as_json(_data(seen))
        return
    session = seen.session
    server = "" if session.state is not SessionState.SERVING else ", server does not answer" if seen.server else ", server answers"
    output.say(f"session {session.id}: {session.state.value}{server}")
    for one in seen.disks:
        output.say(
            f"{printable(one.disk.path)}: {_restored(one)}; the guest wrote {_overlay(one)}{', in use' if one.in_use else ''}"
        )
    for line in seen.waits:
        output.say(f"  {printable(line)}")


@instant.command
@click.argument("disk", shell_complete=files, metavar="DISK_OR_ID")
@click.option("--qmp", type=click.Path(path_type=Path), metavar="SOCKET", help="The guest runs: the QMP socket of its QEMU.")
@click.option("--keep", type=click.Choice(["disk", "overlay"]), help="Only if finish asks: where the guest's last work is.")
@config_option
def finish(*, disk: str, qmp: Path | None, keep: str | None, config: Path | None) -> None:
    """Copy what the guest wrote into the restored disk, and end the session.

    The guest must be off, or runs on its disk afterwards: with --qmp.
    """
    from phd_daemon.operations.instant.session_disks import find_session
    from phd_daemon.operations.instant.session_finish import finish_session
    from phd_daemon.operations.instant.session_settle import Keep

    settings = read_config(config)
    session = find_session(settings, disk)
    with interruptible() as stop:
        done = finish_session(settings, session, stop=stop, qmp=qmp, keep=Keep(keep) if keep else None)
    then = "start the guest on it now" if qmp is None else after_live(done.session)
    for one in done.session.disks:
        output.say(f"{printable(one.path)}: the restored backup, and all that its guest wrote; {then}")
    output.say(f"session {session.id} is over: {output.size(done.written)} of overlay copied")


@instant.command
@click.argument("disk", shell_complete=files, metavar="DISK_OR_ID")
@yes_option()
@config_option
def discard(*, disk: str, yes: bool, config: Path | None) -> None:
    """Throw away what the guest of a session wrote. Asks twice."""
    from phd_daemon.operations.instant.session_discard import discard_session
    from phd_daemon.operations.instant.session_disks import find_session
    from phd_daemon.operations.instant.session_seen import written_bytes

    settings = read_config(config)
    session = find_session(settings, disk)
    size = output.size(written_bytes(session))
    names = ", ".join(printable(one.path) for one in session.disks)
    if not yes:
        for question in (
            f"Throw away what the guest wrote since its session began: {size} beside {names}?",
            "Nothing can bring it back. Throw it away?",
        ):
            if not agreed(question, "look at it with 'phd instant status'"):
                raise Stopped("nothing was thrown away")
    discard_session(settings, session)
    output.say(f"session {session.id} is over: {size} thrown away; {names} and its job were left as they are")


def _disks_of_vm(
    settings: Config, targets: TargetSet, vm: str, *, uuid: str | None, at: str | None, to: str, full: str | None
) -> list[WantedDisk]:
    from phd_daemon.operations.backups import deltas_of_vm
    from phd_daemon.operations.instant.session_start import WantedDisk
    from restore_core.disk.spelling import as_there

    if full is not None:
        raise UsageError("--full is only for one DELTA", remedy="Leave --full out.")
    time = parse_moment(at, dt.datetime.now().astimezone(), end_of_day=True) if at else None
    found = deltas_of_vm(settings, targets, vm=unescape_name(vm), uuid=uuid, at=time)
    for line in found.not_in_it:
        output.complain(line)
    folder = Path(os.path.abspath(to))
    return [WantedDisk(delta=entry.ref, path=as_there(folder / entry.name.disk)) for entry in found.entries]


def after_live(session: InstantSession) -> str:
    """Returns how the guest of a live finish is now."""
    return "the guest runs on it now" if session.ran else "the guest is on it, and stands still as before: 'cont' lets it run"


def ready_lines(session: InstantSession) -> list[str]:
    """Returns how the guest is started on its overlays, for QEMU, libvirt and Proxmox."""
    lines = ["The guest can be started now. QEMU, one line a disk:"]
    for number, disk in enumerate(session.disks):
        drive = f"file={str(disk.overlay).replace(',', ',,')},format=qcow2,if=none,id=d{number},werror=stop,rerror=stop"
        lines.append(f"  -drive {shlex.quote(drive)} -device virtio-blk-pci,drive=d{number}")
    lines.append("libvirt, in <devices>:")
    for number, disk in enumerate(session.disks):
        lines.append(
            "  <disk type='file' device='disk'><driver name='qemu' type='qcow2' error_policy='stop' rerror_policy='stop'/>"
        )
        target = f"<target dev='vd{chr(97 + number % 26)}' bus='virtio'/></disk>"
        lines.append(f"    <source file='{_xml(str(disk.overlay))}'/>{target}")
    lines.append("Proxmox (VMID: the number of a VM without disks of its own):")
    drives = " ".join(
        f"-drive 'file={str(disk.overlay).replace(',', ',,')},format=qcow2,if=none,id=d{number},werror=stop,rerror=stop' "
        f"-device virtio-blk-pci,drive=d{number}"
        for number, disk in enumerate(session.disks)
    )
    lines.append(f"  qm set VMID --args {shlex.quote(drives)}")
    lines += [
        "If the original may still run, start it with its network cable pulled, or both have one address:",
        "  QEMU monitor: set_link net0 off   libvirt: <link state='down'/>   Proxmox: qm set VMID --net0 ...,link_down=1",
        "The server may be away for 60 s; after that QEMU stops the guest, and 'cont' (virsh resume, qm resume) lets it go on.",
        f"When 'phd instant status {session.id}' says that the disk is restored: phd instant finish {session.id}",
    ]
    return lines


def _xml(text: str) -> str:
    return text.replace("&", "&amp;").replace("'", "&apos;").replace("<", "&lt;")


def _restored(one: SeenDisk) -> str:
    if one.restored:
        return "restored"
    state = one.job_state.meaning if one.job_state is not None else "no job"
    return f"{int(one.percent)}% restored ({state})" if one.percent is not None else f"not restored ({state})"


def _overlay(one: SeenDisk) -> str:
    return "an overlay that is gone" if one.overlay_bytes is None else output.size(one.overlay_bytes)


def _row(seen: SeenSession) -> tuple[str, ...]:
    size = output.size(sum(one.overlay_bytes or 0 for one in seen.disks))
    restored = ", ".join(_restored(one) for one in seen.disks)
    answers = "does not answer" if seen.server else "answers"
    return seen.session.id, seen.session.state.value, answers, restored, size, printable(seen.session.disks[0].path)


def _data(seen: SeenSession) -> dict[str, object]:
    session = seen.session
    return {
        "id": session.id,
        "state": session.state.value,
        "vm": printable(session.vm),
        "began": session.began,
        "socket": printable(session.socket),
        "server": "answers" if not seen.server else printable(seen.server),
        "waits": [printable(line) for line in seen.waits],
        "disks": [
            {
                "path": printable(one.disk.path),
                "overlay": printable(str(one.disk.overlay)),
                "overlay_bytes": one.overlay_bytes,
                "in_use": one.in_use,
                "restored": one.restored,
                "delta": one.disk.delta,
                "job": printable(one.disk.job),
                "job_state": one.job_state.value if one.job_state is not None else None,
                "percent": one.percent,
            }
            for one in seen.disks
        ],
    }


class _Notes:
    """The `Reporter` of a start: its notes are lines."""

    def note(self, text: str) -> None:
        """Prints one line of what was found."""
        output.say(text)

    def planned(self, plan: PlanSummary) -> None:
        """Takes the plan, which nobody carries out here."""

    def progress(self, progress: Progress) -> None:
        """Takes how far it is; a start moves nothing."""
