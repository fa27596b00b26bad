"""R20: which backup -N means, and when a pass is due: in every zone, over summer time, under clocks that step."""

from __future__ import annotations

import datetime as dt
import os
import random
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

from phd_daemon.replication.schedule import Timer, note_start
from restore_core.replication.selection import Verdict
from tests.proof.scoreboard import ROOT, Figure, NotRun, Round, Row
from tests.proof.volumes import program
from tests.restore_core.replication.facts import decide, delta, rule

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia", "America/Sao_Paulo")
HOUR = 3600.0


def pick(dice: random.Random) -> str:
    """One rule over some backups, judged by hand; what is wrong, "" for nothing."""
    zone, days = dice.choice(ZONES), dice.choice((0, 0, 1, 2, 7, 60))
    # Half of them around the two nights of a year in which a wall clock jumps.
    middle = dice.choice((dt.datetime(2026, 3, 29), dt.datetime(2026, 10, 25), dt.datetime(2026, 6, 15)))  # noqa: DTZ001  a wall clock
    stamps = sorted(
        {f"{middle + dt.timedelta(minutes=dice.randrange(-4000, 4000)):%Y-%m-%d %H:%M}" for _ in range(dice.randrange(9))}
    )
    now = (middle + dt.timedelta(days=days, minutes=dice.randrange(-4500, 4500))).replace(tzinfo=dt.UTC)
    entries = [delta(stamp, zone=zone) for stamp in stamps]
    found = decide(entries, rules=[rule(days)], now=now)
    by_hand = [dt.datetime.fromisoformat(stamp).replace(tzinfo=ZoneInfo(zone)).timestamp() for stamp in stamps]
    fitting = sorted(time for time in by_hand if time <= now.timestamp() - days * 86400)
    if not fitting:
        right = found.verdict is (Verdict.TOO_NEW if entries else Verdict.NO_BACKUP)
    else:
        right = found.verdict is Verdict.RESTORE and found.entry is not None and found.entry.time.timestamp() == fitting[-1]
    return "" if right else f"{stamps} in {zone}, -{days} at {now}: {found.verdict} {found.entry}"


@dataclass(slots=True)
class Now:
    """The two clocks of a machine: the one on the wall, and its own."""

    wall: float = 1.8e9
    own: float = 0.0

    def timer(self, path: Path) -> Timer:
        """What a daemon that starts now has."""
        return Timer(path, clock=lambda: self.wall, monotonic=lambda: self.own)


def stepping(folder: Path, dice: random.Random) -> str:
    """Two days of a daemon's timer; the wall clock steps by up to two hours, either way, and the daemon is restarted at times."""
    path = folder / "started"
    path.unlink(missing_ok=True)
    now = Now()
    timer = now.timer(path)
    starts: list[float] = []
    steps: list[float] = []
    while now.own < 48 * HOUR:
        due = timer.due_in(HOUR)
        if due <= 0:
            timer.started()
            note_start(path, now.wall)
            starts.append(now.own)
            due = 1.0
        passed = min(due, dice.uniform(1, 900))
        now.wall, now.own = now.wall + passed, now.own + passed
        if dice.random() < 0.02:
            now.wall += dice.choice((-2 * HOUR, 2 * HOUR, dice.uniform(-2 * HOUR, 2 * HOUR)))
            steps.append(now.own)
        if dice.random() < 0.02:
            timer = now.timer(path)
    gaps = list(pairwise(starts))
    late = [gap for gap in gaps if gap[1] - gap[0] > HOUR + 1 + 2 * HOUR * any(gap[0] < step <= gap[1] for step in steps)]
    twice = [gap for gap in gaps if gap[1] - gap[0] < HOUR - 1 and not any(gap[0] < step <= gap[1] for step in steps)]
    return f"late {late[:2]}, twice {twice[:2]}, steps {steps[:4]}" if late or twice else ""


SPEED = 900
"""An hour takes 4 s."""

CLOCKWORK = """
import select, sys, time
from pathlib import Path
from phd_daemon.replication.schedule import Timer, note_start
path, hours = Path(sys.argv[1]), float(sys.argv[2])
timer, begin = Timer(path), time.time()
while time.time() < begin + hours * 3600:
    if timer.due_in(3600.0) <= 0:
        timer.started()
        note_start(path, time.time())
        print(time.time() - begin, time.strftime("%H:%M %Z"), flush=True)
    select.select([], [], [], 0.02)
"""
NIGHTS = (
    ("2026-03-29 00:30:00", "Europe/Berlin", "spring forward"),
    ("2026-10-25 00:30:00", "Europe/Berlin", "fall back"),
    ("2026-11-01 00:30:00", "America/New_York", "fall back, elsewhere"),
    ("2026-06-01 12:00:00", "Asia/Kathmandu", "another zone"),
)


def night(folder: Path, number: int) -> subprocess.Popen[str]:
    """A timer of the real clocks of the C library, under faketime."""
    start, zone, _ = NIGHTS[number]
    command = [program("faketime"), "-f", f"@{start} x{SPEED}", sys.executable, "-c", CLOCKWORK, str(folder / f"n{number}"), "4.5"]
    environment = {**os.environ, "TZ": zone}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def through_the_night(started: subprocess.Popen[str]) -> str:
    """Five starts in four and a half hours, an hour apart, whatever the wall says."""
    out, errors = started.communicate(timeout=120)
    if started.returncode != 0:
        return f"exit {started.returncode}: {errors[-200:]}"
    starts = [float(line.split()[0]) for line in out.splitlines()]
    gaps = [round((b - a) / 60) for a, b in pairwise(starts)]
    # A minute of a busy machine is a quarter of an hour here.
    right = len(starts) in (4, 5) and all(59 <= gap <= 90 for gap in gaps)
    return "" if right else f"{len(starts)} starts, minutes between them {gaps}"


def clocks(asked: Round) -> Figure:
    dice = asked.dice()
    picks, walks = asked.times(5000), asked.times(200)
    wrong = [why for _ in range(picks) if (why := pick(dice))]
    wrong += [why for _ in range(walks) if (why := stepping(asked.folder, dice))]
    nights, faked = list(range(len(NIGHTS))) if asked.share >= 0.5 else [], f"{len(NIGHTS)} nights under faketime"
    try:
        program("faketime")
    except NotRun as lacks:
        nights, faked = [], str(lacks)
    faked = faked if nights or asked.share >= 0.5 else "no night under faketime, which takes 18 s"
    running = [(NIGHTS[number][2], night(asked.folder, number)) for number in nights]
    wrong += [f"{name}: {why}" for name, started in running if (why := through_the_night(started))]
    of = picks + walks + len(nights)
    return Figure(held=of - len(wrong), of=of, note="; ".join([f"{picks} picks, {walks} walks of two days, {faked}", *wrong[:3]]))


ROWS = (
    Row(
        id="R20",
        what="time: -N in every zone, hourly passes over summer time and stepping clocks",
        target="0 wrong picks, 0 lost or double hourly runs",
        run=clocks,
        mutants=("clocks:a_day_is_a_date", "clocks:the_wall_clock_alone"),
        mutant_share=0.1,
        short=0.05,
    ),
)
