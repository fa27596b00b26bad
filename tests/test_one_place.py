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


RETRIES = """
from phd_daemon.spool.layout import State
from phd_daemon.spool.reconcile import Facts, WaitAgain, reconcile
from phd_daemon.spool.record import JobRecord
from phd_daemon.spool.scan import FileFacts, FileKind
from phd_daemon.spool.status_file import Outcome, Result
from restore_core.disk.identity import FileIdentity

here = FileIdentity(inode=1, generation=1)
file = FileFacts(identity=here, kind=FileKind.REGULAR, size=1, mtime_ns=0, ctime_ns=0, links=1)
record = JobRecord(
    stem="crm", state=State.RUNNING, identity=here, size=1, mtime_ns=0, not_before_ns=0, arrived_ns=0,
    accepted_at=0.0, uid=0, submitter="root", attempt=1,
)
outcome = Outcome(attempt=1, result=Result.TRY_AGAIN, exit_code=69, reason="asleep", finished_at=0.0)


def waits(outcome, how):
    now, found = record, []
    facts = dict(files={State.RUNNING: file}, outcome=outcome, how_ended=how)
    while isinstance(action := reconcile(Facts(record=now, **facts)), WaitAgain):
        found.append(action.next_try)
        now = now.with_(tries=action.tries, deaths=action.deaths)
    return [*found, action.state.value]


assert waits(outcome, "") == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, "failed"]
assert waits(None, "was killed") == [7.0, "failed"]
"""


def test_another_retry_schedule(copy: Path) -> None:
    """The two tables say how often a job is tried, and how often its worker may die: there is no count beside them."""
    reconcile = copy / "phd_daemon" / "spool" / "reconcile.py"
    text = reconcile.read_text()
    for before, after in (("(60.0, 300.0, 900.0, 3600.0)", "(1.0, 2.0, 3.0, 4.0, 5.0, 6.0)"), ("= (2.0, 60.0)", "= (7.0,)")):
        assert text.count(before) == 1
        text = text.replace(before, after)
    reconcile.write_text(text)
    run(copy, RETRIES)


