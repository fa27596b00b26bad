"""Writes docs/phd.1, the man page, out of the commands themselves: `make man`. A test compares the two.

Commands and options are click's; exit codes and their meanings are the table of docs/reference.md;
paths are the defaults of the settings.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from phd_daemon.cli.main import phd
from phd_daemon.config.load import parse_config
from restore_core import __version__

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/phd.1"
_EXIT_ROW = re.compile(r"\| (\d+) \| (.+) \|")
_INTRODUCTION = """\
phd restores flat VMDKs from backups that lie as plain files on backup targets. A Full is a gzip of the flat disk; a Delta is what
changed since, in a file that is also a shell script and rebuilds the disk without phd.

Restores run in the foreground, or through the restore queue, a folder: a control file dropped there becomes a running restore
with its own log. The suffix of a control file is the state of its job: .job waits, .held is parked, .running runs; .done,
.failed, .cancelled and .rejected are final.

An archive is named TARGET:folder/file, as 'phd backups' prints it, or by the path of a local file. Every command has --help,
and takes --config FILE for other settings than those of $PHD_CONFIG, else of /etc/phd/phd.toml."""


def page() -> str:
    """The whole page, as man(7) has it."""
    return "\n".join(
        [
            '.\\" Made by make man out of the commands: do not edit.',
            f'.TH PHD 1 "" "phd {__version__}" "phd"',
            ".nh",
            ".ad l",
            *_section("NAME", ["phd \\- puts virtual disks back"]),
            *_section(
                "SYNOPSIS", [".B phd", "[\\-\\-plain] [\\-\\-config FILE]", ".br", ".B phd", "COMMAND [OPTIONS] [ARGUMENTS]"]
            ),
            *_section("DESCRIPTION", [*_text(_INTRODUCTION), *_text((phd.help or "").partition("\n\n")[2])]),
            *_section("OPTIONS", _options(click.Context(phd, info_name="phd"))),
            *_section("COMMANDS", _commands(phd, click.Context(phd, info_name="phd"))),
            *_section("EXIT STATUS", _exit_codes()),
            *_section("ENVIRONMENT", _environment()),
            *_section("FILES", _files()),
            *_section("SEE ALSO", [".BR gzip (1),", ".BR systemctl (1)"]),
            "",
        ]
    )


def _section(title: str, lines: Iterator[str] | list[str]) -> Iterator[str]:
    yield f".SH {title}"
    yield from lines


def _commands(group: click.Group, context: click.Context) -> Iterator[str]:
    for name in sorted(group.list_commands(context)):
        command = group.get_command(context, name)
        if command is None:
            raise AssertionError(name)
        own = click.Context(command, info_name=name, parent=context)
        yield f'.SS "{_escaped(own.command_path)} {_escaped(" ".join(command.collect_usage_pieces(own)))}"'
        yield from _text(command.help or "")
        yield from _options(own)
        if isinstance(command, click.Group):
            yield from _commands(command, own)


def _options(context: click.Context) -> Iterator[str]:
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        said_once = "--help" in parameter.opts or (parameter.name == "config" and context.parent is not None)
        if isinstance(parameter, click.Option) and record is not None and not said_once:
            yield from _item(record[0], record[1])


def _exit_codes() -> Iterator[str]:
    table = (ROOT / "docs" / "reference.md").read_text().partition("| exit code | meaning |")[2].partition("\n\n")[0]
    for code, meaning in _EXIT_ROW.findall(table):
        yield from _item(code, meaning.replace("`", ""))


def _environment() -> Iterator[str]:
    yield from _item("PHD_CONFIG", "The settings, where --config does not name them.")
    yield from _item("VISUAL, EDITOR", "What 'phd rules edit' and the console edit with; else nano or vi.")
    yield from _item("TERM", "With 'dumb' the console menu is numbered lines, as with --plain.")


def _files() -> Iterator[str]:
    """The defaults, as a phd.toml without a line would have them."""
    config = parse_config(b"", Path("/etc/phd/phd.toml"))
    yield from _item(str(config.source), "The settings. Every key is explained in the sample.")
    yield from _item(str(config.queue.spool), "The restore queue: control files, their logs and status files.")
    yield from _item(str(config.replication.rules), "The rules of replication: which VMDKs to restore, and where to.")
    yield from _item(
        str(config.replication.ledger), "What was restored by rule; a line that is deleted makes that restore eligible again."
    )
    yield from _item(
        str(config.state_dir), "What the targets held when last looked at, and the record of passes. It may be deleted."
    )


def _item(title: str, text: str) -> Iterator[str]:
    yield ".TP"
    yield f".B {_escaped(title)}"
    yield _escaped(" ".join(text.split()))


def _text(help_text: str) -> Iterator[str]:
    for paragraph in help_text.split("\n\n"):
        if paragraph.strip():
            yield ".PP"
            yield _escaped(" ".join(paragraph.split()))


def _escaped(text: str) -> str:
    """Plain text for troff: no command at the start of a line, hyphens that can be copied, nothing beyond ASCII."""
    plain = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    plain = "".join(character if character.isascii() else f"\\[u{ord(character):04X}]" for character in plain)
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain


def main() -> int:
    """Write the page."""
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
