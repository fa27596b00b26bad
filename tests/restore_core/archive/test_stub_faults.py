"""`sh DELTA` on bad days: flipped bits, the wrong Full, no space, a signal. The exact disk or a reason, and nothing left behind."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from restore_core.archive.header import HEAD_BYTES
from tests.lab import Lab
from tests.restore_core.archive.stub_shell import SHELLS, SMALL_TOOLS, full_path, path_of, sh, small_case, two_backups

FLIPS = 10
"""Of the whole file, and of the Delta as many again behind its head; 500 of each in tests/proof/test_stub.py."""


def flip(path: Path, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0] ^ (1 << bit % 8)
        file.seek(bit // 8)
        file.write(bytes([byte]))


def script_range(delta: Path) -> range:
    """Where the script's own text stands: a flip there may do anything to the script but must do no harm to the disk."""
    head = delta.read_bytes()[:HEAD_BYTES]
    return range(head.index(b"#: end\n") + 7, HEAD_BYTES)


@pytest.mark.parametrize("which", ["full", "delta"])
def test_flips(lab: Lab, which: str) -> None:
    old, new = small_case()
    made, delta = two_backups(lab, old, new)
    path = full_path(lab, made) if which == "full" else delta
    out, script = lab.folder / "out", script_range(delta) if which == "delta" else range(0)
    out.mkdir()
    dice, size = random.Random(20261122), path.stat().st_size
    places = [dice.randrange(size * 8) for _ in range(FLIPS)]
    if which == "delta":
        places += [dice.randrange(HEAD_BYTES * 8, size * 8) for _ in range(FLIPS)]
    for bit in places:
        flip(path, bit)
        ran = sh(delta, "restore", "--to", out / "x.vmdk")
        if ran.returncode == 0:
            assert (out / "x-flat.vmdk").read_bytes() == new
            assert bit // 8 in script, "an archive with a flipped bit was taken"
            shutil.rmtree(out)
            out.mkdir()
        assert os.listdir(out) == [], bit
        if bit // 8 not in script:
            found = sh(delta, "verify")
            assert found.returncode == 65 or (bit < 2000 * 8 and found.returncode), bit
            assert found.stderr
        flip(path, bit)
    assert sh(delta, "verify").returncode == 0


def test_a_flip_in_the_script_is_found_by_the_script(lab: Lab) -> None:
    """Its first lines check the digest of all of them, so that damage further down cannot run."""
    old, new = small_case()
    _, delta = two_backups(lab, old, new)
    flip(delta, (delta.read_bytes().index(b"publish() {") + 2) * 8)
    ran = sh(delta, "restore", "--to", lab.folder / "x.img")
    assert ran.returncode == 65
    assert "the head is damaged" in ran.stderr
    assert "DAMAGED" in sh(delta, "info").stdout


