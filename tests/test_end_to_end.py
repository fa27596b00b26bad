"""The main job as a person does it: the installed `phd`, a real ext4 disk, a real daemon, control files dropped into its spool."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host import Host, program


@pytest.fixture
def host(tmp_path: Path) -> Host:
    host = Host(tmp_path)
    host.make_vm()
    return host


@pytest.fixture
def daemon(host: Host) -> Iterator[subprocess.Popen[bytes]]:
    with host.daemon() as process:
        yield process


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
    assert sorted(p.name for p in host.datastore.iterdir()) == [".phd-datastore", "CRM-flat.vmdk", "CRM.vmdk"]
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
