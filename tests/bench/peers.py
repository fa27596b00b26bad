"""What others need before they can put the same disk back, and the command with which they do it. Each is given its best."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.bench.measure import Contender, empty_folder, prepare

RESTIC = {"RESTIC_PASSWORD": "bench", "RESTIC_PROGRESS_FPS": "0.1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """`make(store, disk)` fills the store once; `contender(store, disk, out)` restores from it."""

    name: str
    program: str
    make: Callable[[Path, Path], None]
    contender: Callable[[Path, Path, Path], Contender]


def ready(peer: Peer, store: Path, disk: Path, out: Path) -> Contender | None:
    """The contender with its store filled, None where its program is not installed."""
    if shutil.which(peer.program) is None:
        return None
    store = store / peer.program
    if not (store / "made").exists():
        print(f"making the store of {peer.name} (once)", flush=True)
        empty_folder(store)
        peer.make(store, disk)
        (store / "made").touch()
    return peer.contender(store, disk, out)


def _qemu_make(store: Path, disk: Path) -> None:
    prepare(["qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", str(disk), str(store / "disk.qcow2")])


def _qemu(store: Path, _disk: Path, out: Path) -> Contender:
    command = ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(store / "disk.qcow2"), str(out)]
    return Contender(name="qemu-img convert", command=command, outputs=(out,), reads=(store,))


def _borg_env(store: Path) -> dict[str, str]:
    yes = {"BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes", "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes"}
    return {**yes, "BORG_BASE_DIR": str(store / "home")}


def _borg_make(store: Path, disk: Path) -> None:
    prepare(["borg", "init", "-e", "none", str(store / "repo")], env=_borg_env(store))
    # Fixed chunks and --sparse are what borg's manual advises for disk images.
    options = ["-C", "lz4", "--sparse", "--chunker-params", "fixed,4194304"]
    prepare(["borg", "create", *options, f"{store / 'repo'}::disk", disk.name], cwd=disk.parent, env=_borg_env(store))


def _borg(store: Path, disk: Path, out: Path) -> Contender:
    folder = out.with_name("borg")
    folder.mkdir(parents=True, exist_ok=True)
    command = ["borg", "extract", "--sparse", f"{store / 'repo'}::disk"]
    outputs = (folder / disk.name,)
    return Contender(name="borg extract", command=command, cwd=folder, outputs=outputs, reads=(store,), env=_borg_env(store))


def _casync_make(store: Path, disk: Path) -> None:
    prepare(["casync", "make", f"--store={store / 'chunks.castr'}", str(store / "disk.caibx"), str(disk)])


def _casync(store: Path, _disk: Path, out: Path) -> Contender:
    command = ["casync", "extract", f"--store={store / 'chunks.castr'}", str(store / "disk.caibx"), str(out)]
    return Contender(name="casync extract", command=command, outputs=(out,), reads=(store,))


def _restic_make(store: Path, disk: Path) -> None:
    repo = ["restic", "-r", str(store / "repo"), "--no-cache"]
    prepare([*repo, "init"], env=RESTIC)
    prepare([*repo, "backup", disk.name], cwd=disk.parent, env=RESTIC)


def _restic(store: Path, disk: Path, out: Path) -> Contender:
    folder = out.with_name("restic")
    # --sparse came with restic 0.15.
    sparse = ["--sparse"] if "--sparse" in prepare(["restic", "restore", "--help"]) else []
    command = ["restic", "-r", str(store / "repo"), "--no-cache", "restore", "latest", *sparse, "--target", str(folder)]
    return Contender(name="restic restore", command=command, outputs=(folder / disk.name,), reads=(store,), env=RESTIC)


def _bmaptool_make(store: Path, disk: Path) -> None:
    prepare(["bmaptool", "create", "-o", str(store / "disk.bmap"), str(disk)])
    prepare(["sh", "-c", 'exec gzip -c "$1" >"$2"', "gzip", str(disk), str(store / "disk.gz")])


def _bmaptool(store: Path, _disk: Path, out: Path) -> Contender:
    command = ["bmaptool", "-q", "copy", "--bmap", str(store / "disk.bmap"), str(store / "disk.gz"), str(out)]
    return Contender(name="bmaptool copy (gzip)", command=command, outputs=(out,), reads=(store,))


PEERS = (
    Peer(name="qemu-img convert", program="qemu-img", make=_qemu_make, contender=_qemu),
    Peer(name="borg extract", program="borg", make=_borg_make, contender=_borg),
    Peer(name="casync extract", program="casync", make=_casync_make, contender=_casync),
    Peer(name="restic restore", program="restic", make=_restic_make, contender=_restic),
    Peer(name="bmaptool copy", program="bmaptool", make=_bmaptool_make, contender=_bmaptool),
)
