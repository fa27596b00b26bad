"""Options and arguments that several commands share, and what makes a function a command."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from phd_daemon.cli.complete import files
from phd_daemon.config.toml_text import did_you_mean
from phd_daemon.show import output
from restore_core.naming import is_scsi_id, printable
from restore_core.targets import TargetSet

if TYPE_CHECKING:
    from phd_daemon.config.model import Config

_Range = TypeVar("_Range", click.IntRange, click.FloatRange)
NO_TARGETS = (
    'no targets: add [targets.NAME] with url = "file:///FOLDER" (or sftp://, ftps://, ftp://; the sample phd.toml shows them) '
    "to the settings (--config FILE, else $PHD_CONFIG, else /etc/phd/phd.toml)"
)


class Command(click.Command):
    """A command of `phd`. `stays_done`: what it did stays done if its report cannot be written.

    Such a command ends with code 0 then: a code of failure would make somebody do it twice.
    """

    stays_done: bool

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuses an option whose value is empty: a variable of a script that is not set would change what is done."""
        try:
            left = super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.option_name != "--vm" or not {"archive", "delta"} & {one.name for one in self.params}:
                raise
            which = "; 'phd submit --vm NAME --to DIR' queues all disks of a VM, 'phd backups --vm NAME' lists its archives"
            raise click.UsageError(f"{ctx.command_path} takes one archive, and has no option --vm{which}", ctx) from None
        for option in self.params if not ctx.resilient_parsing else ():
            empty = ctx.params.get(option.name or "") == ""
            if isinstance(option, click.Option) and empty and option.default != "" and not option.required:
                raise click.UsageError(f"{option.opts[0]} is given without a value: leave it out, or write one", ctx)
        return left


def command(*, stays_done: bool, cls: type[Command] = Command) -> Callable[[Callable[..., object]], Command]:
    """Makes a command of a function, like `click.command`."""

    def make(function: Callable[..., object]) -> Command:
        made = click.command(cls=cls)(function)
        made.stays_done = stays_done
        return made

    return make


def named_range(kind: _Range, name: str) -> _Range:
    """Gives a range of numbers the name that a refusal says: `'x' is not a valid number of days`."""
    kind.name = name
    return kind


PRIORITY = named_range(click.IntRange(0, 9), "priority, 0 (first) to 9 (last)")
DAYS = named_range(click.FloatRange(min=0), "number of days")


class NounGroup(click.Group):
    """A command whose first word is a noun, as `phd targets`: what can be done with it is the second."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Raises `click.UsageError` with the words that there are."""
        name, known = args[0], self.list_commands(ctx)
        if name not in known and not name.startswith("-") and not ctx.resilient_parsing:
            which = f"{did_you_mean(name, known)}; there are: {', '.join(known)}"
            raise click.UsageError(f"there is no command '{ctx.command_path} {printable(name)}'{which}", ctx)
        return super().resolve_command(ctx, args)


def _one_file(context: click.Context, _option: click.Parameter, named: Path | None) -> Path | None:
    """Returns the settings' file, which may stand before the name of the command, too: `phd --config F queue`."""
    before = context.find_root().params.get("config") if context.parent is not None else None
    if named is not None and before is not None and named != before:
        raise click.UsageError("--config is given twice, with two files: leave one out", context)
    return named or before


config_option = click.option(
    "--config",
    callback=_one_file,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Settings; default $PHD_CONFIG, else /etc/phd/phd.toml.",
)


def _quiet(context: click.Context, _option: click.Parameter, quiet: bool) -> None:
    output.be_quiet(quiet=quiet)
    context.call_on_close(lambda: output.be_quiet(quiet=False))


quiet_option = click.option(
    "--quiet",
    is_flag=True,
    expose_value=False,
    callback=_quiet,
    help="For timers: print nothing but errors and warnings, and data with --json.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print data for programs.")
to_option = click.option(
    "--to",
    "to",
    required=True,
    metavar="PATH",
    shell_complete=files,
    help="The disk: NAME.vmdk, or another name for a raw image.",
)
uuid_option = click.option("--uuid", help="Which VM, where several have that name.")
whole_vm_option = click.option(
    "--vm", metavar="NAME", help="Instead of DELTA: every disk of this VM, to the folder given with --to."
)

full_option = click.option(
    "--full",
    metavar="ARCHIVE",
    shell_complete=files,
    help="The Full to use; default: found on the targets, proven by content.",
)


def _scsi(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is not None and not is_scsi_id(value):
        raise click.BadParameter(f"'{printable(value)}' is not an SCSI id; write 00 for 0:0, 010 for 0:10, sata00 for sata0:0")
    return value


scsi_option = click.option(
    "--scsi", callback=_scsi, metavar="00", help="The disk's SCSI id without the colon; default: as it is known, else 00."
)


def restore_options(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """The options of `submit` and `restore`. The command gets those that say how to restore as one `RestoreOptions`."""

    @functools.wraps(command)
    def with_options(*, overwrite: bool, thin: bool, vmx: str, readback: bool, **others: object) -> int | None:
        from restore_core.restore.request import Provision, RestoreOptions, VmxChoice

        provision = Provision.THIN if thin else Provision.THICK
        options = RestoreOptions(overwrite=overwrite, vmx=VmxChoice(vmx), provision=provision, readback=readback)
        return command(options=options, **others)

    for option in (
        click.option("--readback", is_flag=True, help="Read the finished disk again before it gets its name."),
        click.option("--vmx", type=click.Choice(["none", "as-is"]), default="none", help="Put the VMX beside the disk, unedited."),
        click.option("--thin", is_flag=True, help="Leave holes where the disk is zero."),
        click.option("--overwrite", is_flag=True, help="Refresh or replace a disk that exists."),
        full_option,
        to_option,
    ):
        with_options = option(with_options)
    return with_options


def open_targets(config: Config) -> TargetSet:
    """Returns the configured targets; their connections are closed when the command ends."""
    targets = TargetSet(config.targets)
    click.get_current_context().call_on_close(targets.close)
    return targets


def warn_if_nobody_serves(config: Config) -> None:
    """Prints a warning if no daemon serves the spool."""
    from phd_daemon.operations.installation import how_to_start
    from phd_daemon.spool.snapshot import nobody_serves

    if nobody_serves(config.queue.spool):
        spool = printable(str(config.queue.spool))
        output.complain(f"no daemon serves the spool {spool}: jobs wait until one does ('{how_to_start()}' starts it)")
