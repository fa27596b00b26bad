"""Names: what is a job and in which state, what is nobody's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from phd_daemon.spool.layout import (
    FINAL,
    Spool,
    State,
    how_to_retry,
    is_stem,
    meant_name,
    parse_name,
    rotated_of,
    side_file,
    too_long,
    why_no_job,
)


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("crm.job", ("crm", State.WAITING)),
        ("crm.held", ("crm", State.HELD)),
        ("crm.running", ("crm", State.RUNNING)),
        ("crm.done", ("crm", State.DONE)),
        ("crm.failed", ("crm", State.FAILED)),
        ("crm.cancelled", ("crm", State.CANCELLED)),
        ("crm.rejected", ("crm", State.REJECTED)),
        ("a.b.c.job", ("a.b.c", State.WAITING)),
        ("99999999.job", ("99999999", State.WAITING)),
        ("two words\nand a line.job", ("two words\nand a line", State.WAITING)),
        (os.fsdecode(b"caf\xe9.job"), (os.fsdecode(b"caf\xe9"), State.WAITING)),
        ("crm.~1.done", ("crm.~1", State.DONE)),
    ],
)
def test_control_files(name: str, parsed: tuple[str, State]) -> None:
    assert parse_name(name) == parsed


@pytest.mark.parametrize(
    "name",
    [
        ".crm.job", ".job", "job", "crm", "crm.JOB", "crm.job~", "crm.job.tmp", "crm.job.swp", ".crm.job.swp", "#crm.job#",
        ".#crm.job", "4913", "sedAbCdEf", "crm.log", "crm.status", "crm.jobs", ".state",
    ],
)  # fmt: skip
def test_nobodys_jobs(name: str) -> None:
    assert parse_name(name) is None


def test_side_files() -> None:
    assert side_file("crm.~2.log") == "crm.~2"
    assert side_file("crm.status") == "crm"
    assert side_file(".crm.status") is None
    assert side_file("crm.job") is None


def test_rotated() -> None:
    assert rotated_of("crm.~12") == ("crm", 12)
    assert rotated_of("crm.~0") is None
    assert rotated_of("crm~1") is None
    assert rotated_of("crm.~1.~2") == ("crm.~1", 2)


def test_length_counts_bytes_and_leaves_room_for_rotation() -> None:
    assert not too_long("x" * 200)
    assert too_long("x" * 201)
    assert too_long("é" * 101)
    assert not too_long("x" * 200 + ".~123")


def test_a_job_called_daemon_has_a_lock_of_its_own() -> None:
    spool = Spool(folder=Path("/spool"))
    assert spool.lock("daemon") != spool.daemon_lock
    assert parse_name(spool.daemon_lock.name) is None


def test_final_states() -> None:
    assert {state for state in State if state.final} == FINAL
    assert {state.meaning for state in State} == {"waiting", "held", "running", "done", "failed", "cancelled", "rejected"}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("esx.JOB", "esx.job"), ("ESX.Job", "ESX.job"), ("esx.job.txt", "esx.job"), ("a.b.HELD", "a.b.held"),
        ("esx.job.", "esx.job"),
        ("two words.jOB", "two words.job"), ("İ.JOB", "İ.job"), ("esx.jobs", None), ("esx.txt", None), ("esx", None),
        ("crm.toml", None),
    ],
)  # fmt: skip
def test_a_file_that_is_never_read_is_named_with_the_name_that_was_meant(name: str, meant: str | None) -> None:
    assert parse_name(name) is None
    assert meant_name(name) == meant
    assert f"called {meant or 'NAME.job'}" in (why_no_job(name) or "")


@pytest.mark.parametrize(
    "name",
    [
        "crm.job", "crm.done", "crm.log", "crm.log.1.gz", "crm.status", ".state", ".crm.job.swp", "crm.job~", "#crm.job#", "4913",
        "sedAbCdEf", "crm.job.tmp", "crm.JOB.swp", "crm.job.filepart", "crm.job.bak", "crm.status.aside-3f9a01bc", ".phd-0.tmp",
    ],
)  # fmt: skip
def test_nothing_is_said_of_files_that_lie_in_the_spool_for_a_while_or_are_the_daemons(name: str) -> None:
    assert why_no_job(name) is None


def test_a_name_that_a_shell_or_phd_would_read_otherwise_is_quoted_in_the_advice() -> None:
    assert "phd retry -- '-two words';" in how_to_retry("-two words", State.FAILED)


def test_a_control_file_whose_name_is_too_long_is_said_to_be_never_read_with_a_name_that_is_read() -> None:
    for name in ("x" * 201 + ".job", "é" * 101 + ".held", "é" * 124 + ".job"):
        assert "longer than 200 bytes" in (why_no_job(name) or "")
        right = meant_name(name)
        assert right is not None
        assert why_no_job(right) is None
        assert right.rpartition(".")[2] == name.rpartition(".")[2]
    assert why_no_job("x" * 200 + ".job") is None
    assert why_no_job("x" * 200 + ".~12.done") is None


def test_a_name_that_no_file_can_have_is_no_job() -> None:
    assert is_stem("x" * 200 + ".~9999")
    assert not is_stem("x" * 300)
    assert not is_stem("é" * 130)
