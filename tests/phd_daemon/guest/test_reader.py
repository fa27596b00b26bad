"""A child reads the guest's file system; whatever that file system or the child itself says, the parent ends with a typed error."""

from __future__ import annotations

import random
import sys
import textwrap
from pathlib import Path

import pytest

from phd_daemon.guest.reader import GuestReader
from restore_core.errors import BadArchive, BadData, TargetUnavailable, UsageError
from restore_core.serve.file_systems.guest_file import GuestFacts
from restore_core.serve.partitions import Partition, read_partitions
from tests.guest_disk import BIG, MIB, FileDisk, ext, fat, need_library, ntfs, source, xfs
from tests.lab import go_on


class Collected:
    """A visitor that takes everything."""

    def __init__(self) -> None:
        self.files: dict[str, GuestFacts] = {}
        self.content: dict[str, bytes] = {}
        self.problems: list[str] = []
        self._last = ""

    def found(self, facts: GuestFacts, depth: int) -> bool:
        assert depth >= 0
        self._last = facts.name
        self.files[facts.name] = facts
        self.content[facts.name] = b""
        return not facts.problem and facts.kind in ("file", "folder")

    def data(self, piece: bytes) -> None:
        self.content[self._last] += piece

    def hole(self, length: int) -> None:
        assert length > 0

    def ended(self, problem: str) -> None:
        self.problems += [problem] if problem else []

    def left(self, problem: str) -> None:
        self.problems += [problem] if problem else []


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return source(tmp_path_factory.mktemp("guest"))


