"""The control file: everything that docs/reference.md allows, and a sentence with a line for everything else."""

from __future__ import annotations

import contextlib
import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from phd_daemon.config.model import SubmitterLimits
from phd_daemon.spool.control_file import ControlFile, check_policy, parse_control_file, render_control_file
from restore_core.errors import ArchiveAbsent, BadControlFile, DestinationError, DestinationOutside, PhdError
from restore_core.restore.request import Provision, RestoreOptions, VmxChoice
from restore_core.targets.base import ArchiveRef
from restore_core.targets.local import open_local_file

DELTA = "nas1:2007.09.21-CRM.564d122a-0ed7-3b92-2f46-aee9456b2074/00-CRM.vmdk.delta-2007.09.21-0300-070920-1601.phd"
FULL = "vmfs:2007.09.20-CRM.564d122a-0ed7-3b92-2f46-aee9456b2074/00-CRM.vmdk.gz-070920-1601.phd"
DISK = "/vmfs/volumes/ISCSI02/ronzo/CRM.vmdk"
MINIMAL = f'delta = "{DELTA}"\nrestore_to = "{DISK}"\n'
ROOTS = (Path("/vmfs/volumes"),)


def refusal(text: str | bytes) -> BadControlFile:
    with pytest.raises(BadControlFile) as caught:
        parse_control_file(text.encode() if isinstance(text, str) else text)
    return caught.value


def check(control: ControlFile, *, limits: SubmitterLimits | None = None, roots: tuple[Path, ...] = ROOTS) -> None:
    check_policy(control, roots=roots, target_names=("nas1", "vmfs"), submitter="joe", limits=limits)


def control(**changes: object) -> ControlFile:
    delta = ArchiveRef(target="nas1", path="f/00-a.vmdk.delta-2007.09.21-0300-070920-1601.phd")
    return ControlFile(**{"delta": delta, "restore_to": Path(DISK), **changes})  # type: ignore[arg-type]  # each test names fields of the class


def test_the_two_keys_are_enough() -> None:
    found = parse_control_file(MINIMAL.encode())
    assert found == ControlFile(delta=ArchiveRef(target="nas1", path=DELTA.partition(":")[2]), restore_to=Path(DISK))
    assert (found.priority, found.options.provision, found.options.vmx) == (5, Provision.THICK, VmxChoice.NONE)
    assert not found.options.overwrite
    assert not found.options.readback


def test_every_key_of_the_design() -> None:
    text = MINIMAL + (
        f'full = "{FULL}"\noverwrite = true\nvmx = "as-is"\nprovision = "thin"\nreadback = true\npriority = 0\n'
        'note = "asked for by phone, 100%"\n'
    )
    found = parse_control_file(text.encode())
    assert found.full == ArchiveRef(target="vmfs", path=FULL.partition(":")[2])
    wanted = RestoreOptions(overwrite=True, vmx=VmxChoice.AS_IS, provision=Provision.THIN, readback=True)
    assert found.options == wanted
    assert (found.priority, found.note) == (0, "asked for by phone, 100%")


def test_editors_of_other_systems_are_welcome() -> None:
    assert parse_control_file(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode()).restore_to == Path(DISK)