def test_cut_and_lengthened(lab: Lab) -> None:
    old, new = small_case()
    made, delta = two_backups(lab, old, new)
    for path in (delta, full_path(lab, made)):
        whole = path.read_bytes()
        for wrong in (whole[:-1], whole + b"\n", whole[: len(whole) // 2], b""):
            path.write_bytes(wrong)
            for command in (("restore", "--to", lab.folder / "x.img", "--full", full_path(lab, made)), ("verify",)):
                ran = sh(delta, *command)
                assert ran.returncode in ((0, 2, 65, 69) if not delta.read_bytes() else (65, 69)), command
                assert ran.stderr or not delta.read_bytes()
            assert not (lab.folder / "x.img").exists()
        path.write_bytes(whole)


def test_another_full(lab: Lab) -> None:
    old, new = small_case()
    made, delta = two_backups(lab, old, new)
    other = lab.folder / "other.phd"
    ours = full_path(lab, made).read_bytes()
    other.write_bytes(ours[:30] + bytes([ours[30] ^ 1]) + ours[31:])
    ran = sh(delta, "restore", "--to", lab.folder / "x.img", "--full", other)
    assert (ran.returncode, "not the Full of this Delta" in ran.stderr) == (65, True)
    ran = sh(delta, "restore", "--to", lab.folder / "x.img", "--full", "nowhere.phd")
    assert (ran.returncode, "no such file" in ran.stderr) == (69, True)
    assert not list(lab.folder.glob("x.img*"))


def test_what_is_there_is_not_touched(lab: Lab) -> None:
    old, new = small_case()
    _, delta = two_backups(lab, old, new)
    out = lab.folder / "out"
    out.mkdir()
    (out / "x-flat.vmdk").write_bytes(b"mine")
    (out / "f").mkdir()
    (out / "link.img").symlink_to("nowhere")
    (out / "sparse.vmdk").write_bytes(b"KDMV" + bytes(70_000))
    (out / "part.img.phd-part").write_bytes(b"theirs")
    (out / "used.img.lck").mkdir()
    names = sorted(os.listdir(out))
    refused = [
        "x.vmdk",
        "link.img",
        "y-flat.vmdk",
        "part.img",
        "used.img",
        'quo"te.vmdk',
        "no/../such/folder.img",
        "tab\t.img",
        ".vmdk",
        f"{'n' * 237}.img",
    ]
    for name in refused:
        ran = sh(delta, "restore", "--to", out / name)
        assert (ran.returncode, bool(ran.stderr)) == (73, True), name
    for name in ("link.img", "sparse.vmdk", "used.img"):
        assert sh(delta, "restore", "--to", out / name, "--overwrite").returncode == 73, name
    assert sorted(os.listdir(out)) == names
    assert (out / "x-flat.vmdk").read_bytes() == b"mine"
    assert sh(delta, "restore", "--to", out / "x.vmdk", "--overwrite").returncode == 0
    assert (out / "x-flat.vmdk").read_bytes() == new
    assert sh(delta, "restore", "--to", out / "x.vmdk", "--overwrite").returncode == 0


def test_an_odd_size_is_no_vmdk(lab: Lab) -> None:
    delta = lab.path(lab.backup(b"x" * 700).delta)
    ran = sh(delta, "restore", "--to", lab.folder / "x.vmdk")
    assert (ran.returncode, "raw name" in ran.stderr) == (73, True)


@pytest.fixture
def small_volume(lab: Lab) -> Path:
    """A file system of 3 MiB."""
    volume = lab.folder / "volume"
    volume.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", volume], capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs needs root")
    return volume


def test_no_space(lab: Lab, small_volume: Path) -> None:
    old = random.Random(1).randbytes(4 << 20)
    _, delta = two_backups(lab, old, old[::-1])
    try:
        ran = sh(delta, "restore", "--to", small_volume / "x.img")
        assert (ran.returncode, "not enough space" in ran.stderr) == (73, True)
        ran = sh(delta, "restore", "--to", small_volume / "x.img", "--thin")  # found out only while writing
        assert (ran.returncode, "No space left" in ran.stderr, "cannot be written" in ran.stderr) == (73, True, True)
        assert os.listdir(small_volume) == []
    finally:
        subprocess.run(["umount", small_volume], check=True)


def test_a_folder_that_cannot_be_written(lab: Lab) -> None:
    old, new = small_case()
    _, delta = two_backups(lab, old, new)
    ran = sh(delta, "restore", "--to", "/proc/x.img")
    assert (ran.returncode, "/proc" in ran.stderr) == (73, True)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_nothing(lab: Lab, shell: str, sent: signal.Signals) -> None:
    """The Full comes slowly; TERM goes to the script alone, as from `kill`, INT to all, as from the keyboard."""
    if shutil.which(SHELLS[shell][0]) is None:
        pytest.skip(f"{SHELLS[shell][0]} is not installed")
    old, new = small_case()
    made, delta = two_backups(lab, old, new)
    out, tools = lab.folder / "out", lab.folder / "bin"
    out.mkdir()
    env = {"PATH": path_of(tools, *SMALL_TOOLS, "sleep", "stty")}
    (tools / "curl").write_text(f"#!/bin/sh\ncat {full_path(lab, made)}\nsleep 1\n")
    (tools / "curl").chmod(0o755)
    program = [shutil.which(SHELLS[shell][0]) or "sh", *SHELLS[shell][1:], str(delta), "restore", "--to", str(out / "x.vmdk")]
    program += ["--full", "http://slow.example/full"]
    with subprocess.Popen(program, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        wait_for((out / "x-flat.vmdk.phd-part").exists)
        time.sleep(0.2)
        if sent is signal.SIGINT:
            os.killpg(process.pid, sent)
        else:
            process.send_signal(sent)
        assert process.wait(timeout=20) == 130
        assert os.listdir(out) == []
        assert process.stderr is not None
        assert "Interrupted" in process.stderr.read()
    wait_for(lambda: group_is_gone(process.pid))
    assert os.listdir(out) == []


def group_is_gone(group: int) -> bool:
    """Whether the workers behind the script have stopped as well."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def wait_for(true: object) -> None:
    assert callable(true)
    for _ in range(1000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it never happened")


def test_an_archive_whose_list_of_segments_is_empty_is_not_taken(lab: Lab, tmp_path: Path) -> None:
    """A planted bug: with an awk that says nothing the loop over the segments has nothing to do; that must not pass for a check."""
    old, new = small_case()
    _, delta = two_backups(lab, old, new)
    tools = tmp_path / "bin"
    env = {"PATH": path_of(tools, *SMALL_TOOLS)}
    (tools / "awk").unlink()
    (tools / "awk").write_text(f'#!/bin/sh\ncase "$*" in *zero*) exit 1 ;; esac\nexec {shutil.which("awk")} "$@"\n')
    (tools / "awk").chmod(0o755)
    ran = sh(delta, "restore", "--to", tmp_path / "x.img", env=env)
    assert (ran.returncode, "could not be checked" in ran.stderr) == (75, True)
    assert not list(tmp_path.glob("x.img*"))


def test_a_dd_that_writes_something_else_is_found(lab: Lab, tmp_path: Path) -> None:
    """A planted bug: one run lands in the wrong place; only the digests of the finished disk can tell."""
    old, new = small_case()
    _, delta = two_backups(lab, old, new)
    tools = tmp_path / "bin"
    env = {"PATH": path_of(tools, *SMALL_TOOLS)}
    (tools / "dd").unlink()
    (tools / "dd").write_text(
        f'#!/bin/sh\nfor a; do shift; case $a in seek=2) a=seek=3 ;; esac; set -- "$@" "$a"; done\nexec {shutil.which("dd")} "$@"\n'
    )
    (tools / "dd").chmod(0o755)
    ran = sh(delta, "restore", "--to", tmp_path / "x.img", env=env)
    assert (ran.returncode, "not what was backed up" in ran.stderr) == (65, True)
    assert not list(tmp_path.glob("x.img*"))
