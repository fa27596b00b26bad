"""R15: control files and rules as nobody should write them: each is accepted, or rejected with a reason, and the daemon goes on."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from phd_daemon.spool.control_file import check_policy, parse_control_file, render_control_file
from phd_daemon.spool.layout import FINAL, State
from restore_core.errors import BadData, BadRule, PhdError
from restore_core.naming import printable
from restore_core.replication.rules import Problem, parse_rules
from tests.proof.daemon import Daemon, Silent, serving
from tests.proof.scoreboard import ROOT, Figure, Round, Row

ROOTS = (Path("/vmfs/volumes"),)
KEYS = (
    *("delta", "restore_to", "full", "overwrite", "vmx", "provision", "readback", "priority", "note", "owner", "delta.x"),
    *(r'"\u001b[2J"', r'"\u202e"', r'"a\nb"'),
)
GOOD = b'delta = "nas1:a/00-C.vmdk.delta-2007.09.21-0300-070920-1601.phd"\nrestore_to = "/vmfs/volumes/d/C.vmdk"\n'
GOOD_RULES = b"USE_DAYS=-7\nRESTORE:CRM|*|%|CRM.vmdk|/vmfs/volumes/d/ronzo|-2\n# a comment\nRESTORE:A|b|00|c.vmdk|x\n"
_VALUES = st.one_of(
    st.text(max_size=40).map(lambda text: f'"{text}"'),
    st.sampled_from(("true", "1", "-0", "9" * 400, "nan", "[" * 50, "{}", "1979-05-27", "'''", '"ours"', "0x7f", "[[1]]", "''")),
    st.sampled_from(("/vmfs/volumes/d/../x", "/vmfs/volumes/d/x%00.vmdk", "nas1:../x", "nas1:/x", "/dev/sda")).map(
        lambda s: f'"{s}"'
    ),
)
_LINES = st.tuples(st.sampled_from(KEYS), st.sampled_from((" = ", "=", " ", ": ")), _VALUES).map("".join)
_RULE = st.lists(st.text(alphabet="*%|/-:.\tRESTOREabc09é\x1b\u202e", max_size=30), max_size=8).map("|".join)
CONTROLS = st.one_of(
    st.binary(max_size=300),
    st.lists(_LINES, max_size=8).map(lambda lines: "\n".join(lines).encode("utf-8", "surrogateescape")),
    st.tuples(st.integers(0, len(GOOD)), st.binary(max_size=20)).map(lambda cut: GOOD[: cut[0]] + cut[1] + GOOD[cut[0] :]),
    st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)).map(lambda x: GOOD[: x[0]] + bytes((x[1],)) + GOOD[x[0] + 1 :]),
)
RULES = st.one_of(
    st.binary(max_size=300),
    st.lists(_RULE.map(lambda rule: f"RESTORE:{rule}"), max_size=6).map(lambda lines: "\n".join(lines).encode()),
    st.tuples(st.integers(0, len(GOOD_RULES)), st.binary(max_size=20)).map(
        lambda cut: GOOD_RULES[: cut[0]] + cut[1] + GOOD_RULES[cut[0] :]
    ),
)


def read_control(text: bytes) -> None:
    """Raises `AssertionError` for an answer that is none."""
    try:
        control = parse_control_file(text)
        check_policy(control, roots=ROOTS, target_names=("nas1",), submitter="root", limits=None)
    except PhdError as error:
        told(error)
        return
    again = parse_control_file(render_control_file(control).encode())
    if again != control:
        raise AssertionError(f"{text!r} means {control}, and written again {again}")


def read_rules(text: bytes) -> None:
    """The same for rules: each problem has a line and a reason, and no line brings down the others."""
    try:
        found = parse_rules(text, roots=ROOTS)
    except BadRule as error:
        told(error)
        return
    for problem in found.problems:
        if (
            not problem.message
            or problem.line < 1
            or printable(problem.message.replace("%", "")) != problem.message.replace("%", "")
        ):
            raise AssertionError(f"{text!r}: {problem}")


def told(error: PhdError | Problem) -> None:
    """A reason, and nothing raw in it."""
    for line in error.message.split("\n"):
        if not line or printable(line.replace("%", "")) != line.replace("%", ""):
            raise AssertionError(f"the reason is {error.message!r}")


def fuzzed(asked: Round) -> str:
    """Hypothesis over both grammars; what it found, "" for nothing."""
    count = asked.times(5000)
    quiet = settings(
        max_examples=count, database=None, deadline=None, suppress_health_check=list(HealthCheck), phases=(Phase.generate,)
    )
    try:
        for strategy, read in ((CONTROLS, read_control), (RULES, read_rules)):
            seed(asked.seed)(quiet(given(strategy)(read)))()
    except Exception as error:  # noqa: BLE001  whatever it is: it should not be
        return f"hypothesis: {str(error)[:300]}"
    return ""


ATHERIS = """
import sys
import atheris
with atheris.instrument_imports(include=["phd_daemon", "restore_core", "tomllib"]):
    from tests.proof.rows.input import read_control, read_rules
