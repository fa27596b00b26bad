"""R25: a password through every way that a login can fail, and a thousand hostile names: neither comes out anywhere."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

from restore_core.naming import printable
from restore_core.targets.base import ArchiveRef, TargetSpec
from tests import servers
from tests.lab import Lab
from tests.proof.daemon import PHD, Daemon, serving
from tests.proof.rows.entries import controls_in
from tests.proof.rows.exclusion import drop, end_of
from tests.proof.scoreboard import Figure, NotRun, Round, Row

WRONG = "c4nary-wr0ng&pa/ss"
FRAGMENTS = (b"5ecret", b"wr0ng", *(base64.b64encode(text.encode())[:12] for text in (servers.PASSWORD, WRONG)))
"""No part of either password may be met, in whatever way the rest of it is written."""
UUID = "564d122a-0ed7-3b92-2f46-aee9456b2074"
_PIECES = (
    *(b"\x1b[2J", b"\x1b]0;x\x07", b"\n", b"\r", b"\t", b"\x7f", b"\xc2\x9b", b"\xc2\x85", b"\xff", b"\xed\xa0\x80", b"%0A", b"%"),
    *(b"|", b" ", b"a", b"#", b"'", b'"', b"$(x)", *(text.encode() for text in ("\u202e", "\u2028", "\u00fc", "\U000e0041"))),
)


class Watch:
    """Command lines and environments of a process and all below it, looked at again and again while it lives."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon, self._end, self.seen = daemon, threading.Event(), set[bytes]()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        pid = self._daemon.process.pid if self._daemon.process else 0
        while not self._end.wait(0.01):
            with contextlib.suppress(OSError):
                below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
                for one in (str(pid), *below):
                    with contextlib.suppress(OSError):
                        self.seen |= {Path(f"/proc/{one}/{what}").read_bytes() for what in ("cmdline", "environ")}

    @property
    def workers(self) -> int:
        """How many command lines of workers were met: none would mean that nothing was looked at."""
        return sum(b"phd_daemon.worker.attempt" in data for data in self.seen)


def specs(served: servers.Served, kind: str, folder: Path) -> Iterator[TargetSpec]:
    """One target a way to fail, and one that does not."""
    spec, port = served.spec, urllib.parse.urlsplit(served.spec.url).port

    def secret(name: str, text: str, mode: int = 0o600) -> str:
        path = folder / f"{kind}-{name}"
        path.write_text(text)
        path.chmod(mode)
        return str(path)

    yield replace(spec, name=f"{kind}-good")
    yield replace(spec, name=f"{kind}-wrong", password_file=secret("wrong", WRONG + "\n"))
    yield replace(spec, name=f"{kind}-open", password_file=secret("open", WRONG + "\n", 0o644))
    yield replace(spec, name=f"{kind}-lines", password_file=secret("lines", f"{WRONG}\n{WRONG}\n"))
    yield replace(spec, name=f"{kind}-latin", password_file=secret("latin", "") if _write(folder / f"{kind}-latin") else "")
    yield replace(spec, name=f"{kind}-closed", url=spec.url.replace(f":{port}", f":{servers.free_port()}"))
    if kind != "ftp":
        other = str(servers.make_certificate(folder, "other.pem")) if kind == "ftps" else secret("known", _other_key(spec, folder))
        changed = replace(spec, ca_file=other) if kind == "ftps" else replace(spec, known_hosts=other)
        yield replace(changed, name=f"{kind}-changed")


def _write(path: Path) -> bool:
    path.write_bytes(WRONG.encode() + b"\xff\n")
    path.chmod(0o600)
    return True


def _other_key(spec: TargetSpec, folder: Path) -> str:
    subprocess.run([servers.program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "other")], check=True)
    url = urllib.parse.urlsplit(spec.url)
    kind, key = (folder / "other.pub").read_text().split()[:2]
    return f"[{url.hostname}]:{url.port} {kind} {key}\n"


def as_toml(spec: TargetSpec) -> str:
    keys = {"url": spec.url, "password_file": spec.password_file, "known_hosts": spec.known_hosts, "ca_file": spec.ca_file}
    return f"[targets.{spec.name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items() if value)


def phd(daemon: Daemon, *words: str, settings: Path | None = None) -> bytes:
    """All that a command says."""
    command = [str(PHD), words[0], "--config", str(settings or daemon.settings), *words[1:]]
    ran = subprocess.run(command, capture_output=True, check=False, timeout=300, stdin=subprocess.DEVNULL)
    return ran.stdout + ran.stderr


def leaked(where: dict[str, bytes]) -> str:
    """The first place where a part of a password was met, empty if there is none."""
    return next((f"{name}: {piece!r}" for name, data in where.items() for piece in FRAGMENTS if piece in data), "")


def files_of(folder: Path) -> dict[str, bytes]:
    """Everything that the daemon and the commands left."""
    return {
        str(path.relative_to(folder)): os.fsencode(path.name) + path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and path.suffix not in (".img", ".rejected")
    }


