"""A Delta restore from a server against copying the same compressed bytes from it to a file, which is not yet a restore.

Servers and clients run on this machine. Over bare loopback the network costs nothing: a copy is a copy in memory, and what is
measured is what decoding, checking and writing three times as many bytes costs on top. Over a line of 1 Gbit/s (a forwarder that
all contenders pass) both wait for the line, as between any two real machines.
"""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import tempfile
import urllib.parse
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from restore_core.targets.base import TargetSpec
from restore_core.targets.remote.connection import Bandwidth
from tests import servers
from tests.bench.image import Images
from tests.bench.installed import Installed, newest_delta, only_full, two_days
from tests.bench.measure import Contender, ContenderFailed, best_of, empty_folder, peak, remove_outputs
from tests.bench.report import Row, at_most, below
from tests.servers.line import slower

TARGET = "network"
LIMIT = 1.25
GIGABIT = 118_000_000
"""Bytes of payload a second in 1 Gbit/s of Ethernet with TCP."""

FAR = "127.0.0.2"
MEMORY_LIMIT = 150


def network_rows(phd: Installed, disks: Images, work: Path, rounds: int) -> list[Row]:
    """SFTP and FTP, each against the best of the programs that are here."""
    two_days(phd, TARGET, disks.base, disks.changed)
    store, out = phd.target(TARGET), work / "out"
    out.mkdir(exist_ok=True)
    rows: list[Row] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="phd-bench-")))
        try:
            first = servers.free_port()
            passive = range(first, first + 100)
            sshd = stack.enter_context(servers.sshd(_made(folder / "sftp"), store)).spec
            vsftpd = stack.enter_context(servers.vsftpd(_made(folder / "ftp"), store, passive=passive)).spec
        except servers.Missing as missing:
            print(f"  left out: {missing}")
            return []
        stack.enter_context(slower([port_of(sshd), port_of(vsftpd), *passive], Bandwidth(GIGABIT)))
        for spec, line in ((sshd, ""), (vsftpd, ""), (_far(sshd), ", 1 Gbit/s"), (_far(vsftpd), ", 1 Gbit/s")):
            print(f"  {spec.name}{line or ', loopback'}", flush=True)
            ours, others = _ours(phd, spec, newest_delta(store).relative_to(store), out), _clients(spec, store, out / "copies")
            costs = best_of([ours, *others], rounds, after=_compare(disks, store))
            rows += _rows(f"Delta restore of 4 GiB over {spec.name.upper()}{line}", ours, others, costs)
    return rows


def port_of(spec: TargetSpec) -> int:
    """The port in its URL."""
    return urllib.parse.urlsplit(spec.url).port or 0


def _far(spec: TargetSpec) -> TargetSpec:
    """The same server behind the line."""
    known = spec.known_hosts
    if known:
        text = Path(known).read_text()
        known += "-far"
        Path(known).write_text(text.replace("127.0.0.1", FAR))
    return dataclasses.replace(spec, url=spec.url.replace("127.0.0.1", FAR), known_hosts=known)


def _compare(disks: Images, store: Path) -> Callable[[Contender], None]:
    """The restored disk, or the copies, with what they must be."""
    right = {path.name: path for path in (only_full(store), newest_delta(store))} | {"N-flat.vmdk": disks.changed}

    def compare(contender: Contender) -> None:
        for output in contender.outputs:
            expected = right.get(output.name)
            if expected and subprocess.run(["cmp", "-s", str(output), str(expected)], check=False).returncode:
                raise ContenderFailed(f"{contender.name}: what it brought is not what was asked for")

    return compare


def _rows(what: str, ours: Contender, others: list[Contender], costs: dict[str, float]) -> list[Row]:
    mine = costs[ours.name]
    best = min(others, key=lambda other: costs[other.name])
    rows = [at_most(what, mine, costs[best.name], LIMIT, f"best of {len(others)} that only copy: {best.name}")]
    for other in others:
        if other is not best:
            theirs = costs[other.name]
            rows.append(Row(what="", ours=f"{mine:.2f} s", against=f"{other.name} {theirs:.2f} s", ratio=f"{mine / theirs:.2f} x"))
    remove_outputs(ours)
    return [*rows, below("its peak memory", peak(ours.command) / 1e6, MEMORY_LIMIT, "MB")]


