"""What every flow works with: the settings as they are now, the targets they name, and whether this process must end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from phd_daemon.config.model import Config
from phd_daemon.operations.installation import read_config
from restore_core.targets import TargetSet


class Session:
    """One console session. `path` is the file given with --config, None for the usual one; `config.source` is the one read.

    `leaving` is set when the terminal was closed or the process was told to end: work ends at its next block, menus at once.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.config: Config = read_config(path)
        self.targets = TargetSet(self.config.targets)
        self.leaving = threading.Event()
        self.busy = False

    def read_again(self) -> None:
        """Reads phd.toml again. After a `ConfigurationError` everything is as it was."""
        config = read_config(self.path)
        self.targets.close()
        self.config, self.targets = config, TargetSet(config.targets)

    @contextmanager
    def working(self) -> Iterator[None]:
        """In this context a signal only sets `leaving`, so that the work can clean up; outside of it a signal ends the process."""
        self.busy = True
        try:
            yield
        finally:
            self.busy = False

    def reconnect(self) -> None:
        """Uses new connections from now on, because an answer may still come on the old ones."""
        self.targets = TargetSet(self.config.targets)

    def close(self) -> None:
        """Closes the connections to all targets."""
        self.targets.close()
