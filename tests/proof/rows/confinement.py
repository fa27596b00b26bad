"""R24: what the daemon and its workers may do, and what not, under the shipped unit on a machine that boots real systemd."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from typing import Any

from phd_daemon.worker import sandbox
from tests.lab import Lab
from tests.proof import boot
from tests.proof.scoreboard import Figure, NotRun, Round, Row
from tests.test_systemd_unit import complaints, exposure_is_low

ALLOWED = {
    "write a datastore", "make a folder there", "allocate a disk", "write /etc/phd", "write the spool", "write state_dir",
    "read a target", "an inet socket", "start a program", "tell systemd", "read its credential", "chmod its own file", "a memfd",
    "a pidfd", "no core files", "the /tmp of others",
    "worker writes its datastore", "worker reads a target", "worker reads its credential", "worker an inet socket",
}  # fmt: skip
"""All else that the probe tries must be refused."""


def cases(asked: Round) -> Iterator[tuple[str, bool]]:
    """Each thing that must hold, and whether it did."""
    if shutil.which("systemd-analyze") is None:
        raise NotRun("systemd-analyze is not installed (Debian package systemd)")
    have = sandbox.available()
    if not (have.landlock and have.seccomp):
        raise NotRun(f"this kernel has not what is measured: {have.describe()}")
    shipped = asked.folder / "phd-daemon.service"
    shipped.write_text(boot.unit_text())
    (asked.folder / "copy").mkdir()
    yield "systemd-analyze verify says nothing", complaints(boot.unit_text(), asked.folder / "copy") == ""
    yield "exposure at most 1.5", exposure_is_low(shipped)
    lab = Lab(asked.folder / "lab")
    data = asked.dice().randbytes(3 << 20) + bytes(1 << 20)
    made = lab.backup(data)
    seen = boot.boot(asked.folder, target=lab.store, delta=made.delta.path)
    yield from _of_probe(seen.get("probe", {}))
    yield from _of_daemon(seen, data)


def _of_probe(found: dict[str, str]) -> Iterator[tuple[str, bool]]:
    yield "the probe ran", len(found) > 40
    for name, answer in found.items():
        if name not in ("status", "held"):
            yield f"tried to {name}: {answer}", (answer == "done") is (name in ALLOWED)
    status = found.get("status", "")
    yield f"no capability, no new privileges, a filter: {status}", status == "CapEff=0000000000000000 NoNewPrivs=1 Seccomp=2"


def _of_daemon(seen: dict[str, Any], data: bytes) -> Iterator[tuple[str, bool]]:
    yield f"nothing broke: {seen.get('broke', '')} {seen.get('journal', '')[-300:] if 'broke' in seen else ''}", "broke" not in seen
    log = seen.get("log", "")
    yield f"first restore: {seen.get('first')} {log[-300:]}", seen.get("first") == "done"
    yield (
        "its log says that it is confined",
        re.search(r"confined: executes nothing \(Landlock ABI \d+, seccomp\)", log) is not None,
    )
    said = seen.get("doctor", {})
    found = [f"{one['check']}: {one['what']}" for one in said.get("findings", ())]
    looked = "findings" in said and not any("hardened" in what for what in said["unseen"])
    yield f"phd doctor looks at the unit, and finds it as it is shipped: {found or said}", looked and found == []
    yield f"a daemon that hangs is started again: {seen.get('hang')}", bool(seen.get("hang", {}).get("restarted"))
    yield f"second restore: {seen.get('second')}", seen.get("second") == "done"
    yield "both disks are exact", seen["disks"] == {"first.img": data, "second.img": data}
    yield f"stop: {seen.get('stop')}", seen.get("stop", {}).get("result") == "Result=success"


def confined(asked: Round) -> Figure:
    found = list(cases(asked))
    wrong = [what for what, held in found if not held]
    seconds = next((re.search(r"'seconds': ([\d.]+)", what) for what, _ in found if "hangs" in what), None)
    tried = sum(what.startswith("tried to ") for what, _ in found)
    note = f"{tried} actions tried; a hung daemon was up again after {seconds[1]} s (WatchdogSec=2)" if seconds else ""
    return Figure(held=len(found) - len(wrong), of=len(found), note="; ".join([*wrong[:2], note]).strip("; "))


ROWS = (
    Row(
        id="R24",
        what="confinement under real systemd",
        target="exposure at most 1.5, every action as expected, exec denied to workers, a hung daemon started again",
        run=confined,
        mutants=(
            "confinement:a_unit_that_protects_nothing",
            "confinement:a_unit_without_a_watchdog",
            "confinement:a_sandbox_that_only_says_so",
        ),
        mutant_share=1.0,
        short=1.0,
    ),
)
