"""What was wrong on file systems that can do less."""

from __future__ import annotations

import os
from pathlib import Path

from restore_core import durable


def a_name_is_taken_with_an_empty_file() -> None:
    """As it was: a crash between the two calls leaves the empty file under the final name."""

    def take(source: str | Path, to: str | Path, source_dir_fd: int | None, to_dir_fd: int | None) -> None:
        os.close(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=to_dir_fd))
        os.rename(source, to, src_dir_fd=source_dir_fd, dst_dir_fd=to_dir_fd)

    setattr(durable, "_rename_to_a_free_name", take)  # noqa: B010 - mypy allows no assignment to a function
