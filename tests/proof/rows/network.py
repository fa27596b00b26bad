"""R13, R14: servers and lines that fail or lie, and a bad line: each ends in time, in the right class, and leaves no thread."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from restore_core.errors import BadArchive, PhdError, TargetNotTrusted, TargetRefused, TargetUnavailable
from restore_core.targets import TargetSet
from restore_core.targets.base import ArchiveRef, ServerLimits, TargetSpec
from tests import servers
from tests.lab import BLOCK, Lab
from tests.proof.scoreboard import ROOT, Figure, NotRun, Round, Row
from tests.proof.volumes import program
from tests.servers import Served
from tests.servers.line import line_to

HASTY = ServerLimits(connect=1.5, login=2.0, idle=1.0, rate_window=0.6, tries=2, first_pause=0.05, longest_pause=0.1)
DEADLINE = 30.0
"""Seconds. By these limits everything ends in less than ten; the rest is for a machine that is busy."""

OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIRjOBFbMCfsUoq7o7AoKGoQx1aUAVHvZDNAvaoAV0UD"
Opened = contextlib.AbstractContextManager[tuple[TargetSpec, Callable[[], None]]]
"""A target, and what is done to it once the restore has begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One cell of the matrix: a way to open the target, the work, and what it must end in (`exact`: or the exact disk)."""

    name: str
    opened: Callable[[Net], Opened]
    expected: type[PhdError]
    exact: bool = False
    listing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Net:
    """A good pair of archives, and a folder for servers."""

    folder: Path
    lab: Lab
    delta: ArchiveRef
    data: bytes

    def below(self, name: str) -> Path:
        """An empty folder; short, because a path in it is too long for some servers."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder


def nothing() -> None:
    """Nothing more is done to the target."""


def port_of(spec: TargetSpec) -> int:
    return int(re.search(r":(\d+)/", spec.url)[1])  # type: ignore[index]  # our own URL


def over(spec: TargetSpec, port: int, folder: Path) -> TargetSpec:
    """The same target, reached over another port."""
    old = port_of(spec)
    moved = replace(spec, url=spec.url.replace(f":{old}/", f":{port}/"))
    if not spec.known_hosts:
        return moved
    known = folder / "known_elsewhere"
    known.write_text(Path(spec.known_hosts).read_text().replace(f":{old} ", f":{port} "))
    return replace(moved, known_hosts=str(known))


def sshd(net: Net) -> contextlib.AbstractContextManager[Served]:
    return servers.sshd(net.below("s"), net.lab.store)


def vsftpd(net: Net) -> contextlib.AbstractContextManager[Served]:
    return servers.vsftpd(net.below("s"), net.lab.store)


@contextlib.contextmanager
def liar(net: Net, lie: str) -> Iterator[Served]:
    with servers.pyftpd(net.below("s"), lie=lie) as served:
        shutil.copytree(net.lab.store, served.store, dirs_exist_ok=True)
        yield served


Server = Callable[[Net], contextlib.AbstractContextManager[Served]]


def line(server: Server, fault: str, after: int) -> Callable[[Net], Opened]:
    """The line to a server fails."""

    @contextlib.contextmanager
    def opened(net: Net) -> Iterator[tuple[TargetSpec, Callable[[], None]]]:
        with server(net) as served, line_to(port_of(served.spec), fault, after=after) as broken:
            yield over(served.spec, broken.port, net.folder), nothing

    return opened


def lies(lie: str) -> Callable[[Net], Opened]:
    """The server itself does something wrong."""

    @contextlib.contextmanager
    def opened(net: Net) -> Iterator[tuple[TargetSpec, Callable[[], None]]]:
        with liar(net, lie) as served:
            yield served.spec, nothing

    return opened


def stops(server: Server) -> Callable[[Net], Opened]:
    """The machine hangs in the middle of a transfer."""

    @contextlib.contextmanager
    def opened(net: Net) -> Iterator[tuple[TargetSpec, Callable[[], None]]]:
        with server(net) as served:
            yield served.spec, served.pause

    return opened


def damaged(server: Server) -> Callable[[Net], Opened]:
    """One bit of the Full is wrong where it lies."""

    @contextlib.contextmanager
    def opened(net: Net) -> Iterator[tuple[TargetSpec, Callable[[], None]]]:
        path = max(net.lab.store.rglob("*.gz-*.phd"), key=lambda full: full.stat().st_size)
        whole = path.read_bytes()
        path.write_bytes(whole[:-9000] + bytes((whole[-9000] ^ 4,)) + whole[-8999:])
        try:
            with server(net) as served:
                yield served.spec, nothing
        finally:
            path.write_bytes(whole)

    return opened


def wrong_password(server: Callable[[Path], contextlib.AbstractContextManager[Served]]) -> Callable[[Net], Opened]:
    @contextlib.contextmanager
    def opened(net: Net) -> Iterator[tuple[TargetSpec, Callable[[], None]]]:
        with server(net.below("s")) as served:
            yield replace(served.spec, password_file=servers.write_password(net.folder, "wrong")), nothing

    return opened


