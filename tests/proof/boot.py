"""A machine that boots real systemd with the shipped unit, in a container of its own: `systemd-nspawn`, about two seconds.

    /usr of this machine, read-only      the program and Python below /opt, read-only      everything else empty

The unit is the shipped one; a drop-in says where Python lies, and shortens the times that one waits for.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from tests.proof.scoreboard import PLANTED, ROOT, NotRun

UNIT = ROOT / "systemd" / "phd-daemon.service"
PATIENCE = 150
PHD = "#!/opt/python/bin/python3\nfrom phd_daemon.cli.main import main\nmain()\n"
INSIDE = "/opt/phd/src/tests/proof/inside"
PYTHON = "/opt/python/bin/python3"


def unit_text() -> str:
    """The unit as it is shipped."""
    return UNIT.read_text()


def boot(folder: Path, *, target: Path, delta: str) -> dict[str, Any]:
    """Boot, restore `delta` of `target` twice, probe; what the witness saw. Raises `NotRun` where nothing can be booted."""
    if os.geteuid() != 0:
        raise NotRun("booting a container needs root")
    if shutil.which("systemd-nspawn") is None:
        raise NotRun("systemd-nspawn is not installed (Debian package systemd-container)")
    root, out = _tree(folder / "root"), folder / "out"
    out.mkdir()
    units = _units(folder / "units", delta)
    binds = [f"--bind-ro={units / name}:/run/systemd/system/{name}" for name in os.listdir(units)]
    binds += [f"--bind={out}:/out", f"--bind-ro={target}:/nas"]
    tried = _run(root, [], ["/bin/true"])
    if tried.returncode:
        raise NotRun(f"systemd-nspawn cannot start anything here: {tried.stderr.strip()[-200:]}")
    ran = _run(root, binds, ["--boot", "--console=pipe", "systemd.unit=witness.service"])
    seen = out / "seen.json"
    if not seen.exists():
        raise NotRun(f"systemd does not boot in a container here: {(ran.stdout + ran.stderr).strip()[-300:]}")
    found: dict[str, Any] = json.loads(seen.read_text())
    found["disks"] = {path.name: path.read_bytes() for path in (root / "vmfs/volumes/ds").glob("*.img")}
    return found


def _run(root: Path, binds: list[str], rest: list[str]) -> subprocess.CompletedProcess[str]:
    site = sysconfig.get_path("purelib")
    command = [
        "systemd-nspawn",
        "--quiet",
        "--register=no",
        "--keep-unit",
        f"--machine=phd-proof-{os.getpid()}",
        f"--directory={root}",
        "--private-network",
        "--bind-ro=/usr",
        f"--bind-ro={sys.base_prefix}:/opt/python",
        f"--bind-ro={ROOT}:/opt/phd/src",
        f"--bind-ro={site}:/opt/phd/site",
    ]
    option = rest[0].startswith("--")
    return subprocess.run(
        [*command, *binds, *([] if option else ["--"]), *rest],
        # The container's own filter knows no Landlock; what is measured here is the unit's.
        env={**os.environ, "SYSTEMD_SECCOMP": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


def _tree(root: Path) -> Path:
    folders = (
        "usr",
        "etc/phd/restore",
        "opt/python",
        "opt/phd/bin",
        "opt/phd/src",
        "opt/phd/site",
        "vmfs/volumes/ds",
        "nas",
        "out",
    )
    for name in (*folders, "vmfs/volumes/other", "home/u", "root", "tmp", "var/lib", "run", "proc", "sys", "dev", "secrets"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    (root / "etc/phd/restore").chmod(0o700)
    (root / "etc/machine-id").touch()
    (root / "etc/os-release").write_text("ID=test\n")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")
    (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    (root / "etc/phd/phd.toml").write_text('[targets.nas1]\nurl = "file:///nas"\n')
    for name in ("home/u/secret", "root/secret", "tmp/of-others"):
        (root / name).write_text("secret")
    (root / "secrets/nas1").write_text("canary\n")
    (root / "secrets/nas1").chmod(0o600)
    (root / "opt/phd/bin/phd").write_text(PHD)
    (root / "opt/phd/bin/phd").chmod(0o755)
    return root


def _units(folder: Path, delta: str) -> Path:
    """The shipped unit, the probe under the same settings, and the witness that drives both."""
    folder.mkdir()
    text = unit_text()
    path, planted = "/opt/phd/src:/opt/phd/site", os.environ.get("PHD_PROOF_PLANTED", "")
    if planted:
        path = f"/opt/phd/src/{PLANTED.relative_to(ROOT)}:{path}"
    place = (
        f"[Unit]\nDefaultDependencies=no\n[Service]\nEnvironment=PYTHONPATH={path}\nEnvironment=PHD_PROOF_PLANTED={planted}\n"
        "LoadCredential=nas1:/secrets/nas1\nRestartSec=100ms\n"
    )
    # A hang is told after 30 s where it is shipped. Only shortened, never set: a unit without one must not get one here.
    daemon = text.replace("WatchdogSec=30", "WatchdogSec=2")
    probe = text.replace("ExecStart=/opt/phd/bin/phd daemon", f"ExecStart={PYTHON} -m tests.proof.inside.probe")
    probe = probe.replace("Type=notify\n", "Type=oneshot\n").replace("Restart=on-failure\n", "")
    for name, unit, more in (
        ("phd-daemon.service", daemon, "StandardOutput=file:/out/daemon\nStandardError=file:/out/daemon\n"),
        ("phd-probe.service", probe, "StandardOutput=file:/out/probe\nStandardError=file:/out/probe.error\n"),
    ):
        (folder / name).write_text(unit)
        (folder / f"{name}.d").mkdir()
        (folder / f"{name}.d" / "place.conf").write_text(place + more)
    (folder / "witness.service").write_text(
        "[Unit]\nDefaultDependencies=no\nSuccessAction=exit\nFailureAction=exit\nWants=phd-daemon.service\n"
        f"[Service]\nType=oneshot\nEnvironment=PYTHONPATH={path}\nExecStart={PYTHON} {INSIDE}/witness.py {delta}\n"
    )
    return folder