def test_names_that_cannot_be_printed() -> None:
    found = parse_control_file(b'delta = "nas1:a%0Ab/100%25%FF.phd"\nrestore_to = "/vmfs/volumes/A/x%0Ay.vmdk"\n')
    assert found.delta.path == "a\nb/100%\udcff.phd"
    assert found.restore_to == Path("/vmfs/volumes/A/x\ny.vmdk")


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("", 0, "the file is empty"),
        (" \n\n", 0, "the file is empty"),
        ("hello there\n", 1, "line 1: not TOML"),
        (b"# ok\n\xff\n", 2, "line 2: not UTF-8: byte 0xff"),
        (b"\0\0\0", 1, "line 1: not TOML"),
        ("a = " + "[" * 20000, 0, "nested too deeply"),
        ("priority = " + "9" * 10000, 0, "not TOML"),
        ("x" * 70000, 0, "larger than 65536 bytes"),
        (f'delta = "{DELTA}"\n', 0, "restore_to is missing"),
        (MINIMAL + "overwite = true\n", 3, "line 3: overwite: there is no such key (did you mean 'overwrite'?)"),
        (MINIMAL + '[full]\nx = "y"\n', 3, "line 3: full: must be a text in quotes"),
        (MINIMAL + '\noverwrite = "true"\n', 4, 'line 4: overwrite: must be true or false, or "ours"'),
        (MINIMAL + "overwrite = 1\n", 3, 'line 3: overwrite: must be true or false, or "ours"'),
        (MINIMAL + "priority = true\n", 3, "line 3: priority: must be a whole number from 0 (first) to 9 (last)"),
        (MINIMAL + "priority = 10\n", 3, "line 3: priority: must be a whole number"),
        (MINIMAL + "priority = 5.0\n", 3, "line 3: priority: must be a whole number"),
        (MINIMAL + 'provision = "thic"\n', 3, 'line 3: provision: must be "thick" or "thin"'),
        (MINIMAL + 'vmx = "yes"\n', 3, 'line 3: vmx: must be "none" or "as-is"'),
        (MINIMAL + 'note = "a\\nb"\n', 3, "line 3: note: must be one line without control characters"),
        (MINIMAL + 'note = "\\u001b[31m"\n', 3, "line 3: note: must be one line"),
        (MINIMAL + f'note = "{"x" * 501}"\n', 3, "line 3: note: must not be longer than 500"),
        (f'delta = "x.phd"\nrestore_to = "{DISK}"', 1, "line 1: delta: 'x.phd' is neither NAME:folder/file"),
        (f'delta = "nas1:../x.phd"\nrestore_to = "{DISK}"', 1, "line 1: delta: 'nas1:../x.phd' is neither"),
        (f'delta = "nas1:/x.phd"\nrestore_to = "{DISK}"', 1, "line 1: delta: 'nas1:/x.phd' is neither"),
        (f'delta = "/x\\u0000.phd"\nrestore_to = "{DISK}"', 1, "line 1: delta: '/x%00.phd' does not name a file"),
        (f'delta = "/x%00.phd"\nrestore_to = "{DISK}"', 1, "line 1: delta: '/x%2500.phd' does not name a file"),
        (f'delta = 3\nrestore_to = "{DISK}"', 1, "line 1: delta: must be a text in quotes"),
        (f'delta = "{DELTA}"\nrestore_to = "a.vmdk"', 2, "line 2: restore_to: must be the path of the disk"),
        (f'delta = "{DELTA}"\nrestore_to = "/a/../b.vmdk"', 2, "line 2: restore_to: must be the path of the disk"),
        (f'delta = "{DELTA}"\nrestore_to = "/vmfs/volumes/A/"', 2, "line 2: restore_to: must be the path of the disk"),
        (f'delta = "{DELTA}"\nrestore_to = "/"', 2, "line 2: restore_to: must be the path of the disk"),
        (f'delta = "{DELTA}"\nrestore_to = "/a/b%00.vmdk"', 2, "line 2: restore_to: must be the path of the disk"),
        (f'delta = "{DELTA}"\nrestore_to = "/a/x-flat.vmdk"', 2, "line 2: restore_to: names a flat file"),
        (MINIMAL + "priority = 1\npriority = 2\n", 4, "line 4: not TOML: Cannot overwrite a value"),
    ],
)
def test_what_is_refused(text: str | bytes, line: int, what: str) -> None:
    error = refusal(text)
    assert error.message.startswith(what)
    assert error.line == line
    assert error.remedy


