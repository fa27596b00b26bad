"""`phd recover` ends what a crash interrupted, and `phd plan` says every reason for which a restore would be refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from phd_daemon.cli.main import run
from restore_core import durable
from restore_core.errors import ExitCode
from restore_core.restore.request import RestoreOptions, RestoreRequest
from restore_core.restore.run import restore_delta
from restore_core.targets.base import ArchiveRef
from tests.lab import BLOCK, Lab, Witness, go_on
from tests.restore_core.restore.crashes import dies

Say = pytest.CaptureFixture[str]
OLD = os.urandom(8 * BLOCK)
NEW = OLD[: 3 * BLOCK] + os.urandom(2 * BLOCK) + OLD[5 * BLOCK :]


class Half:
    """A replica whose refresh was interrupted between its first and its second block."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab, self.path = lab, lab.folder / "out" / name
        self.flat = self.path.with_name(name.replace(".vmdk", "-flat.vmdk"))
        self.records = lab.folder / "state" / "receipts"
        self.records.mkdir(parents=True)
        self.monday, self.tuesday = lab.backup(OLD).delta, lab.backup(NEW).delta
        self.restore(self.monday)
        assert dies(lambda: self.restore(self.tuesday), (durable, "write_all_at"), number=2, of=".phd-applying")

    def restore(self, delta: ArchiveRef) -> None:
        request = RestoreRequest(delta=delta, destination=self.path, options=RestoreOptions(overwrite=True), records=self.records)
        restore_delta(request, self.lab.targets, reporter=Witness(), stop=go_on)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


@pytest.fixture(autouse=True)
def config(tmp_path: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "phd.toml"
    path.write_text(f'state_dir = "{lab.folder}/state"\n[targets.t]\nurl = "file://{lab.store}"\n')
    monkeypatch.setenv("PHD_CONFIG", str(path))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["r.img", "r.vmdk"])
@pytest.mark.parametrize(
    "way",
    [([], NEW, "completed"), (["--back"], OLD, "the old one again"), (["--as-it-is"], None, "what is in it is not known")],
    ids=["forward", "back", "as it is"],
)
def test_recover(lab: Lab, name: str, way: tuple[list[str], bytes | None, str], capsys: Say) -> None:
    options, found, says = way
    half = Half(lab, name)
    assert not half.path.exists()
    assert run(["recover", str(half.path), *options]) == 0
    assert says in capsys.readouterr().out
    assert half.path.exists()
    if found is None:
        assert half.flat.read_bytes() not in (OLD, NEW)
    else:
        assert half.flat.read_bytes() == found
    assert lab.leftovers() == sorted({half.flat.name, half.path.name})
    assert run(["recover", str(half.path), *options]) == ExitCode.DESTINATION
    assert "nothing to do" in " ".join(capsys.readouterr())


def test_recover_refuses_both_at_once(capsys: Say) -> None:
    assert run(["recover", "a.img", "--back", "--as-it-is"]) == ExitCode.USAGE
    assert "cannot be used together" in capsys.readouterr().err


@pytest.mark.parametrize("options", [[], ["--back"], ["--as-it-is"]])
def test_recover_of_a_disk_that_is_gone_ends_without_a_traceback(lab: Lab, options: list[str], capsys: Say) -> None:
    half = Half(lab, "r.img")
    half.path.with_name("r.img.phd-applying").unlink()
    assert run(["recover", str(half.path), *options]) == 0
    said = capsys.readouterr()
    assert "not there any more" in said.out
    assert "Traceback" not in said.err


def test_recover_of_a_damaged_redo_file_names_the_way_back(lab: Lab, capsys: Say) -> None:
    half = Half(lab, "r.img")
    redo = half.path.with_name("r.img.phd-redo")
    with redo.open("r+b") as file:
        file.seek(BLOCK + 100)
        file.write(b"\0damaged\0")
    assert run(["recover", str(half.path)]) == ExitCode.TRY_AGAIN
    assert "--back" in capsys.readouterr().err
    assert run(["recover", str(half.path), "--back"]) == 0
    assert half.path.read_bytes() == OLD


def test_recover_while_a_vm_has_it_open(lab: Lab, capsys: Say) -> None:
    half = Half(lab, "r.img")
    vm = os.open(half.path.with_name("r.img.phd-applying"), os.O_RDWR)
    assert run(["recover", str(half.path)]) == ExitCode.DESTINATION
    os.close(vm)
    assert "in use" in capsys.readouterr().err
    assert run(["recover", str(half.path)]) == 0
    assert half.path.read_bytes() == NEW


def test_plan_says_all_refusals(lab: Lab, capsys: Say) -> None:
    """It said the first at most; and nothing of what lies in the place of the lock file."""
    made = lab.backup(OLD).delta
    out = lab.folder / "out"
    out.mkdir()
    os.mkfifo(out / "r.img.phd-hold")
    (out / "r.img.phd-part").write_bytes(b"a script is at it")
    (out / "r.img").write_bytes(bytes(BLOCK))
    (out / "r.img.lck").touch()
    vm = os.open(out / "r.img", os.O_RDWR)
    with pytest.raises(SystemExit) as caught:
        run(["plan", str(made), "--to", str(out / "r.img"), "--json"])
    assert caught.value.code == ExitCode.DESTINATION
    os.close(vm)
    said = json.loads(capsys.readouterr().out)
    found = [refusal["what"] for refusal in said["refusals"]]
    for part in ("lock file, is not a plain file", "in use: r.img.lck", "sh DELTA", "another program has it open"):
        assert any(part in what for what in found), (part, found)
    assert sorted(os.listdir(out)) == ["r.img", "r.img.lck", "r.img.phd-hold", "r.img.phd-part"]


def test_plan_of_a_size_that_no_vmdk_has(lab: Lab, capsys: Say) -> None:
    made = lab.backup(OLD[:-5]).delta
    out = lab.folder / "out"
    with pytest.raises(SystemExit) as caught:
        run(["plan", str(made), "--to", str(out / "r.vmdk")])
    assert caught.value.code == ExitCode.DESTINATION
    assert "A restore would be refused now" in capsys.readouterr().out
    assert not out.exists()
