"""R40: files out of a file system that its own tool made of a random tree, through the confined child, into a folder."""

from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
from pathlib import Path

from phd_daemon.operations.files import WantedFiles, get_files, parse_where
from restore_core.serve.taken import TakenFiles
from tests.guest_disk import MIB, FileDisk, ext
from tests.lab import go_on
from tests.proof.scoreboard import Figure, NotRun, Round, Row

_OPTIONS = (
    ("-t", "ext4"),
    ("-t", "ext4", "-b", "1024"),
    ("-t", "ext4", "-O", "bigalloc"),
    ("-t", "ext4", "-O", "meta_bg,^resize_inode"),
    ("-t", "ext4", "-O", "inline_data", "-I", "512"),
    ("-t", "ext3", "-b", "1024"),
    ("-t", "ext2", "-b", "4096"),
)
_TARGETS = ("a0", "../a1", "../../../etc", "/etc/passwd", "d/../../..", ".", "..", "a0/..", "d0/a2", "../../../../../../tmp")


def files_out(asked: Round) -> Figure:
    """Each case is one tree."""
    if shutil.which("mke2fs", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None:
        raise NotRun("mke2fs is not installed (Debian package e2fsprogs)")
    dice = asked.dice()
    wrong = [_one_tree(asked.folder / str(number), dice) for number in range(asked.times(60))]
    failures = [one for one in wrong if one]
    return Figure(held=len(wrong) - len(failures), of=len(wrong), note=f"first: {failures[0]}" if failures else "byte for byte")


def _one_tree(folder: Path, dice: random.Random) -> str:
    """What is wrong with one tree; "" if nothing."""
    guest, to = folder / "guest", folder / "host" / "to"
    options = dice.choice(_OPTIONS)
    _tree(guest, dice)
    try:
        image = ext(folder / "image", guest, *options, size=48 * MIB)
    except subprocess.CalledProcessError as error:
        raise NotRun(f"mke2fs {' '.join(options)}: {error.stderr[-200:]!r}") from error
    to.parent.mkdir()
    taken = get_files(FileDisk(image), WantedFiles(where=(parse_where("disk:"),), to=to), go_on, lambda _: None)
    wrong = _compare(guest, to / "disk", taken)
    if os.listdir(to.parent) != ["to"] or os.listdir(to) != ["disk"]:
        wrong = "something lies outside of the folder"
    shutil.rmtree(folder)
    return f"{' '.join(options)}: {wrong}" if wrong else ""


def _tree(folder: Path, dice: random.Random, depth: int = 0) -> None:
    folder.mkdir(parents=True)
    files = []
    for number in range(dice.randrange(1, 8)):
        path = folder / (f"a{number}" if dice.random() < 0.7 else f"odd\n\udcff{'n' * dice.randrange(200)}{number}")
        with path.open("wb") as file:
            for _ in range(dice.randrange(6)):
                file.seek(dice.choice((0, 0, 59, 4096, 12 * 1024, 268 * 1024, 3 * MIB)), os.SEEK_CUR)
                file.write(dice.randbytes(dice.choice((1, 60, 61, 150, 1024, 4097, 70_000))))
        path.chmod(dice.choice((0o644, 0o4755, 0o2711, 0o600, 0o1777)))
        os.utime(path, ns=(0, dice.randrange(-(10**9), 2 * 10**9) * 10**9))
        files.append(path)
    if dice.random() < 0.5:
        os.link(files[0], folder / "second")
    for number in range(dice.randrange(3)):
        (folder / f"link{number}").symlink_to(dice.choice(_TARGETS))
    if dice.random() < 0.3:
        os.mkfifo(folder / "fifo")
    for number in range(dice.randrange(3) if depth < 3 else 0):
        _tree(folder / f"d{number}", dice, depth + 1)


def _compare(guest: Path, here: Path, taken: TakenFiles) -> str:
    left = {one.path for one in taken.left_out}
    for where, folders, names in os.walk(guest):
        for name in [*folders, *names]:
            path = Path(where, name)
            there = here / path.relative_to(guest)
            facts = path.lstat()
            if stat.S_ISLNK(facts.st_mode):
                if there.is_symlink() and not os.path.realpath(there).startswith(f"{os.path.realpath(here)}"):
                    return f"{there.name} leads out"
            elif stat.S_ISFIFO(facts.st_mode):
                if os.path.lexists(there) or not any(one.endswith("/fifo") for one in left):
                    return f"{there.name} is there, or was not named"
            elif stat.S_ISREG(facts.st_mode) and (bad := _differs(path, there)):
                return bad
    return "" if all(one.rpartition("/")[2].startswith(("link", "fifo")) for one in left) else f"left out: {sorted(left)}"


def _differs(path: Path, there: Path) -> str:
    try:
        mine, theirs = path.lstat(), there.lstat()
    except OSError as error:
        return f"{path.name!r} is not there: {error}"
    if path.read_bytes() != there.read_bytes():
        return f"{path.name!r} has other bytes"
    if theirs.st_mode & 0o7000 or stat.S_IMODE(mine.st_mode) & 0o777 != stat.S_IMODE(theirs.st_mode):
        return f"{path.name!r} has mode {theirs.st_mode:o}"
    return "" if mine.st_mtime_ns // 10**9 == theirs.st_mtime_ns // 10**9 else f"{path.name!r} has time {theirs.st_mtime}"


ROWS = (
    Row(
        id="R40",
        what="random trees in ext2-4 of seven kinds, with holes, odd names and links that lead out, through phd get",
        target="each file byte for byte with its time and mode, no setuid; no link leads out; nothing outside of the folder",
        run=files_out,
        mutants=(
            "files_out:makes_every_link",
            "files_out:keeps_setuid",
            "files_out:forgets_holes",
            "files_out:cuts_lists_of_lists",
            "files_out:cuts_inline_data",
        ),
        mutant_share=0.4,
        short=0.05,
    ),
)
