"""R18: what is no control file, and what has a name to fool a reader with: none is followed, none blocks, none is read whole."""

from __future__ import annotations

import ctypes
import os
import socket
import stat
import struct
import subprocess
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from phd_daemon.spool.layout import FINAL, State
from restore_core.targets.base import ArchiveRef
from tests.lab import Lab
from tests.proof.daemon import PHD, Daemon, Silent, serving
from tests.proof.scoreboard import Figure, NotRun, Round, Row

_libc = ctypes.CDLL(None, use_errno=True)
ACCESS, MODIFY, OPEN = 1, 2, 32
PATIENCE = 30.0
HOSTILE = (
    b"\xff\xfe", b"esc\x1b[2J\x1b]0;owned\x07", b"line\n2026-01-01 00:00:00 done", "rtl\u202ekcits".encode(), b"tab\tbell\x07",
    b"c1\xc2\x9b31m", b" spaces ", b"-rf", b"%41%0A", b"%s%n$x", b"q'uo\"te;ls", b"dots.job.held", b"x" * 200,
    "\u2028line".encode(), b"\xed\xa0\x80surrogate", b"back\\slash",
)  # fmt: skip
"""Stems of jobs that are good."""
BAD = b'delta = "x\\u001b[2J"\n"k\\u001by\\n" = 1\nrestore_to = "\\u202ex"\n'
"""Nothing in it is right, and all of it would be shown."""
_QUIET = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


class Touched:
    """What is done to some files, told by the kernel (inotify)."""

    def __init__(self, files: Mapping[Path, int]) -> None:
        self._fd = int(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        if self._fd < 0:
            raise NotRun("no inotify instance to be had")
        self._names = {_libc.inotify_add_watch(self._fd, os.fsencode(path), mask): path.name for path, mask in files.items()}

    def touched(self) -> set[str]:
        """The names of those that were."""
        found: set[str] = set()
        while True:
            try:
                data = os.read(self._fd, 1 << 16)
            except BlockingIOError:
                return found
            at = 0
            while at < len(data):
                watch, _mask, _cookie, length = struct.unpack_from("=iIII", data, at)
                found.add(self._names.get(watch, "?"))
                at += 16 + length


def controls_in(data: bytes) -> str:
    """The first character that could steer a terminal or forge a line, empty if there is none. Newlines stay."""
    text = data.decode("utf-8", "surrogateescape")
    return next((repr(c) for c in text if c != "\n" and unicodedata.category(c) in _QUIET), "")


def make_device(path: Path) -> None:
    os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 5))


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as line:
        here = os.open(path.parent, os.O_PATH)
        line.bind(f"/proc/self/fd/{here}/{path.name}")  # the path itself may be longer than a socket's name can be
        os.close(here)


def make_sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def hostile_entries(outside: Path) -> dict[str, tuple[Callable[[Path], object], State | None]]:
    """Name -> how it is made, and the state it must come to; None: it is left alone."""
    secret, hard = outside / "secret", outside / "hard"
    return {
        "fifo.job": (os.mkfifo, None),
        "fifo.held": (os.mkfifo, None),
        "runs.running": (os.mkfifo, None),
        "folder.job": (Path.mkdir, None),
        "socket.job": (make_socket, None),
        "device.job": (make_device, None),
        "link.job": (lambda path: path.symlink_to(secret), State.REJECTED),
        "link-to-fifo.job": (lambda path: path.symlink_to(outside / "fifo"), State.REJECTED),
        "link-to-device.job": (lambda path: path.symlink_to("/dev/zero"), State.REJECTED),
        "dangling.job": (lambda path: path.symlink_to(outside / "nothing"), State.REJECTED),
        "link-to-folder.job": (lambda path: path.symlink_to(outside), State.REJECTED),
        "hard.job": (lambda path: os.link(hard, path), State.REJECTED),
        "sparse.job": (make_sparse, State.REJECTED),
        "big.job": (lambda path: path.write_bytes(b"#" * (64 << 10) + b"\n"), State.REJECTED),
        "binary.job": (lambda path: path.write_bytes(bytes(range(256)) * 8), State.REJECTED),
        "x" * 230 + ".job": (lambda path: path.write_bytes(b"delta"), None),
        ".hidden.job": (lambda path: path.write_bytes(b"delta"), None),
    }


def plant_side_files(daemon: Daemon, outside: Path) -> None:
    """What logs and status files of the good jobs find under their names."""
    os.mkfifo(daemon.spool / "good1.log")
    (daemon.spool / "good2.log").symlink_to(outside / "secret")
    os.link(outside / "hard", daemon.spool / "good3.log")
    os.mkfifo(daemon.spool / "good1.status")
    (daemon.spool / "good2.status").symlink_to(outside / "secret")


def entries(asked: Round) -> Figure:
    if os.geteuid() != 0:
        raise NotRun("only root can make devices")
    found = list(_cases(asked))
    wrong = [what for what, held in found if not held]
    return Figure(held=len(found) - len(wrong), of=len(found), note="; ".join(wrong[:3]))


