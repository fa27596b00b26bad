"""vmdks.auto as the README of 2007 writes it; each bad line is named with its column, and takes no other line with it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_core.errors import BadRule
from restore_core.replication.rules import Rule, names_disk, parse_rules, render_rule

UUID = "564d122a-0ed7-3b92-2f46-aee9456b2074"
SEED = (
    b"## /etc/phd/vmdks\n# USE_DAYS=-3\n#\n\n"
    b"RESTORE:CRM|564d122a-0ed7-3b92-2f46-aee9456b2074|00|CRM.vmdk|/vmfs/volumes/ISCSI02/ronzo/CRM.vmdk\n"
    b"RESTORE:CRM|564d122a-0ed7-3b92-2f46-aee9456b2074|00|CRM.vmdk|/vmfs/volumes/ISCSI02/caleb/CRM.vmdk|-3\n"
)
ROOTS = (Path("/vmfs/volumes"),)


def one(text: str) -> Rule:
    (found,) = parse_rules(text.encode(), roots=ROOTS).rules
    return found


def test_the_lines_of_the_readme() -> None:
    found = parse_rules(SEED, roots=ROOTS)
    assert found.problems == ()
    newest, three_days = found.rules
    assert (newest.line, newest.vm, newest.uuid, newest.scsi, newest.vmdk, newest.days) == (5, "CRM", UUID, "00", "CRM.vmdk", 0)
    assert newest.destination == Path("/vmfs/volumes/ISCSI02/ronzo/CRM.vmdk")
    assert three_days.days == 3


def test_the_sample_we_ship_holds_no_live_rule_and_no_mistake() -> None:
    shipped = (Path(__file__).resolve().parents[3] / "etc/phd/vmdks.auto").read_bytes()
    found = parse_rules(shipped, roots=ROOTS)
    assert (found.rules, found.problems) == ((), ())
    live = shipped.replace(b"# RESTORE:CRM", b"RESTORE:CRM")
    assert len(parse_rules(live, roots=ROOTS).rules) == 2


@pytest.mark.parametrize("wild", ["*", "%"])
def test_wildcards_for_uuid_and_scsi(wild: str) -> None:
    found = one(f"RESTORE:CRM|{wild}|{wild}|CRM.vmdk|/vmfs/volumes/A/b/CRM.vmdk")
    assert (found.uuid, found.scsi) == (None, None)
    assert names_disk(found, vm="CRM", uuid=None, scsi="010", vmdk="CRM.vmdk")
    assert not names_disk(found, vm="CRM2", uuid=None, scsi="010", vmdk="CRM.vmdk")


def test_a_uuid_fits_in_any_case_and_never_a_version_2_backup() -> None:
    found = one(f"RESTORE:CRM|{UUID.upper()}|00|CRM.vmdk|/vmfs/volumes/A/b/CRM.vmdk")
    assert names_disk(found, vm="CRM", uuid=UUID, scsi="00", vmdk="CRM.vmdk")
    assert not names_disk(found, vm="CRM", uuid=None, scsi="00", vmdk="CRM.vmdk")
    assert not names_disk(found, vm="CRM", uuid=UUID, scsi="01", vmdk="CRM.vmdk")


def test_use_days_is_for_the_whole_file_wherever_it_stands() -> None:
    text = "RESTORE:A|*|*|a.vmdk|/vmfs/volumes/A/a.vmdk\nRESTORE:B|*|*|b.vmdk|/vmfs/volumes/A/b.vmdk|-7\nUSE_DAYS=-3\n"
    assert [rule.days for rule in parse_rules(text.encode(), roots=ROOTS).rules] == [3, 7]
    zero = text.replace("-7", "0").replace("USE_DAYS=-3", "# none")
    assert [rule.days for rule in parse_rules(zero.encode(), roots=ROOTS).rules] == [0, 0]


def test_spaces_odd_characters_and_line_ends_of_other_systems() -> None:
    text = "\ufeffRESTORE:My VM's 100%|*|00|dü sk%7C1.vmdk|/vmfs/volumes/A/x y/%25d.vmdk  \r\n"
    found = one(text)
    assert (found.vm, found.vmdk) == ("My VM's 100%", "dü sk|1.vmdk")
    assert found.destination == Path("/vmfs/volumes/A/x y/%d.vmdk")


@pytest.mark.parametrize(
    ("line", "column", "said"),
    [
        ("RESTORE CRM|*|00|a.vmdk|/vmfs/volumes/A/a.vmdk", 1, "this is not a rule"),
        (" RESTORE:CRM|*|00|a.vmdk|/vmfs/volumes/A/a.vmdk", 1, "at the start of the line"),
        ("restore:CRM|*|00|a.vmdk|/vmfs/volumes/A/a.vmdk", 1, "in capitals"),
        ("RESTORE:CRM|*|00|a.vmdk", 24, "restore path is missing"),
        ("RESTORE:CRM", 12, "UUID is missing"),
        ("RESTORE:CRM|*|00|a.vmdk|/vmfs/volumes/A/a.vmdk|-3|x", 50, "too many fields"),
        ("RESTORE:|*|00|a.vmdk|/vmfs/volumes/A/a.vmdk", 9, "VM name is empty"),
        ("RESTORE:*|*|00|a.vmdk|/vmfs/volumes/A/a.vmdk", 9, "cannot be"),
        ("RESTORE:CRM|*|00|%|/vmfs/volumes/A/a.vmdk", 18, "cannot be"),
        ("RESTORE:CRM|123|00|a.vmdk|/vmfs/volumes/A/a.vmdk", 13, "'123' is not a UUID"),
        ("RESTORE:CRM|*|0:0|a.vmdk|/vmfs/volumes/A/a.vmdk", 15, "write 00"),
        ("RESTORE:CRM|*|x|a.vmdk|/vmfs/volumes/A/a.vmdk", 15, "is not an SCSI id"),
        ("RESTORE:CRM|*|00|a.vmdk|volumes/a.vmdk", 25, "starts with /"),
        ("RESTORE:CRM|*|00|a.vmdk|/vmfs/volumes/A/../../etc/a", 25, "no '..'"),
        ("RESTORE:CRM|*|00|a.vmdk|/vmfs/volumes/A/b/", 25, "ends with a file's name"),
        ("RESTORE:CRM|*|00|a.vmdk|/vmfs/volumes/A/a-flat.vmdk", 25, "names a flat file"),
        ("RESTORE:CRM|*|00|a.vmdk|/etc/a.vmdk", 25, "not in a datastore"),
        ("RESTORE:CRM|*|00|a.vmdk|/vmfs/volumes/a.vmdk", 25, "not in a datastore"),
        ("RESTORE:CRM|*|00|a.vmdk|/vmfs/volumes/A/a.vmdk|3", 48, "write -3"),
        ("RESTORE:CRM|*|00|a.vmdk|/vmfs/volumes/A/a.vmdk|soon", 48, "is not a number of days"),
        ("RESTORE:C\x1bM|*|00|a.vmdk|/vmfs/volumes/A/a.vmdk", 10, "write it as %1B"),
        ("RESTORE:CRM|*|00|a.vmdk|/vmfs/volumes/A/a.vmdk|-٣", 48, "is not a number"),
        ("USE_DAYS=3", 10, "write -3"),
        ("USE_DAYS = -3", 1, "this is not a rule"),
    ],
)
def test_a_bad_line_is_named_with_its_column_and_disables_itself_only(line: str, column: int, said: str) -> None:
    good = "RESTORE:OK|*|00|ok.vmdk|/vmfs/volumes/A/ok.vmdk|-1"
    found = parse_rules(f"{good}\n{line}\n".encode(), roots=ROOTS)
    assert [rule.vm for rule in found.rules] == ["OK"]
    (problem,) = found.problems
    assert (problem.line, problem.column) == (2, column)
    assert said in problem.message


def test_bytes_that_are_not_utf_8() -> None:
    found = parse_rules(b"RESTORE:C\xffM|*|00|a.vmdk|/vmfs/volumes/A/a.vmdk\n" + SEED, roots=ROOTS)
    assert [(problem.line, problem.column) for problem in found.problems] == [(1, 10)]
    assert len(found.rules) == 2


def test_a_wrong_use_days_holds_back_the_rules_that_go_by_it() -> None:
    text = "USE_DAYS=3\nRESTORE:A|*|*|a.vmdk|/vmfs/volumes/A/a.vmdk\nRESTORE:B|*|*|b.vmdk|/vmfs/volumes/A/b.vmdk|-1\n"
    found = parse_rules(text.encode(), roots=ROOTS)
    assert [rule.vm for rule in found.rules] == ["B"]
    assert [problem.line for problem in found.problems] == [1, 2]
    second = parse_rules(b"USE_DAYS=-3\nUSE_DAYS=-4\n", roots=ROOTS)
    assert [problem.line for problem in second.problems] == [2]


def test_two_rules_for_one_disk_refuse_each_other() -> None:
    text = (
        "RESTORE:A|*|*|a.vmdk|/vmfs/volumes/A/x.vmdk\nRESTORE:B|*|*|b.vmdk|/vmfs/volumes/A//x.vmdk\n"
        "RESTORE:C|*|*|c.vmdk|/vmfs/volumes/A/y.vmdk\n"
    )
    found = parse_rules(text.encode(), roots=ROOTS)
    assert [rule.vm for rule in found.rules] == ["C"]
    assert [(problem.line, "same disk" in problem.message) for problem in found.problems] == [(1, True), (2, True)]


def test_two_paths_to_one_disk_are_one_destination() -> None:
    text = "RESTORE:A|*|*|a.vmdk|/vmfs/volumes/A/x.vmdk\nRESTORE:B|*|*|b.vmdk|/vmfs/volumes/B/x.vmdk\n"
    assert len(parse_rules(text.encode(), roots=ROOTS).rules) == 2
    assert parse_rules(text.encode(), roots=ROOTS, key=lambda path: path.name).rules == ()


@pytest.mark.parametrize("data", [b"RESTORE:\0", random.Random(1).randbytes(64) + b"\0", b"#" * ((4 << 20) + 1)])
def test_what_is_no_such_file_at_all(data: bytes) -> None:
    with pytest.raises(BadRule):
        parse_rules(data, roots=ROOTS)


@given(
    st.text(min_size=1).filter(lambda text: "\0" not in text and text.strip(" ")),
    st.text(min_size=1).filter(lambda text: "\0" not in text and "/" not in text),
)
def test_every_name_can_be_written_as_a_rule_and_read_back(vm: str, vmdk: str) -> None:
    line = render_rule(vm=vm, uuid=None, scsi="00", vmdk="x" + vmdk + ".vmdk", destination=Path("/vmfs/volumes/A/a.vmdk"))
    found = one(line)
    assert (found.vm, found.vmdk) == (vm, "x" + vmdk + ".vmdk")


def test_a_name_of_blanks_can_be_written_and_read_back() -> None:
    line = render_rule(vm="  ", uuid=None, scsi="00", vmdk=" x.vmdk ", destination=Path("/vmfs/volumes/A/a.vmdk"))
    assert (one(line).vm, one(line).vmdk) == ("  ", " x.vmdk ")


def test_any_bytes_are_rules_or_problems_and_never_anything_else() -> None:
    chance = random.Random(4)
    for _ in range(2000):
        text = bytearray(SEED)
        for _ in range(chance.randint(1, 8)):
            text[chance.randrange(len(text))] = chance.choice(b"|*%\n\r:#-/ \x1b\xc3aR0123")
        for rule in parse_rules(bytes(text), roots=ROOTS).rules:
            assert rule.destination.is_relative_to("/vmfs/volumes")
            assert rule.days >= 0
