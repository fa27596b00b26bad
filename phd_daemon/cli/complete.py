"""What the shell offers after <Tab>: jobs, targets, options of this installation; nothing if they cannot be read."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from phd_daemon.spool.layout import State
from restore_core.errors import PhdError
from restore_core.naming import comparable, printable

if TYPE_CHECKING:
    from phd_daemon.config.model import Config

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def jobs_in(*states: State) -> Completer:
    """Returns a completer for the names of jobs in these states; of all jobs if no state is given."""

    def complete(context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
        from phd_daemon.spool.layout import parse_name

        config = _config(context)
        try:
            names = sorted(entry.name for entry in config.queue.spool.iterdir()) if config is not None else []
        except OSError:
            return []
        found = {known[0]: known[1] for known in map(parse_name, names) if known is not None and (known[1] in states or not states)}
        given = context.params.get("jobs") or ()
        items = [(printable(name), state.meaning) for name, state in found.items()]
        return _matching([item for item in items if item[0] not in given], begun)

    return complete


def target_names(context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Offers the names of the targets in phd.toml."""
    config = _config(context)
    return _matching([(spec.name, printable(spec.url)) for spec in config.targets], begun) if config is not None else []


def datastore_names(context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Offers the names of the datastores below the roots."""
    config = _config(context)
    found = set()
    for root in config.datastores.roots if config is not None else ():
        with contextlib.suppress(OSError):
            found |= {(printable(folder.name), printable(str(folder))) for folder in root.iterdir() if folder.is_dir()}
    return _matching(sorted(found), begun)


def files(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Lets the shell complete paths: for disks, and for archives that are local files."""
    return [CompletionItem(begun, type="file")]


def option_names(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Offers the options that `phd options` can set."""
    from phd_daemon.config.edit import OPTIONS

    return _matching([(option.name, option.meaning) for option in OPTIONS], begun)


def option_values(context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Offers on and off for an option that takes these."""
    from phd_daemon.config.edit import OPTIONS, ValueKind

    switch = any(option.name == context.params.get("key") and option.kind is ValueKind.SWITCH for option in OPTIONS)
    return _matching([("on", ""), ("off", "")] if switch else [], begun)


def _config(context: click.Context) -> Config | None:
    from phd_daemon.config.load import load_config

    given = context.params.get("config")
    try:
        return load_config(Path(given) if given else None)
    except PhdError:
        return None


def _matching(items: Iterable[tuple[str, str]], begun: str) -> list[CompletionItem]:
    return [CompletionItem(value, help=text or None) for value, text in items if comparable(value).startswith(comparable(begun))]
