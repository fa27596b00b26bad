"""Options and arguments that several commands share, and what they mean."""

from __future__ import annotations

import functools
import gc
import os
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

import click

from phd_daemon.cli.complete import files
from phd_daemon.config.toml_text import did_you_mean
from phd_daemon.spool.layout import Spool
from restore_core.errors import ConfigurationError, UsageError
from restore_core.naming import printable
from restore_core.targets import TargetSet, parse_ref
from restore_core.targets.base import LOCAL, ArchiveRef

if TYPE_CHECKING:
    from phd_daemon.config.model import Config

_SCSI = re.compile(r"(?:ide|sata|nvme)?\d{2,4}\Z")
_NAMED = re.compile(r"[a-z][a-z0-9_-]*:")

config_option = click.option(
    "--config", type=click.Path(path_type=Path), metavar="FILE", help="Settings; default $PHD_CONFIG, else /etc/phd/phd.toml."
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
full_option = click.option(
    "--full",
    metavar="ARCHIVE",
    shell_complete=files,
    help="The Full to use; default: found on the targets, proven by content.",
)


def _scsi(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is not None and not _SCSI.match(value):
        raise click.BadParameter("write the id without its colon: 00 is 0:0, 010 is 0:10; other buses in front: sata00")
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


def receipts_folder(settings: Config) -> Path | None:
    """Where restores are put on record: the daemon's folder, if it is there and this user may write it."""
    folder = Spool(folder=settings.queue.spool).receipts
    return folder if os.access(folder, os.W_OK | os.X_OK) else None


def read_config(path: Path | None) -> Config:
    """The settings; pydantic is imported only now. What was imported so far is not looked through by the garbage collector."""
    from phd_daemon.config.load import load_config

    settings = load_config(path)
    gc.freeze()
    gc.enable()
    return settings


def open_targets(config: Config) -> TargetSet:
    """The configured targets, left when the command ends."""
    targets = TargetSet(config.targets)
    click.get_current_context().call_on_close(targets.close)
    return targets


def spool_of(config: Config) -> Spool:
    """The spool of this installation; `ConfigurationError` when its folder is not there."""
    folder = config.queue.spool
    if not folder.is_dir():
        name = printable(str(folder))
        remedy = f"Make it (install -d -m 0700 {name}), or name another one in phd.toml."
        raise ConfigurationError(f"queue.spool: {name}: there is no such folder", remedy=remedy)
    return Spool(folder=folder)


def known_target(name: str, targets: Collection[str]) -> str:
    """The name of a target as a person gave it. Raises `UsageError` when none is named so."""
    if name not in targets:
        known = ", ".join(map(printable, sorted(targets))) or "none"
        raise UsageError(
            f"no target is named '{printable(name)}'{did_you_mean(name, targets)}; configured: {known}",
            remedy="Name one of [targets.NAME] in phd.toml.",
        )
    return name


def archive_ref(text: str, targets: Collection[str]) -> ArchiveRef:
    """An archive as a person names it: `NAME:folder/file` of a target, or the path of a local file, relative or not."""
    if _NAMED.match(text) and (text.partition(":")[0] in targets or not os.path.lexists(text)):
        known_target(text.partition(":")[0], targets)
        try:
            return parse_ref(text)
        except ValueError as error:
            raise UsageError(str(error), remedy="Write it as 'phd backups' prints it.") from error
    return ArchiveRef(target=LOCAL, path=os.path.join(os.getcwd(), text))


def destination(text: str) -> Path:
    """The disk to write as an absolute path; it may be given relative to the working folder."""
    path = Path(os.path.abspath(text))
    if text.endswith("/") or path.is_dir():
        raise UsageError(f"{printable(text)} is a folder", remedy="Name the disk in it: --to FOLDER/NAME.vmdk.")
    return path
