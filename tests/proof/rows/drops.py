"""R16, R17: control files come in every way that files are written, and 20,000 at once: each taken once, none half, none missed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from phd_daemon.spool.layout import FINAL, State
from tests.proof.daemon import PHD, Daemon, Silent, serving
from tests.proof.scoreboard import Figure, Round, Row
from tests.proof.volumes import tmpfs

SHELL = ("sh", "-c")
MOST_MEMORY = 128
"""MiB; without a burst it is 40."""

Way = Callable[[Path, Path, bytes], None]
"""How a file comes: from a folder of its own (on the same file system as the spool), to its name, with these bytes."""


def shell(script: str) -> Way:
    """A script that finds the text in `new` of the folder it starts in, and the name to make in $1."""

    def way(folder: Path, to: Path, text: bytes) -> None:
        (folder / "new").write_bytes(text)
        subprocess.run([*SHELL, script, "sh", str(to)], cwd=folder, check=True, capture_output=True)

    return way


def python(script: str) -> Way:
    """The same for Python; `to` and `text` are there."""

    def way(folder: Path, to: Path, text: bytes) -> None:
        code = f"import os, sys, time\nto, text = sys.argv[1], open('new', 'rb').read()\n{script}"
        (folder / "new").write_bytes(text)
        subprocess.run([sys.executable, "-c", code, str(to)], cwd=folder, check=True, capture_output=True)

    return way


def across(folder: Path, to: Path, text: bytes) -> None:
    """`mv` from another file system: a copy, and then the removal."""
    elsewhere = folder / "elsewhere"
    with tmpfs(elsewhere, 1 << 20):
        (elsewhere / "new").write_bytes(text)
        subprocess.run(["mv", elsewhere / "new", to], check=True)


def by_hard_link(folder: Path, to: Path, text: bytes) -> None:
    """Linked to its name, then the other name goes: so some mailers do it."""
    (folder / "new").write_bytes(text)
    os.link(folder / "new", to)
    time.sleep(0.3)
    (folder / "new").unlink()


WAYS: dict[str, Way] = {
    "cp": shell('cp new "$1"'),
    "cp -p, with an old time": shell('touch -d 2001-01-01 new; cp -p new "$1"'),
    "mv": shell('mv new "$1"'),
    "mv across file systems": across,
    "slow writer": shell('{ head -c 20 new; sleep 0.5; tail -c +21 new; } > "$1"'),
    "> then >>": shell('head -c 30 new > "$1"; sleep 0.4; tail -c +31 new >> "$1"'),
    "very slow, in three parts, by one writer": python(
        "f = open(to, 'wb', buffering=0)\n"
        "for part in (text[:9], text[9:40], text[40:]):\n    f.write(part); time.sleep(1.1)\nf.close()"
    ),
    "sed -i": shell('sed s/restore_to/xx/ new > "$1".tmp; sed -i s/xx/restore_to/ "$1".tmp; mv "$1".tmp "$1"'),
    "sed -i in place": shell('cp new "$1"; sed -i s/priority.*// "$1"'),
    "touch, then written": shell('touch "$1"; sleep 0.3; cat new > "$1"'),
    "vim: written, swap beside it": python(
        "d, n = os.path.split(to)\nswap = f'{d}/.{n}.swp'\nopen(swap, 'wb').write(b'b0VIM')\nopen(f'{d}/4913', 'wb').close()\n"
        "os.unlink(f'{d}/4913')\nf = open(to, 'wb'); f.write(text); f.flush(); os.fsync(f.fileno()); f.close()\nos.unlink(swap)"
    ),
    "vim: old one renamed to a backup": python(
        "open(to, 'wb').write(text[:7])\nos.rename(to, to + '~')\nopen(to, 'wb').write(text)\nos.unlink(to + '~')"
    ),
    "emacs and ed: written twice": python("open(to, 'wb').write(text)\ntime.sleep(0.2)\nopen(to, 'wb').write(text)"),
    "rsync": python(
        "d, n = os.path.split(to)\ntmp = f'{d}/.{n}.Xa91bC'\nopen(tmp, 'wb').write(text)\n"
        "os.utime(tmp, (1e9, 1e9))\nos.rename(tmp, to)"
    ),
    "scp: made, filled, time set": python(
        "f = open(to, 'wb', buffering=0)\nfor at in range(0, len(text), 16):\n    f.write(text[at:at + 16]); time.sleep(0.01)\n"
        "f.close()\nos.utime(to, (1e9, 1e9))"
    ),
    "Python: temporary and rename": python("open(to + '.tmp', 'wb').write(text)\nos.rename(to + '.tmp', to)"),
    "ln and rm": by_hard_link,
    "dd": shell('dd if=new of="$1" bs=7'),
}


def control(daemon: Daemon, name: str) -> bytes:
    return f'delta = "/fake/sleep=0"\nrestore_to = "{daemon.datastore}/{name}.img"\npriority = 4\n'.encode()


def by_submit(daemon: Daemon, name: str) -> None:
    """`phd submit`, as people do it."""
    subprocess.run(
        [PHD, "submit", "/fake/sleep=0", "--to", f"{daemon.datastore}/{name}.img", "--name", name, "--config", daemon.settings],
        check=True,
        capture_output=True,
    )


def one(daemon: Daemon, name: str, way: Way) -> None:
    """A person drops one file their way. Whatever goes wrong with it leaves no job, and that is seen."""
    mine = daemon.folder / name
    mine.mkdir()
    way(mine, daemon.spool / f"{name}.job", control(daemon, name))
    shutil.rmtree(mine)


def taken_once(daemon: Daemon, name: str) -> str:
    """What is wrong with how a job was taken; "" for nothing."""
    log = daemon.log(name)
    if daemon.state_of(name) is not State.DONE:
        return f"{daemon.state_of(name)}: {log.splitlines()[-1:]}"
    counts = (log.count("accepted from"), log.count("attempt 1: fake"), log.count("rejected"))
    return "" if counts == (1, 1, 0) else f"accepted, run and rejected {counts}"


def styles(asked: Round) -> Figure:
    folder = asked.folder
    daemon = Daemon(folder, "", queue="workers = 4")
    times = asked.times(10)
    names: dict[str, str] = {}
    with serving(daemon, fake=True):
        for turn in range(times):
            with ThreadPoolExecutor(max_workers=6) as people:
                for number, (how, way) in enumerate(WAYS.items()):
                    names[f"w{number}-{turn}"] = how
                    people.submit(one, daemon, f"w{number}-{turn}", way)
            if turn < 2:
                names[f"submit-{turn}"] = "phd submit"
                by_submit(daemon, f"submit-{turn}")
        late = ""
        try:
            daemon.until(lambda: all(daemon.state_of(name) in FINAL for name in names), "all taken")
        except Silent as silent:
            late = str(silent)[:300]
        wrong = [f"{how}: {why}" for name, how in names.items() if (why := taken_once(daemon, name))]
        stray = sorted(set(os.listdir(daemon.spool)) - {".state"})
        stray = [entry for entry in stray if not re.fullmatch(r"(w\d+|submit)-\d+\.(done|log|status)", entry)]
    note = [f"{len(WAYS) + 1} ways", *([late] if late else []), *([f"stray {stray[:3]}"] if stray else []), *wrong[:3]]
    return Figure(held=len(names) - len(wrong) - bool(stray), of=len(names), note="; ".join(note))


def burst(asked: Round) -> Figure:
    """Dropped while the daemon is stopped, so that the kernel's queue of events overflows; then it goes on."""
    daemon = Daemon(asked.folder, "", queue="workers = 1")
    count = asked.times(20_000)
    text = control(daemon, "all")
    later = time.time() + 86_400
    aside = daemon.folder / "aside"
    aside.mkdir()
    with serving(daemon, fake=True):
        if daemon.process is None:
            raise AssertionError("it serves")
        daemon.process.send_signal(signal.SIGSTOP)
        began = time.time()
        for number in range(count):
            new = aside / f"{number}"
            new.write_bytes(text)
            os.utime(new, (later, later))
            new.rename(daemon.spool / f"b{number}.job")
        daemon.process.send_signal(signal.SIGCONT)
        woken = time.time()

        def taken() -> int:
            return sum(entry.endswith(".json") for entry in os.listdir(daemon.spool / ".state"))

        late = ""
        try:
            daemon.until(lambda: taken() >= count, "all taken", seconds=20 + count / 100)
        except Silent as silent:
            late = str(silent)[:300]
        statuses = [daemon.spool / f"b{number}.status" for number in range(count)]
        accepted = sorted(path.stat().st_mtime - woken for path in statuses if path.exists())
        memory = int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{daemon.process.pid}/status").read_text())[1]) >> 10  # type: ignore[index]  # Linux always says it
        held = taken()
        # Everything else must still get its turn soon.
        asked_at = time.monotonic()
        daemon.drop("after", "/fake/sleep=0")
        daemon.until(lambda: daemon.state_of("after") is State.DONE, "the next job", seconds=60)
        next_one = time.monotonic() - asked_at
    p99 = accepted[int(len(accepted) * 0.99)]
    note = (
        f"dropped in {woken - began:.1f} s, accepted p99 {p99:.1f} s after waking, "
        f"{count / max(accepted[-1], 0.01):.0f} a second, "
        f"{memory} MiB, a job after them done in {next_one:.1f} s"
    )
    good = memory < MOST_MEMORY and not late
    return Figure(held=held if good else min(held, count - 1), of=count, note=note + (f"; {late}" if late else ""))


ROWS = (
    Row(
        id="R16",
        what="drop styles: cp, mv, editors, rsync, scp, slow and broken writers, ln, submit",
        target="each taken exactly once, never half",
        run=styles,
        mutants=("drops:whatever_appears_is_complete",),
        mutant_share=0.1,
        short=0.1,
    ),
    Row(
        id="R17",
        what="a burst of 20,000 files at once, the queue of events overflows",
        target="0 missed, < 128 MiB; acceptance p99 is reported",
        run=burst,
        mutants=("drops:events_are_the_truth",),
        mutant_share=0.05,
        short=None,
    ),
)
