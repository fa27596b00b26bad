"""One small file out of the backup of a disk of 12 GiB, without restoring it: local, and over SFTP. Medians."""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests import servers
from tests.bench.image import Images
from tests.bench.installed import Installed, newest_delta, two_days
from tests.bench.measure import MIB, ContenderFailed, empty_folder, prepare, warm
from tests.bench.network import config_of
from tests.bench.report import Row, below

ROOT = Path(__file__).resolve().parents[2]
DISK, PART = 12 << 30, 1 << 30
TARGET, FILE = "files", "docs/reference.md"


def files_rows(phd: Installed, disks: Images, work: Path, rounds: int) -> list[Row]:
    """A file of the documents in an ext4 of 1 GiB, which lies in front of a disk that is filled with the one of the other rows."""
    with _guest(disks.base, work) as disk:
        two_days(phd, TARGET, disk, disk)
    delta = newest_delta(phd.target(TARGET))
    for path in phd.target(TARGET).rglob("*.phd"):
        warm(path)
    local = _median(phd.command("get", str(delta)), work, rounds)
    rows = [below("phd get: one small file of 12 GiB, local", local, 1, "s")]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="phd-bench-")))
        try:
            spec = stack.enter_context(servers.sshd(folder, phd.target(TARGET))).spec
        except servers.Missing as missing:
            print(f"  left out: {missing}")
            return rows
        config = config_of(phd, spec)
        command = [phd.program, "get", "--config", str(config), f"{spec.name}:{delta.relative_to(phd.target(TARGET))}"]
        return [*rows, below("the same over SFTP", _median(command, work, rounds), 2, "s")]


@contextmanager
def _guest(base: Path, work: Path) -> Iterator[Path]:
    """A disk with a GPT, the documents in its first partition and another disk in its second."""
    disk = work / "guest.img"
    path = {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
    with disk.open("wb") as file:
        file.truncate(DISK)
    try:
        script = f"label: gpt\nsize={PART // MIB}M, type=L\ntype=L\n"
        subprocess.run(["sfdisk", "-q", str(disk)], input=script, text=True, check=True, env={**os.environ, **path})
        size = f"{PART // 1024}k"
        prepare(["mke2fs", "-q", "-F", "-t", "ext4", "-E", f"offset={MIB}", "-d", str(ROOT / "docs"), str(disk), size], env=path)
        prepare(["dd", f"if={base}", f"of={disk}", "bs=1M", f"seek={1 + PART // MIB}", "conv=notrunc,sparse", "status=none"])
        yield disk
    finally:
        disk.unlink()


def _median(command: list[str], work: Path, rounds: int) -> float:
    seconds = []
    for _ in range(rounds):
        to = work / "taken"
        empty_folder(to)
        began = time.perf_counter()
        prepare([*command, f"p1:/{Path(FILE).name}", "--to", str(to)])
        seconds.append(time.perf_counter() - began)
        if (to / Path(FILE).name).read_bytes() != (ROOT / FILE).read_bytes():
            raise ContenderFailed("phd get: the file is not the one of the guest")
    return statistics.median(seconds)