ZIP_TARGETS = '''
"""Targets that are one zip file, on a server that is this machine."""

import zipfile

from restore_core.errors import ArchiveAbsent, TargetUnavailable
from restore_core.targets.base import ArchiveRef, FileStat, ListedFile
from restore_core.capabilities import Capabilities


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

    def capabilities(self):
        return Capabilities()

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
    Path("phd.toml").write_text(f'state_dir = "{here}/state"\\n[queue]\\nspool = "{here}/spool"\\n[targets.z]\\n{lines}')
    said, complaint = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complaint):
        code = run([*arguments, "--config", "phd.toml"])
    return code, said.getvalue(), complaint.getvalue()


good = {"url": f"zip://me@host{here}/store.zip", "password_file": "/p"}
for wrong, why in (
    ({"url": "zap://me@host/x"}, "zap: this version serves file://, ftp://, ftps://, sftp://, zip:// only"),
    ({"url": "zip://host/x", "password_file": "/p"}, "names no user: zip://me@host/file"),
    ({"url": good["url"]}, "zip needs password_file"),
    (good | {"key_file": "/k"}, "zip cannot log in with a key: use password_file"),
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
assert code and "a server cannot prove who it is over zip" in complaint, complaint
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


WITH_ANOTHER_STATE = """
import json, os, subprocess, sys, time
from pathlib import Path

from phd_daemon.doctor.spool import examine
from phd_daemon.spool.layout import Act
from phd_daemon.operations.queue import possible
from phd_daemon.replication.one_pass import queued_jobs
from phd_daemon.spool import requests
from phd_daemon.spool.intake import IntakeRules
from phd_daemon.spool.keeper import Keeper
from phd_daemon.spool.layout import Act, Spool, State, parse_name
from phd_daemon.spool.purge import purge
from phd_daemon.spool.safety import check_spool
from phd_daemon.spool.scan import FolderReader
from phd_daemon.spool.snapshot import snapshot

spool = Spool(folder=Path("spool").absolute())
spool.folder.mkdir(mode=0o700)
check_spool(spool)
text = 'delta = "/backups/{0}.phd"\\nrestore_to = "/vmfs/volumes/ds1/{0}.vmdk"\\n'
for name in ("night.paused", "old.expired", "new.job"):
    (spool.folder / name).write_text(text.format(name))
assert parse_name("night.paused") == ("night", State.PAUSED) and parse_name("old.expired") == ("old", State.EXPIRED)
assert State.EXPIRED in FolderReader(spool).scan()["old"]

views = snapshot(spool.folder, time.time())
assert [(view.name, view.state.meaning) for view in views] == [("new", "waiting"), ("night", "paused"), ("old", "expired")]
assert possible(views[1]) == (Act.RELEASE, Act.CANCEL) and possible(views[2]) == (Act.RETRY, Act.REMOVE)
assert [(job.name, job.phase.value) for job in queued_jobs(spool)] == [("new", "active"), ("night", "active"), ("old", "failed")]

Path("phd.toml").write_text(f'[queue]\\nspool = "{spool.folder}"\\n')
def phd(*arguments):
    called = [sys.executable, "-c", "from phd_daemon.cli.main import main; main()", *arguments, "--config", "phd.toml"]
    return subprocess.run(called, check=True, stdout=subprocess.PIPE).stdout.decode()
assert "paused" in phd("queue") and "expired" in phd("queue")
assert [job["state"] for job in json.loads(phd("queue", "--json"))] == ["waiting", "paused", "expired"]
assert [finding.check for finding in examine(spool.folder, enabled=True).findings] == ["daemon-down"]

def accepted(text, submitter):
    from phd_daemon.spool.control_file import parse_control_file
    return parse_control_file(text)
keeper = Keeper(spool, ended=lambda record: None, tick=lambda: None)
rules = IntakeRules(validate=accepted, submitters=())
assert [record.stem for record in keeper.round(rules, renamed_in=["new.job"]).ready] == ["new"]
os.rename("spool/new.job", "spool/new.paused")
assert keeper.round(rules).ready == () and "paused:" in spool.log("new").read_text()
requests.release(spool.folder, "new")
assert [record.stem for record in keeper.round(rules).ready] == ["new"]

assert purge(spool, older_than=-1, now=time.time(), busy=()) == ["old"]
assert sorted(path.name for path in spool.folder.glob("*.*") if parse_name(path.name)) == ["new.job", "night.paused"]
"""


def test_a_state_is_one_row(copy: Path) -> None:
    layout = copy / "phd_daemon/spool/layout.py"
    add_line(
        layout,
        '    HELD = "held"',
        'PAUSED = "paused", "paused", 2, False, None, frozenset({Act.RELEASE, Act.CANCEL})',
    )
    add_line(layout, '    REJECTED = "rejected"', 'EXPIRED = "expired", "expired", 3, False, ExitCode.TRY_AGAIN, _ENDED')
    run(copy, WITH_ANOTHER_STATE)


GREET = '''
"""`phd greet NAME`: says hello."""

import click

from phd_daemon.cli.options import command
from phd_daemon.show import output


@command(stays_done=True)
@click.argument("name")
@click.option("--loudly", is_flag=True)
def greet(name: str, loudly: bool) -> None:
    """Say hello to NAME."""
    output.say(f"hello {name}{'!' * loudly}")
