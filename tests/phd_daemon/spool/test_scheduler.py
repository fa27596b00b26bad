"""What starts, in which order, and why the others wait."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from phd_daemon.spool.scheduler import StartLimits, StartPlan, WaitingJob, schedule

NOW = 1_000_000.0


def job(name: str, **changes: object) -> WaitingJob:
    values: dict[str, object] = {
        "priority": 5,
        "arrived_ns": 1,
        "not_before": 0.0,
        "next_try": None,
        "why_next_try": "",
        "destination": Path(f"/vmfs/volumes/ds1/{name}.vmdk"),
    }
    return WaitingJob(name=name, **{**values, **changes})  # type: ignore[arg-type]  # the values above have the right types


def limits(workers: int = 1, *, enabled: bool = True) -> StartLimits:
    return StartLimits(workers=workers, enabled=enabled, key=lambda path: path.name.casefold())


def plan(*jobs: WaitingJob, running: dict[str, Path] | None = None, workers: int = 1, enabled: bool = True) -> StartPlan:
    return schedule(jobs, running or {}, limits=limits(workers, enabled=enabled), now=NOW)


def test_priority_then_arrival_then_name() -> None:
    jobs = [
        job("d", arrived_ns=2),
        job("c", arrived_ns=1),
        job("b", arrived_ns=1),
        job("a", priority=9),
        job("z", priority=0, arrived_ns=9),
    ]
    assert plan(*jobs, workers=4).start == ("z", "b", "c", "d")
    assert plan(*jobs, workers=1).start == ("z",)


def test_the_limit_counts_what_runs() -> None:
    running = {"r": Path("/vmfs/volumes/ds1/r.vmdk")}
    found = plan(job("a"), running=running, workers=1)
    assert found.start == ()
    assert found.waits["a"].why == "waits for its turn"
    assert plan(job("a"), job("b"), running=running, workers=2).start == ("a",)


def test_fewer_workers_than_run_already() -> None:
    running = {name: Path(f"/ds/{name}") for name in "xyz"}
    assert plan(job("a"), running=running, workers=1).start == ()


def test_schedule_is_passed_over_by_others() -> None:
    found = plan(job("a", priority=0, not_before=NOW + 100), job("b"))
    assert found.start == ("b",)
    assert found.waits["a"].why.startswith("scheduled, waits until ")
    assert found.next_due == NOW + 100
    assert plan(job("a", not_before=NOW)).start == ("a",)


def test_back_off() -> None:
    found = plan(job("a", next_try=NOW + 60, why_next_try="nas1 does not answer"))
    assert found.waits["a"].why.endswith(": nas1 does not answer")
    assert found.waits["a"].until == found.next_due == NOW + 60
    assert plan(job("a", next_try=NOW - 1)).start == ("a",)


def test_same_destination_waits_for_what_runs_and_for_what_starts() -> None:
    disk = Path("/vmfs/volumes/ds1/crm.vmdk")
    running = {"crm": disk}
    found = plan(job("a", destination=disk), running=running, workers=2)
    assert (found.start, found.waits["a"].behind) == ((), "crm")
    assert found.waits["a"].why == "waits for crm, same destination"
    found = plan(job("a", destination=disk), job("b", destination=disk), workers=2)
    assert found.start == ("a",)
    assert found.waits["b"].behind == "a"


def test_same_destination_by_another_path() -> None:
    found = plan(job("a", destination=Path("/x/CRM.vmdk")), running={"crm": Path("/y/crm.vmdk")}, workers=2)
    assert found.waits["a"].behind == "crm"


def test_the_reason_is_the_destination_even_with_no_worker_free() -> None:
    disk = Path("/vmfs/volumes/ds1/crm.vmdk")
    assert plan(job("a", destination=disk), running={"crm": disk}, workers=1).waits["a"].behind == "crm"


def test_the_file_system_is_not_asked_when_nothing_can_start() -> None:
    def never(_path: Path) -> str:
        raise AssertionError("asked")

    busy = StartLimits(workers=1, enabled=True, key=never)
    assert schedule([job("a")], {"r": Path("/r")}, limits=busy, now=NOW).start == ()


def test_a_datastore_that_is_away_is_passed_over() -> None:
    """It takes no worker, hides nobody behind it, and is not asked about while nothing could start anyhow."""
    asked: list[Path] = []

    def away(path: Path) -> str:
        asked.append(path)
        return "not mounted" if "ds1" in path.parts else ""

    some = StartLimits(workers=1, enabled=True, key=lambda path: path, unmounted=away)
    found = schedule([job("a"), job("b", destination=Path("/vmfs/volumes/ds2/b.vmdk"))], {}, limits=some, now=NOW)
    assert found.start == ("b",)
    assert (found.waits["a"].why, found.waits["a"].unmounted, found.waits["a"].until) == (
        "waits for its datastore: not mounted",
        True,
        None,
    )
    asked.clear()
    assert schedule([job("a")], {"r": Path("/r")}, limits=some, now=NOW).waits["a"].why == "waits for its turn"
    assert asked == []


def test_disabled() -> None:
    found = plan(job("a"), enabled=False)
    assert found.start == ()
    assert found.waits["a"].why == "the queue is disabled"


jobs = st.lists(
    st.builds(
        job,
        st.integers(0, 30).map(str),
        priority=st.integers(0, 9),
        arrived_ns=st.integers(0, 5),
        not_before=st.sampled_from([0.0, NOW + 1]),
        next_try=st.sampled_from([None, NOW - 1, NOW + 1]),
        destination=st.integers(0, 5).map(lambda number: Path(f"/ds/{number}")),
    ),
    unique_by=lambda candidate: candidate.name,
    max_size=12,
)


@given(jobs, st.integers(1, 4), st.lists(st.integers(0, 5), max_size=4, unique=True))
def test_always(waiting: list[WaitingJob], workers: int, busy: list[int]) -> None:
    running = {f"r{number}": Path(f"/ds/{number}") for number in busy}
    found = schedule(waiting, running, limits=limits(workers), now=NOW)
    by_name = {candidate.name: candidate for candidate in waiting}
    assert set(found.start) | set(found.waits) == set(by_name)
    assert not set(found.start) & set(found.waits)
    assert len(found.start) + len(running) <= max(workers, len(running))
    disks = [by_name[name].destination for name in found.start] + list(running.values())
    assert len(disks) == len(set(disks))
    idle = workers - len(running) - len(found.start)
    if idle > 0:  # nothing that could run is left waiting
        assert all(wait.until is not None or wait.behind is not None for wait in found.waits.values())
