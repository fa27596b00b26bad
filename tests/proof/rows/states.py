"""R6: every state that a power cut may leave, made one by one, and recovered from.

Submit, accept, claim, run, finish, the ledger and the change of a setting are recorded step by step (crash_states). Each state is
laid out where it was recorded and handed to the product's own keeper, worker and ledger. Files get new inodes there, so the
inodes in records and receipts are changed to fit.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from phd_daemon.config.edit import SettingsFile, find
from phd_daemon.config.load import load_config
from phd_daemon.daemon.starts import work_order
from phd_daemon.spool.layout import State
from phd_daemon.spool.purge import purge
from phd_daemon.worker import attempt
from restore_core.errors import PhdError
from restore_core.replication.ledger import read_ledger
from restore_core.targets.base import ArchiveRef
from tests.proof.crash_states import Recorder, Tree, cuts, state
from tests.proof.host import Host, Stock, stock
from tests.proof.scoreboard import Figure, Round, Row

MOST = 700
"""States that a full run recovers from, chosen at random of all that differ."""


def jobs(goods: Stock) -> dict[str, ArchiveRef]:
    return {"auto-a": goods.with_vmx, "auto-b": goods.with_vmx}


def life(host: Host, goods: Stock, recorder: Recorder) -> None:
    """What is recorded: two jobs from submit to ledger, then a setting."""
    host.entered = lambda job: recorder.promise(f"entered {job}")  # type: ignore[method-assign]  # told in the order in which it happens
    for job, ref in jobs(goods).items():
        host.submit(job, ref, disk=f"{job}.vmdk")
        recorder.promise(f"submitted {job}")
        host.settle()
        claim = host.keeper.claim(job)
        if claim is None:
            raise AssertionError(f"{job} cannot be claimed")
        order = work_order(host.config, host.spool, claim)
        attempt.attempt(order, attempt.StopSign(host.spool.folder, job))
        os.close(claim.lock_fd)
        host.settle()
        recorder.promise(f"done {job}")
    SettingsFile(host.config).change(find("queue.workers"), "2")
    recorder.promise("workers 2")


def fit(top: Path, became: dict[int, Path], real: dict[int, int]) -> None:
    """Records of inodes name the files that lie there now, and disks have the times that their receipts say."""
    lies = {real[number]: became[number] for number in sorted(became)}  # of two that had one inode the later
    for path in (*top.glob("spool/.state/*.json"), *top.glob("spool/.state/receipts/*.json")):
        with contextlib.suppress(ValueError):
            data = json.loads(path.read_bytes())
            for part in (data, data.get("identity", {})):
                if part.get("inode") in lies:
                    os.utime(lies[part["inode"]], ns=(data["mtime_ns"], data["mtime_ns"]))
                    part["inode"] = lies[part["inode"]].stat().st_ino
            if "identity" in data:
                data["identity"]["generation"] = 0
            path.write_text(json.dumps(data))


def wrong_before(host: Host, goods: Stock, promised: set[str]) -> str:
    """What is not as it must be as it lies there, before anybody recovers anything."""
    states, entered = host.states(), {line.job for line in read_ledger(host.ledger).lines}
    for job, ref in jobs(goods).items():
        seen, right = host.disk(f"{job}.vmdk"), goods.bytes_of[ref]
        if seen not in (None, right):
            return f"{job}: a bad disk under its final name"
        if f"submitted {job}" in promised and job not in states:
            return f"{job} is lost"
        if f"entered {job}" in promised and job not in entered:
            return f"{job}: its ledger line is lost"
        if (job in entered or states.get(job) is State.DONE) and seen != right:
            return f"{job} is {'entered' if job in entered else 'done'}, and its disk is not there"
    return ""


def wrong_after(host: Host, goods: Stock, promised: set[str]) -> str:
    """What is not as it must be when the queue has been worked off."""
    host.run_all()
    states, entered = host.states(), [line.job for line in read_ledger(host.ledger).lines]
    for job, ref in jobs(goods).items():
        if job not in states and f"submitted {job}" not in promised:
            continue
        if states.get(job) is not State.DONE:
            return f"{job} ended as {states.get(job)}"
        if host.disk(f"{job}.vmdk") != goods.bytes_of[ref]:
            return f"{job}: the disk is not what was backed up"
        if entered.count(job) != 1:
            return f"{job}: {entered.count(job)} ledger lines"
    purge(host.spool, older_than=1e9, now=time.time() + 7200, busy=())
    disks = [f"{job}{end}" for job in jobs(goods) for end in (".vmdk", "-flat.vmdk")]
    return f"left behind: {stray}" if (stray := host.stray(*disks)) else ""


def check(top: Path, tree: Tree, real: dict[int, int], goods: Stock, promised: set[str]) -> str:
    """Lay a state out and recover from it. What went wrong; empty if nothing did."""
    fit(top, tree.lay_out(top), real)
    try:
        workers = load_config(top / "phd.toml").queue.workers
    except PhdError as error:
        return f"the settings are broken: {error.message}"
    if workers not in ((2,) if "workers 2" in promised else (4, 2)):
        return f"the settings say {workers} workers"
    host = Host(top, goods)
    return wrong_before(host, goods, promised) or wrong_after(host, goods, promised)


def states(before: Tree, recorder: Recorder, asked: Round) -> Iterator[tuple[str, Tree, set[str]]]:
    """The states that differ, as many as are asked for, each with a name."""
    seen: dict[str, tuple[int, frozenset[int], bool]] = {}
    for end, lost, torn in cuts(recorder.steps, asked.dice()):
        tree, promised = state(before, recorder.steps, end, lost, torn=torn)
        digest = hashlib.sha256(repr((sorted(promised), sorted(tree.folders.items()))).encode())
        for number in sorted(tree.files):
            digest.update(b"%d %d" % (number, len(tree.files[number])) + tree.files[number])
        seen.setdefault(digest.hexdigest(), (end, lost, torn))
    every = sorted(seen.values(), key=lambda each: (each[0], sorted(each[1]), each[2]))
    chosen = asked.dice().sample(every, min(len(every), asked.times(MOST)))
    for end, lost, torn in chosen:
        tree, promised = state(before, recorder.steps, end, lost, torn=torn)
        yield f"after step {end} of {len(recorder.steps)}, lost {sorted(lost)}{', torn' if torn else ''}", tree, promised


def explore(asked: Round) -> Figure:
    goods = stock(asked.folder / "stock", asked.dice())
    top = asked.folder / "host"
    host = Host(top, goods)
    (top / "state" / "catalog").mkdir(parents=True, exist_ok=True)
    before, recorder = Tree.of(top), Recorder(top)
    with recorder.recording():
        life(host, goods, recorder)
    shutil.rmtree(top)
    wrong, count = [], 0
    for name, tree, promised in states(before, recorder, asked):
        count += 1
        if said := check(top, tree, recorder.real, goods, promised):
            wrong.append(f"{name}: {said}")
        shutil.rmtree(top)
    return Figure(held=count - len(wrong), of=count, note="; ".join([f"{len(recorder.steps)} steps recorded", *wrong[:1]]))


ROWS = (
    Row(
        id="R6",
        what="crash states of submit, accept, run, finish, ledger and settings, each recovered from",
        target="at least 500 states, 0 violations",
        run=explore,
        mutants=(
            "power:files_are_not_synced",
            "power:folders_are_not_synced",
            "power:ledger_before_the_disk",
            "power:done_before_the_outcome",
        ),
        mutant_share=0.5,
        short=0.1,
    ),
)