'''

WITH_A_COMMAND = """
import os
import subprocess
import sys


def phd(*arguments, stdout=subprocess.PIPE, **environment):
    command = [sys.executable, "-m", "phd_daemon.cli.main", *arguments]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, env=os.environ | environment)


assert "\\n  greet       Say hello to NAME.\\n" in phd("--help").stdout, phd("--help")
greeted = phd("greet", "you", "--loudly")
assert (greeted.returncode, greeted.stdout, greeted.stderr) == (0, "hello you!\\n", ""), greeted
for words, place, offered in (("phd gre", "1", "greet"), ("phd greet --l", "2", "--loudly")):
    completed = phd(_PHD_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=place)
    assert offered in completed.stdout, completed
with open("/dev/full", "w") as full:
    lost = phd("greet", "you", stdout=full)
assert lost.returncode == 0 and "did its work all the same" in lost.stderr, lost
"""


def test_a_command_is_one_file(copy: Path) -> None:
    (copy / "phd_daemon/cli/commands/greet.py").write_text(GREET)
    run(copy, WITH_A_COMMAND)


def test_a_command_that_does_not_say_whether_it_stays_done_is_refused(copy: Path) -> None:
    (copy / "phd_daemon/cli/commands/greet.py").write_text(GREET.replace("@command(stays_done=True)", "@command()"))
    run(copy, "from phd_daemon.cli.main import run; assert run(['greet', 'you']) == 70")
    (copy / "phd_daemon/cli/commands/greet.py").write_text(GREET.replace("@command(stays_done=True)", "@click.command()"))
    run(copy, "from phd_daemon.cli.main import run; assert run(['greet', 'you']) == 70")


WITH_ANOTHER_KEY = """
import subprocess
import sys
from pathlib import Path

from phd_daemon.config.load import load_config
from phd_daemon.daemon.starts import work_order
from phd_daemon.operations.installation import spool_of
from phd_daemon.operations.submit import submit
from phd_daemon.spool.transitions import Claim
from phd_daemon.spool.control_file import ControlFile, parse_control_file
from phd_daemon.spool.layout import State
from phd_daemon.spool.record import JobRecord
from phd_daemon.worker.order import from_json
from restore_core.disk.identity import FileIdentity
from restore_core.errors import BadControlFile
from restore_core.restore.request import RestoreOptions
from tests.phd_daemon.small_backup import small_backup

here = Path.cwd()
backup = small_backup(here / "nas")
disk = here / "volumes/A/CRM.vmdk"
for folder in (disk.parent, here / "spool/.state/receipts"):
    folder.mkdir(parents=True)
tables = {"queue": f'spool = "{here}/spool"', "datastores": f'roots = ["{here}/volumes"]'}
tables["targets.nas1"] = f'url = "{backup.target.url}"'
Path("phd.toml").write_text(f'state_dir = "{here}/state"\\n' + "".join(f"[{name}]\\n{line}\\n" for name, line in tables.items()))
config = load_config(here / "phd.toml")

(job,) = submit(config, [ControlFile(delta=backup.delta, restore_to=disk, options=RestoreOptions(greeting="good night"))])
text = (here / f"spool/{job}.job").read_text()
assert 'greeting = "good night"\\n' in text, text

control = parse_control_file(text.encode())
record = JobRecord(
    stem=job, state=State.RUNNING, identity=FileIdentity(inode=1, generation=1), size=1, mtime_ns=0, not_before_ns=0, arrived_ns=0,
    accepted_at=0.0, uid=0, submitter="root", text=text, control=control, attempt=1,
)
spool = spool_of(config)
spool.control(job, State.WAITING).rename(spool.control(job, State.RUNNING))
order = work_order(config, spool, Claim(record=record, lock_fd=-1)).to_json()
assert from_json(order).request().options == RestoreOptions(greeting="good night")
ran = subprocess.run([sys.executable, "-m", "phd_daemon.worker.attempt"], input=order, check=True)
log = spool.log(job).read_text()
assert "the options say good night" in log, log
assert disk.exists()

refused = {"greeting = 7": "line 3: greeting: must be kind", "greetings = 'x'": "no such key (did you mean 'greeting'?)"}
for line, why in refused.items():
    try:
        parse_control_file((text.partition("greeting")[0] + line).encode())
    except BadControlFile as error:
        assert why in error.message, error.message
    else:
        raise SystemExit(f"{line} was accepted")
"""

KIND = """
def _parse_greeting(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be kind")
    return value


"""


def test_a_key_of_the_control_file_is_a_field_its_parser_and_the_place_that_acts_on_it(copy: Path) -> None:
    request = copy / "restore_core/restore/request.py"
    add_line(request, "readback: bool = ", 'greeting: str = field(default="", metadata={"parse": _parse_greeting})')
    above = "@dataclass(frozen=True, slots=True, kw_only=True)\nclass RestoreOptions:"
    request.write_text(request.read_text().replace(above, KIND.lstrip() + above))
    acts = 'reporter.note(f"the options say {request.options.greeting}")'
    add_line(copy / "restore_core/restore/run.py", "delta.check_metadata()", acts)
    run(copy, WITH_ANOTHER_KEY)
