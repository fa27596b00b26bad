"""`phd options [KEY [VALUE]]`: the settings of queue and replication, shown and written back into phd.toml."""

from __future__ import annotations

import re
from pathlib import Path

import click

from phd_daemon.cli.complete import option_names, option_values
from phd_daemon.cli.options import Command, command, config_option, json_option
from phd_daemon.config.edit import Setting, find
from phd_daemon.operations.installation import read_config
from phd_daemon.operations.settings import Changed, options_file, set_option
from phd_daemon.show import output
from restore_core.errors import UsageError
from restore_core.naming import printable

_BELOW_ZERO = re.compile(r"-\d")
TAKEN_UP = "a running daemon uses it within 30 s"


class _Options(Command):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        below = next((word for word in args if _BELOW_ZERO.match(word)), None)
        if below is not None and not ctx.resilient_parsing:  # click would look for an option of that name
            raise UsageError(f"'{printable(below)}': no option has a value below 0", remedy="'phd options' shows all values.")
        return super().parse_args(ctx, args)


@command(stays_done=False, cls=_Options)
@click.argument("key", required=False, shell_complete=option_names)
@click.argument("value", required=False, shell_complete=option_values)
@json_option
@config_option
def options(*, key: str | None, value: str | None, as_json: bool, config: Path | None) -> None:
    """Show the options of queue and replication, or set KEY to VALUE.

    The value is written into phd.toml, whose comments stay. A running daemon reads it by itself.
    """
    wanted = find(key) if key is not None else None
    file = options_file(read_config(config))
    if wanted is not None and value is not None:
        if as_json:
            raise UsageError("--json cannot be used with a VALUE", remedy="Set the value first, then show it with --json.")
        _print(set_option(file, wanted, value))
    elif as_json:
        found = file.settings() if wanted is None else (file.setting(wanted),)
        output.as_json([_data(one) for one in found])
    elif wanted is not None:
        output.say(file.setting(wanted).value)
    else:
        rows = [(one.option.name, one.option.meaning, one.value, "" if one.in_file else "default") for one in file.settings()]
        output.table(("OPTION", "MEANING", "VALUE", ""), rows)
        output.say(f"in {printable(str(file.path))}; 'phd options KEY VALUE' changes one")


def _print(done: Changed) -> None:
    name = done.option.name
    if done.now == done.before:
        output.say(f"{name} = {done.now}: as it was")
    else:
        output.say(f"{name} = {done.now} (was {done.before}) in {printable(str(done.file))}; {TAKEN_UP}")
    for warning in done.warnings:
        output.complain(warning)


def _data(one: Setting) -> dict[str, object]:
    return {"option": one.option.name, "value": one.value, "in_file": one.in_file, "meaning": one.option.meaning}
