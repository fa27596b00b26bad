"""Serves disks straight from their archives, read-only, over NBD, until it is told to stop.

    bind the socket > give up all rights that are not needed > open the archives > let clients in

The process is confined like a worker, for the rest of its life: it executes nothing, and writes only in the catalog's cache;
in the folder of its socket it may delete files. So `serve` is for a process that does nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import ssl
import stat
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from phd_daemon.host.process import use_one_heap
from phd_daemon.operations.installation import prepare_process
from phd_daemon.worker import sandbox
from restore_core.archive.header import utc
from restore_core.disk.session_record import InstantSession
from restore_core.errors import UsageError, from_os_error
from restore_core.naming import printable
from restore_core.restore.request import Reporter
from restore_core.serve.disk import CACHE_BYTES, DiskRequest, ServedDisk, new_cache, open_served_disk
from restore_core.serve.nbd.client import Export, Traffic
from restore_core.serve.nbd.listener import NbdServer
from restore_core.serve.nbd.own_socket import own_socket
from restore_core.serve.nbd.tcp import parse_host_and_port, server_tls, tcp_socket
from restore_core.serve.read_order import BEGINNING, MAX_BYTES, orders_of_text, orders_to_text
from restore_core.serve.unit_source import Damage
from restore_core.targets import parse_ref
from restore_core.targets.base import ArchiveRef, Stop

if TYPE_CHECKING:
    import datetime as dt

    from phd_daemon.config.model import Config
    from restore_core.targets import TargetSet

_TLS_DIR = "Name the folder of ca-cert.pem, server-cert.pem and server-key.pem with --tls-dir, or leave --tcp out."


@dataclass(frozen=True, slots=True, kw_only=True)
class VmAt:
    """All disks of a VM, of its newest backup up to a time (aware; None: of all)."""

    name: str
    uuid: str | None = None
    at: dt.datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedServer:
    """What a person asks to be served, and where. `cache` are bytes. `order` is a file with the order of earlier reads.

    Without `socket` and `tcp` the socket has a default path.
    """

    what: ArchiveRef | VmAt | InstantSession
    full: ArchiveRef | None = None
    socket: Path | None = None
    tcp: str | None = None
    tls_dir: Path | None = None
    cache: int = CACHE_BYTES
    order: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedExport:
    """One disk that is served: the name of its export, its size in bytes, its archives, and the URIs under which it is found."""

    name: str
    size: int
    delta: ArchiveRef
    full: ArchiveRef | None
    disk: str
    description: str
    uris: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerReady:
    """A server that lets clients in. `missing` says in sentences which disks of the VM it does not serve."""

    socket: Path | None
    tcp: str | None
    exports: tuple[ServedExport, ...]
    confined: str
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What was served in all."""

    traffic: Traffic
    damage: Damage


def default_socket(what: ArchiveRef | VmAt | InstantSession) -> Path:
    """Returns where the socket of a disk or VM is if nobody says otherwise: the same path each time, in a folder of this user."""
    if isinstance(what, InstantSession):
        return Path(what.socket)
    user = os.geteuid()
    own = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path("/run/phd") if user == 0 else Path(own) / "phd" if own else Path(f"/tmp/phd-{user}")  # noqa: S108  checked, 0700
    return folder / f"{hashlib.sha256(str(what).encode('utf-8', 'surrogateescape')).hexdigest()[:12]}.sock"


def serve(
    settings: Config,
    targets: TargetSet,
    wanted: WantedServer,
    *,
    reporter: Reporter,
    stop: Stop,
    ready: Callable[[ServerReady, Callable[[], Served]], None],
) -> None:
    """Serves until `stop` raises, and raises that. `ready` is called when clients are let in; its second argument counts.

    Confines this process for good. Raises what `open_served_disk` raises, and the errors of the sockets.
    """
    prepare_process()
    use_one_heap()
    with contextlib.ExitStack() as held:
        orders = held.enter_context(_orders(wanted.order, reporter)) if wanted.order is not None else None
        listening, path, confined = _bound(settings, wanted, held)
        cache = new_cache(wanted.cache)
        held.callback(cache.close)
        requests, missing = _requests(settings, targets, wanted)
        exports: dict[str, Export] = {}
        for name, request in requests.items():
            order = orders.earlier.get(name, ()) if orders is not None else ()
            disk = held.enter_context(open_served_disk(request, targets, reporter=reporter, cache=cache, order=order))
            exports[name] = Export(disk=disk, description=f"{printable(disk.header.disk)}, {utc(disk.header.time)}")
        if orders is not None:
            held.callback(lambda: orders.keep({name: export.disk.order for name, export in exports.items()}))
        server = NbdServer(exports)
        held.callback(server.close)
        for one, context in listening:
            server.listen(one, context)
        tcp = next((_address(one) for one, context in listening if context is not None), None)
        shown = tuple(_shown(name, export.disk, path, tcp, requests[name].delta) for name, export in exports.items())
        ready(
            ServerReady(socket=path, tcp=tcp, exports=shown, confined=confined.describe(), missing=missing),
            lambda: _count(server.traffic, exports),
        )
        server.serve(stop)


