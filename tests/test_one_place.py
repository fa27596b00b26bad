"""A change in one place: each test makes one in a copy of the packages, and shows that nothing else has to be touched."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A checkout in which a test may change anything."""
    for top in ("restore_core", "phd_daemon", "tests"):
        shutil.copytree(ROOT / top, tmp_path / top, ignore=shutil.ignore_patterns("__pycache__", "pictures"))
    return tmp_path


def add_line(path: Path, after: str, line: str) -> None:
    """One line more, behind the first that holds `after`."""
    lines = path.read_text().splitlines()
    at = next(number for number, text in enumerate(lines) if after in text)
    indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
    path.write_text("\n".join([*lines[: at + 1], indent + line, *lines[at + 1 :]]) + "\n")


def run(copy: Path, program: str) -> None:
    """Run a program with the changed packages; it ends with 0."""
    ran = subprocess.run([sys.executable, "-c", program], cwd=copy, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


WITH_ANOTHER_DIGEST = """
import random
from pathlib import Path

from restore_core.archive.digests import BlockDigest
from restore_core.backup.run import BackupOptions
from restore_core.backup.subject import Asked
from restore_core.errors import BadArchive
from tests.lab import BLOCK, NIGHT, UUID, Lab

Path("records").mkdir()
lab = Lab(Path("lab").absolute())
old = random.Random(2).randbytes(6 * BLOCK) + bytes(BLOCK) + b"odd"
new = old[:BLOCK] + random.Random(1).randbytes(BLOCK) + old[2 * BLOCK :]
options = BackupOptions(asked=Asked(vm="CRM", uuid=UUID), block_digest=BlockDigest.SHA512, at=NIGHT, scratch=lab.folder)
full = lab.backup(old, options=options)
delta = lab.backup(new)
header = lab.reader(delta.delta).header
assert header.block_digest.value == "sha512" and header.block_digest.size == 64
kept = {"overwrite": True, "records": Path("records").absolute()}
for ref, data in ((full.delta, old), (delta.delta, new), (full.delta, old), (delta.delta, new)):
    outcome = lab.restore(ref, **kept)  # over the last one: the redo file and the receipt hold digests, too
    assert (lab.folder / "out" / "back.img").read_bytes() == data
assert "redo file" in outcome.way and "digests are known" in outcome.way, outcome.way
lab.verify(delta.delta)

frames = header.section("frames")
for path, at in ((lab.path(delta.delta), frames.offset + frames.length // 2), (lab.path(full.full), 1000)):
    whole = bytearray(path.read_bytes())
    whole[at] ^= 1
    path.write_bytes(whole)
    for found in (lab.verify, lambda ref: lab.restore(ref, "damaged.img")):
        try:
            found(delta.delta)
        except BadArchive:
            continue
        raise SystemExit(f"a flipped bit in {path.name} was not found")
    whole[at] ^= 1
    path.write_bytes(whole)
"""


def test_a_digest_of_another_size_is_one_line(copy: Path) -> None:
    add_line(
        copy / "restore_core/archive/digests.py",
        'SHA256 = "sha256"',
        'SHA512 = "sha512", lambda data: hashlib.sha512(data).digest()',
    )
    run(copy, WITH_ANOTHER_DIGEST)


ZIP_TARGETS = '''
"""Targets that are one zip file, on a server that is this machine."""

import zipfile

from restore_core.errors import ArchiveAbsent, TargetUnavailable
from restore_core.targets.base import ArchiveRef, FileStat, ListedFile


def open_target(spec, address, limits, stop):
    assert address.port == 4711, address
    return ZipTarget(spec, address.root)


class ZipTarget:
    def __init__(self, spec, file):
        self.spec, self.file = spec, file

    def _zip(self):
        try:
            return zipfile.ZipFile(self.file)
        except OSError as error:
            raise TargetUnavailable(f"target {self.spec.name}: {error.strerror}") from error

    def listing(self, gaps=None):
        with self._zip() as found:
            yield from (ListedFile(path=one.filename, stat=FileStat(size=one.file_size, mtime=0.0)) for one in found.infolist())

    def stat(self, path):
        return next(one.stat for one in self.listing() if one.path == path)

    def open(self, path):
        ref = ArchiveRef(target=self.spec.name, path=path)
        with self._zip() as found:
            if path not in found.namelist():
                raise ArchiveAbsent(f"{ref}: is not in it")
            return ZipSource(ref, found.read(path))

    def close(self):
        pass


class ZipSource:
    def __init__(self, ref, data):
        self.ref, self.data, self.size = ref, data, len(data)

    def read_at(self, offset, length):
        assert 0 <= offset <= offset + length <= self.size
        return self.data[offset : offset + length]

    def stream(self, offset=0, length=None, *, chunk=1 << 20):
        yield self.data[offset : None if length is None else offset + length]

    def ranges(self, wanted):
        for offset, length in wanted:
            yield self.read_at(offset, length)

    def interrupt(self):
        pass

    def close(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass
'''

WITH_ZIP_TARGETS = """
import contextlib
import io
import json
import random
import shutil
import zipfile
from pathlib import Path

from phd_daemon.cli.main import run
from phd_daemon.config.load import load_config
from phd_daemon.doctor.targets import reachable
from tests.lab import BLOCK, Lab

here = Path.cwd()
lab = Lab(here / "lab")
old = random.Random(2).randbytes(6 * BLOCK) + b"odd"
new = old[:BLOCK] + random.Random(1).randbytes(BLOCK) + old[2 * BLOCK :]
lab.backup(old)
delta = lab.backup(new).delta.path
with zipfile.ZipFile("store.zip", "w") as store:
    for path in sorted(lab.store.rglob("*.phd")):
        store.write(path, str(path.relative_to(lab.store)))
shutil.rmtree(lab.store)


def phd(*arguments, **keys):
    lines = "".join(f'{key} = "{value}"\\n' for key, value in keys.items())
    Path("phd.toml").write_text(f'state_dir = "{here}/state"\\n[targets.z]\\n{lines}')
    said, complaint = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complaint):
        code = run([*arguments, "--config", "phd.toml"])
    return code, said.getvalue(), complaint.getvalue()


good = {"url": f"zip://me@host{here}/store.zip", "password_file": "/p"}
for wrong, why in (
    ({"url": "zap://me@host/x"}, "zap: this version serves file://, ftp://, ftps://, sftp://, zip:// only"),
    ({"url": "zip://host/x", "password_file": "/p"}, "names no user: zip://me@host/file"),
    ({"url": good["url"]}, "zip needs password_file"),
    (good | {"key_file": "/k"}, "zip knows no keys: use password_file"),
):
    code, _, complaint = phd("targets", **wrong)
    assert code and why in complaint, complaint
code, said, complaint = phd("targets", "--json", **good)
assert code == 0, complaint
assert [(one["answers"], one["archives"]) for one in json.loads(said)] == [(True, 3)], said
code, said, complaint = phd("targets", **good)
assert "clear text" in said, said
assert reachable(load_config(Path("phd.toml")).targets).facts == ("target z answers",)
code, _, complaint = phd("targets", "trust", "z", **good)
assert code and "zip proves nothing" in complaint, complaint
code, said, complaint = phd("index", **good)
assert code == 0 and len(list((here / "state").rglob("z.listing"))) == 1, complaint
code, said, complaint = phd("restore", f"z:{delta}", "--to", f"{here}/back.img", **good)
assert code == 0, complaint
assert Path("back.img").read_bytes() == new
"""


def test_a_kind_of_target_is_one_module_and_one_line(copy: Path) -> None:
    (copy / "restore_core/targets/zipped.py").write_text(ZIP_TARGETS)
    facts = 'form="zip://me@host/file", port=4711, options=frozenset({"password_file"}), needs_login=True, clear_text=True'
    line = f'"zip": Kind(module="restore_core.targets.zipped", {facts}),'
    add_line(copy / "restore_core/targets/kinds.py", '"file": Kind(', line)
    run(copy, WITH_ZIP_TARGETS)
