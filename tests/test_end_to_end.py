"""The main job as a person does it: the installed `phd`, a real ext4 disk, a real daemon, control files dropped into its spool."""

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


@pytest.fixture
def host(tmp_path: Path) -> Host:
    host = Host(tmp_path)
    host.make_vm()
    return host


@pytest.fixture
def daemon(host: Host) -> Iterator[subprocess.Popen[bytes]]:
    with (host.folder / "daemon.said").open("wb") as said:
        process = subprocess.Popen([PHD, "daemon", "--config", host.config], stdout=said, stderr=said)
    yield process
    process.send_signal(signal.SIGTERM)
    assert process.wait(90) == 0, (host.folder / "daemon.said").read_text()


def test_a_dropped_control_file_becomes_the_exact_disk(host: Host, daemon: subprocess.Popen[bytes]) -> None:
    host.backup()
    data = host.change(2)
    delta = host.backup()
    to = host.datastore / "ronzo" / "CRM.vmdk"
    host.drop("crm", delta=delta, restore_to=str(to), vmx="as-is", note="asked for by phone")
    log = host.ends("crm", "done")
    assert (to.parent / "CRM-flat.vmdk").read_bytes() == data
    assert (to.parent / "CRM.vmx").read_bytes() == (host.vm / "CRM.vmx").read_bytes()
    assert "accepted from" in log.splitlines()[0]
    assert "asked for by phone" in log
    assert "planned: 256 blocks" in log
    assert "done: " in log.splitlines()[-1]
    assert "crm" in host.phd("queue")
    subprocess.run([program("e2fsck"), "-fn", str(to.parent / "CRM-flat.vmdk")], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(
        [program("qemu-img"), "compare", "-f", "vmdk", "-F", "raw", str(to), str(host.flat)], check=True, stdout=subprocess.DEVNULL
    )
    assert daemon.poll() is None


def test_a_replica_is_refreshed_and_a_strangers_is_left_alone(host: Host, daemon: subprocess.Popen[bytes]) -> None:
    del daemon
    first = host.backup()
    to, flat = host.datastore / "CRM.vmdk", host.datastore / "CRM-flat.vmdk"
    host.drop("one", delta=first, restore_to=str(to), overwrite="ours")
    host.ends("one", "done")
    data = host.change(3)
    second = host.backup()
    host.drop("two", delta=second, restore_to=str(to), overwrite="ours")
    assert "refresh in place, through a redo file" in host.ends("two", "done")
    assert flat.read_bytes() == data
    with flat.open("r+b") as file:
        file.write(b"a day's work in an emergency")
    host.drop("three", delta=first, restore_to=str(to), overwrite="ours")
    assert "somebody has written this disk" in host.ends("three", "failed")
    assert flat.read_bytes()[28:] == data[28:]
    host.drop("four", delta=first, restore_to=str(to), overwrite=True)
    host.ends("four", "done")


def test_what_ends_where(host: Host, daemon: subprocess.Popen[bytes]) -> None:
    del daemon
    delta = host.backup()
    full = next(host.store.rglob("*.gz-*"))
    inside = str(host.datastore / "CRM.vmdk")
    host.drop("full", delta=f"nas1:{full.relative_to(host.store)}", restore_to=inside)
    assert "A Full cannot be queued" in host.ends("full", "rejected")
    host.drop("outside", delta=delta, restore_to="/somewhere/CRM.vmdk")
    assert "not in a datastore" in host.ends("outside", "rejected")
    host.drop("key", delta=delta, restore_to=inside, overwite=True)
    assert "did you mean 'overwrite'" in host.ends("key", "rejected")
    host.drop("absent", delta="nas1:no/such.phd", restore_to=inside)
    assert "failed:" in host.ends("absent", "failed")
    (host.datastore / "CRM.vmdk").write_text("something")
    (host.datastore / "CRM-flat.vmdk").write_text("something")
    host.drop("exists", delta=delta, restore_to=inside)
    assert "failed:" in host.ends("exists", "failed")
    whole = bytearray(full.read_bytes())
    whole[len(whole) // 2] ^= 1
    full.write_bytes(whole)
    host.drop("flipped", delta=delta, restore_to=str(host.datastore / "new.vmdk"))
    log = host.ends("flipped", "failed")
    assert "frame" in log or "block" in log
    assert sorted(p.name for p in host.datastore.iterdir()) == ["CRM-flat.vmdk", "CRM.vmdk"]
    host.phd("verify", delta, expected=65)


def test_a_disk_that_qemu_holds_is_not_touched(host: Host) -> None:
    delta = host.backup()
    to, flat = host.datastore / "CRM.vmdk", host.datastore / "CRM-flat.vmdk"
    host.phd("restore", delta, "--to", str(to))
    before = flat.read_bytes()
    host.change(4)
    newer = host.backup()
    holding = [program("qemu-io"), "-f", "vmdk", str(to)]
    with subprocess.Popen(holding, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as qemu:
        assert qemu.stdin is not None
        assert qemu.stdout is not None
        qemu.stdin.write(b"length\n")
        qemu.stdin.flush()
        qemu.stdout.readline()
        host.phd("restore", newer, "--to", str(to), "--overwrite", expected=73)
        assert flat.read_bytes() == before
        qemu.stdin.close()
    host.phd("restore", newer, "--to", str(to), "--overwrite")
    assert flat.read_bytes() == host.flat.read_bytes()
