"""What an SFTP server means by "Failure": no room, a quota, a read-only file system, or none of these."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from restore_core.errors import ArchiveAbsent, ExitCode, PhdError, TargetFull, TargetRefused, TargetUnavailable
from restore_core.targets.base import TargetSpec
from restore_core.targets.kinds import make_target
from restore_core.targets.sftp.declined import error_of_declined
from restore_core.targets.sftp.wire import AnswerType, Ask, Declined, Status
from tests import mounting, servers
from tests.restore_core.targets.conftest import QUICK

FULL_PATH = "2026.03.01-A.x/00-C.vmdk.gz-260301-0300.phd"
DELTA_PATH = "2026.03.01-A.x/00-C.vmdk.delta-2026.03.01-0300-260301-0300.phd"


def back_up(spec: TargetSpec, path: str = FULL_PATH, size: int = 9 << 20) -> None:
    target = make_target(spec, QUICK)
    try:
        new = target.create(path)
        try:
            for _ in range(size >> 16):
                new.write(b"x" * 65536)
            new.publish()
        finally:
            new.discard()
    finally:
        target.close()


@contextlib.contextmanager
def on_a_mount(folder: Path, *options: str, lines: Sequence[str] = ()) -> Iterator[TargetSpec]:
    """A target on a file system of its own, on an OpenSSH server."""
    store = folder / "small"
    mounting.mount(store, "-t", "tmpfs", "-o", ",".join(("size=4m", *options)), "tmpfs")
    try:
        with servers.sshd(folder, store, config=lines) as served:
            yield served.spec
    finally:
        mounting.unmount_all_below(folder)


@pytest.mark.parametrize("path", [FULL_PATH, DELTA_PATH])
def test_a_full_disk_of_openssh_is_no_room_on_the_target(tmp_path: Path, path: str) -> None:
    """OpenSSH says "Failure", which was "what this user may do", exit code 69."""
    with on_a_mount(tmp_path) as spec:
        with pytest.raises(TargetFull, match=r"there is no room on the target: .*Failure, and [\d.]+ \w+ are free there") as caught:
            back_up(spec, path)
        assert caught.value.exit_code is ExitCode.DESTINATION
        assert "sftp:2026.03.01-A.x/" in str(caught.value)
        assert list((tmp_path / "small").iterdir()) == []


def test_a_file_system_that_takes_no_more_files_is_no_room_on_the_target(tmp_path: Path) -> None:
    with on_a_mount(tmp_path, "nr_inodes=3") as spec:
        for number in range(2):
            (tmp_path / "small" / f"other{number}").touch()
        with pytest.raises(TargetFull, match="no more files can be made there"):
            back_up(spec)


def test_a_read_only_file_system_is_called_so(tmp_path: Path) -> None:
    with on_a_mount(tmp_path) as spec:
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "small")], check=True)
        with pytest.raises(TargetRefused, match="its file system is read-only"):
            back_up(spec)


@pytest.mark.parametrize("path", [FULL_PATH, DELTA_PATH])
def test_a_quota_is_no_room_on_the_target(tmp_path: Path, path: str) -> None:
    script = tmp_path / "said.json"
    script.write_text(json.dumps({"/": {"quota": 3_000_000}}))
    with servers.ssh_password(tmp_path, script=script) as served:
        with pytest.raises(TargetFull, match=r"no room on the target: .*or that disk fails") as caught:
            back_up(served.spec, path)
        assert caught.value.exit_code is ExitCode.DESTINATION
        assert [each for each in served.store.rglob("*") if each.is_file()] == []
        assert list(served.store.iterdir()) == []


def test_a_read_only_server_denies_and_the_folder_is_named(tmp_path: Path) -> None:
    """It was "No such file", the answer to the question that followed."""
    with servers.sshd(tmp_path, sftp_options="-R") as served:
        with pytest.raises(TargetRefused, match=r"sftp:2026\.03\.01-A\.x: the server answers: Permission denied"):
            back_up(served.spec)
        assert list(served.store.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can own a folder of another user")
def test_a_folder_of_another_user_denies_and_is_named(tmp_path: Path) -> None:
    with servers.sshd(tmp_path) as served:
        os.chown(served.store, 65534, 65534)
        served.store.chmod(0o555)
        with pytest.raises(TargetRefused, match=r"sftp:2026\.03\.01-A\.x: the server answers: Permission denied"):
            back_up(served.spec)


def test_a_file_where_a_folder_is_needed_is_said(tmp_path: Path) -> None:
    with servers.sshd(tmp_path) as served:
        (served.store / "2026.03.01-A.x").touch()
        with pytest.raises(TargetRefused, match="a folder is needed there, and it is something else"):
            back_up(served.spec)


@dataclasses.dataclass
class Answers:
    """A wire to a server that answers each kind of request with a status; without one, well."""

    declined: dict[Ask, Declined]
    extensions: dict[bytes, bytes] = dataclasses.field(default_factory=dict)
    asked: list[Ask] = dataclasses.field(default_factory=list)

    def ask(self, kind: Ask, body: bytes, *, later: bool = False) -> int:
        del body, later
        self.asked.append(kind)
        return len(self.asked)

    def answer(self, number: int, *kinds: AnswerType) -> bytes:
        del kinds
        if (no := self.declined.get(self.asked[number - 1])) is not None:
            raise no
        return (6).to_bytes(4, "big") + b"handle"

    def done(self, number: int) -> None:
        self.answer(number)


@pytest.mark.parametrize(
    ("code", "text", "writing", "kind"),
    [
        (Status.FAILURE, "No space left on device", True, TargetFull),
        (Status.FAILURE, "Disk quota exceeded", True, TargetFull),
        (Status.PERMISSION_DENIED, "quota exceeded", True, TargetFull),
        (Status.NO_SPACE, "", True, TargetFull),
        (Status.QUOTA, "", True, TargetFull),
        (Status.FAILURE, "Failure", True, TargetRefused),
        (Status.READ_ONLY, "", True, TargetRefused),
        (Status.FAILURE, "Read only file system", True, TargetRefused),
        (Status.FAILURE, "write x: input/output error", True, TargetUnavailable),
        (Status.NO_SUCH_FILE, "No such file", True, TargetRefused),
        (Status.NO_SUCH_FILE, "No such file", False, ArchiveAbsent),
        (Status.PERMISSION_DENIED, "Permission denied", False, TargetRefused),
        (Status.FAILURE, "Failure", False, TargetUnavailable),
    ],
)
def test_a_refusal_is_judged_by_its_words_and_its_number(code: Status, text: str, writing: bool, kind: type[PhdError]) -> None:
    found = error_of_declined(Answers({}), Declined(code, text), "nas:f/x", b"/f", writing=writing)  # type: ignore[arg-type]  # as much as it asks of a wire
    assert type(found) is kind
    assert "nas:f/x" in found.message
    assert text in found.message


def test_a_small_file_that_was_tried_is_removed_whatever_happens() -> None:
    wire = Answers({Ask.WRITE: Declined(Status.FAILURE, "")})
    found = error_of_declined(wire, Declined(Status.FAILURE, ""), "nas:f/x", b"/f", writing=True)  # type: ignore[arg-type]  # see above
    assert isinstance(found, TargetFull)
    assert wire.asked == [Ask.OPEN, Ask.WRITE, Ask.CLOSE, Ask.REMOVE]
    wire = Answers({Ask.OPEN: Declined(Status.PERMISSION_DENIED, "")})
    assert isinstance(error_of_declined(wire, Declined(Status.FAILURE, ""), "nas:f/x", b"/f", writing=True), TargetRefused)  # type: ignore[arg-type]  # see above


@pytest.mark.parametrize(
    ("text", "remedy"), [("Read only file system", "Mount it there so that it can be written."), ("input/output error", "fails")]
)
def test_where_the_server_says_why_nothing_is_tried_and_no_quota_is_guessed(text: str, remedy: str) -> None:
    """rclone serve sftp --read-only: "no room on the target: Read only file system; is the quota used up?"."""
    wire = Answers({Ask.OPEN: Declined(Status.FAILURE, text)})
    found = error_of_declined(wire, Declined(Status.FAILURE, text), "nas:f/x", b"/f", writing=True)  # type: ignore[arg-type]  # see above
    assert not isinstance(found, TargetFull)
    assert (remedy in found.remedy, "quota" in found.message, wire.asked) == (True, False, [])
