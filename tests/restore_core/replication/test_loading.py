"""`phd rules load`: every disk once, never one that is named already, to a place that is nobody else's."""

from __future__ import annotations

from pathlib import Path

from restore_core.replication.ledger import from_rule, job_name
from restore_core.replication.loading import new_lines
from restore_core.replication.rules import parse_rules
from tests.restore_core.replication.facts import OTHER, UUID, delta

STORE = Path("/vmfs/volumes/ISCSI02")


def lines(*entries: object, text: bytes = b"", active: bool = False) -> list[str]:
    return new_lines(text, entries, datastore=STORE, active=active)  # type: ignore[arg-type]  # catalog entries


def test_each_disk_once_commented_out() -> None:
    found = lines(delta("2026-03-01 03:00"), delta("2026-03-02 03:00"), delta("2026-03-02 03:00", scsi="01", disk="CRM_1.vmdk"))
    assert found == [
        f"#RESTORE:CRM|{UUID}|00|CRM.vmdk|/vmfs/volumes/ISCSI02/CRM/CRM.vmdk",
        f"#RESTORE:CRM|{UUID}|01|CRM_1.vmdk|/vmfs/volumes/ISCSI02/CRM/CRM_1.vmdk",
    ]


def test_twice_adds_nothing() -> None:
    entries = [delta("2026-03-01 03:00"), delta("2026-03-01 03:00", uuid=None, vm="esx1"), delta("2026-03-01 03:00", vm="a|b%c ")]
    for active in (False, True):
        first = "\n".join(lines(*entries, active=active)).encode()
        assert lines(*entries, text=first, active=active) == []
        assert lines(*entries, text=b"##" + first.replace(b"\n", b"\n##"), active=active) == []
        assert len(lines(*entries, text=b"# " + first.replace(b"\n", b"\n# ").replace(b"# #", b"# "), active=active)) == 3


def test_what_is_named_already_is_left_out() -> None:
    rule = b"RESTORE:CRM|*|*|CRM.vmdk|/vmfs/volumes/A/b/c.vmdk|-3\n"
    assert lines(delta("2026-03-01 03:00"), text=rule) == []
    assert len(lines(delta("2026-03-01 03:00", disk="CRM_1.vmdk"), text=rule)) == 1


def test_active_lines_are_rules_with_a_place_each() -> None:
    same_name = [
        delta("2026-03-01 03:00"),
        delta("2026-03-01 03:00", scsi="01"),
        delta("2026-03-01 03:00", uuid=OTHER),
        delta("2026-03-01 03:00", uuid=OTHER, scsi="01"),
        delta("2026-03-01 03:00", vm="../etc", disk="x-flat.vmdk"),
        delta("2026-03-01 03:00", vm="*", disk="%"),
    ]
    found = parse_rules("\n".join(lines(*same_name, active=True)).encode(), roots=[STORE.parent])
    assert found.problems == ()
    assert len({rule.destination for rule in found.rules}) == len(same_name)


def test_the_name_of_a_job_is_decided_by_what_is_asked() -> None:
    one, other = delta("2026-03-01 03:00"), delta("2026-03-01 03:00", target="nas2")
    name = job_name(one.ref, STORE / "a.vmdk", vm="CRM für ../x", stamp="2026.03.01-0300")
    assert name.startswith("auto-CRM_f_r_.._x-2026.03.01-0300-")
    assert from_rule(name)
    assert not from_rule("CRM")
    assert name == job_name(one.ref, STORE / "a.vmdk", vm="CRM für ../x", stamp="2026.03.01-0300")
    assert name != job_name(other.ref, STORE / "a.vmdk", vm="CRM für ../x", stamp="2026.03.01-0300")
    assert name != job_name(one.ref, STORE / "b.vmdk", vm="CRM für ../x", stamp="2026.03.01-0300")


def test_a_name_is_escaped_once() -> None:
    (line,) = lines(delta("2026-03-01 03:00", vm="esc\x1b[31mVM"), active=True)
    assert line.endswith("|/vmfs/volumes/ISCSI02/esc%1B[31mVM/CRM.vmdk")
    (rule,) = parse_rules(line.encode(), roots=[STORE.parent]).rules
    assert rule.destination == STORE / "esc\x1b[31mVM/CRM.vmdk"