def one(data):
    (read_control if data[:1] < b"\\x80" else read_rules)(data[1:])
atheris.Setup(sys.argv, one)
atheris.Fuzz()
"""


def covered(asked: Round) -> tuple[str, int]:
    """Atheris, which follows the branches of the code; what it found, and how many inputs it tried."""
    corpus = asked.folder / "corpus"
    corpus.mkdir()
    for number, text in enumerate((b"\0" + GOOD, b"\xff" + GOOD_RULES, *(b"\0" + bad for bad in BAD.values() if len(bad) < 4096))):
        (corpus / str(number)).write_bytes(text)
    seconds = max(1, round(60 * asked.share))
    limits = [
        f"-max_total_time={seconds}",
        "-max_len=4096",
        f"-seed={asked.seed}",
        f"-artifact_prefix={asked.folder}/",
        "-timeout=5",
    ]
    ran = subprocess.run(
        [sys.executable, "-c", ATHERIS, str(corpus), *limits], cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
    )
    tried = re.findall(r"Done (\d+) runs", ran.stderr)
    if ran.returncode != 0 or not tried:
        found = ran.stderr.find("Uncaught Python exception")
        return f"atheris: exit {ran.returncode}: {ran.stderr[max(found, 0) :][:600]}", 0
    return "", int(tried[-1])


BAD: dict[str, bytes] = {
    "cut-short": GOOD[:-9],
    "no-delta": GOOD.split(b"\n")[1],
    "not-utf8": GOOD + b'note = "\xff\xfe"\n',
    "nul": GOOD + b"\0",
    "only-nul": bytes(500),
    "bom-and-crlf": b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n"),
    "old-mac": GOOD.replace(b"\n", b"\r"),
    "too-large": GOOD + b"#" * (64 << 10),
    "just-fits": GOOD + b"#" * ((64 << 10) - len(GOOD)),
    "a-million-lines": b"\n" * 60_000,
    "deep": b"note = " + b"[" * 30_000,
    "deeper": b"a" + b".a" * 20_000 + b" = 1",
    "long-number": b"priority = " + b"9" * 50_000,
    "long-float": b"priority = 1e" + b"9" * 5000,
    "a-date": GOOD + b"note = 1979-13-45",
    "twice": GOOD + GOOD,
    "unknown": GOOD + b"colour = 'blue'\n",
    "wrong-kinds": b"delta = 1\nrestore_to = true\npriority = 'x'\noverwrite = 'yes'\nvmx = []\nnote = 1.5\n",
    "full": GOOD.replace(b"delta-2007.09.21-0300-070920-1601", b"gz-070920-1601"),
    "outside": GOOD.replace(b"/vmfs/volumes/d/C", b"/etc/C"),
    "up": GOOD.replace(b"d/C", b"d/../../../etc/C"),
    "unknown-target": GOOD.replace(b"nas1", b"nas9"),
    "escape": GOOD + b'note = "\\u001b[2J"\n',
    "raw-key": GOOD + b'"\\u001b[2J\\u202e" = 1\n',
    "raw-target": GOOD.replace(b"nas1:a/", b"nas1:\\u009b/../"),
    "shell": b"#!/bin/sh\nrm -rf /\n",
    "xml": b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/shadow'>]><a>&b;</a>",
    "gzip": b"\x1f\x8b\x08" + bytes(range(256)),
    "99999": GOOD[:-30],
    "100000": GOOD[:-30],
    "9" * 100: GOOD[:-30],
}
"""The bad ones: of the spoolers before us (a file of no length, a number with one digit more, one cut short), and our own."""


def dropped(daemon: Daemon) -> Iterator[str]:
    """Every bad file to a real daemon: what is wrong with how it ended."""
    for name, text in BAD.items():
        aside = daemon.spool / f".{name}.new"
        aside.write_bytes(text)
        aside.rename(daemon.spool / f"{name}.job")
    daemon.drop("good", "/fake/sleep=0")
    try:
        daemon.until(lambda: all(daemon.state_of(name) in FINAL for name in (*BAD, "good")), "all at their end")
    except Silent as silent:
        yield str(silent)[:300]
    for name in BAD:
        state, log = daemon.state_of(name), daemon.log(name)
        if state is not State.REJECTED or "rejected: " not in log or len(log.splitlines()) < 2:
            yield f"{name}: {state}, {log[-200:]!r}"
        try:
            told(BadData(daemon.why(name)))
        except AssertionError as raw:
            yield f"{name}: {raw}"
    if daemon.state_of("good") is not State.DONE:
        yield f"the good one: {daemon.state_of('good')}"


def damaged_records(daemon: Daemon) -> Iterator[str]:
    """The daemon's own files, cut short and mangled while it was down: no job is lost (CUPS 46, 371, 3253, 3715, 3882)."""
    jobs = [f"q{number}" for number in range(12)]
    for job in jobs:
        daemon.drop(job, "/fake/sleep=0", state="held")
        os.utime(daemon.spool / f"{job}.held", (4e9, 4e9))
        (daemon.spool / f"{job}.held").rename(daemon.spool / f"{job}.job")
    daemon.until(lambda: all((daemon.spool / ".state" / f"{job}.json").exists() for job in jobs), "accepted")
    daemon.end(signal.SIGKILL)
    for number, job in enumerate(jobs):
        for path in (daemon.spool / ".state" / f"{job}.json", daemon.spool / f"{job}.status"):
            data = path.read_bytes()
            spoiled = (b"", data[: len(data) // 2], b"[" * 20_000, b'{"version": "x"}', b"\xff" * 99, None)[number % 6]
            path.unlink() if spoiled is None else path.write_bytes(spoiled)
        os.utime(daemon.spool / f"{job}.job", (1e9, 1e9))
    daemon.up(fake=True)
    try:
        daemon.until(lambda: all(daemon.state_of(job) in FINAL for job in jobs), "all done")
    except Silent as silent:
        yield str(silent)[:300]
    yield from (f"{job}: {daemon.state_of(job)}" for job in jobs if daemon.state_of(job) is not State.DONE)


def bad_input(asked: Round) -> Figure:
    wrong = [why] if (why := fuzzed(asked)) else []
    # Its start alone takes seconds: a short run goes without.
    why, tried = covered(asked) if asked.share >= 0.03 else ("", 0)
    wrong += [why] if why else []
    daemon = Daemon(asked.folder, '[targets.nas1]\nurl = "file:///nowhere"\n', queue="workers = 4")
    with serving(daemon, fake=True):
        for found in (*dropped(daemon), *damaged_records(daemon)):
            wrong.append(found)
        exits = daemon.said().count("Traceback") + daemon.said().count("a bug of ours")
    wrong += [f"{exits} tracebacks of the daemon"] if exits else []
    shutil.rmtree(asked.folder / "corpus", ignore_errors=True)
    of = 2 * asked.times(5000) + len(BAD) + 12 + 1
    note = f"{2 * asked.times(5000)} by hypothesis, {tried} by atheris, {len(BAD)} known bad ones, 12 damaged records"
    return Figure(held=of - len(wrong), of=of, note="; ".join([note, *wrong[:3]]))


ROWS = (
    Row(
        id="R15",
        what="bad control files, rules and records: hypothesis, atheris, the known bugs of other spoolers",
        target="0 daemon exits, each accepted or rejected with a reason",
        run=bad_input,
        mutants=("input:a_reason_is_told_raw", "input:a_deep_file_is_a_bug"),
        mutant_share=0.05,
        short=0.02,
    ),
)
