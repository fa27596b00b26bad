"""`phd serve DELTA`: the disk of a backup over NBD, read-only, without restoring it."""

from __future__ import annotations

import datetime as dt
import shlex
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

import click

from phd_daemon.cli.complete import files
from phd_daemon.cli.interrupt import interruptible
from phd_daemon.cli.options import command, config_option, full_option, json_option, open_targets, quiet_option, uuid_option
from phd_daemon.operations.installation import archive_ref, read_config
from phd_daemon.operations.serve import Served, ServedExport, ServerReady, VmAt, WantedServer
from phd_daemon.operations.serve import serve as serve_disks
from phd_daemon.show import output
from phd_daemon.show.times import ZONE, parse_moment
from restore_core.errors import ExitCode, Stopped, UsageError
from restore_core.naming import printable, unescape_name
from restore_core.restore.request import PlanSummary, Progress
from restore_core.targets.base import ArchiveRef

if TYPE_CHECKING:
    from phd_daemon.config.model import Config
    from restore_core.disk.session_record import InstantSession
    from restore_core.targets import TargetSet


@command(stays_done=False)
@click.argument("delta", required=False, shell_complete=files)
@full_option
@click.option("--vm", metavar="NAME", help="Instead of DELTA: every disk of this VM, each under its name.")
@uuid_option
@click.option("--at", metavar="TIME", help=f'With --vm: its newest backup up to "2026-11-24", "2026-11-24 03:00", or 3d. {ZONE}')
@click.option("--session", metavar="ID", help="Instead of DELTA: the disks of this instant session, for its unit.")
@click.option("--sock", type=click.Path(path_type=Path), metavar="PATH", help="The Unix socket; default: one in /run/phd.")
@click.option("--tcp", metavar="HOST:PORT", help="Serve over TCP, in TLS, to clients with a certificate; needs --tls-dir.")
@click.option(
    "--tls-dir", type=click.Path(path_type=Path), metavar="DIR", help="Holds ca-cert.pem, server-cert.pem and server-key.pem."
)
@click.option("--cache", type=click.IntRange(1, 1 << 20), default=64, show_default=True, metavar="MIB", help="Memory for frames.")
@click.option(
    "--order",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Fetch ahead in the order of earlier reads that FILE holds, as of a boot; at the end it holds that of this run, too.",
)
@json_option
@quiet_option
@config_option
def serve(
    *,
    delta: str | None,
    full: str | None,
    vm: str | None,
    uuid: str | None,
    at: str | None,
    session: str | None,
    sock: Path | None,
    tcp: str | None,
    tls_dir: Path | None,
    cache: int,
    order: Path | None,
    as_json: bool,
    config: Path | None,
) -> int:
    """Serve the disk of DELTA over NBD, read-only, until ^C. Nothing is restored, and every block is verified first.

    For qemu, qemu-img, nbdcopy, guestfish and other clients. A block that is bad is an I/O error for its reader.
    """
    settings = read_config(config)
    targets = open_targets(settings)
    what = _what(settings, targets, delta, session, full=full, vm=vm, uuid=uuid, at=at)
    reference = archive_ref(full, targets.specs) if full else None
    wanted = WantedServer(what=what, full=reference, socket=sock, tcp=tcp, tls_dir=tls_dir, cache=cache << 20, order=order)
    notes = _Notes(output.complain if as_json and not output.is_quiet() else output.say)
    counted: list[Callable[[], Served]] = []

    def ready(found: ServerReady, count: Callable[[], Served]) -> None:
        notes.say = output.complain  # from now on it is damage
        counted.append(count)
        for line in found.missing:
            output.complain(line)
        if as_json:
            output.as_json(_data(found))
        else:
            output.say("\n".join(_lines(found)))

    with interruptible("stopping") as stop:
        targets.stop = stop
        try:
            serve_disks(settings, targets, wanted, reporter=notes, stop=stop, ready=ready)
        except Stopped:
            if not counted:
                raise
    if not as_json:
        output.say(_summary(counted[0]()))
    return ExitCode.DONE