def _cases(asked: Round) -> Iterator[tuple[str, bool]]:
    outside = asked.folder / "outside"
    outside.mkdir()
    lab = Lab(asked.folder / "lab")
    delta = lab.backup(asked.dice().randbytes(300_000)).delta
    daemon = Daemon(asked.folder / "host", f'[targets.t]\nurl = "file://{lab.store}"\n', queue="workers = 4")
    for name in ("secret", "hard"):
        (outside / name).write_text(f'delta = "{delta}"\nrestore_to = "{daemon.datastore}/{name}.img"\n')
    os.mkfifo(outside / "fifo")
    planted = hostile_entries(outside)
    with serving(daemon):
        for name, (make, _) in planted.items():
            make(daemon.spool / name)
        plant_side_files(daemon, outside)
        watch = {outside / "secret": OPEN | ACCESS | MODIFY, outside / "fifo": OPEN, outside / "hard": ACCESS | MODIFY}
        for name in ("sparse.job", "big.job"):
            watch[daemon.spool / name] = ACCESS
        for name in ("fifo.job", "device.job", "socket.job"):
            watch[daemon.spool / name] = OPEN
        touched = Touched(watch)
        wanted = _drop_jobs(daemon, delta) | {name.rpartition(".")[0]: state.value for name, (_, state) in planted.items() if state}
        until = time.monotonic() + PATIENCE
        for name, state in wanted.items():
            ended = _end(daemon, name, until)
            yield f"{name!r} ends {ended}", ended == state
        for name in (name for name, (_, state) in planted.items() if state is None):
            # One that says it runs, and that nobody runs, is put back in the queue first.
            names = (name, name.replace(".running", ".job"))
            yield f"{name[:20]} is left alone", any(os.path.lexists(daemon.spool / one) for one in names)
        met = touched.touched()
        for name in ("secret", "fifo", "hard", "sparse.job", "big.job", "fifo.job", "device.job", "socket.job"):
            yield f"{name} is not opened, or not read", name not in met
        yield (
            "no link was written through",
            "restore_to" in (outside / "secret").read_text() and "accepted" not in (outside / "hard").read_text(),
        )
        yield "the daemon is up", daemon.alive
        yield from _said(daemon)


def _drop_jobs(daemon: Daemon, delta: ArchiveRef) -> dict[str, str]:
    """Good jobs and bad ones under all of the names; the state that each must come to."""
    good = [*(f"good{n}" for n in range(4)), *map(os.fsdecode, HOSTILE)]
    bad = [os.fsdecode(name[:190] + b"!") for name in HOSTILE]
    texts = {name: f'delta = "{delta}"\nrestore_to = "{daemon.datastore}/{n}.img"\n'.encode() for n, name in enumerate(good)}
    for name, text in (texts | dict.fromkeys(bad, BAD)).items():
        (daemon.spool / ".aside").write_bytes(text)
        (daemon.spool / ".aside").rename(daemon.spool / f"{name}.job")
    return dict.fromkeys(good, "done") | dict.fromkeys(bad, "rejected")


def _end(daemon: Daemon, stem: str, until: float) -> str:
    """The final state of a job, waited for until then: one wait for all, since they were dropped together."""
    there = [daemon.spool / f"{stem}.{state.value}" for state in FINAL]
    try:
        daemon.until(lambda: any(map(os.path.lexists, there)), stem, seconds=max(0.0, until - time.monotonic()))
    except Silent as silent:
        return str(silent)[:200]
    return next(str(state.value) for state in FINAL if os.path.lexists(daemon.spool / f"{stem}.{state.value}"))


def _said(daemon: Daemon) -> Iterator[tuple[str, bool]]:
    """All that a person reads is free of control characters."""
    said = {"daemon": (daemon.folder / "daemon.said").read_bytes()}
    said |= {repr(path.name): path.read_bytes() for path in daemon.spool.glob("*.log") if path.is_file() and not path.is_symlink()}
    for words in (["queue"], ["queue", "--json"], ["doctor"], ["log", os.fsdecode(HOSTILE[1])]):
        command = [str(PHD), words[0], "--config", str(daemon.settings), *words[1:]]
        said[f"phd {words[0]}"] = subprocess.run(command, capture_output=True, check=False, timeout=120).stdout
    for name, data in said.items():
        yield f"{name} says {controls_in(data)}", data != b"" and controls_in(data) == ""


ROWS = (
    Row(
        id="R18",
        what="hostile entries and names in the spool",
        target="0 followed, 0 blocked, 0 read past 64 KiB, 0 control characters out",
        run=entries,
        mutants=(
            "entries:links_are_followed",
            "entries:logs_are_opened_as_they_lie",
            "entries:nobody_looks_at_the_size",
            "entries:names_are_printed_raw",
        ),
        mutant_share=1.0,
        short=1.0,
    ),
)
