"""R32: the server of a disk is killed again and again while a client reads all of it, and is started again; the client goes on."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from restore_core.targets.base import ArchiveRef
from tests.lab import BLOCK, Lab
from tests.proof.scoreboard import Figure, NotRun, Round, Row

KILLS_A_READ = 5
BLOCKS = 120
RATE = "20MB/s"
"""What is read of the archives, so that a read of the disk lasts longer than the kills."""


@contextmanager
def server(lab: Lab, delta: ArchiveRef, sock: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`phd serve`, as soon as it lets clients in; whatever becomes of it."""
    config = lab.folder / "phd.toml"
    slow = f'[targets.t]\nurl = "file://{lab.store}"\nbandwidth = "{RATE}"\n'
    config.write_text(f'state_dir = "{lab.folder}/state"\n{slow}')
    command = [sys.executable, "-m", "phd_daemon.cli.main", "serve", "--json", "--config", str(config), "--cache", "1"]
    with subprocess.Popen([*command, f"t:{delta.path}", "--sock", str(sock)], stdout=subprocess.PIPE) as process:
        try:
            if process.stdout is None or not process.stdout.readline():
                raise RuntimeError(f"the server ends with {process.wait()}")
            yield process
        finally:
            process.kill()


def one_read(lab: Lab, delta: ArchiveRef, dice: random.Random, kills: int) -> tuple[int, str]:
    """How many kills the client met while it read the disk, and what went wrong; "" if nothing."""
    sock = lab.folder / "s"
    server_of_it = {"type": "unix", "path": str(sock)}
    image = {"driver": "raw", "file": {"driver": "nbd", "server": server_of_it, "reconnect-delay": 120, "open-timeout": 120}}
    command = ["qemu-img", "compare", f"json:{json.dumps(image)}", "-F", "raw", str(lab.disk)]
    killed = 0
    reading: subprocess.Popen[str] | None = None
    try:
        while True:
            with server(lab, delta, sock) as process:
                if reading is None:
                    reading = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                time.sleep(dice.random() * 0.15)
                if killed == kills or reading.poll() is not None:
                    said, _ = reading.communicate(timeout=120)
                    return killed, "" if reading.returncode == 0 else f"qemu ends with {reading.returncode}: {said.strip()[-200:]}"
                process.send_signal(signal.SIGKILL)
                process.wait()
                killed += 1
    finally:
        if reading is not None and reading.poll() is None:
            reading.kill()
            reading.communicate()


def killed_servers(asked: Round) -> Figure:
    if shutil.which("qemu-img") is None:
        raise NotRun("qemu-img is not installed")
    dice = asked.dice()
    lab = Lab(asked.folder)
    old = b"".join(dice.randbytes(BLOCK) for _ in range(BLOCKS))
    lab.backup(old)
    made = lab.backup(old[: 30 * BLOCK] + dice.randbytes(10 * BLOCK) + old[40 * BLOCK :])
    count = asked.times(50)
    met = held = 0
    first = ""
    while met < count:
        kills, wrong = one_read(lab, made.delta, dice, min(count - met, KILLS_A_READ))
        met += max(kills, 1 if wrong else 0)
        held += 0 if wrong else kills
        first = first or wrong
    return Figure(held=held, of=met, note=first or "0 I/O errors, all bytes right")


ROWS = (
    Row(
        id="R32",
        what="the server of a disk is killed (kill -9) while qemu reads all of it, and started again",
        target="no I/O error, all bytes right",
        run=killed_servers,
        mutants=("served_bits:leaves_the_socket_of_a_dead_server", "served_bits:serves_unchecked_zeros"),
        mutant_share=0.1,
        short=0.04,
    ),
)
