"""`phd`: finds the command, runs it, and turns its result or its error into an exit code. Nothing else decides exit codes.

Commands raise the typed errors of restore_core.errors, or return an exit code of their own (`submit --wait`: the job's).
The module of a command is imported when the command is called: `phd log` does not wait for what `phd backup` needs.
"""

from __future__ import annotations

import errno
import gc
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar, cast

import click

from phd_daemon.config.toml_text import did_you_mean
from phd_daemon.host.utf8 import insist_on_utf8, print_as_the_locale_says
from phd_daemon.show import output
from restore_core.errors import ExitCode, PhdError, from_os_error
from restore_core.naming import printable

_Command = TypeVar("_Command", bound=Callable[..., object])
COMMANDS = tuple(
    sorted(name.removesuffix(".py") for name in os.listdir(Path(__file__).with_name("commands")) if not name.startswith("_"))
)
"""The names of the commands: each is a file in `commands`."""


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        found = getattr(importlib.import_module(f"phd_daemon.cli.commands.{cmd_name}"), cmd_name)
        if not isinstance(found, click.Group) and not hasattr(found, "stays_done"):
            raise TypeError(f"commands/{cmd_name}.py: {cmd_name} is not made with phd_daemon.cli.options.command")
        return cast("click.Command", found)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            text = f"there is no command '{printable(name)}'{did_you_mean(name, COMMANDS)}; 'phd --help' lists them"
            raise click.UsageError(text, ctx)
        return super().resolve_command(ctx, args)


def _for_the_shell(option: str, action: str, text: str) -> Callable[[_Command], _Command]:
    """Makes an option of `phd` itself that takes the name of a shell, or nothing."""

    def callback(context: click.Context, _option: click.Parameter, shell: str | None) -> None:
        if shell is not None and not context.resilient_parsing:
            completion = importlib.import_module("phd_daemon.cli.completion")
            getattr(completion, action)(shell, context.command)
            context.exit()

    return click.option(
        option,
        is_flag=False,
        flag_value="",
        metavar="[bash|zsh]",
        is_eager=True,
        expose_value=False,
        callback=callback,
        help=text,
    )


_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=_Lazy, invoke_without_command=True, context_settings=_SETTINGS)
@click.version_option(package_name="phd-daemon", prog_name="phd")
@click.option("--plain", is_flag=True, help="The console menu as numbered lines, for any terminal.")
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Settings, of the console menu or of the command.")
@_for_the_shell("--install-completion", "install", "Let your shell complete commands, jobs and targets.")
@_for_the_shell("--show-completion", "print_script", "Print the script that makes it so.")
@click.pass_context
def phd(context: click.Context, *, plain: bool, config: Path | None) -> int:
    """Put virtual disks back: restores flat VMDKs from Full and Delta backups that lie as plain files.

    Alone on a terminal it opens the console menu.
    """
    if context.invoked_subcommand is not None:
        if plain:
            raise click.UsageError("--plain is only for the console: leave it out", context)
        return ExitCode.DONE
    if not plain and not (sys.stdin.isatty() and sys.stdout.isatty()):
        output.say(context.get_help())
        return ExitCode.DONE
    from phd_daemon.console.opening import open_console

    return open_console(config, plain=plain)


def run(arguments: Sequence[str]) -> int:
    """Runs one command line and returns its exit code."""
    try:
        answer = phd.main(list(arguments), prog_name="phd", standalone_mode=False)
    except click.ClickException as error:  # a wrong command line; click's own texts say how to write it
        error.show()
        return ExitCode.USAGE
    except (click.Abort, KeyboardInterrupt):
        output.complain("interrupted")
        return ExitCode.INTERRUPTED
    except PhdError as error:
        output.complain(str(error))
        return error.exit_code
    except OSError as error:
        if error.filename is None and output.finish() is not None:
            return ExitCode.DONE  # raised when click printed; the end says what was lost
        # From outside of a restore, such as the spool or a file to print: made a typed error like any other.
        doing = "cannot be written" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS) else "cannot be used"
        typed = from_os_error(error, doing=doing, where=os.fsdecode(error.filename or "this system"))
        output.complain(str(typed))
        return typed.exit_code
    except Exception:  # noqa: BLE001  nothing above can report it
        output.complain("this is a bug of ours; please report it with these lines:")
        output.complain(traceback.format_exc(limit=-8).rstrip())
        return ExitCode.OUR_BUG
    return answer if isinstance(answer, int) else ExitCode.DONE


def main() -> None:
    """The entry point of the package."""
    gc.disable()  # until the settings are read: collecting during the imports finds nothing, and takes 15 ms
    insist_on_utf8()
    output.open_what_is_missing()
    print_as_the_locale_says()
    sys.exit(_after_printing(run(sys.argv[1:]), sys.argv[1:]))


def _after_printing(code: int, arguments: Sequence[str]) -> int:
    lost = output.finish()
    if lost is None:
        return code
    name = next((word for word in arguments if word in COMMANDS), "")
    called = phd.get_command(click.Context(phd), name)
    done = code == ExitCode.DONE and getattr(called, "stays_done", False)
    outcome = f"'phd {name}' did its work all the same" if done else "what was to be printed is lost"
    output.complain(f"standard output: {lost.strerror or lost}: {outcome}")
    return ExitCode.DESTINATION if code == ExitCode.DONE and not done else code


if __name__ == "__main__":
    main()
