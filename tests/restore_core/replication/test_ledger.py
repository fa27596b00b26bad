"""restored.log: every line is believed only with its checksum; a crash, a torn line or an edit never reads as "restored"."""

from __future__ import annotations

import datetime as dt
import errno
import os
import random
from pathlib import Path

import pytest

from restore_core import durable
from restore_core.errors import TryAgainLater
from restore_core.replication import ledger
from restore_core.replication.ledger import LedgerLine, parse_ledger, read_ledger, render
from restore_core.targets.base import ArchiveRef

TIME = dt.datetime(2026, 3, 1, 4, 5, 6, tzinfo=dt.UTC)


def line(number: int = 0, **changes: object) -> LedgerLine:
    facts: dict[str, object] = {
        "time": TIME + dt.timedelta(minutes=number),
        "archive": ArchiveRef(target="nas1", path=f"2007.09.21-CRM.x/0{number}-CRM.vmdk.delta.phd"),
        "destination": Path(f"/vmfs/volumes/A/ronzo/CRM{number}.vmdk"),
        "job": "auto-CRM",
    }
    return LedgerLine(**{**facts, **changes})  # type: ignore[arg-type]  # tests pass fields by name


def test_a_line_is_readable_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "restored.log"
    assert read_ledger(path).lines == ()
    assert ledger.append_restore(path, line())
    text = path.read_text()
    assert text.startswith(
        "2026-03-01T04:05:06Z|nas1:2007.09.21-CRM.x/00-CRM.vmdk.delta.phd|/vmfs/volumes/A/ronzo/CRM0.vmdk|auto-CRM|"
    )
    assert read_ledger(path).lines == (line(),)


def test_the_same_restore_is_entered_once(tmp_path: Path) -> None:
    path = tmp_path / "restored.log"
    assert ledger.append_restore(path, line())
    assert not ledger.append_restore(path, line())
    assert ledger.append_restore(path, line(time=TIME + dt.timedelta(hours=1)))
    assert len(read_ledger(path).lines) == 2


def test_names_that_could_forge_a_line() -> None:
    odd = line(
        archive=ArchiveRef(target="nas1", path="a|b\nc%7C/\x1b\udcff.phd"), destination=Path("/v/x|y\n/z.vmdk"), job="auto-a|b\r"
    )
    text = render(odd)
    assert text.isprintable()
    assert parse_ledger(text.encode()).lines == (odd,)
    local = line(archive=ArchiveRef(target="", path="/nas/x.phd"))
    assert parse_ledger(render(local).encode()).lines == (local,)


def test_every_cut_loses_the_torn_line_only() -> None:
    whole = "".join(render(line(number)) + "\n" for number in range(3)).encode()
    expected = [line(number) for number in range(3)]
    for end in range(len(whole)):
        found = parse_ledger(whole[:end])
        assert list(found.lines) == expected[: len(found.lines)]
        assert len(found.lines) in (whole[:end].count(b"\n"), whole[: end + 1].count(b"\n"))


def test_every_flip_is_seen() -> None:
    whole = "".join(render(line(number)) + "\n" for number in range(3)).encode()
    expected = {line(number) for number in range(3)}
    chance = random.Random(54)
    for _ in range(2000):
        flipped = bytearray(whole)
        flipped[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        found = parse_ledger(bytes(flipped))
        assert set(found.lines) <= expected
        assert len(found.lines) < 3 or found.bad == ()


def test_edited_and_damaged_lines_are_reported_with_their_number() -> None:
    good = render(line())
    edited = good.replace("CRM0.vmdk", "CRM1.vmdk")
    strange_body = "a|b|c"
    strange = f"{strange_body}|{ledger._check(strange_body)}"
    found = parse_ledger(f"# by hand\n\n{good}\r\n{edited}\n{strange}\nhello\n".encode() + b"\xff|x\n")
    assert found.lines == (line(),)
    assert [bad.number for bad in found.bad] == [4, 5, 6, 7]
    assert "torn or edited" in found.bad[0].why


def test_a_torn_end_is_closed_by_the_next_line(tmp_path: Path) -> None:
    path = tmp_path / "restored.log"
    path.write_text(render(line(0)) + "\n" + render(line(1))[:30])
    ledger.append_restore(path, line(2))
    found = read_ledger(path)
    assert found.lines == (line(0), line(2))
    assert [bad.number for bad in found.bad] == [2]


def test_a_ledger_that_cannot_be_read_is_not_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "restored.log"
    path.mkdir()
    with pytest.raises(TryAgainLater, match="is no regular file"):
        read_ledger(path)
    os.rmdir(path)
    assert read_ledger(path).lines == ()


def test_a_line_whose_fsync_failed_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "restored.log"
    synced: list[object] = []

    def broken(_fd: int) -> None:
        raise OSError(errno.EIO, "lost")

    ledger.append_restore(path, line(0))
    with monkeypatch.context() as patch:
        patch.setattr(durable, "sync_file", broken)
        with pytest.raises(OSError, match="lost"):
            ledger.append_restore(path, line(1))
    inode = path.stat().st_ino
    with monkeypatch.context() as patch:
        patch.setattr(durable, "sync_file", lambda fd: synced.append(os.pread(fd, 1 << 20, 0)))
        patch.setattr(durable, "write_all_at", lambda *written: synced.append(written[1:]))
        assert ledger.append_restore(path, line(1)) is False
    assert synced[0] == (render(line(1)).encode() + b"\n", len(render(line(0))) + 1)
    assert len(synced) == 2
    assert read_ledger(path).lines == (line(0), line(1))
    assert path.stat().st_ino == inode


def test_a_line_that_lacks_only_its_newline_is_not_entered_twice(tmp_path: Path) -> None:
    path = tmp_path / "restored.log"
    path.write_text(render(line(0)) + "\n" + render(line(1)))
    assert ledger.append_restore(path, line(1)) is False
    assert path.read_text() == render(line(0)) + "\n" + render(line(1)) + "\n"


def test_the_lines_keep_the_order_of_the_file() -> None:
    first, second = line(1, destination=Path("/v/a/x")), line(0, destination=Path("/v/a/x"))
    found = parse_ledger(f"{render(first)}\n{render(second)}\n{render(line(2))}\n".encode())
    assert found.lines == (first, second, line(2))