@contextlib.contextmanager
def another_key(net: Net) -> Iterator[tuple[TargetSpec, Callable[[], None]]]:
    with sshd(net) as served:
        known = net.folder / "changed"
        known.write_text(f"[127.0.0.1]:{port_of(served.spec)} {OTHER_KEY}\n")
        yield replace(served.spec, known_hosts=str(known)), nothing


@contextlib.contextmanager
def dead_control(net: Net) -> Iterator[tuple[TargetSpec, Callable[[], None]]]:
    """The control connection of FTP goes silent once the transfer has begun; the data still comes."""
    with vsftpd(net) as served, line_to(port_of(served.spec), "whole") as control:

        def cut() -> None:
            control.over.set()
            control.fault = "refuse"

        yield over(served.spec, control.port, net.folder), cut


MATRIX = (
    *(
        Fault(name=f"{name} {fault}", opened=line(server, fault, after), expected=TargetUnavailable, exact=fault == "fin")
        for name, server, after in (("SFTP", sshd, 300_000), ("FTP", vsftpd, 400))
        for fault in ("refuse", "silent", "hole", "reset", "fin", "drip")
        if (name, fault) != ("FTP", "drip")
    ),
    Fault(name="FTP early end with 226", opened=lies("fin"), expected=BadArchive),
    Fault(name="FTP flip", opened=lies("flip"), expected=BadArchive),
    Fault(name="FTP drip", opened=lies("drip"), expected=TargetUnavailable),
    Fault(name="FTP reset of the data", opened=lies("reset"), expected=TargetUnavailable),
    Fault(name="FTP hole in the data", opened=lies("hole"), expected=TargetUnavailable),
    Fault(name="FTP listing cut", opened=lies("list"), expected=TargetUnavailable, listing=True),
    Fault(name="FTP half control", opened=dead_control, expected=TargetUnavailable, exact=True),
    Fault(name="SFTP listing cut", opened=line(sshd, "fin", 3300), expected=TargetUnavailable, listing=True),
    Fault(name="SFTP flip", opened=damaged(sshd), expected=BadArchive),
    Fault(name="FTP flip at rest", opened=damaged(vsftpd), expected=BadArchive),
    Fault(name="SFTP stop", opened=stops(sshd), expected=TargetUnavailable),
    Fault(name="FTP stop", opened=stops(vsftpd), expected=TargetUnavailable),
    Fault(name="SFTP wrong password", opened=wrong_password(servers.ssh_password), expected=TargetRefused),
    Fault(name="FTP wrong password", opened=wrong_password(servers.pyftpd), expected=TargetRefused),
    Fault(name="SFTP host key changed", opened=another_key, expected=TargetNotTrusted),
)


class _Strike:
    """Strikes once, when the first bytes of a disk have been planned."""

    def __init__(self, lab: Lab, strike: Callable[[], None]) -> None:
        self._real, self._strike = lab.witness.planned, strike

    def __call__(self, plan: object) -> None:
        self._real(plan)  # type: ignore[arg-type]  # handed on
        self._strike()


def at_work(net: Net, fault: Fault, spec: TargetSpec, strike: Callable[[], None]) -> str:
    """What came of a restore, or of a listing, in a thread that is given up after the deadline."""
    lab, said = net.lab, []
    lab.targets = TargetSet((replace(spec, name="t"),), HASTY)
    lab.witness.planned = _Strike(lab, strike)  # type: ignore[method-assign]  # struck in the middle of the work

    def work() -> None:
        try:
            if fault.listing:
                list(lab.targets["t"].listing())
            else:
                lab.restore(net.delta, "d.img")
        except PhdError as error:
            right = type(error) is fault.expected or (fault.expected is BadArchive and isinstance(error, BadArchive))
            right = right and error.try_again is (fault.expected is TargetUnavailable)
            said.append(f"{'' if right else 'wrongly '}{type(error).__name__}: {error.message}")
        except BaseException as error:  # noqa: BLE001  anything else is what this row is looking for
            said.append(f"wrongly {error!r}")
        else:
            said.append("done")

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(DEADLINE)
    del lab.witness.planned
    if not said:
        return f"hung for {DEADLINE:.0f} s"
    lab.targets.close()
    return said[0]


def judged(net: Net, fault: Fault) -> str:
    """What is wrong; "" for nothing."""
    before, out = threading.active_count(), net.lab.folder / "out" / "d.img"
    with fault.opened(net) as (spec, strike):
        said = at_work(net, fault, spec, strike)
        exact = out.exists() and out.read_bytes() == net.data
        if said.startswith(("wrongly", "hung")) or (said == "done" and not (fault.exact and exact)):
            return said
        left = [] if exact else net.lab.leftovers()
        out.unlink(missing_ok=True)
    end = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.02)
    if left:
        return f"left {left}"
    return "" if threading.active_count() <= before else f"threads left: {[thread.name for thread in threading.enumerate()]}"


