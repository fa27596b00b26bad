"""R29: names in the way. Whatever strangers plant in a drop box, namesakes, names in any encoding, inode numbers given away again.

The daemon runs as under the shipped unit, root without a single capability; bob is a member of the group of the box, no submitter.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from phd_daemon.spool import requests
from phd_daemon.spool.layout import FINAL, Spool, State
from phd_daemon.spool.requests import drop
from phd_daemon.spool.status_file import Result, read_status
from restore_core import durable
from restore_core.errors import PhdError
from tests.lab import Lab
from tests.proof.daemon import Daemon, Silent, serving
from tests.proof.scoreboard import Figure, NotRun, Round, Row
from tests.proof.volumes import mounted, program

ANN, BOB, GROUP = 1, 2, 61_234
"""Called daemon and bin on every system; the group needs no name."""
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
NAMES = ("status", "log", "running", "held", "done", "failed", "cancelled", "rejected")
MOMENTS = ("before it comes", "while it waits", "while it runs")
FAULTS = (
    "phd_daemon.daemon.starts:_candidate",
    "phd_daemon.daemon.starts:work_order",
    "phd_daemon.spool.intake:accept",
    "phd_daemon.daemon.service:enter",
)
QUICK = {"TEST_SETTINGS": "PUT_BACK_SECONDS=0.2 RESCAN_SECONDS=1", "TEST_NO_PAUSE": "1"}
Case = tuple[str, bool]


def as_user(uid: int, do: Callable[[], object]) -> bool:
    """Do it as that member of the box's group; False where the kernel refuses."""
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            os.setgroups([GROUP])
            os.setresgid(GROUP, GROUP, GROUP)
            os.setresuid(uid, uid, uid)
            do()
            code = 0
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def a_socket(path: Path) -> None:
    import socket

    socket.socket(socket.AF_UNIX).bind(os.fspath(path))


def two_names(path: Path) -> None:
    path.write_bytes(b"bob was here")
    os.link(path, path.with_name(f"bobs-{path.name}"))