def _what(
    settings: Config, targets: TargetSet, delta: str | None, session: str | None, *, full: str | None, **vm: str | None
) -> ArchiveRef | VmAt | InstantSession:
    if session is None:
        return _vm(vm["vm"], vm["uuid"], vm["at"], full) if delta is None else _delta(delta, targets.specs, **vm)
    if delta is not None or full is not None or any(vm.values()):
        raise UsageError("--session says itself which disks are served", remedy="Leave DELTA, --full and --vm out.")
    from phd_daemon.operations.instant.session_disks import find_session

    return find_session(settings, session)


class _Notes:
    """The `Reporter` of a server: lines, and no progress."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say

    def note(self, text: str) -> None:
        self.say(text)

    def planned(self, plan: PlanSummary) -> None:
        del plan

    def progress(self, progress: Progress) -> None:
        del progress


def _delta(text: str, targets: Collection[str], **only_vm: str | None) -> ArchiveRef:
    for option, value in only_vm.items():
        if value is not None:
            raise UsageError(f"--{option} cannot be used with a DELTA", remedy="Give DELTA or --vm NAME, not both.")
    return archive_ref(text, targets)


def _vm(name: str | None, uuid: str | None, at: str | None, full: str | None) -> VmAt:
    if name is None:
        raise UsageError("give DELTA or --vm NAME: neither is given", remedy="'phd backups' lists the Deltas.")
    if full is not None:
        raise UsageError("--full is only for one DELTA", remedy="Leave --full out.")
    now = dt.datetime.now().astimezone()
    return VmAt(name=unescape_name(name), uuid=uuid, at=parse_moment(at, now, end_of_day=True) if at else None)


def _lines(found: ServerReady) -> list[str]:
    """Returns what is served, and commands to use it."""
    lines = [found.confined]
    for export in found.exports:
        lines.append(f"serving {printable(export.disk)}, {output.size(export.size)}, read-only: {export.description}")
        lines += [f"  {uri}" for uri in export.uris]
    first = found.exports[0]
    uri, name = shlex.quote(first.uris[0]), printable(first.disk.rpartition(".")[0] or first.disk)
    lines.append("until ^C; for example:")
    if found.socket is None:
        certificates = "DIR: ca-cert.pem, client-cert.pem, client-key.pem"
        lines.append(f"  nbdinfo {shlex.quote(first.uris[0] + '?tls-certificates=DIR')}    # {certificates}")
        return lines
    lines += [
        f"  nbdinfo {uri}",
        f"  nbdcopy {uri} {shlex.quote(name + '.img')}",
        f"  qemu-img convert -p -O qcow2 {uri} {shlex.quote(name + '.qcow2')}",
        f"  guestfish --ro --format=raw -a {uri} -i",
        f"  qemu-system-x86_64 -snapshot -drive {shlex.quote(_drive(found.socket, first))}",
    ]
    return lines


def _drive(sock: Path, export: ServedExport) -> str:
    """Returns an option of QEMU that waits for a server that is started again; by default it would fail at once."""
    path, name = (text.replace(",", ",,") for text in (str(sock), export.name))
    named = f",file.export={name}" if name else ""
    return f"driver=raw,file.driver=nbd,file.server.type=unix,file.server.path={path}{named},file.reconnect-delay=3600,if=virtio"


def _data(found: ServerReady) -> dict[str, object]:
    exports = [
        {
            "name": printable(export.name),
            "disk": printable(export.disk),
            "size": export.size,
            "delta": str(export.delta),
            "full": str(export.full) if export.full else None,
            "uris": list(export.uris),
        }
        for export in found.exports
    ]
    where = printable(str(found.socket)) if found.socket else None
    return {"socket": where, "tcp": found.tcp, "confined": found.confined, "missing": list(found.missing), "exports": exports}


def _summary(done: Served) -> str:
    return (
        f"served {output.counted(done.traffic.requests, 'request')}, {output.size(done.traffic.sent)}; "
        f"bad blocks: {done.damage.bad}, taken from another copy of the Full: {done.damage.healed}"
    )
