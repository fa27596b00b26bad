"""What the configuration means for one job: limits, the work order, and leftovers at a destination."""

from __future__ import annotations

import grp
import hashlib
import os
import pwd
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from phd_daemon.config.load import parse_config
from phd_daemon.config.model import Config
from phd_daemon.daemon.ends import drop_part
from phd_daemon.daemon.starts import work_order
from phd_daemon.spool.control_file import parse_control_file
from phd_daemon.spool.intake import intake_rules
from phd_daemon.spool.layout import Spool, State
from phd_daemon.spool.record import JobRecord
from phd_daemon.spool.transitions import Claim
from phd_daemon.worker.order import from_json
from restore_core import durable
from restore_core.disk.confinement import walk_to
from restore_core.disk.destination import disk_key
from restore_core.disk.identity import FileIdentity
from restore_core.errors import BadControlFile, DestinationOutside
from restore_core.restore.request import Provision, RestoreOptions, VmxChoice

ME = pwd.getpwuid(os.geteuid()).pw_name
MY_GROUP = grp.getgrgid(pwd.getpwnam(ME).pw_gid).gr_name


def settings(root: Path, more: str = "") -> Config:
    (root / "ds1").mkdir(exist_ok=True)
    target = f'[targets.nas1]\nurl = "file://{root}"\n'
    return parse_config(f'[datastores]\nroots = ["{root}"]\nmode = "0640"\n{target}{more}'.encode(), root / "phd.toml")


def text(root: Path, *, delta: str = "nas1:x/d.phd", disk: str = "ds1/crm.vmdk", more: str = "") -> bytes:
    return f'delta = "{delta}"\nrestore_to = "{root}/{disk}"\n{more}'.encode()


def record(root: Path, **changes: object) -> JobRecord:
    source = text(root, more='provision = "thin"\nvmx = "as-is"\nreadback = true\noverwrite = true\nfull = "nas1:x/f.phd"\n')
    return JobRecord(
        stem="crm", state=State.CANCELLED, identity=FileIdentity(inode=1, generation=1), size=1, mtime_ns=1, not_before_ns=1,
        arrived_ns=1, accepted_at=1.0, uid=0, submitter=ME, text=source.decode(), control=parse_control_file(source), attempt=2,
    ).with_(**changes)  # fmt: skip


class TestIntakeRules:
    def test_allowed(self, tmp_path: Path) -> None:
        policy = intake_rules(settings(tmp_path))
        assert str(policy.validate(text(tmp_path), ME).delta) == "nas1:x/d.phd"
        assert policy.open

    @pytest.mark.parametrize("written", ["NFC", "NFD"])
    @pytest.mark.parametrize("stored", ["NFC", "NFD"])
    def test_a_destination_is_where_it_is_whichever_way_its_accents_are_written(
        self, tmp_path: Path, written: Literal["NFC", "NFD"], stored: Literal["NFC", "NFD"]
    ) -> None:
        """A control file written by hand made a second folder that looked the same, or was "not in a datastore"."""
        root = tmp_path / unicodedata.normalize(stored, "größe")
        there = root / unicodedata.normalize("NFD", "Büro") / unicodedata.normalize("NFC", "Köln") / "crm.vmdk"
        there.parent.mkdir(parents=True)
        wanted = unicodedata.normalize(written, str(there))
        asked = text(tmp_path).replace(f"{tmp_path}/ds1/crm.vmdk".encode(), wanted.encode())
        assert wanted.encode() in asked
        policy = intake_rules(settings(root))
        assert policy.validate(asked, ME).restore_to == there
        job = record(tmp_path)
        assert job.control is not None
        job = job.with_(control=replace(job.control, restore_to=Path(wanted)))
        order = work_order(settings(root), Spool(folder=tmp_path), Claim(record=job, lock_fd=3))
        assert order.restore_to == str(there)
        there.with_name("crm-flat.vmdk.phd-new").write_text("half a disk")
        assert drop_part(job, (root,))

    def test_unknown_target_and_destination_outside(self, tmp_path: Path) -> None:
        validate = intake_rules(settings(tmp_path)).validate
        with pytest.raises(BadControlFile, match="no target is named"):
            validate(text(tmp_path, delta="nas2:x/d.phd"), ME)
        with pytest.raises(DestinationOutside):
            validate(text(Path("/elsewhere")), ME)

    def test_limits_of_a_user(self, tmp_path: Path) -> None:
        config = settings(tmp_path, f'[submitters.{ME}]\ndestinations = ["{tmp_path}/ds2"]\n')
        with pytest.raises(DestinationOutside):
            intake_rules(config).validate(text(tmp_path), ME)
        intake_rules(config).validate(text(tmp_path), "somebody-else")

    def test_limits_of_a_group(self, tmp_path: Path) -> None:
        config = settings(tmp_path, f'[submitters."@{MY_GROUP}"]\noverwrite = false\n')
        with pytest.raises(BadControlFile, match="may not replace disks"):
            intake_rules(config).validate(text(tmp_path, more="overwrite = true\n"), ME)

    def test_disabled(self, tmp_path: Path) -> None:
        assert not intake_rules(settings(tmp_path, "[queue]\nenabled = false\n")).open


