"""`phd drill`: a test restore: a VM is checked and booted out of its backup, and a verdict is kept."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import click

from phd_daemon.cli.complete import files
from phd_daemon.cli.interrupt import interruptible
from phd_daemon.cli.options import command, config_option, json_option, named_range, open_targets, quiet_option, uuid_option
from phd_daemon.config.model import Config
from phd_daemon.drill.boot import BootWanted
from phd_daemon.drill.hardware import DiskBus
from phd_daemon.drill.one_drill import DrillPlan, DrillWanted
from phd_daemon.drill.verdict import Drill, DrillOutcome, DrillStep
from phd_daemon.operations import drill as operation
from phd_daemon.operations.installation import archive_ref, read_config
from phd_daemon.show import output
from phd_daemon.show.progress import clock
from phd_daemon.show.times import ZONE, minute, parse_moment
from restore_core.errors import ExitCode, UsageError
from restore_core.naming import printable, time_text, unescape_name
from restore_core.targets import TargetSet

_SECONDS = named_range(click.FloatRange(min=1), "number of seconds")
_TITLES = ("BEGAN", "VM", "BACKUP (UTC)", "VERDICT", "TOOK", "WHY")


@command(stays_done=False)
@click.argument("what", required=False, metavar="[VM|DELTA]", shell_complete=files)
@click.option("--random", "by_chance", is_flag=True, help="A VM by chance, most likely one that was drilled long ago, or never.")
@uuid_option
@click.option("--at", metavar="TIME", help=f'Of a VM: its newest backup up to "2026-11-24", "2026-11-24 03:00", or 3d. {ZONE}')
@click.option("--boot/--no-boot", default=True, help="Boot it under QEMU, without a network; default: yes.")
@click.option("--full", is_flag=True, help="Verify every byte of the archives, too, not only what is read.")
@click.option("--serial-text", metavar="REGEX", help="What its serial line says when it is up; default: a login prompt.")
@click.option("--timeout", type=_SECONDS, default=600, show_default=True, metavar="S", help="Time to come up.")
@click.option("--memory", type=click.IntRange(16, 1 << 20), default=1024, show_default=True, metavar="MIB", help="Of the guest.")
@click.option("--scratch", type=click.IntRange(16, 1 << 20), default=4096, show_default=True, metavar="MIB", help="It may write.")
@click.option("--bus", type=click.Choice([one.value for one in DiskBus]), help="Of its disks; default: as in the VMX, or IDE.")
@click.option("--list", "listing", is_flag=True, help="List the drills that were, with their verdicts.")
@json_option
@quiet_option
@config_option
def drill(
    *,
    what: str | None,
    by_chance: bool,
    uuid: str | None,
    at: str | None,
    boot: bool,
    full: bool,
    serial_text: str | None,
    timeout: float,
    memory: int,
    scratch: int,
    bus: str | None,
    listing: bool,
    as_json: bool,
    config: Path | None,
) -> int:
    """Check and boot a VM out of its backup, and keep a verdict. Nothing is restored, and nothing of it is written anywhere.

    Exit code 0: passed. 65: failed. 1: not proven: nothing wrong was seen, but the guest did not say that it is up.
    """
    settings = read_config(config)
    if listing:
        return _list(settings, as_json=as_json)
    targets = open_targets(settings)
    text = {"text": _pattern(serial_text)} if serial_text is not None else {}
    booting = BootWanted(seconds=timeout, memory=memory, scratch=scratch << 20, **text) if boot else None
    wanted = DrillWanted(boot=booting, full=full, bus=DiskBus(bus) if bus else None)
    of = _what(what, targets, by_chance=by_chance, uuid=uuid, at=at)
    with interruptible("stopping") as stop:
        targets.stop = stop
        done = operation.drill(
            settings,
            targets,
            of,
            wanted,
            chosen=_ignore if as_json else _say_plan,
            tell=_ignore if as_json else _say_step,
            stop=stop,
        )
    if as_json:
        output.as_json(_data(done, settings))
    else:
        _say_verdict(done, settings)
    return operation.drill_exit_code(done)


def _what(text: str | None, targets: TargetSet, *, by_chance: bool, uuid: str | None, at: str | None) -> operation.DrillOf:
    if (text is None) != by_chance:
        raise UsageError("give a VM, a DELTA, or --random: one of them", remedy="'phd backups' shows the VMs and their Deltas.")
    moment = parse_moment(at, dt.datetime.now().astimezone(), end_of_day=True) if at else None
    if text is None:
        if uuid is not None:
            raise UsageError("--uuid cannot be used with --random", remedy="Name the VM.")
        return operation.DrillOf(at=moment)
    if text.endswith(".phd"):
        if uuid is not None or at is not None:
            raise UsageError("--uuid and --at cannot be used with a DELTA", remedy="Give the DELTA alone, or name the VM.")
        return operation.DrillOf(delta=archive_ref(text, targets.specs))
    return operation.DrillOf(vm=unescape_name(text), uuid=uuid, at=moment)


def _pattern(text: str) -> re.Pattern[bytes]:
    try:
        found = re.compile(text.encode("utf-8", "surrogateescape"))
    except re.error as error:
        raise UsageError(f"--serial-text '{printable(text)}': {error}", remedy="It is a regular expression of Python.") from None
    if found.search(b""):
        raise UsageError(f"--serial-text '{printable(text)}' fits nothing at all, too", remedy="Name a text that must be there.")
    return found


def _ignore(_: object) -> None:
    pass


def _say_plan(plan: DrillPlan) -> None:
    disks = output.counted(len(plan.disks), "disk")
    output.say(f"drill of {printable(plan.vm)}: its backup of {time_text(plan.backup)} UTC, {disks}")


def _say_step(step: DrillStep) -> None:
    output.say(f"  {step.outcome.value:<10}  {step.name}: {step.reason} ({step.seconds:.1f} s)")


def _say_verdict(done: Drill, settings: Config) -> None:
    verdict = f"{printable(done.vm)}: {done.verdict.value} after {done.seconds:.0f} s: {done.reason}"
    if done.verdict is DrillOutcome.PASSED:
        output.say(verdict)
    else:
        output.complain(verdict)
    if done.picture:
        output.say(f"picture: {printable(str(operation.drill_folder(settings) / done.picture))}")


def _data(done: Drill, settings: Config) -> dict[str, object]:
    folder = operation.drill_folder(settings)
    beside = {key: printable(str(folder / name)) for key, name in (("picture", done.picture), ("serial", done.serial)) if name}
    return {**done.document(), "vm": printable(done.vm), **beside}


def _list(settings: Config, *, as_json: bool) -> int:
    found = operation.drills(settings)
    if as_json:
        output.as_json([_data(one, settings) for one in found])
        return ExitCode.DONE
    output.table(_TITLES, [_row(one) for one in found])
    if not found:
        output.complain("no drill is recorded: 'phd drill --random' makes one")
    return ExitCode.DONE


def _row(one: Drill) -> tuple[str, ...]:
    return (
        minute(one.began.timestamp()),
        printable(one.vm),
        time_text(one.backup),
        one.verdict.value,
        clock(one.seconds),
        one.reason[:100],
    )