class _OrderFile:
    """The file with the orders of earlier reads; it is opened before the process may write no file any more."""

    def __init__(self, fd: int, path: Path, reporter: Reporter) -> None:
        self._fd = fd
        self.earlier: dict[str, list[int]] = {}
        data = os.pread(fd, MAX_BYTES, 0)
        if data and not data.startswith(BEGINNING):  # it would be replaced at the end
            raise UsageError(
                f"--order {printable(str(path))}: the file holds something else than an order of reads",
                remedy="Name a new file, or one that an earlier 'phd serve --order' wrote.",
            )
        try:
            self.earlier = orders_of_text(data.decode()) if data else {}
        except ValueError as error:
            reporter.note(f"{printable(str(path))}: not used, and written anew at the end: {printable(str(error))}")

    def keep(self, orders: Mapping[str, Sequence[int]]) -> None:
        """Replaces what is in the file. It is a hint, so it may be lost."""
        with contextlib.suppress(OSError):
            text = orders_to_text({**self.earlier, **orders}).encode()
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, text, 0)


@contextlib.contextmanager
def _orders(path: Path, reporter: Reporter) -> Iterator[_OrderFile]:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise from_os_error(error, doing="opening the order of reads", where=printable(str(path))) from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise UsageError(f"--order {printable(str(path))}: not a plain file", remedy="Name a file, which may be a new one.")
        yield _OrderFile(fd, path, reporter)
    finally:
        os.close(fd)


def _bound(
    settings: Config, wanted: WantedServer, held: contextlib.ExitStack
) -> tuple[list[tuple[socket.socket, ssl.SSLContext | None]], Path | None, sandbox.Confinement]:
    """Binds the sockets, and confines the process. Later it could neither make a socket nor the folder of the catalog."""
    listening: list[tuple[socket.socket, ssl.SSLContext | None]] = []
    path = wanted.socket or (default_socket(wanted.what) if wanted.tcp is None else None)
    if wanted.tcp is not None:
        if wanted.tls_dir is None:
            raise UsageError("--tcp without --tls-dir: over TCP only clients with a certificate are served", remedy=_TLS_DIR)
        context = server_tls(wanted.tls_dir)
        listening.append((held.enter_context(tcp_socket(*parse_host_and_port(wanted.tcp))), context))
    elif wanted.tls_dir is not None:
        raise UsageError("--tls-dir is only for --tcp", remedy="Leave it out: a Unix socket is for users of this machine.")
    if path is not None:
        path = Path(os.path.abspath(path))
        listening.append((held.enter_context(own_socket(path)), None))
    with contextlib.suppress(OSError):
        settings.catalog_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with sandbox.opened([settings.catalog_folder]) as writable, sandbox.opened([path.parent] if path else []) as removable:
        return listening, path, sandbox.confine(writable, removable=removable)


def _requests(settings: Config, targets: TargetSet, wanted: WantedServer) -> tuple[Mapping[str, DiskRequest], tuple[str, ...]]:
    """Returns what to open, by the name of its export, and what of a VM is missing. A single disk has the name ""."""

    def request(ref: ArchiveRef, full: ArchiveRef | None = wanted.full) -> DiskRequest:
        folder, age = settings.catalog_folder, settings.index.max_age
        return DiskRequest(delta=ref, full=full, catalog=folder, catalog_max_age=age)

    what = wanted.what
    if isinstance(what, InstantSession):
        disks = {disk.export: (parse_ref(disk.delta), parse_ref(disk.full) if disk.full else None) for disk in what.disks}
        return {export: request(*refs) for export, refs in disks.items()}, ()
    if isinstance(what, ArchiveRef):
        return {"": request(what)}, ()
    from phd_daemon.operations.backups import deltas_of_vm

    found = deltas_of_vm(settings, targets, vm=what.name, uuid=what.uuid, at=what.at)
    return {entry.name.disk: request(entry.ref) for entry in found.entries}, found.not_in_it


def _shown(name: str, disk: ServedDisk, path: Path | None, tcp: str | None, delta: ArchiveRef) -> ServedExport:
    quoted = urllib.parse.quote(name, safe="", errors="surrogateescape")
    uris = [f"nbd+unix:///{quoted}?socket={urllib.parse.quote(str(path), errors='surrogateescape')}"] if path else []
    uris += [f"nbds://{tcp}/{quoted}"] if tcp else []
    header = disk.header
    return ServedExport(
        name=name,
        size=disk.size,
        delta=delta,
        full=disk.full,
        disk=header.disk,
        description=header.describe(),
        uris=tuple(uris),
    )


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _count(traffic: Traffic, exports: Mapping[str, Export]) -> Served:
    damages = [export.disk.damage for export in exports.values()]
    return Served(
        traffic=traffic,
        damage=Damage(bad=sum(one.bad for one in damages), healed=sum(one.healed for one in damages)),
    )
