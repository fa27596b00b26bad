"""Gzips that something else wrote: adopted, restored through their map, verified; and restored alone, as a stream."""

from __future__ import annotations

import gzip
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from restore_core.archive.delta_writer import DiskFacts
from restore_core.archive.digests import BlockDigest
from restore_core.archive.full_reader import FullReader
from restore_core.backup.adopt import adopt_full, write_adopted
from restore_core.backup.subject import Asked
from restore_core.errors import BadArchive, SourceRefused
from restore_core.restore.full import restore_full
from restore_core.restore.request import Provision, RestoreOptions, RestoreRequest
from restore_core.targets.base import ArchiveRef
from tests.lab import BLOCK, UUID, Lab, go_on

DATA = random.Random(5).randbytes(1000) * 300 + bytes(3 * BLOCK) + random.Random(6).randbytes(2 * BLOCK + 7)


def pigz(data: bytes) -> bytes:
    if not shutil.which("pigz"):
        pytest.skip("pigz is not installed")
    return subprocess.run(["pigz", "-c"], input=data, capture_output=True, check=True).stdout


WRITERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip -9": lambda data: gzip.compress(data, 9),
    "many members": lambda data: b"".join(gzip.compress(data[at : at + 77_777]) for at in range(0, len(data), 77_777)),
    "zero padding": lambda data: gzip.compress(data) + bytes(10_000),
    "pigz": pigz,
    "with a name": lambda data: b"\x1f\x8b\x08\x08\0\0\0\0\0\x03disk.img\0" + gzip.compress(data)[10:],
}


def adopt(lab: Lab, name: str = "2026.03.01-CRM." + UUID + "/00-CRM.img.gz-260301-0300.phd") -> ArchiveRef:
    ref = ArchiveRef(target="t", path=name)
    delta_ref = ref.beside("00-CRM.img.delta-2026.03.01-0300-260301-0300.phd")
    with lab.targets.open(ref) as source:
        out = lab.targets["t"].create(delta_ref.path)
        disk = DiskFacts(vm="CRM", uuid=UUID, scsi="00", disk="CRM.img", disk_size=0)
        write_adopted(
            full=FullReader(source),
            disk=disk,
            name=ref.name,
            out=out,
            time=1,
            block_digest=BlockDigest.BLAKE3,
            scratch=lab.folder,
            tick=lambda _: None,
        )
        out.publish()
    return delta_ref


@pytest.fixture(params=WRITERS)
def foreign(request: pytest.FixtureRequest, lab: Lab) -> Path:
    path = lab.store / f"2026.03.01-CRM.{UUID}" / "00-CRM.img.gz-260301-0300.phd"
    path.parent.mkdir()
    path.write_bytes(WRITERS[request.param](DATA))
    return path


def test_adopted(lab: Lab, foreign: Path) -> None:
    delta = adopt(lab)
    assert lab.restored(delta) == DATA
    report = lab.verify(delta)
    assert report.disk_size == len(DATA)
    changed = lab.backup(DATA[: 2 * BLOCK] + b"changed" + DATA[2 * BLOCK + 7 :], options=None)
    assert changed.full is not None, "a foreign Full is of another disk name: it is no base here"
    assert foreign.exists()


def test_alone(lab: Lab, foreign: Path) -> None:
    for provision in Provision:
        request = RestoreRequest(
            delta=ArchiveRef(target="t", path=str(foreign.relative_to(lab.store))),
            destination=lab.folder / "out" / f"{provision.value}.img",
            options=RestoreOptions(provision=provision),
        )
        outcome = restore_full(request, lab.targets, reporter=lab.witness, stop=go_on)
        assert outcome.disk_size == len(DATA)
        assert request.destination.read_bytes() == DATA
    assert lab.verify(ArchiveRef(target="t", path=str(foreign.relative_to(lab.store)))).by == "gzip CRC only"


def test_flips_and_cuts_in_an_adopted_full(lab: Lab) -> None:
    path = lab.store / f"2026.03.01-CRM.{UUID}" / "00-CRM.img.gz-260301-0300.phd"
    path.parent.mkdir()
    whole = gzip.compress(DATA)
    path.write_bytes(whole)
    delta = adopt(lab)
    dice = random.Random(11)
    for _ in range(60):
        at = dice.randrange(len(whole))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << dice.randrange(8))]) + whole[at + 1 :])
        with pytest.raises(BadArchive):
            lab.verify(delta)
        try:
            lab.restore(delta)
        except BadArchive:
            assert lab.leftovers() == []
        else:
            assert (lab.folder / "out" / "back.img").read_bytes() == DATA
            (lab.folder / "out" / "back.img").unlink()


@pytest.mark.parametrize("damage", [lambda d: d[:-4], lambda d: d + b"junk that is no gzip", lambda d: d[:0], lambda d: d[:3]])
def test_alone_and_damaged(lab: Lab, damage: Callable[[bytes], bytes]) -> None:
    (lab.store / "x").mkdir()
    (lab.store / "x" / "a.gz").write_bytes(damage(gzip.compress(DATA)))
    request = RestoreRequest(delta=ArchiveRef(target="t", path="x/a.gz"), destination=lab.folder / "out" / "a.img")
    with pytest.raises(BadArchive):
        restore_full(request, lab.targets, reporter=lab.witness, stop=go_on)
    assert lab.leftovers() == []


def test_a_bomb_is_refused_in_bounded_memory(lab: Lab) -> None:
    """1 GiB of zeros under a map of 1 block: decoding stops where the disk ends."""
    made = lab.backup(os.urandom(BLOCK))
    assert made.full is not None
    (lab.store / "x").mkdir()
    (lab.store / "x" / "bomb.gz").write_bytes(gzip.compress(bytes(64 << 20)) * 16)
    with pytest.raises(BadArchive):
        lab.restore(made.delta, full=ArchiveRef(target="t", path="x/bomb.gz"))


def test_ours_is_not_adopted(lab: Lab) -> None:
    made = lab.backup(b"x" * BLOCK)
    assert made.full is not None
    with pytest.raises(SourceRefused, match="a Full that phd made"):
        adopt(lab, made.full.path)


def test_a_gzip_whose_name_leads_to_no_empty_delta_is_not_said_to_have_none(lab: Lab) -> None:
    ref = ArchiveRef(target="t", path="images/web.gz")
    lab.path(ref).parent.mkdir()
    lab.path(ref).write_bytes(gzip.compress(DATA))
    adopt_full(ref, lab.targets, Asked(), scratch=lab.folder, tick=lambda _: None)
    assert lab.verify(ref).by == "gzip CRC only"
    assert any("its name does not say which empty Delta is its own" in note for note in lab.witness.notes)
    assert not any("there is no empty Delta" in note for note in lab.witness.notes)