def test_all_that_is_wrong_is_said_at_once() -> None:
    error = refusal('restore_to = "x"\npriority = 12\nnotes = "hi"\n')
    assert error.message.splitlines()[0] == "delta is missing"
    assert [line.split(":")[0] for line in error.message.splitlines()[1:]] == ["line 1", "line 2", "line 3"]


def test_an_unknown_target() -> None:
    with pytest.raises(BadControlFile, match=r"delta: no target is named 'nas2' \(did you mean 'nas1'\?\); configured: nas1, vmfs"):
        check(control(delta=ArchiveRef(target="nas2", path="a/b")))
    with pytest.raises(BadControlFile, match="full: no target is named 'x'"):
        check(control(full=ArchiveRef(target="x", path="a/b")))


def test_a_full_cannot_be_queued_and_its_empty_delta_is_named() -> None:
    with pytest.raises(BadControlFile, match="A Full cannot be queued") as caught:
        check(control(delta=ArchiveRef(target="nas1", path="f/00-CRM.vmdk.gz-070920-1601.phd")))
    assert "Its empty Delta is nas1:f/00-CRM.vmdk.delta-2007.09.20-1601-070920-1601.phd" in caught.value.remedy


def test_a_local_gzip_is_a_full_whatever_its_name(tmp_path: Path) -> None:
    disguised = tmp_path / "00-a.vmdk.delta-2007.09.21-0300-070920-1601.phd"
    disguised.write_bytes(b"\x1f\x8b\x08\0")
    with pytest.raises(BadControlFile, match="A Full cannot be queued"):
        check(control(delta=ArchiveRef(target="", path=str(disguised))))
    disguised.write_bytes(b"#!/bin/sh\n")
    check(control(delta=ArchiveRef(target="", path=str(disguised))))


def test_a_fifo_as_delta_does_not_hold_the_daemon(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.phd")
    check(control(delta=ArchiveRef(target="", path=str(tmp_path / "x.phd"))))


def test_a_delta_named_as_full() -> None:
    with pytest.raises(BadControlFile, match=r"full: nas1:f/00-a\.vmdk\.delta.* is a Delta"):
        check(control(full=ArchiveRef(target="nas1", path="f/00-a.vmdk.delta-2007.09.21-0300-070920-1601.phd")))


@pytest.mark.parametrize("path", ["/etc/passwd", "/vmfs/volumes", "/vmfs/volumes/x.vmdk", "/vmfs/volumesX/A/x.vmdk"])
def test_a_destination_outside_the_datastores(path: str) -> None:
    with pytest.raises(DestinationOutside, match="is not in a datastore"):
        check(control(restore_to=Path(path)))
    check(control(restore_to=Path("/vmfs/volumes/A/x.vmdk")))


def test_a_narrowed_submitter() -> None:
    limits = SubmitterLimits(destinations=(Path("/vmfs/volumes/A/joe"),))
    check(control(restore_to=Path("/vmfs/volumes/A/joe/x.vmdk")), limits=limits)
    with pytest.raises(DestinationOutside, match="joe may not restore to"):
        check(control(restore_to=Path("/vmfs/volumes/A/joes/x.vmdk")), limits=limits)
    with pytest.raises(BadControlFile, match="joe may not replace disks"):
        check(control(options=RestoreOptions(overwrite=True)), limits=SubmitterLimits())
    check(control(options=RestoreOptions(overwrite=True)), limits=SubmitterLimits(overwrite=True))


def test_a_narrowed_submitter_cannot_reach_a_folder_that_only_looks_like_his(tmp_path: Path) -> None:
    mine, theirs = (tmp_path / "A" / unicodedata.normalize(form, "Büro") for form in ("NFC", "NFD"))
    for folder in (mine, theirs):
        folder.mkdir(parents=True)
    limits = SubmitterLimits(destinations=(mine,))
    check(control(restore_to=mine / "x.vmdk"), roots=(tmp_path,), limits=limits)
    with pytest.raises(DestinationOutside, match="joe may not restore to"):
        check(control(restore_to=theirs / "x.vmdk"), roots=(tmp_path,), limits=limits)


def _is_name(name: str) -> bool:
    return not set(name) & set("/\0") and name not in (".", "..") and not name.endswith("-flat.vmdk")


_names = (
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=20) | st.binary(min_size=1, max_size=8).map(os.fsdecode)
).filter(_is_name)
_paths = st.lists(_names, min_size=1).map("/".join)
_refs = st.builds(ArchiveRef, target=st.sampled_from(["nas1", "vmfs"]), path=_paths) | st.builds(
    ArchiveRef, target=st.just(""), path=_paths.map("/{}".format)
)


