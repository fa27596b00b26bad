"""`sh DELTA` on a terminal: the menu, its defaults, what it says while it works."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.lab import BLOCK, Lab
from tests.proof.forge import taken_apart
from tests.restore_core.archive.stub_shell import SHELLS, full_path, small_case, two_backups

TIMEOUT = 30


class Terminal:
    """A program on a pseudo-terminal, and somebody who reads before typing."""

    def __init__(self, *command: str, cwd: Path) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            os.execvp(command[0], command)  # noqa: S606 - the child of a fork has to become something
        self.text = ""

    def expect(self, words: str) -> str:
        """Read until these words; what came before them."""
        end = time.monotonic() + TIMEOUT
        while words not in self.text:
            ready, _, _ = select.select([self.fd], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"never came: {words!r}; so far: {self.text!r}"
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                data = b""
            assert data, f"ended before {words!r}; so far: {self.text!r}"
            self.text += data.decode(errors="replace").replace("\r\n", "\n")
        before, _, self.text = self.text.partition(words)
        return before

    def answer(self, words: str, text: str = "") -> str:
        """Wait for a question and answer it; Enter alone takes the default."""
        before = self.expect(words)
        self.expect("]: ")
        os.write(self.fd, text.encode() + b"\n")
        return before

    def end(self) -> int:
        """Read what is left, and wait for the exit code."""
        while True:
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                break
            if not data:
                break
            self.text += data.decode(errors="replace")
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.mark.parametrize("shell", SHELLS)
def test_nothing_but_enter(lab: Lab, shell: str) -> None:
    if shutil.which(SHELLS[shell][0]) is None:
        pytest.skip(f"{SHELLS[shell][0]} is not installed")
    old, new = small_case()
    _, delta = two_backups(lab, old, new)
    out = lab.folder / "out"
    out.mkdir()
    menu = Terminal(*SHELLS[shell], str(delta), cwd=out)
    shown = menu.answer("Choose [1")
    for words in ("virtual machine   CRM", "disk.img", f"{len(new)} bytes", "2026-03-01 03:02:00 UTC", ".gz-260301-0301.phd"):
        assert words in shown
    for line in ("1  restore the VMDK", "2  verify the Full", "3  verify the Delta", "4  restore the VMX", "5  write a stub"):
        assert line in shown
    for question in (
        f"Full: path or URL [{delta.parent}/",
        "Restore to [./disk.img",
        "Leave holes for zeros (thin)? y or n [n",
        "Start? y or n [y",
    ):
        menu.answer(question)
    menu.expect("./disk.img: restored and verified")
    menu.answer("Choose [q")
    assert menu.end() == 0
    assert (out / "disk.img").read_bytes() == new


def test_every_entry(lab: Lab) -> None:
    made, delta = two_backups(lab, *small_case())
    moved = full_path(lab, made).rename(lab.folder / "elsewhere.phd")
    menu = Terminal("sh", str(delta), cwd=lab.folder)
    menu.answer("Choose", "2")
    menu.expect("was not found")
    menu.answer("Full: path or URL [none")
    menu.expect("no such file")  # and the menu is there again
    menu.answer("Choose", "2")
    menu.answer("Full: path or URL", str(moved))
    menu.expect("has its SHA-256, and is the Full of this Delta")
    menu.answer("Choose", "3")
    menu.expect("every section has its SHA-256")
    menu.answer("Choose", "4")
    menu.answer("Folder for the VMX [.")
    menu.expect("it holds no VMX")
    menu.answer("Choose", "5")
    menu.answer("Stub [./disk.vmdk", "./crm.vmdk")
    menu.expect("./crm.vmdk: written")
    menu.answer("Choose", "6")
    menu.expect("full-sha256=")
    menu.answer("Choose", "h")
    menu.expect("Exit codes:")
    menu.answer("Choose", "q")
    assert menu.end() == 0


def test_second_thoughts(lab: Lab) -> None:
    """A folder that cannot be made, a name that is taken: the menu goes on."""
    old, new = small_case()
    _, delta = two_backups(lab, old, new)
    (lab.folder / "crm.vmdk").write_text('RW 1 FLAT "crm-flat.vmdk" 0\n')
    menu = Terminal("sh", str(delta), cwd=lab.folder)
    menu.answer("Choose", "1")
    menu.answer("Full: path or URL")
    menu.answer("Restore to", "crm.vmdk/folder.img")
    menu.answer("thin", "y")
    menu.answer("Start?")
    menu.expect("no such folder")
    menu.answer("Choose", "1")
    menu.answer("Full: path or URL")
    menu.answer("Restore to", "crm.vmdk")
    menu.answer("crm.vmdk is there. Replace it? y or n [n", "y")
    menu.answer("thin")
    menu.answer("Start?")
    menu.expect("restored and verified")
    menu.answer("Choose [q")
    assert menu.end() == 0
    assert (lab.folder / "crm-flat.vmdk").read_bytes() == new
    assert not list(lab.folder.glob("*.phd-part"))


def test_a_hang_up_and_an_interrupt_end_it(lab: Lab) -> None:
    delta = lab.path(lab.backup(b"x" * 512).delta)
    menu = Terminal("sh", str(delta), cwd=lab.folder)
    menu.expect("Choose [1]: ")
    os.write(menu.fd, b"\x04")
    assert menu.end() == 0
    menu = Terminal("sh", str(delta), cwd=lab.folder)
    menu.expect("Choose [1]: ")
    os.write(menu.fd, b"\x03")
    assert menu.end() == 130


def test_progress_is_for_a_terminal(lab: Lab) -> None:
    """64 MiB and more are told about, in the words of 2007."""
    old = b"".join(bytes([n]) * BLOCK for n in range(1, 256)) + b"x" * 257 * BLOCK
    _, delta = two_backups(lab, old, old[BLOCK:] + b"y" * BLOCK)
    menu = Terminal("sh", str(delta), "restore", "--to", "x.img", cwd=lab.folder)
    told = menu.expect("restored and verified")
    assert "\rFull: 50%, 64 mb of 128 mb, at " in told
    assert "\rCheck: 100%, 128 mb of 128 mb, at " in told
    assert menu.end() == 0
    (lab.folder / "x.img").unlink()


def test_help_ends_with_the_head(lab: Lab) -> None:
    """What lies behind the head may look like a line of help."""
    made = lab.backup(b"x" * BLOCK)
    assert made.full is not None
    forged = taken_apart(lab.path(made.delta), lab.path(made.full))
    forged.sections["vmx"] = b"\n#h \x1b[2Jnot from us\n"
    forged.write()
    printed = subprocess.run(["sh", lab.path(made.delta), "--help"], capture_output=True, check=True).stdout
    assert b"By hand" in printed
    assert b"not from us" not in printed
