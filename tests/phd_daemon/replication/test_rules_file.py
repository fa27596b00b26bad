"""The rules of an installation: their destinations are the disks that are there."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from phd_daemon.config.load import parse_config
from phd_daemon.replication.rules_file import parse


def test_a_rule_follows_the_disk_that_is_there_whichever_way_its_accents_are_written(tmp_path: Path) -> None:
    """The pass restored to a second folder that looked the same; and two rules in two spellings were two disks."""
    there = tmp_path / "ds1" / unicodedata.normalize("NFD", "Büro") / unicodedata.normalize("NFC", "Köln.vmdk")
    there.parent.mkdir(parents=True)
    there.touch()
    config = parse_config(f'[datastores]\nroots = ["{tmp_path}"]\n'.encode(), tmp_path / "phd.toml")
    lines = [f"RESTORE:CRM|*|*|CRM.vmdk|{unicodedata.normalize(form, str(there))}\n" for form in ("NFC", "NFD")]
    for line in lines:
        (rule,) = parse(line.encode(), config).rules
        assert rule.destination == there
    both = parse("".join(lines).encode(), config)
    assert not both.rules
    assert len(both.problems) == 2