@pytest.fixture(scope="module")
def ext4(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ext(tmp_path_factory.mktemp("image") / "ext4", files, "-t", "ext4", size=16 * MIB)


def part_of(disk: FileDisk) -> Partition:
    return read_partitions(disk).partitions[0]


def walked(disk: FileDisk, *path: str) -> Collected:
    seen = Collected()
    with GuestReader(disk, part_of(disk), go_on) as reader:
        reader.walk(path, seen)
    return seen


def test_files_come_through_the_child_as_they_are(ext4: Path) -> None:
    seen = walked(FileDisk(ext4), "etc")
    assert seen.content["big"] == BIG
    assert seen.content["lat\udce9n"] == b"latin"
    assert seen.files["fifo"].problem == "is a FIFO"
    assert seen.problems == []


def test_a_small_file_costs_few_bytes_of_the_disk(ext4: Path) -> None:
    disk = FileDisk(ext4)
    walked(disk, "etc", "fstab")
    assert disk.bytes_read < MIB


def test_one_child_answers_several_walks_and_is_confined(ext4: Path) -> None:
    disk = FileDisk(ext4)
    with GuestReader(disk, part_of(disk), go_on) as reader:
        assert "executes nothing" in reader.confined
        for _ in range(3):
            seen = Collected()
            reader.walk(("etc", "fstab"), seen)
            assert seen.content["fstab"].startswith(b"UUID")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("nope",), "there is no /nope"),
        (("etc", "fstab", "x"), "is no folder"),
        (("etc", "abs", "x"), "is a link to /etc/passwd; links of a guest are not followed"),
        (("etc", "in", "x"), "is a link to deep/er"),
        (("etc", "new\nlines"), "there is no /etc/new%0Alines"),
    ],
)
def test_a_path_that_leads_nowhere_is_a_usage_error(ext4: Path, path: tuple[str, ...], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        walked(FileDisk(ext4), *path)


class _BadBlocks(FileDisk):
    """A disk whose archive has a damaged block from some offset on, or whose target is gone."""

    def __init__(self, path: Path, error: Exception, begin: int) -> None:
        super().__init__(path)
        self._error, self._begin = error, begin

    def read(self, offset: int, length: int) -> bytes:
        if offset + length > self._begin and offset < self._begin + 64 * 1024:
            raise self._error
        return super().read(offset, length)


def test_a_bad_block_is_told_in_the_words_of_the_archive_and_the_other_files_are_read(ext4: Path) -> None:
    at = ext4.read_bytes().index(BIG[: 1 << 16])
    seen = walked(_BadBlocks(ext4, BadArchive("block 7 is bad in every copy"), at + (1 << 20)), "etc")
    assert seen.problems == ["block 7 is bad in every copy"]
    assert seen.content["fstab"].startswith(b"UUID")


def test_a_target_that_is_gone_ends_the_walk_with_its_error(ext4: Path) -> None:
    at = ext4.read_bytes().index(BIG[: 1 << 16])
    with pytest.raises(TargetUnavailable, match="nas1 does not answer"):
        walked(_BadBlocks(ext4, TargetUnavailable("nas1 does not answer"), at + (1 << 20)), "etc")


@pytest.mark.parametrize("kind", ["ext4", "ext3", "FAT16", "XFS", "NTFS"])
def test_flipped_bytes_end_in_a_typed_error_or_a_problem_and_never_elsewhere(kind: str, files: Path, tmp_path: Path) -> None:
    """The superblock, the tables and the folders of each file system, hit at random."""
    makers = {
        "ext4": lambda p: ext(p, files, "-t", "ext4", size=16 * MIB),
        "ext3": lambda p: ext(p, files, "-t", "ext3", size=16 * MIB),
    }
    makers |= {"FAT16": lambda p: fat(p, files, size=10 * MIB), "XFS": lambda p: xfs(p, files), "NTFS": lambda p: ntfs(p, files)}
    if kind in ("XFS", "NTFS"):
        need_library("pyfsxfs", "pyfsntfs")
    path = makers[kind](tmp_path / "image")
    part = part_of(FileDisk(path))
    used = _blocks_that_hold_something(path)
    rng = random.Random(kind)
    ends = set()
    for _ in range(8):
        changed = _Changed(path, {rng.choice(used) + rng.randrange(4096): rng.randrange(256) for _ in range(400)})
        seen = Collected()
        try:
            with GuestReader(changed, part, go_on) as reader:
                reader.walk((), seen)
            ends.add("walked")
        except (BadData, UsageError) as error:
            ends.add(type(error).__name__)
    assert ends


def _blocks_that_hold_something(path: Path) -> list[int]:
    """The blocks of metadata, more or less: those that are neither zero nor random."""
    found = []
    with path.open("rb") as file:
        for at in range(0, min(path.stat().st_size, 80 * MIB), 4096):
            block = file.read(4096)
            if 100 < 4096 - block.count(0) < 3000:
                found.append(at)
    return found


class _Changed(FileDisk):
    def __init__(self, path: Path, changes: dict[int, int]) -> None:
        super().__init__(path)
        self._changes = changes

    def read(self, offset: int, length: int) -> bytes:
        data = bytearray(super().read(offset, length))
        for at, byte in self._changes.items():
            if offset <= at < offset + length:
                data[at - offset] = byte
        return bytes(data)


LIES = {
    "asks for bytes outside of the partition": "d.send(M.READ, READ.pack(size - 1, 2))",
    "asks for very much at once": "d.send(M.READ, READ.pack(0, 1 << 30))",
    "sends a message without end": "d._end.sendall(b'E\\xff\\xff\\xff\\xff')",
    "sends what is no message": "d._end.sendall(b'?' * 100)",
    "sends what is no record": "d.send(M.FOUND, b'[1]')",
    "sends deep JSON": "d.send(M.FOUND, b'[' * 100000)",
    "tells a size below zero": "d.send_record(M.FOUND, {'name': 'x', 'kind': 'file', 'size': -1, 'depth': 0})",
    "tells a depth that is no number": "d.send_record(M.FOUND, {'name': 'x', 'kind': 'file', 'depth': 'x'})",
    "tells facts that do not exist": "d.send_record(M.FOUND, {'name': 'x', 'kind': 'file', 'evil': 1, 'depth': 0})",
    "tells a kind that does not exist": "d.send_record(M.FOUND, {'name': 'x', 'kind': 'door', 'depth': 0})",
    "tells a name that is none": "d.send_record(M.FOUND, {'name': chr(0xd800), 'kind': 'file', 'depth': 0})",
    "says that it is ready again": "d.send(M.READY, b'{}')",
    "ends": "pass",
    "crashes": "os.kill(os.getpid(), 11)",
}


@pytest.mark.parametrize("lie", LIES)
def test_a_child_that_lies_or_dies_is_bad_data(ext4: Path, lie: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "lying"
    program.write_text(
        f"#!{sys.executable}\n"
        + textwrap.dedent(f"""
        import os, socket, sys
        sys.path.insert(0, {str(Path(__file__).parents[3])!r})
        from phd_daemon.guest.dialogue import Dialogue, Message as M, READ
        fd, size = int(sys.argv[3]), int(sys.argv[5])
        d = Dialogue(socket.socket(fileno=fd))
        d.send(M.READY, b'{{"notes": [], "confined": ""}}')
        d.receive()
        {LIES[lie]}
        """)
    )
    program.chmod(0o755)
    monkeypatch.setattr("phd_daemon.guest.reader.sys.executable", str(program))
    with pytest.raises(BadData, match="the process that reads its ext4 ended"):
        walked(FileDisk(ext4), "etc")


def test_a_file_system_that_takes_for_ever_is_ended(ext4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "busy"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(Path(__file__).parents[3])!r})\nsys.argv = sys.argv[2:]\n"
        "from phd_daemon.guest import program\nprogram.PROCESSOR_SECONDS = 1\n"
        "def children(self):\n    while True: pass\n"
        "from restore_core.serve.file_systems.ext import _ExtFile\n_ExtFile.children = children\nprogram.main()\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr("phd_daemon.guest.reader.sys.executable", str(program))
    with pytest.raises(BadData, match="it took too much processor time"):
        walked(FileDisk(ext4), "etc")
