"""The catalog of this installation: a cache in state_dir. Targets whose listing is too old are listed again."""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from phd_daemon.spool.layout import Spool
from restore_core.catalog.index import Catalog
from restore_core.catalog.listing import mark_changed
from restore_core.targets.base import Stop
from restore_core.targets.kinds import make_target

if TYPE_CHECKING:
    from phd_daemon.config.model import Config


def catalog_of(config: Config) -> Catalog:
    """Returns the cache as it is, without a look at any target."""
    return Catalog(config.catalog_folder, config.targets, records=records_of(config))


def records_of(config: Config) -> Path | None:
    """Returns the folder that records what each target held; None where no daemon has run.

    It is in the spool, since state_dir may be deleted.
    """
    state = Spool(folder=config.queue.spool).state_folder
    return state / "targets" if os.path.isdir(state) else None


@contextlib.contextmanager
def fresh_catalog(config: Config, *, look: Collection[str] | None = (), stop: Stop | None = None) -> Iterator[Catalog]:
    """Yields the catalog, after listing the targets whose listing is too old, and those in `look` (None: all).

    Where state_dir cannot be written, all targets are listed into a temporary folder, which is deleted at the end.
    `stop` is called while a target is waited for, and raises to give up.
    """
    catalog = catalog_of(config)
    old = set(catalog.old(max_age=config.index.max_age, now=time.time()))
    names = None if look is None else old | set(look)
    open_target = functools.partial(make_target, stop=stop)
    try:
        if names is None or names:
            catalog.index(open_target, names=names)
    except OSError:
        with tempfile.TemporaryDirectory(prefix="phd-catalog-") as folder:
            catalog = Catalog(Path(folder), config.targets, records=records_of(config))
            catalog.index(open_target)
            yield catalog
    else:
        yield catalog


def written_to(config: Config, target: str) -> None:
    """Notes that a backup was written to the target, so that it is listed again before it is next used."""
    mark_changed(config.catalog_folder, target, now=time.time())