@given(
    st.builds(
        ControlFile,
        delta=_refs,
        restore_to=_paths.map(Path("/vmfs").joinpath),
        full=st.none() | _refs,
        options=st.builds(
            RestoreOptions,
            overwrite=st.booleans(),
            vmx=st.sampled_from(VmxChoice),
            provision=st.sampled_from(Provision),
            readback=st.booleans(),
        ),
        priority=st.integers(0, 9),
        note=st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), max_size=500),
    )
)
def test_what_is_written_is_what_is_read(wanted: ControlFile) -> None:
    assert parse_control_file(render_control_file(wanted).encode()) == wanted


@given(st.binary(max_size=300) | st.text(max_size=200).map(lambda text: (MINIMAL + text).encode("utf-8", "surrogatepass")))
@example(b'delta = {delta = "x"}')
@example(b"[[delta]]\n")
@example(b'"" = 1\n')
def test_any_bytes_give_a_control_file_or_a_refusal(text: bytes) -> None:
    try:
        found = parse_control_file(text)
    except BadControlFile:
        return
    with contextlib.suppress(PhdError):
        check(found)
    assert found.restore_to.is_absolute()


def test_a_password_in_a_url_is_not_repeated() -> None:
    """Somebody who does not know better writes a URL: the log is read by more people than the control file."""
    text = b'delta = "ftp://me:canary@x/y@nas/a.phd"\nfull = "/a//me:canary@b"\nrestore_to = "/v/A/x.vmdk"\n'
    with pytest.raises(BadControlFile) as caught:
        parse_control_file(text)
    assert "canary" not in str(caught.value)
    assert "ftp://...@nas/a.phd" in str(caught.value)


def test_a_device_is_not_opened_because_a_job_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tape rewinds, a watchdog starts to count: opening is doing, and who drops a job is not always root."""
    opened: list[object] = []
    really = os.open

    def spy(path: str, *rest: int, **more: int) -> int:
        opened.append(path)
        return really(path, *rest, **more)

    monkeypatch.setattr(os, "open", spy)
    control = parse_control_file(b'delta = "/dev/zero"\nrestore_to = "/vmfs/volumes/A/x.vmdk"\n')
    check_policy(control, roots=(Path("/vmfs/volumes"),), target_names=(), submitter="joe", limits=None)
    with pytest.raises(ArchiveAbsent, match="not a regular file"):
        open_local_file("/dev/zero")
    assert "/dev/zero" not in opened


@pytest.mark.parametrize("name", ["x" * 240 + ".vmdk", "a.phd-new", 'q"x.vmdk', "a-FLAT.vmdk", ".vmdk"])
def test_a_name_that_no_attempt_could_give_to_a_disk_is_refused_before_one(name: str) -> None:
    with pytest.raises(DestinationError) as caught:
        check(control(restore_to=Path(DISK).with_name(name)))
    assert caught.value.remedy


@pytest.mark.parametrize("wrong", ["", "crm", "0123456789AB", "0123456789abc", "../../etc/pas"])
def test_a_session_is_named_by_its_id_alone(wrong: str) -> None:
    with pytest.raises(BadControlFile, match="id of an instant session"):
        parse_control_file(f'delta = "t:a/b.phd"\nrestore_to = "/v/a/x.vmdk"\nsession = "{wrong}"\n'.encode())