def test_work_order(tmp_path: Path) -> None:
    claim = Claim(record=record(tmp_path), lock_fd=7)
    order = work_order(settings(tmp_path), Spool(folder=tmp_path / "spool"), claim)
    assert from_json(order.to_json()) == order
    assert (order.job, order.attempt, order.lock_fd, order.mode) == ("crm", 2, 7, 0o640)
    assert (order.delta, order.full, order.restore_to) == ("nas1:x/d.phd", "nas1:x/f.phd", f"{tmp_path}/ds1/crm.vmdk")
    assert order.options == RestoreOptions(provision=Provision.THIN, vmx=VmxChoice.AS_IS, readback=True, overwrite=True)
    assert order.roots == (str(tmp_path),)
    assert [spec.name for spec in order.targets] == ["nas1"]
    assert order.request().destination == tmp_path / "ds1" / "crm.vmdk"


def test_disk_key_of_two_paths_to_one_disk(tmp_path: Path) -> None:
    roots = (tmp_path,)
    (tmp_path / "ds1").mkdir()
    (tmp_path / "alias").symlink_to("ds1")
    one, other = (disk_key(tmp_path / name / "crm.vmdk", roots) for name in ("ds1", "alias"))
    assert one == other
    assert disk_key(tmp_path / "ds1" / "x.vmdk", roots) != one
    assert disk_key(Path("/no/such/crm.vmdk"), roots) == Path("/no/such/crm.vmdk")


class TestDropPart:
    @pytest.fixture
    def part(self, tmp_path: Path) -> Path:
        (tmp_path / "ds1").mkdir()
        part = tmp_path / "ds1" / "crm-flat.vmdk.phd-new"
        part.write_text("half a disk")
        return part

    def test_leftover_is_removed(self, tmp_path: Path, part: Path) -> None:
        assert drop_part(record(tmp_path), (tmp_path,))
        assert not part.exists()
        assert not drop_part(record(tmp_path), (tmp_path,))
        assert os.listdir(tmp_path / "ds1") == []

    def test_so_is_what_was_staged_or_was_about_to_get_its_name(self, tmp_path: Path, part: Path) -> None:
        """Files of the disk's size stayed when a worker was killed at such a moment and its job cancelled."""
        private = f".phd-{hashlib.sha256(b'crm-flat.vmdk').hexdigest()[:12]}-{'0' * 16}.swap"
        part.rename(part.with_name(private))
        part.with_name("crm-flat.vmdk.phd-redo-part").write_bytes(b"staged")
        assert drop_part(record(tmp_path), (tmp_path,))
        assert os.listdir(tmp_path / "ds1") == []

    @pytest.mark.parametrize("left", [[], ["crm-flat.vmdk.phd-hold"], ["crm-flat.vmdk.phd-hold", "crm-flat.vmdk.phd-new"]])
    def test_so_is_the_folder_that_a_worker_made_before_it_was_killed(self, tmp_path: Path, left: list[str]) -> None:
        (tmp_path / "ds1").mkdir()
        folder = tmp_path / "ds1" / "new"
        os.close(walk_to(folder, None).make_missing())
        for name in left:
            (folder / name).touch()
        job = record(tmp_path)
        assert job.control is not None
        job = job.with_(control=replace(job.control, restore_to=folder / "crm.vmdk"))
        assert drop_part(job, (tmp_path,)) is (len(left) == 2)
        assert os.listdir(tmp_path / "ds1") == []

    def test_one_that_is_being_written_stays(self, tmp_path: Path, part: Path) -> None:
        folder = os.open(tmp_path / "ds1", os.O_RDONLY)
        writer = durable.take_part(part.name, dir_fd=folder, keep=True)
        assert not drop_part(record(tmp_path), (tmp_path,))
        assert part.read_text() == "half a disk"
        os.close(writer)
        os.close(folder)

    def test_a_job_that_never_ran_has_none(self, tmp_path: Path, part: Path) -> None:
        assert not drop_part(record(tmp_path, attempt=0), (tmp_path,))
        assert not drop_part(record(tmp_path, control=None), (tmp_path,))
        assert part.exists()

    def test_no_datastore(self, tmp_path: Path) -> None:
        assert not drop_part(record(tmp_path / "none"), (tmp_path,))
