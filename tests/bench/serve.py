"""A served disk: how soon its first block is there, what all of it costs over NBD and in memory, what a recorded order is worth.

The figures are medians of three. The reference is the pipeline of a restore with nothing to write to: fetch, decode, verify.
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from restore_core.archive.delta_writer import DeltaWriter, DiskFacts, FullFacts
from restore_core.archive.digests import BlockDigest
from restore_core.archive.frames import FRAME_SIZE, Effort, FullIdentity, full_member
from restore_core.archive.index_map import FULL, LARGE_BLOCK_SIZE, ZERO
from restore_core.serve.disk import DiskRequest, ServedDisk, new_cache, open_served_disk
from restore_core.targets import TargetSet
from restore_core.targets.base import LOCAL, ArchiveRef
from restore_core.targets.local import LocalSource, create_local_file
from tests.bench.image import Images
from tests.bench.installed import UUID, Installed, newest_delta, two_days
from tests.bench.measure import MIB, ContenderFailed, empty_folder, prepare, warm
from tests.bench.memory import make_archives
from tests.bench.report import Row, at_most, below
from tests.lab import Witness
from tests.restore_core.serve.nbd.raw_client import RawClient

CACHE = 64
MEMORY_LIMIT = CACHE + 100
SMALL, LARGE, SPARSE = 256 * MIB, 12 << 30, 4 << 40
_STAMP = 1767582000
_LATENCY = 0.005
_TICKS = os.sysconf("SC_CLK_TCK")
_REFERENCE = """
import sys, time
from phd_daemon.host.process import tune_malloc
from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.full_reader import FullReader
from restore_core.restore.pipeline import Pipeline
from restore_core.targets.local import open_local_file
tune_malloc()
delta, full = DeltaReader(open_local_file(sys.argv[1])), FullReader(open_local_file(sys.argv[2]))
began = time.process_time()
Pipeline(delta, full, None, where="nowhere").run(lambda moved: None, lambda: None)
print(time.process_time() - began)
"""


def serve_rows(phd: Installed, disks: Images, work: Path, rounds: int) -> list[Row]:
    """First block by size of disk, processor time of the whole disk, memory."""
    if shutil.which("nbdcopy") is None or shutil.which("fio") is None:
        print("  left out: nbdcopy or fio is not installed")
        return []
    folder = work / "served"
    empty_folder(folder)
    try:
        rows = _first_blocks(phd, folder, rounds)
    finally:
        shutil.rmtree(folder)
    two_days(phd, "served", disks.base, disks.changed)
    delta = newest_delta(phd.target("served"))
    return [*rows, *_whole_disk(phd, delta, rounds), _in_order(delta, rounds)]


def _first_blocks(phd: Installed, folder: Path, rounds: int) -> list[Row]:
    print("making a Full and a Delta of 256 MiB, of 12 GiB, and of a sparse disk of 4 TiB", flush=True)
    seconds: dict[str, float] = {}
    for name, size in (("256 MiB", SMALL), ("12 GiB", LARGE), ("4 TiB, sparse", SPARSE)):
        target = folder / name
        target.mkdir()
        delta = make_sparse(target, size) if size == SPARSE else make_archives(target, size)
        seconds[name] = statistics.median(_first_block(phd, delta, size - MIB) for _ in range(rounds))
        print(f"  first block of {name}: {seconds[name]:.2f} s", flush=True)
    rows = [below(f"phd serve: first verified block, {name}", each, 1.0, "s") for name, each in seconds.items()]
    return [*rows, at_most("", seconds["12 GiB"], seconds["256 MiB"], 1.5, "256 MiB")]


def _first_block(phd: Installed, delta: Path, offset: int) -> float:
    """Seconds from the start of the command until a block has come."""
    began = time.perf_counter()
    with serving(phd, delta) as (_, sock):
        client = RawClient.on(sock).go()
        if client.read(offset, 4096).error:
            raise ContenderFailed(f"{delta}: a block at {offset} was not served")
        taken = time.perf_counter() - began
        client.close()
        return taken


def _whole_disk(phd: Installed, delta: Path, rounds: int) -> list[Row]:
    full = next(delta.parent.parent.rglob("*.gz-*.phd"))
    for path in (delta, full):
        warm(path)
    command = [sys.executable, "-c", _REFERENCE, str(delta), str(full)]
    reference = statistics.median(float(prepare(command, cwd=Path(__file__).parents[2])) for _ in range(rounds))
    spent, peaks = [], []
    for _ in range(rounds):
        with serving(phd, delta) as (pid, sock):
            uri = f"nbd+unix:///?socket={sock}"
            before = _processor_time(pid)
            prepare(["nbdcopy", uri, "null:"])
            spent.append(_processor_time(pid) - before)
            how = ["--rw=randread", "--bs=4k", "--iodepth=16", "--size=2g", "--runtime=10", "--time_based"]
            prepare(["fio", "--name=r", "--ioengine=nbd", f"--uri={uri}", *how], cwd=delta.parent.parent.parent)
            peaks.append(_peak(pid))
    return [
        at_most("phd serve: processor time of nbdcopy of 4 GiB", statistics.median(spent), reference, 2, "pipeline without a sink"),
        below(f"its peak memory with a cache of {CACHE} MiB, random reads included", max(peaks) / MIB, MEMORY_LIMIT, "MiB"),
    ]


def _in_order(delta: Path, rounds: int) -> Row:
    """A reader that waits for each read, with 5 ms for each read of an archive: first without an order, then with it."""
    order: list[int] = []
    seconds: list[list[float]] = [[], []]
    plain = LocalSource.read_at

    def far(source: LocalSource, offset: int, length: int) -> bytes:
        time.sleep(_LATENCY)
        return plain(source, offset, length)

    request = DiskRequest(delta=ArchiveRef(target=LOCAL, path=str(delta)))
    with mock.patch.object(LocalSource, "read_at", far):
        for number in range(2 * rounds):
            cache, known = new_cache(), order * (number % 2)
            with open_served_disk(request, TargetSet(()), reporter=Witness(), cache=cache, order=known) as disk:
                seconds[number % 2].append(_scattered_reads(disk))
                order = disk.order
            cache.close()
    first, again = map(statistics.median, seconds)
    return at_most("a scattered sequence of reads with 5 ms of latency, its order recorded", again, first, 0.67, "not recorded")


def _scattered_reads(disk: ServedDisk) -> float:
    began = time.perf_counter()
    for place in random.Random("boot").sample(range(disk.size // MIB), 400):
        for part in range(4):
            disk.read(place * MIB + part * 40960, 16384)
    return time.perf_counter() - began


@contextmanager
def serving(phd: Installed, delta: Path) -> Iterator[tuple[int, Path]]:
    """`phd serve`, as soon as it has its socket; its process and the socket."""
    sock = phd.folder / "s.sock"
    command = phd.command("serve", str(delta), "--sock", str(sock), "--cache", str(CACHE), "--quiet")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            while not sock.exists():
                if process.poll() is not None:
                    assert process.stderr is not None
                    raise ContenderFailed(f"phd serve: {process.stderr.read().decode(errors='replace')[-800:]}")
                time.sleep(0.002)
            yield process.pid, sock
        finally:
            process.terminate()


def _processor_time(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _peak(pid: int) -> int:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def make_sparse(target: Path, size: int) -> Path:
    """A Delta and its Full of a disk that is zero but for its last frame. The zero frames of the Full are a hole in its file."""
    folder = target / f"2026.01.05-sparse.{UUID}"
    folder.mkdir()
    identity, plain = b"tib!" * 4, b"\x5a" * FRAME_SIZE
    first = full_member(bytes(FRAME_SIZE), Effort.FAST, FullIdentity(archive_id=identity, disk_size=size, frame_size=FRAME_SIZE))
    last, frames = full_member(plain, Effort.FAST), size // FRAME_SIZE
    path = folder / "00-sparse.img.gz-260105-0300.phd"
    zero = len(full_member(bytes(FRAME_SIZE), Effort.FAST))
    length = len(first) + zero * (frames - 2) + len(last)
    with path.open("wb") as file:
        file.write(first)
        file.seek(length - len(last))
        file.write(last)
    facts = FullFacts(
        archive_id=identity.hex(), name=path.name, size=length, sha256="0" * 64, disk_size=size, frame_size=FRAME_SIZE, time=_STAMP
    )
    delta = folder / "00-sparse.img.delta-2026.01.06-0300-260105-0300.phd"
    out = create_local_file(str(delta))
    writer = DeltaWriter(out, block_size=LARGE_BLOCK_SIZE, block_digest=BlockDigest.BLAKE3, frame_size=FRAME_SIZE, scratch=folder)
    writer.add_full_frames([len(first)])
    for start in range(1, frames - 1, 4096):
        writer.add_full_frames([zero] * min(4096, frames - 1 - start))
    writer.add_full_frames([len(last)])
    for _ in range(size // LARGE_BLOCK_SIZE - 1):
        writer.add_block(ZERO)
    writer.add_block(FULL, BlockDigest.BLAKE3.of(plain))
    disk = DiskFacts(vm="sparse", uuid=UUID, scsi="00", disk="sparse.img", disk_size=size)
    writer.finish(delta_id="5" * 32, disk=disk, full=facts, time=_STAMP + 86400)
    out.publish()
    return delta
