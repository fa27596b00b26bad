"""`python -m tests.demo`: exit 0 when the restored disk is the original, 1 when anything at all is off."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tests.demo.machine import change_vm, make_vm, need_tools
from tests.demo.shell import DemoFailed, Shell, show, title

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """\
state_dir = "{folder}/state"

[queue]
spool = "{folder}/restore"

[replication]
enabled = false
rules = "{folder}/vmdks.auto"
ledger = "{folder}/restored.log"

[datastores]
roots = ["{folder}/volumes"]

[targets.nas1]
url = "file://{folder}/nas1"
"""
ORIGINAL, RESTORED = "volumes/DS1/CRM/CRM", "volumes/DS2/ronzo/CRM"


def main() -> int:
    folder = Path(os.environ.get("PHD_DEMO_DIR") or ROOT / ".work" / "demo").absolute()
    shell = Shell(folder=folder)
    try:
        need_tools(shell)
        _fresh(folder)
        first_day = _backups(shell)
        _restore(shell)
        _look(shell, first_day)
    except DemoFailed as failed:
        print(f"\nThe demo failed: {failed}", file=sys.stderr)
        return 1
    print("\nThe restored disk is the original, bit for bit.")
    return 0


def _fresh(folder: Path) -> None:
    if folder.exists() and not (folder / "phd.toml").exists() and any(folder.iterdir()):
        raise DemoFailed(f"{folder} is not a folder of this demo; nothing is removed there")
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("nas1", "state", "volumes/DS2"):
        (folder / name).mkdir(parents=True)
    (folder / "restore").mkdir(mode=0o700)
    (folder / "phd.toml").write_text(CONFIG.format(folder=folder))
    print("Everything happens in one folder, with a configuration of its own:")
    show(f"cd {folder}")
    show("export PHD_CONFIG=$PWD/phd.toml")


def _backups(shell: Shell) -> str:
    """Both backups; returns the SHA-256 of the disk on the first day."""
    make_vm(shell, shell.folder / "volumes" / "DS1" / "CRM")
    first_day = shell.type(f"sha256sum < {ORIGINAL}-flat.vmdk")
    title("the first backup: a Full, and its empty Delta")
    shell.type(f"phd backup {ORIGINAL}.vmx --target nas1 --full")
    change_vm(shell, shell.folder / f"{ORIGINAL}-flat.vmdk")
    title("the second backup: only what changed")
    shell.type(f"phd backup {ORIGINAL}.vmx --target nas1")
    shell.type("phd backups")
    shell.type("ls -lh nas1/*")
    return first_day


def _restore(shell: Shell) -> None:
    spool = shell.folder / "restore"
    title("the daemon, and a control file")
    daemon = shell.start("phd daemon", shell.folder / "daemon.said", ready="ready")
    try:
        delta = max(shell.folder.glob("nas1/*/*.delta-*.phd"), key=lambda path: path.stat().st_mtime_ns)
        lines = f'delta = "nas1:{delta.parent.name}/{delta.name}"\nrestore_to = "{shell.folder}/{RESTORED}.vmdk"\nvmx = "as-is"\n'
        (shell.folder / "crm.job").write_text(lines)
        shell.type("cat crm.job")
        shell.type("mv crm.job restore/crm.job")
        shell.follow(
            spool / "crm.log", tuple(spool / f"crm.{end}" for end in ("done", "failed", "rejected", "cancelled")), limit=120
        )
        shell.type("phd queue")
        shell.type("ls -l restore")
        if not (spool / "crm.done").exists():
            raise DemoFailed("the job did not end as crm.done")
    finally:
        _stop(daemon)


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    title("the daemon stops when it is told to")
    show("kill %1")
    daemon.send_signal(signal.SIGTERM)
    code = daemon.wait(timeout=100)
    if code != 0:
        raise DemoFailed(f"the daemon ended with {code}; it said what is in daemon.said")


def _look(shell: Shell, first_day: str) -> None:
    title("is it the same disk?")
    shell.type(f"cmp {ORIGINAL}-flat.vmdk {RESTORED}-flat.vmdk && echo same")
    if shutil.which("qemu-img") is None:
        print("(qemu-img is not installed here: not asked)")
    else:
        shell.type(f"qemu-img compare {ORIGINAL}.vmdk {RESTORED}.vmdk")
    shell.type(f"e2fsck -fn {RESTORED}-flat.vmdk 2>&1 | tail -n 1")
    shell.type(f"debugfs -R 'cat /etc-of-the-vm/hostname' {RESTORED}-flat.vmdk 2>>debugfs.said | head -n 1")
    title("and without any of our software: the Full is a gzip of the disk as it was on the first day")
    if shell.type("zcat nas1/*/*.gz-*.phd | sha256sum") != first_day:
        raise DemoFailed("the Full does not hold the disk of the first day")
    title("where everything lies")
    shell.type("ls -lsh volumes/DS1/CRM volumes/DS2/ronzo")
    print(f"backups    {shell.folder}/nas1\nspool      {shell.folder}/restore\nsettings   {shell.folder}/phd.toml")
    print(f"restored   {shell.folder}/{RESTORED}.vmdk\ndaemon     {shell.folder}/daemon.said")


if __name__ == "__main__":
    sys.exit(main())
