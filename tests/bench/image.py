"""The disk: real files of /usr and generated ones in an ext4 image, and the same disk a day later. The same bytes every time."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.measure import MIB, prepare

RECIPE = "5"
"""Counted up when the image is made differently, so that an older one is not used."""
BLOCK = 256 * 1024
USED = 0.42
CHANGED = 0.02
NAME = "bench.img"
_UUID = "6d1c8f1e-7f3a-4b7e-9a57-000000000042"


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """The disk and the same disk after the change; both are called `bench.img`, in folders of their own."""

    base: Path
    changed: Path
    size: int


def images(work: Path, size: int) -> Images:
    """Make both, unless they are there."""
    folder = work / f"image-{size // MIB}-{RECIPE}"
    found = Images(base=folder / "monday" / NAME, changed=folder / "tuesday" / NAME, size=size)
    if not (folder / "made").exists():
        print(f"making the disk in {folder} (once)", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        found.base.parent.mkdir(parents=True)
        found.changed.parent.mkdir(parents=True)
        _make_base(found.base, size, folder / "stage")
        prepare(["cp", "--sparse=always", str(found.base), str(found.changed)])
        _change(found.changed, size)
        (folder / "made").touch()
    return found


def _make_base(path: Path, size: int, stage: Path) -> None:
    stage.mkdir()
    budget = int(size * USED) - size // 64  # what ext4 itself takes: journal and tables
    real = _copy_real_files(stage / "usr", budget * 55 // 100)
    rest = budget - real
    _fill(stage / "text", rest * 8 // 9, text)
    _fill(stage / "noise", rest // 9, lambda rng: rng.randbytes(MIB))
    mkfs = shutil.which("mkfs.ext4", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or "mkfs.ext4"
    fixed = ["-U", _UUID, "-E", f"hash_seed={_UUID}", "-L", "bench", "-m", "0"]
    env = {"E2FSPROGS_FAKE_TIME": "1190304000"}
    prepare([mkfs, "-q", "-F", *fixed, "-d", str(stage), str(path), f"{size // 1024}k"], env=env)
    shutil.rmtree(stage)


def _copy_real_files(to: Path, budget: int) -> int:
    """The first files of /usr in the order of their names, up to `budget` bytes; how many bytes came together."""
    taken = count = 0
    for file in _regular_files(Path("/usr")):
        size = -(-file.stat().st_size // 4096) * 4096
        if taken + size > budget:
            break
        folder = to / f"{count // 500:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / f"{count:06d}")
        os.utime(folder / f"{count:06d}", (0, 0))
        taken, count = taken + size, count + 1
    return taken


def _regular_files(top: Path) -> Iterator[Path]:
    for folder, names, files in os.walk(top):
        names.sort()
        for name in sorted(files):
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink() and os.access(path, os.R_OK):
                yield path


def _fill(path: Path, size: int, make: object) -> None:
    assert callable(make)
    with path.open("wb") as file:
        for number in range(size // MIB):
            file.write(make(random.Random(f"{path.name} {number}")))
    os.utime(path, (0, 0))


def text(rng: random.Random) -> bytes:
    """1 MiB that compresses like logs and tables do (about 5:1)."""
    words = ["".join(rng.choices("etaoinshrdlu", k=rng.randint(3, 9))) for _ in range(400)]
    lines = (f"{rng.randrange(10**6):07d} {' '.join(rng.choices(words, k=9))}" for _ in range(20_000))
    return "\n".join(lines).encode()[:MIB].ljust(MIB, b".")


def _change(path: Path, size: int) -> None:
    """Overwrite 2 % of the blocks in runs of 1 to 8 blocks, scattered over the whole disk."""
    rng = random.Random("tuesday")
    blocks, left = size // BLOCK, int(size // BLOCK * CHANGED)
    starts = rng.sample(range(0, blocks, 8), left)
    sample = text(rng)[: BLOCK // 2]
    with path.open("r+b") as disk:
        for start in starts:
            run = min(left, rng.randint(1, 8), blocks - start)
            disk.seek(start * BLOCK)
            disk.write(b"".join(sample + rng.randbytes(BLOCK - len(sample)) for _ in range(run)))
            left -= run
            if not left:
                break
