"""The main job on one FTP server that an imitation or a real server makes hard: backup, change, Delta, list, restore, verify."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from phd_daemon.cli.main import run
from restore_core.errors import ExitCode
from restore_core.targets.base import TargetSpec
from tests.lab import UUID

_KEYS = ("url", "key_file", "password_file", "known_hosts", "ca_file", "tls_max")
_KIB = 1 << 10
MONDAY = random.Random(5).randbytes(300 * _KIB) + bytes(900 * _KIB) + b"end"
TUESDAY = random.Random(6).randbytes(9000) + MONDAY[9000:]


class Site:
    """An installation with one target, `t`."""

    def __init__(self, folder: Path, spec: TargetSpec, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.disk, self.out, self._capsys = folder / "disk.img", folder / "out.img", capsys
        table = "".join(f'{key} = "{getattr(spec, key)}"\n' for key in _KEYS if getattr(spec, key))
        text = f'state_dir = "{folder}/state"\n[queue]\nspool = "{folder}/spool"\n[backup]\nstaging_dir = "{folder}"\n'
        text += f"[targets.t]\n{table}"
        (folder / "phd.toml").write_text(text)
        monkeypatch.setenv("PHD_CONFIG", str(folder / "phd.toml"))

    def phd(self, *arguments: str) -> tuple[int, str]:
        """The exit code of a command, and all that it says."""
        code = run(arguments)
        said = self._capsys.readouterr()
        return code, said.out + said.err

    def back_up(self, data: bytes, day: int) -> tuple[int, str]:
        """Backs this content up, as that of a day of January 2026."""
        self.disk.write_bytes(data)
        at = f"2026-01-{day:02d}T03:00"
        return self.phd("backup", str(self.disk), "--target", "t", "--vm", "CRM", "--uuid", UUID, "--at", at)

    def works(self, store: Path) -> str:
        """Everything works; what `phd targets` says."""
        for day, data in ((5, MONDAY), (6, TUESDAY)):
            code, said = self.back_up(data, day)
            assert code == 0, said
        code, said = self.phd("index")
        assert (code, "3 archives on 1 target" in said) == (0, True), said
        code, targets = self.phd("targets")
        assert code == 0, targets
        full, _, delta = sorted(store.rglob("*.phd"), key=lambda path: ("delta" in path.name, path.name))
        assert "gz" in full.name
        for archive, data in ((full, MONDAY), (delta, TUESDAY)):
            assert self.phd("restore", f"t:{archive.relative_to(store)}", "--to", str(self.out), "--overwrite")[0] == 0, archive
            assert self.out.read_bytes() == data, archive
        code, said = self.phd("verify", f"t:{delta.relative_to(store)}")
        assert code == 0, said
        return targets

    def is_refused(self, words: str, refusal: ExitCode = ExitCode.UNAVAILABLE) -> None:
        """One message ends what cannot be done."""
        code, said = 0, ""
        for day, data in ((5, MONDAY), (6, TUESDAY)):
            code, said = self.back_up(data, day)
            if code:
                break
        assert code == refusal, said
        assert words in said
        assert [line[:5] for line in said.splitlines()].count("phd: ") == 1
        assert "Traceback" not in said
