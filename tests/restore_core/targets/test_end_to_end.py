"""`phd backup` to each kind of target and `phd restore` from it, and a Delta on one with its Full on another. No secret is seen."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from phd_daemon.cli.main import run
from restore_core.errors import ExitCode
from restore_core.targets.base import TargetSpec
from tests import servers
from tests.restore_core.targets.conftest import KINDS
from tests.servers import PASSWORD, Served

MIB = 1 << 20
KEYS = ("url", "key_file", "password_file", "known_hosts", "ca_file")
UUID = "564d122a-0ed7-3b92-2f46-aee9456b2074"
Say = pytest.CaptureFixture[str]


def table(spec: TargetSpec, name: str) -> str:
    return f"[targets.{name}]\n" + "".join(f'{key} = "{getattr(spec, key)}"\n' for key in KEYS if getattr(spec, key))


def monday() -> bytes:
    return random.Random(5).randbytes(6 * MIB) + bytes(3 * MIB) + b"end"


def tuesday() -> bytes:
    data = bytearray(monday())
    data[MIB : MIB + 9000] = random.Random(6).randbytes(9000)
    return bytes(data)


@pytest.fixture
def phd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Callable[..., int]]:
    """`phd`, with a configuration of the targets it is called with."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("PHD_CONFIG", str(tmp_path / "phd.toml"))
    text = f'state_dir = "{tmp_path}/state"\n[queue]\nspool = "{tmp_path}/spool"\n[backup]\nstaging_dir = "{tmp_path}"\n'

    def call(*arguments: str, **targets: TargetSpec) -> int:
        named = "".join(table(spec, name) for name, spec in targets.items())
        (tmp_path / "phd.toml").write_text(text + named)
        return run(arguments)

    yield call
    assert PASSWORD not in caplog.text
    assert [path.name for path in tmp_path.rglob("*.phd-part")] == []


def back_up(phd: Callable[..., int], disk: Path, spec: TargetSpec, capsys: Say) -> tuple[str, str]:
    """Full and Delta on the target `t`: their references, the Full's first."""
    found = []
    for data, at in ((monday(), "2026-01-05T03:00"), (tuesday(), "2026-01-06T03:00")):
        disk.write_bytes(data)
        assert phd("backup", str(disk), "--target", "t", "--vm", "CRM", "--uuid", UUID, "--at", at, "--json", t=spec) == 0
        found.append(json.loads(capsys.readouterr().out)[0])
    return found[0]["full"], found[1]["delta"]


def test_there_and_back(place: tuple[TargetSpec, Path], phd: Callable[..., int], tmp_path: Path, capsys: Say) -> None:
    spec, store = place
    disk, out = (tmp_path / "mine" / name for name in ("disk.img", "out.img"))
    disk.parent.mkdir()
    full, delta = back_up(phd, disk, spec, capsys)
    assert phd("restore", delta, "--to", str(out), t=spec) == 0
    assert out.read_bytes() == tuesday()
    assert phd("restore", full, "--to", str(out), "--overwrite", t=spec) == 0
    assert out.read_bytes() == monday()
    assert phd("verify", delta, t=spec) == 0
    assert len([path for path in store.rglob("*.phd") if path.is_file()]) == 3
    assert phd("targets", "--json", t=spec) == 0
    said = capsys.readouterr()
    (seen,) = json.loads(said.out[said.out.index("[") :])
    assert (seen["answers"], seen["archives"]) == (True, 3)
    assert seen["bytes_per_second"] > 0
    assert PASSWORD not in said.out + said.err


def test_the_full_lies_elsewhere(sftp: Served, pyftpd_tls: Served, phd: Callable[..., int], tmp_path: Path, capsys: Say) -> None:
    full, delta = back_up(phd, tmp_path / "disk.img", sftp.spec, capsys)
    old = sftp.store / full.removeprefix("t:")
    moved = pyftpd_tls.store / "moved" / "renamed.gz"
    moved.parent.mkdir()
    old.rename(moved)
    out = tmp_path / "out.img"
    try:
        assert phd("restore", delta, "--to", str(out), t=sftp.spec) == ExitCode.UNAVAILABLE
        assert not out.exists()
        assert phd("restore", delta, "--to", str(out), t=sftp.spec, u=pyftpd_tls.spec) == 0
        assert out.read_bytes() == tuesday()
        assert "u:moved/renamed.gz" in capsys.readouterr().out
    finally:
        moved.unlink()
        moved.parent.rmdir()
        for path in sftp.store.rglob("*.phd"):
            path.unlink()


def test_a_flipped_bit_on_the_way(phd: Callable[..., int], tmp_path: Path, capsys: Say) -> None:
    with servers.pyftpd(tmp_path) as honest:
        _, delta = back_up(phd, tmp_path / "disk.img", honest.spec, capsys)
    with servers.pyftpd(tmp_path, lie="flip") as liar:
        out = tmp_path / "out.img"
        assert phd("restore", delta, "--to", str(out), t=liar.spec) == ExitCode.BAD_DATA
        assert not out.exists()


@pytest.mark.parametrize("kind", ["sftp", "ftps-vsftpd"])
def test_trust(kind: str, phd: Callable[..., int], tmp_path: Path, capsys: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    import dataclasses

    try:
        with KINDS[kind](tmp_path) as served:
            file = tmp_path / "trusted"
            which = "known_hosts" if kind == "sftp" else "ca_file"
            spec = dataclasses.replace(served.spec, **{which: str(file)})  # type: ignore[arg-type]  # a path, as text
            if kind == "sftp":
                assert phd("targets", t=spec) == ExitCode.UNAVAILABLE
                assert "phd targets trust t" in capsys.readouterr().out
            monkeypatch.setattr("click.confirm", lambda *_, **__: False)
            assert phd("targets", "trust", "t", t=spec) == ExitCode.INTERRUPTED
            assert not file.exists()
            assert phd("targets", "trust", "t", "--yes", t=spec) == 0
            said = capsys.readouterr().out
            assert "has none for it yet" in said
            assert ("ssh-ed25519" if kind == "sftp" else "names   127.0.0.1") in said
            assert "and no other" in said or "also a renewed one" in said
            assert phd("targets", t=spec) == 0
            assert phd("targets", "trust", "t", t=spec) == 0
            assert "nothing to do" in capsys.readouterr().out
            recorded = file.read_bytes()
            if kind == "sftp":
                host, key = recorded.split()[0], b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIRjOBFbMCfsUoq7o7AoKGoQx1aUAVHvZDNAvaoAV0UD"
                file.write_bytes(b"# mine\nother.example " + key + b"\n" + host + b" " + key + b"\n")
                assert phd("targets", t=spec) == ExitCode.UNAVAILABLE
                assert phd("targets", "trust", "t", "--yes", t=spec) == 0
                assert "HAS ANOTHER ONE" in capsys.readouterr().out
                assert file.read_bytes() == b"# mine\nother.example " + key + b"\n" + recorded
                assert phd("targets", t=spec) == 0
    except servers.Missing as missing:
        pytest.skip(str(missing))


def test_trust_of_what_cannot_be_trusted(pyftpd: Served, phd: Callable[..., int], capsys: Say) -> None:
    assert phd("targets", "trust", "t", t=pyftpd.spec) == ExitCode.CONFIGURATION
    assert phd("targets", "trust", "x", t=pyftpd.spec) == ExitCode.USAGE
    assert phd("targets", t=pyftpd.spec) == 0
    assert "clear text" in capsys.readouterr().out
