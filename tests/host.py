"""A whole host in one folder, as tests and proofs of the installed `phd` want it: a VM, a target, a datastore, a spool."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PHD = Path(sys.executable).with_name("phd")
MIB = 1 << 20


def program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


class Host:
    """A folder with a VM on an ext4 disk, a target, a datastore, a spool, and phd.toml."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.spool, self.store = folder, folder / "spool", folder / "store"
        self.vm, self.datastore = folder / "ISCSI01" / "CRM", folder / "volumes" / "ISCSI02"
        for path in (self.spool, self.store, self.vm, self.datastore, folder / "state"):
            path.mkdir(parents=True)
        self.spool.chmod(0o700)
        self.config = folder / "phd.toml"
        self.config.write_text(
            f'state_dir = "{folder / "state"}"\n[queue]\nspool = "{self.spool}"\nworkers = 2\n[replication]\nenabled = false\n'
            f'[datastores]\nroots = ["{folder / "volumes"}"]\n[targets.nas1]\nurl = "file://{self.store}"\n'
        )
        self.flat = self.vm / "CRM-flat.vmdk"

    def make_vm(self) -> None:
        """A 64 MiB ext4 disk with real files, its descriptor and VMX."""
        files = self.folder / "files"
        (files / "etc").mkdir(parents=True)
        dice = random.Random(1)
        for number in range(40):
            (files / "etc" / f"file {number}").write_bytes(dice.randbytes(dice.randrange(1, 300_000)))
        with self.flat.open("wb") as file:
            file.truncate(64 * MIB)
        subprocess.run([program("mkfs.ext4"), "-q", "-F", "-d", str(files), str(self.flat)], check=True)
        (self.vm / "CRM.vmdk").write_text(
            "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n"
            f'createType="vmfs"\nRW {64 * MIB // 512} VMFS "CRM-flat.vmdk"\nddb.adapterType = "lsilogic"\n'
        )
        (self.vm / "CRM.vmx").write_text(
            'uuid.bios = "56 4d 12 2a 0e d7 3b 92-2f 46 ae e9 45 6b 20 74"\n'
            'scsi0.present = "TRUE"\nscsi0:0.present = "TRUE"\nscsi0:0.fileName = "CRM.vmdk"\n'
        )

    def change(self, seed: int) -> bytes:
        """Write into the disk here and there; all of its bytes."""
        dice = random.Random(seed)
        with self.flat.open("r+b") as file:
            for _ in range(5):
                file.seek(dice.randrange(20 * MIB, 60 * MIB))
                file.write(dice.randbytes(dice.randrange(1, 100_000)))
        return self.flat.read_bytes()

    def phd(self, *arguments: str, expected: int = 0) -> str:
        ran = subprocess.run(
            [PHD, arguments[0], "--config", self.config, *arguments[1:]], capture_output=True, text=True, check=False
        )
        assert ran.returncode == expected, ran.stdout + ran.stderr
        return ran.stdout

    def backup(self) -> str:
        """Back the VM up; the new Delta's reference."""
        made = json.loads(self.phd("backup", str(self.vm / "CRM.vmx"), "--target", "nas1", "--json"))
        (entry,) = made if isinstance(made, list) else made["disks"]
        return str(entry["delta"])

    @contextmanager
    def daemon(self) -> Iterator[subprocess.Popen[bytes]]:
        """A daemon that serves the spool, and ends well."""
        with (self.folder / "daemon.said").open("wb") as said:
            process = subprocess.Popen([PHD, "daemon", "--config", self.config], stdout=said, stderr=said)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(90)
        assert code == 0, (self.folder / "daemon.said").read_text()

    def drop(self, name: str, **fields: object) -> None:
        """A control file, written aside and renamed into the spool."""
        text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in fields.items())
        (self.folder / "aside").write_text(text)
        (self.folder / "aside").rename(self.spool / f"{name}.job")

    def ends(self, name: str, state: str) -> str:
        """Wait until the job is in that final state; its log."""
        for _ in range(600):
            if (self.spool / f"{name}.{state}").exists():
                return (self.spool / f"{name}.log").read_text()
            time.sleep(0.1)
        pytest.fail(f"{name} is not {state}: {sorted(p.name for p in self.spool.iterdir())}")
