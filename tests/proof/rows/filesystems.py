"""R30: restores, refreshes, backups and crashes on every file system that this machine can mount."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from restore_core import durable
from restore_core.errors import PhdError
from restore_core.restore.request import Provision
from restore_core.restore.run import restore_delta
from restore_core.targets import TargetSet
from restore_core.targets.base import ArchiveRef, TargetSpec
from tests.lab import BLOCK, Lab, go_on, request_for
from tests.proof.file_systems import ABLE, UNABLE, Kind
from tests.proof.scoreboard import Figure, NotRun, Round, Row

BLOCKS = 12


class Bench:
    """Backups of a disk in four states, and one file system on which disks and archives are to lie."""

    def __init__(self, folder: Path, place: Path, dice: random.Random) -> None:
        self.lab, self.place = Lab(folder / "lab"), place
        self.out = place / "out"
        self.out.mkdir()
        (self.lab.folder / "out").symlink_to(self.out)
        old = dice.randbytes(4 * BLOCK) + bytes(BLOCK) + dice.randbytes((BLOCKS - 5) * BLOCK)
        changed = old[:BLOCK] + dice.randbytes(BLOCK) + old[2 * BLOCK : 6 * BLOCK] + bytes(BLOCK) + old[7 * BLOCK :]
        states = {
            "old": old,
            "changed": changed,
            "longer": changed + dice.randbytes(BLOCK),
            "other": dice.randbytes(BLOCKS * BLOCK),
        }
        self.bytes_of: dict[ArchiveRef, bytes] = {}
        self.delta: dict[str, ArchiveRef] = {}
        for name, data in states.items():
            self.delta[name] = self.lab.backup(data).delta
            self.bytes_of[self.delta[name]] = data

    def restored(self, state: str, name: str, **asked: object) -> str:
        """Restore; what is wrong."""
        self.lab.restore(self.delta[state], name, overwrite=True, **asked)
        flat = self.out / (name.replace(".vmdk", "-flat.vmdk"))
        return "" if flat.read_bytes() == self.bytes_of[self.delta[state]] else f"{name}, {state}: other bytes"


def restores(bench: Bench) -> Iterator[str]:
    """Yields what is wrong of new disks and refreshes of every kind."""
    for provision, name in itertools.product(Provision, ("disk.img", "disk.vmdk")):
        own = f"{provision.value}-{name}"
        for state in ("old", "changed", "changed", "longer", "other"):
            yield bench.restored(state, own, provision=provision)
    # exfat-fuse and others show a file that was deleted while open for a moment
    left = [name for name in os.listdir(bench.out) if ".phd-" in name]
    yield f"left {left}" if left else ""


def backups(bench: Bench) -> Iterator[str]:
    """Yields what is wrong of archives that lie there."""
    lab = Lab(bench.lab.folder / "second")
    lab.store = bench.place / "archives"
    lab.store.mkdir()
    lab.targets = TargetSet((TargetSpec(name="t", url=f"file://{lab.store}"),))
    data = [bench.bytes_of[bench.delta[state]] for state in ("old", "changed")]
    made = [lab.backup(one).delta for one in data]
    for delta, one in zip(made, data, strict=True):
        yield "" if lab.restored(delta) == one else f"{delta}: other bytes"
    left = [path.name for path in lab.store.rglob("*.phd-*")]
    yield f"left {left}" if left else ""


def crash(bench: Bench, state: str, at: int) -> bool:
    """Restore in a child that ends just before its change of a name number `at`; whether it came so far."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    count = itertools.count()

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            if next(count) == at:
                os._exit(9)
            return real(*args, **kwargs)

        return call

    for module, name in ((os, "rename"), (os, "link"), (os, "unlink"), (durable, "_renameat2")):
        setattr(module, name, counted(getattr(module, name)))
    request = request_for(delta=bench.delta[state], destination=bench.lab.folder / "out" / "crash.img", overwrite=True)
    with contextlib.suppress(PhdError):
        restore_delta(request, bench.lab.targets, reporter=bench.lab.witness, stop=go_on)
    os._exit(0)


def crashes(bench: Bench) -> Iterator[str]:
    """Yields what is wrong after a crash before each change of a name, of a new disk and of one that is replaced."""
    disk = bench.out / "crash.img"
    for first, then in ((None, "old"), ("old", "other"), ("old", "changed")):
        for at in itertools.count():
            disk.unlink(missing_ok=True)
            if first:
                yield bench.restored(first, disk.name)
            crashed = crash(bench, then, at)
            whole = {bench.bytes_of[bench.delta[state]] for state in (first, then) if state}
            yield f"{then}, crash {at}: no whole disk has the name" if disk.exists() and disk.read_bytes() not in whole else ""
            yield bench.restored(then, disk.name)
            if not crashed:
                break


def refused(bench: Bench) -> Iterator[str]:
    """Yields what is wrong where neither disk nor archive can lie: both must be refused by name, with nothing left."""
    for door in (lambda: list(filter(None, restores(bench))), lambda: list(filter(None, backups(bench)))):
        try:
            door()
            yield "not refused"
        except PhdError as error:
            yield "" if "one cannot" in error.message else f"refused as {error.message}"
    left = [str(path) for path in bench.place.rglob("*") if path.is_file()]
    yield f"left {left}" if left else ""


def tried(kind: Kind, folder: Path, dice: random.Random, proofs: tuple[Callable[[Bench], Iterator[str]], ...]) -> list[str]:
    """Everything that was looked at on one file system: "" for each that is right. Raises `NotRun`."""
    with kind(folder) as place:
        bench = Bench(folder, place, dice)
        found = []
        for proof in proofs:
            try:
                found += list(proof(bench))
            except (PhdError, OSError) as error:
                found.append(f"{proof.__name__}: {error}")
        return found


def every_file_system(asked: Round) -> Figure:
    dice, found, notes = asked.dice(), [], []
    able = list(ABLE.items())[: asked.times(len(ABLE))]
    cases: list[tuple[str, Kind, tuple[Callable[[Bench], Iterator[str]], ...]]]
    cases = [(name, kind, (restores, backups, crashes)) for name, kind in able]
    cases += [(name, kind, (refused,)) for name, kind in UNABLE.items() if asked.share >= 1]
    for name, kind, proofs in cases:
        folder = asked.folder / name.replace(" ", "-")
        folder.mkdir(parents=True)
        try:
            those = tried(kind, folder, dice, proofs)
        except (NotRun, subprocess.CalledProcessError) as why:
            notes.append(f"not run: {name}: {why}")
            continue
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        found += those
        notes += [f"{name}: {wrong}" for wrong in those if wrong]
    return Figure(held=found.count(""), of=len(found), note="; ".join(notes))


ROWS = (
    Row(
        id="R30",
        what="disks, refreshes, backups, and a crash before each change of a name, on every file system that mounts here",
        target="byte-exact, or refused by name before the work; never a part under a final name",
        run=every_file_system,
        mutants=("filesystems:a_name_is_taken_with_an_empty_file",),
        mutant_share=0.08,
        short=0.08,
    ),
)