def passwords(asked: Round) -> Iterator[tuple[str, bool]]:
    """All kinds of server, all ways to fail, by daemon and by command."""
    starts = {"ftp": servers.pyftpd, "ftps": lambda folder: servers.pyftpd(folder, tls=True), "sftp": servers.ssh_password}
    lab = Lab(asked.folder / "lab")
    delta = lab.backup(asked.dice().randbytes(300_000)).delta
    with contextlib.ExitStack() as stack:
        found: list[TargetSpec] = []
        for kind, start in starts.items():
            folder = asked.folder / kind
            folder.mkdir()
            try:
                served = stack.enter_context(start(folder))
            except servers.Missing as missing:
                raise NotRun(str(missing)) from missing
            _copy(lab, served.store)
            found += specs(served, kind, folder)
        daemon = Daemon(asked.folder / "host", "".join(map(as_toml, found)), queue="workers = 4")
        stack.enter_context(serving(daemon))
        watch = stack.enter_context(Watch(daemon))
        yield from _each_way(daemon, found, delta)
        said = _commands(daemon, found, delta)
        yield (
            f"command lines and environments ({watch.workers} of workers): {leaked(_numbered(watch.seen))}",
            (watch.workers > 0 and not leaked(_numbered(watch.seen))),
        )
    yield from ((f"{name} says {leaked({name: data})}", data != b"" and not leaked({name: data})) for name, data in said.items())
    left = files_of(daemon.folder)
    yield f"{len(left)} files: {leaked(left)}", len(left) > len(found) and not leaked(left)


def _numbered(seen: set[bytes]) -> dict[str, bytes]:
    return {str(number): data for number, data in enumerate(seen)}


def _copy(lab: Lab, store: Path) -> None:
    for path in lab.store.rglob("*.phd"):
        to = store / path.relative_to(lab.store)
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(path.read_bytes())


def _each_way(daemon: Daemon, found: list[TargetSpec], delta: ArchiveRef) -> Iterator[tuple[str, bool]]:
    """A job a target; only the good ones are done, each of the others says why."""
    for spec in found:
        drop(daemon, spec.name, ArchiveRef(target=spec.name, path=delta.path), f"{daemon.datastore}/{spec.name}.img")
    # What somebody may write who does not know better: the password is in the control file, and must not come out of it.
    (daemon.spool / "url.job").write_text(f'delta = "ftp://phd:{WRONG}@127.0.0.1/x.phd"\nrestore_to = "{daemon.datastore}/u.img"\n')
    for spec in found:
        ended, good = end_of(daemon, spec.name), spec.name.endswith("-good")
        yield f"{spec.name}: {ended}", (ended == "done") is good and ended in ("done", "failed", "waits")
        yield f"{spec.name} says nothing of why", good or spec.name in daemon.log(spec.name)
    yield "a URL with a password is no archive", end_of(daemon, "url") == "rejected"


def _commands(daemon: Daemon, found: list[TargetSpec], delta: ArchiveRef) -> dict[str, bytes]:
    words = [
        ["targets"],
        ["targets", "--json"],
        ["index"],
        ["backups"],
        ["doctor"],
        ["doctor", "--json"],
        ["queue"],
        ["queue", "--json"],
    ]
    words += [["verify", f"{spec.name}:{delta.path}"] for spec in found]
    said = {" ".join(one): phd(daemon, *one) for one in words}
    bad = daemon.folder / "bad.toml"
    for number, line in enumerate(
        (f'url = "sftp://u:{WRONG}@h/x"', f'url = "ftp://u@h/x"\npassword_file = "{WRONG}"', f'password = "{WRONG}"')
    ):
        bad.write_text(f"[targets.a]\n{line}\n")
        said[f"settings {number}"] = phd(daemon, "queue", settings=bad)
    bad.unlink()
    return said


def hostile_name(dice: random.Random) -> bytes:
    """A name that a file system takes and nobody should be shown."""
    return (b"".join(dice.choice(_PIECES) for _ in range(dice.randrange(1, 9))) or b"a")[:60]


def names(asked: Round) -> Iterator[tuple[str, bool]]:
    """A target full of hostile names: what every command makes of them, and every file that is written."""
    dice, store = asked.dice(), os.fsencode(asked.folder / "nas")
    for _ in range(count := asked.times(1000)):
        vm, disk = hostile_name(dice), hostile_name(dice)
        folder = os.path.join(store, b"2026.03.01-" + vm + b"." + UUID.encode())
        os.makedirs(folder, exist_ok=True)
        for made in (b"00-" + disk + b".gz-260301-0300.phd", b"00-" + disk + b".delta-2026.03.01-0300-260301-0300.phd"):
            with open(os.path.join(folder, made), "wb") as file:
                file.write(b"no archive")
    daemon = Daemon(asked.folder / "names", f'[targets.t]\nurl = "file://{asked.folder}/nas"\n')
    ref = f"t:{printable(str(next((asked.folder / 'nas').glob('*/*')).relative_to(asked.folder / 'nas')))}"
    words = [["targets"], ["index"], ["backups"], ["backups", "--json"], ["rules", "load", "--active"], ["rules", "check"]]
    words += [["replicate", "--dry-run"], ["doctor"], ["verify", ref]]
    for one in words:
        data = phd(daemon, *one)
        yield f"phd {' '.join(one)[:30]}: {controls_in(data)}", data != b"" and not controls_in(data)
    for name, data in files_of(daemon.folder).items():
        yield f"{name}: {controls_in(data)}", not controls_in(data)
    yield f"{count} names were met", phd(daemon, "backups").count(b"\n") > count


def leaks(asked: Round) -> Figure:
    found = [*passwords(asked), *names(asked)]
    wrong = [what for what, held in found if not held]
    return Figure(held=len(found) - len(wrong), of=len(found), note="; ".join(wrong[:3]))


ROWS = (
    Row(
        id="R25",
        what="leaks: a password through every failing login, 1,000 hostile names",
        target="0 passwords, 0 control characters out",
        run=leaks,
        mutants=("leaks:errors_tell_the_password", "leaks:the_worker_is_told_by_its_command_line", "leaks:names_go_out_raw"),
    ),
)