def backed_up(folder: Path, dice: random.Random) -> Net:
    lab = Lab(folder / "lab")
    old = dice.randbytes(8 * BLOCK)
    lab.backup(old)
    made = lab.backup(dice.randbytes(BLOCK) + old[BLOCK:])
    return Net(folder=folder, lab=lab, delta=made.delta, data=lab.disk.read_bytes())


def matrix(asked: Round) -> Figure:
    net = backed_up(asked.folder, asked.dice())
    chosen = MATRIX if asked.share >= 1 else tuple(asked.dice().sample(MATRIX, asked.times(len(MATRIX))))
    wrong, longest = [], 0.0
    for fault in chosen:
        began = time.monotonic()
        try:
            why = judged(net, fault)
        except servers.Missing as missing:
            raise NotRun(str(missing)) from missing
        longest = max(longest, time.monotonic() - began)
        wrong += [f"{fault.name}: {why}"] if why else []
    return Figure(held=len(chosen) - len(wrong), of=len(chosen), note="; ".join([f"the longest took {longest:.0f} s", *wrong[:5]]))


BAD_LINE = (
    ("ip", "link", "set", "lo", "mtu", "1500", "up"),
    ("iptables", "-A", "INPUT", "-i", "lo", "-m", "statistic", "--mode", "random", "--probability", "0.05", "-j", "DROP"),
    ("tc", "qdisc", "add", "dev", "lo", "root", "tbf", "rate", "16mbit", "burst", "64kb", "latency", "400ms"),
)
INSIDE = "PHD_PROOF_BAD_LINE"


def bad_line(asked: Round) -> Figure:
    """In a network namespace of its own; the row starts itself again there, so that servers and restores share the bad line."""
    if INSIDE not in os.environ:
        return in_namespace(asked)
    return bad_line_inside(asked)


def in_namespace(asked: Round) -> Figure:
    setup = " && ".join(" ".join((program(command[0]), *command[1:])) for command in BAD_LINE)
    row = f"--row R14 --seed {asked.seed} --share {asked.share} --folder {asked.folder}"
    again = f"{setup} && exec {sys.executable} -m tests.proof {row}"
    ran = subprocess.run(
        [program("unshare"), "-n", "sh", "-c", again],
        cwd=ROOT,
        env={**os.environ, INSIDE: "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    last = ran.stdout.strip().splitlines()[-1:] or [""]
    if not last[0].startswith("{"):
        if any(word in ran.stderr for word in ("not permitted", "No chain", "Unknown", "unknown", "not supported")):
            raise NotRun(f"no network namespace with loss and a slow line here: {ran.stderr.strip()[-200:]}")
        return Figure(held=0, of=1, note=f"exit {ran.returncode}: {ran.stderr[-300:]}")
    found = json.loads(last[0])
    if "not_run" in found:
        raise NotRun(found["not_run"])
    return Figure(**found)


def bad_line_inside(asked: Round) -> Figure:
    lab = Lab(asked.folder / "lab")
    made = lab.backup(asked.dice().randbytes(max(1, round(20 * asked.share)) << 20))
    data = lab.disk.read_bytes()
    wrong: list[str] = []
    took: list[str] = []
    for name, server in (("SFTP", servers.sshd), ("FTP", servers.vsftpd)):
        folder = asked.folder / name
        folder.mkdir()
        try:
            with server(folder, lab.store) as served:
                lab.targets = TargetSet((replace(served.spec, name="t"),))
                began = time.monotonic()
                try:
                    right = lab.restored(made.delta, f"{name}.img") == data
                except PhdError as error:
                    right, wrong = False, [*wrong, f"{name}: {error.message}"]
                took.append(f"{name} {time.monotonic() - began:.0f} s")
                lab.targets.close()
        except servers.Missing as missing:
            raise NotRun(str(missing)) from missing
        wrong += [] if right or wrong else [f"{name}: another disk"]
    digest = hashlib.sha256(data).hexdigest()[:12]
    return Figure(held=2 - len(wrong), of=2, note="; ".join([f"{len(data) >> 20} MiB, SHA-256 {digest}", ", ".join(took), *wrong]))


ROWS = (
    Row(
        id="R13",
        what="network faults: FTP and SFTP, each fault of line, server and login",
        target="each ends within its deadline in its class, no thread left",
        run=matrix,
        mutants=("network:a_drip_is_patience", "network:every_trouble_is_final"),
        mutant_share=1.0,
        short=None,
    ),
    Row(
        id="R14",
        what="a bad line: 5 % loss, 16 Mbit/s, 20 MB over SFTP and FTP",
        target="completes, SHA-256 equal",
        run=bad_line,
        mutants=("network:every_other_block_is_lost",),
        mutant_share=0.1,
        short=None,
    ),
)
