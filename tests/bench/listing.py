"""What it costs to look at a server: an index of 100,000 archives over SFTP and FTP, against programs that list as much.

Ten archives lie in each folder, as those of a VM with a few disks do. All of it is the reading of names: the files are empty.
"""

from __future__ import annotations

import datetime as dt
import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

from restore_core.targets.base import TargetSpec
from tests import servers
from tests.bench.installed import Installed
from tests.bench.measure import Contender, best_of
from tests.bench.network import port_of
from tests.bench.report import Row, at_most

ARCHIVES, IN_A_FOLDER = 100_000, 10
AGAIN = 1.1
"""How much the second index of targets that did not change may cost more than the first: noise."""
OLD = dt.datetime(2025, 1, 1, tzinfo=dt.UTC).timestamp()


def listing_rows(phd: Installed, rounds: int) -> list[Row]:
    """One row a protocol, and that a second look at what did not change costs no more than the first."""
    root = phd.folder / "listing"
    if not root.exists():
        print(f"making {ARCHIVES} names of archives", flush=True)
        _make(root)
    rows: list[Row] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="phd-bench-")))
        for name, start in (("sftp", servers.sshd), ("ftp", servers.vsftpd)):
            (folder / name).mkdir()
            try:
                spec = stack.enter_context(start(folder / name, root)).spec
            except servers.Missing as missing:
                print(f"  left out: {missing}")
                continue
            rows += _rows(phd, spec, folder / name, root, rounds)
    return rows


def _make(root: Path) -> None:
    """Deltas of 500 VMs, a folder a VM and day."""
    made, day = 0, dt.date(2024, 1, 1)
    part = root.with_name(f"{root.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    while made < ARCHIVES:
        for number in range(500):
            folder = part / f"{day:%Y.%m.%d}-vm{number:03d}.564d{number:04x}-0ed7-3b92-2f46-aee9456b2074"
            folder.mkdir(parents=True)
            for disk in range(IN_A_FOLDER):
                path = folder / f"{disk:02d}-vm{number:03d}.vmdk.delta-{day:%Y.%m.%d}-0300-240101-0300.phd"
                path.touch()
                os.utime(path, (OLD, OLD))
            made += IN_A_FOLDER
        day += dt.timedelta(days=1)
    part.replace(root)


def _rows(phd: Installed, spec: TargetSpec, folder: Path, root: Path, rounds: int) -> list[Row]:
    config, state = folder / "phd.toml", folder / "state"
    keys = {"url": spec.url, "key_file": spec.key_file, "known_hosts": spec.known_hosts}
    table = "".join(f'{key} = "{value}"\n' for key, value in keys.items() if value)
    config.write_text(f'state_dir = "{state}"\n[targets.{spec.name}]\n{table}')
    command = [phd.program, "index", "--config", str(config)]
    first = Contender(name=f"phd index, {spec.name}", command=command, clear=lambda: shutil.rmtree(state, ignore_errors=True))
    again = Contender(name=f"phd index again, {spec.name}", command=command)
    others = _others(spec, root)
    seconds = best_of([first, again, *others], max(rounds, 2))
    rows = [
        at_most(
            f"the same, looked at again over {spec.name.upper()}", seconds[again.name], seconds[first.name], AGAIN, "the first time"
        )
    ]
    if others:
        best = min(others, key=lambda other: seconds[other.name])
        what = f"index of {ARCHIVES} archives over {spec.name.upper()}, ten a folder"
        rows.insert(0, at_most(what, seconds[first.name], seconds[best.name], 1, best.name))
    return rows


def _others(spec: TargetSpec, root: Path) -> list[Contender]:
    found = []
    port = str(port_of(spec))
    if spec.name == "sftp" and shutil.which("rclone"):
        user = spec.url.partition("://")[2].partition("@")[0]
        where = f":sftp,host=127.0.0.1,port={port},user={user},key_file={spec.key_file}:{root}"
        for name, options in (("rclone lsf -R", []), ("rclone lsf -R --fast-list", ["--fast-list"])):
            listed = ["rclone", "lsf", "-R", *options, "--format", "pst", "--config", "/dev/null", "-q", where]
            found.append(Contender(name=name, command=listed))
    if spec.name == "ftp" and shutil.which("lftp"):
        script = f"set ftp:ssl-allow no; open ftp://127.0.0.1:{port}; find -l '{root}'; exit"
        found.append(Contender(name="lftp find -l", command=["lftp", "--norc", "-c", script]))
    return found