def config_of(phd: Installed, spec: TargetSpec) -> Path:
    """A configuration with this target alone: with a faster copy of the Full, on a disk of its own, that one would be read."""
    config = phd.folder / f"{spec.name}.toml"
    keys = {"url": spec.url, "key_file": spec.key_file, "known_hosts": spec.known_hosts}
    table = "".join(f'{key} = "{value}"\n' for key, value in keys.items() if value)
    settings = (phd.folder / "phd.toml").read_text().partition("[targets.")[0]
    config.write_text(f"{settings}[targets.{spec.name}]\n{table}")
    return config


def _ours(phd: Installed, spec: TargetSpec, delta: Path, out: Path) -> Contender:
    config = config_of(phd, spec)
    disk = out / "N.vmdk"
    command = [phd.program, "restore", "--config", str(config), f"{spec.name}:{delta}", "--to", str(disk)]
    return Contender(
        name=f"phd restore, {spec.name}", command=command, outputs=(out / "N-flat.vmdk", disk), reads=(phd.target(TARGET),)
    )


def _clients(spec: TargetSpec, store: Path, to: Path) -> list[Contender]:
    """Those that are installed. Each brings the Full and the Delta, into an empty folder."""
    files = [only_full(store), newest_delta(store)]
    empty_folder(to)
    outputs = tuple(to / file.name for file in files)
    url = urllib.parse.urlsplit(spec.url)
    port, names = str(url.port), [str(file) for file in files]
    if spec.name == "sftp":
        ssh = ["-i", str(spec.key_file), "-o", f"UserKnownHostsFile={spec.known_hosts}"]
        fast = ["-c", "aes128-gcm@openssh.com"]
        remote = [f"{url.username}@{url.hostname}:{name}" for name in names]
        batch = to.with_name("batch")
        batch.write_text("".join(f'get "{name}" "{to}/"\n' for name in names))
        public = f"{spec.key_file}.pub"
        curl = ["-k", "--key", str(spec.key_file), "--pubkey", public, "-u", f"{url.username}:"]
        where = f":sftp,host={url.hostname},port={port},user={url.username},key_file={spec.key_file}:"
        found = [
            ("scp", ["scp", "-q", "-P", port, *ssh, *remote, str(to)]),
            ("scp -c aes128-gcm", ["scp", "-q", *fast, "-P", port, *ssh, *remote, str(to)]),
            ("sftp", ["sftp", "-q", "-P", port, *ssh, "-b", str(batch), f"{url.username}@{url.hostname}"]),
        ]
    else:
        curl = []
        where = f":ftp,host={url.hostname},port={port},user=anonymous,pass={_obscured()}:"
        found = []
    base = f"{url.scheme}://{url.hostname}:{port}{'/' if spec.name == 'ftp' else ''}"
    urls = [
        part for name, output in zip(names, outputs, strict=True) for part in (base + urllib.parse.quote(name), "-o", str(output))
    ]
    found.append((f"curl {spec.name}", ["curl", "-sS", "--fail", *curl, *urls]))
    listed = ["--files-from-raw", str(_list_of(files, to.with_name("files")))]
    source = f"{where}{files[0].parents[1]}"
    moved = [to / file.relative_to(file.parents[1]) for file in files]
    contenders = [Contender(name=name, command=command, outputs=outputs) for name, command in found if shutil.which(command[0])]
    if shutil.which("rclone"):
        command = ["rclone", "copy", "--config", "/dev/null", "-q", "--multi-thread-streams", "0", *listed, source, str(to)]
        contenders.append(Contender(name=f"rclone {spec.name}", command=command, outputs=tuple(moved)))
    return contenders


def _list_of(files: list[Path], path: Path) -> Path:
    path.write_text("".join(f"{file.relative_to(file.parents[1])}\n" for file in files))
    return path


def _obscured() -> str:
    if not shutil.which("rclone"):
        return ""
    return subprocess.run(["rclone", "obscure", "x"], capture_output=True, text=True, check=True).stdout.strip()


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