KINDS: dict[str, Callable[[Path], object]] = {
    "a folder": lambda path: path.mkdir(0o755),
    "a full folder": lambda path: (path / "inside").mkdir(0o755, parents=True),
    "a FIFO": lambda path: os.mkfifo(path, 0o666),
    "a socket": a_socket,
    "a link": lambda path: path.symlink_to("/etc/hostname"),
    "a file": lambda path: path.write_bytes(b"bob was here"),
    "a file with two names": two_names,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """One case: bob puts a thing of a kind under one name of a job, at some moment; the job is ann's or root's."""

    job: str
    name: str
    kind: str
    moment: str
    uid: int

    def plant(self, folder: Path) -> None:
        as_user(BOB, lambda: KINDS[self.kind](folder / f"{self.job}.{self.name}"))

    def __str__(self) -> str:
        return f"{self.kind} as .{self.name} {self.moment}, a job of {self.uid}"


def planted_cases(asked: Round) -> list[Planted]:
    every = list(itertools.product(MOMENTS, NAMES, KINDS, (0, ANN)))
    every += [(MOMENTS[0], "job", kind, uid) for kind, uid in itertools.product(KINDS, (0, ANN)) if "file" not in kind]
    chosen = asked.dice().sample(every, asked.times(len(every)))
    return [Planted(job=f"n{count}", name=n, kind=k, moment=m, uid=u) for count, (m, n, k, u) in enumerate(chosen)]


def in_a_drop_box(folder: Path, asked: Round) -> Iterator[Case]:
    """All cases in one daemon at once."""
    box = folder / "box"
    box.mkdir()
    os.chown(box, 0, GROUP)
    box.chmod(0o3730)
    daemon = Daemon(folder / "site", "", spool=box, queue=f'workers = 4\nsubmitters = ["{pwd.getpwuid(ANN).pw_name}"]')
    daemon.folder.chmod(0o755)
    cases = planted_cases(asked)
    bare = (program("setpriv"), "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
    with serving(daemon, wrap=bare, environment=QUICK, fake=True):
        for moment in MOMENTS:
            now = [case for case in cases if case.moment == moment]
            if moment == "before it comes":
                for case in now:
                    case.plant(box)
                # What can be a request of bob's has the name until it is judged: whoever comes first has it, that is no fault.
                daemon.until(lambda: not any(taken(box, case.job) for case in cases), "the names free again", seconds=60)
            for case in now:
                submit(daemon, case)
            if moment == "while it waits":
                daemon.until(lambda now=now: all(record(box, case.job) for case in now), "all waiting")  # type: ignore[misc]
                for case in now:
                    case.plant(box)
            elif moment == "while it runs":
                plant_as_they_run(daemon, now)
            try:
                daemon.until(lambda now=now: all(ended(box, case.job) for case in now), "all ended", seconds=60 + len(now))  # type: ignore[misc]
            except Silent as silent:
                yield f"{moment}: {silent}", False
        for case in cases:
            yield f"{case}: {why_not(daemon, case)}", not why_not(daemon, case)
        yield "the daemon lives", daemon.alive


def submit(daemon: Daemon, case: Planted) -> None:
    spool = Spool(folder=daemon.spool)
    wishes = "sleep=1.5" if case.moment == "while it runs" else "sleep=0"
    text = f'delta = "/fake/{wishes}"\nrestore_to = "{daemon.datastore}/{case.job}.img"\n'.encode()
    later = time.time() + 5 if case.moment == "while it waits" else None

    def put() -> None:
        if drop(spool, text, names=[case.job], not_before=later) is None:
            raise FileExistsError(case.job)

    if case.uid:
        as_user(case.uid, put)
    else:
        put()


def plant_as_they_run(daemon: Daemon, cases: list[Planted]) -> None:
    todo = list(cases)
    end = time.monotonic() + 5 + len(cases)
    while todo and time.monotonic() < end:
        for case in [case for case in todo if (daemon.spool / f"{case.job}.running").exists()]:
            case.plant(daemon.spool)
            todo.remove(case)
        time.sleep(0.05)


def record(box: Path, job: str) -> bool:
    return (box / ".state" / f"{job}.json").exists()


def taken(box: Path, job: str) -> bool:
    return any(os.path.lexists(box / f"{job}.{state.value}") for state in (State.WAITING, State.RUNNING))


def ended(box: Path, job: str) -> bool:
    path = box / f"{job}.done"
    return path.is_file() and path.lstat().st_uid != BOB


def why_not(daemon: Daemon, case: Planted) -> str:
    """What is wrong with the end of a case; empty if nothing is."""
    box = daemon.spool
    status, done = read_status(box / f"{case.job}.status"), box / f"{case.job}.done"
    if not ended(box, case.job) or status is None or status.outcome is None:
        return f"not done: {sorted(path.name for path in box.glob(case.job + '.*'))}"
    if done.lstat().st_uid != case.uid or f"/{case.job}.img" not in done.read_text():
        return "another file than was asked for"
    if status.outcome.result is not Result.DONE or not status.restore_to.endswith(f"/{case.job}.img"):
        return f"its status is that of another: {status}"
    log = box / f"{case.job}.log"
    accepted = daemon.log(case.job).count("accepted from")
    if accepted != 1:
        return f"accepted {accepted} times"
    for path in (log, box / f"{case.job}.status"):
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_uid != 0 or found.st_nlink != 1:
            return f"{path.name} is not the daemon's"
        if as_user(BOB, path.read_bytes):
            return f"bob reads {path.name}"
        if case.uid and not as_user(case.uid, path.read_bytes):
            return f"its submitter cannot read {path.name}"
    return ""


def namesakes(folder: Path, asked: Round) -> Iterator[Case]:
    """Two control files of one name, in any two states: every request that was open is carried out, once."""
    daemon = Daemon(folder, "", queue="workers = 4")
    pairs = asked.dice().sample(list(itertools.permutations(State, 2)), asked.times(42))
    pairs = list(dict.fromkeys([*pairs, (State.HELD, State.WAITING)]))
    with serving(daemon, environment=QUICK, fake=True):
        wanted = {count: drop_both(daemon, f"w{count}", pair) for count, pair in enumerate(pairs)}
        end = time.monotonic() + 30 + len(pairs)
        while (left := open_jobs(daemon.spool)) and time.monotonic() < end:
            for job in left:
                with_ends = (daemon.spool / f"{job}.{state.value}" for state in (State.WAITING, State.HELD))
                for path in with_ends:
                    with contextlib.suppress(FileNotFoundError):
                        if path.stat().st_mtime > time.time():
                            os.utime(path)  # it need not wait any longer
                with contextlib.suppress(PhdError, OSError):
                    requests.release(daemon.spool, job)
            time.sleep(0.2)
        ran = [path.read_text() for path in daemon.spool.glob("*.done")]
        for count, pair in enumerate(pairs):
            good = all(sum(f"/w{count}-{which}.img" in text for text in ran) == 1 for which in wanted[count])
            yield f"{pair[0].value} beside {pair[1].value}", good
        yield "nothing is left waiting", not open_jobs(daemon.spool)


def drop_both(daemon: Daemon, job: str, pair: tuple[State, State]) -> list[int]:
    """Put both there, each for later; which of them are requests. One is never put over the other: that would replace it."""
    wanted = []
    for which, state in enumerate(pair):
        new = daemon.spool / f".new-{job}"
        new.write_text(f'delta = "/fake/sleep=0"\nrestore_to = "{daemon.datastore}/{job}-{which}.img"\n')
        os.utime(new, (time.time() + 3600,) * 2)
        by_hand = state is State.HELD and which == 0
        try:
            durable.move(new, daemon.spool / f"{job}.{'job' if by_hand else state.value}")
        except FileExistsError:
            new.unlink()
            continue
        wanted += [] if state.final else [which]
        if which == 0 and not state.final:
            daemon.until(lambda: record(daemon.spool, job), "accepted")
        if by_hand:  # by a person, after it was accepted
            (daemon.spool / f"{job}.job").rename(daemon.spool / f"{job}.held")
    return wanted


def open_jobs(folder: Path) -> list[str]:
    ends = {f".{state.value}" for state in State if state not in FINAL}
    return [path.stem for path in folder.iterdir() if path.suffix in ends and not path.name.startswith(".")]


ODD = ("ж", "Łódź", "b\udcff", "a b", "n\nl", "%41", "-rf", "u\u0308", "x" * 200)


def encodings(folder: Path) -> Iterator[Case]:
    """Names that are no ASCII, of jobs, VMs and folders, in a locale that has nothing else."""
    lab = Lab(folder / "lab")
    made = lab.backup(os.urandom(300_000))
    renamed = lab.store / made.delta.path.split("/")[0].replace("CRM", "Büro")
    (lab.store / made.delta.path).parent.rename(renamed)
    delta = f"t:{renamed.name}/{made.delta.name}"
    daemon = Daemon(folder / "site", f'[targets.t]\nurl = "file://{lab.store}"\n', queue="workers = 2")
    try:
        with serving(daemon, environment=ASCII):
            for count, name in enumerate(ODD):
                daemon.drop(name, delta, disk=f"Ł{count}/p") if len(name) < 150 else long_drop(daemon, name, delta, count)
            for count, name in enumerate(ODD):
                good = daemon.ends(name, seconds=30) is State.DONE and daemon.disk(f"Ł{count}/p") == lab.disk.read_bytes()
                yield f"a job called {name!r}: {daemon.why(name)}", good
            daemon.end()
            yield "a clean end", daemon.process is not None and daemon.process.returncode == 0
    except Silent as silent:
        yield str(silent), False


def long_drop(daemon: Daemon, name: str, delta: str, count: int) -> None:
    (daemon.spool / ".long").write_text(f'delta = "{delta}"\nrestore_to = "{daemon.datastore}/Ł{count}/p.img"\n')
    (daemon.spool / ".long").rename(daemon.spool / f"{name}.job")


def reused_numbers(folder: Path, asked: Round) -> Iterator[Case]:
    """On an overlay `rm q.job` and a new one get the same inode: the new one runs, the old one never."""
    for name in ("lower", "upper", "work"):
        (folder / name).mkdir(parents=True)
    options = f"lowerdir={folder}/lower,upperdir={folder}/upper,workdir={folder}/work"
    with mounted(folder / "merged", "-t", "overlay", "-o", options, "overlay") as place:
        daemon = Daemon(folder / "site", "", spool=place / "spool", queue="workers = 2\nenabled = true")
        count = asked.times(20) + 3
        with serving(daemon, environment=QUICK, fake=True):
            for number in range(count):
                path, later = daemon.spool / f"q{number}.job", time.time() + 3600
                for which in ("old", "new"):
                    path.unlink(missing_ok=True)
                    path.write_text(f'delta = "/fake/sleep=0"\nrestore_to = "{daemon.datastore}/{which}{number}.img"\n')
                    os.utime(path, (later, later))
                    if which == "old":
                        end = time.monotonic() + 10
                        while not record(daemon.spool, f"q{number}") and time.monotonic() < end:
                            time.sleep(0.02)
            time.sleep(2.0)
            for path in daemon.spool.glob("*.job"):
                os.utime(path)
            for number in range(count):
                state, status = daemon.ends(f"q{number}", seconds=30), daemon.status(f"q{number}")
                yield f"q{number}: {state}", status is not None and status.restore_to.endswith(f"/new{number}.img")


def bugs(folder: Path, asked: Round) -> Iterator[Case]:
    """A bug that one job brings to light is that job's alone. tests/phd_daemon/test_one_job.py has them all, a short run one."""
    for count, fault in enumerate(FAULTS[: asked.times(len(FAULTS))]):
        daemon = Daemon(folder / f"{count}", "", queue="workers = 2")
        try:
            with serving(daemon, environment={**QUICK, "TEST_FAULT": fault}, fake=True):
                daemon.drop("auto-bad", "/fake/sleep=0")
                daemon.drop("good", "/fake/sleep=0")
                yield f"{fault}: the other job", daemon.ends("good", seconds=20) is State.DONE
                time.sleep(0.5)
                yield f"{fault}: the daemon", daemon.alive
                daemon.end(signal.SIGTERM)
        except Silent as silent:
            yield f"{fault}: {silent}", False


def names(asked: Round) -> Figure:
    if os.geteuid() != 0:
        raise NotRun("only root can play several users")
    held, of, wrong = 0, 0, ""
    with tempfile.TemporaryDirectory(prefix="phd-names-", dir="/tmp") as place:  # strangers must be able to pass through
        folder = Path(place)
        folder.chmod(0o755)
        parts = (
            in_a_drop_box(folder, asked),
            namesakes(folder / "namesakes", asked),
            encodings(folder / "encodings"),
            reused_numbers(folder / "overlay", asked),
            bugs(folder / "bugs", asked),
        )
        for part in parts:
            try:
                for what, good in part:
                    held, of = held + good, of + 1
                    wrong = wrong or ("" if good else what)
            except (Silent, subprocess.CalledProcessError) as error:
                of, wrong = of + 1, wrong or str(error)
    note = "0 jobs lost, none run in place of another, the loop alive" if held == of else wrong[:400]
    return Figure(held=held, of=of, note=note)


ROWS = (
    Row(
        id="R29",
        what="names in the way: 8 names, 7 kinds, 3 moments in a drop box, namesakes, encodings, inodes given away again, bugs",
        target="0 jobs lost, none run in place of another, loop alive",
        run=names,
        mutants=(
            "names:what_is_in_the_way_stays",
            "names:logs_are_for_everybody",
            "names:an_inode_is_a_file",
            "names:namesakes_wait_for_each_other",
            "names:a_bug_ends_the_loop",
            "names:the_locale_decides",
        ),
        mutant_share=0.06,
        short=0.05,
    ),
)
