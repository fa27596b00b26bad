"""A process that may open no file more, for a moment."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_file_more(*, spare: int = 0) -> Iterator[None]:
    """Each open() in this process fails with EMFILE, but for `spare` files at a time. Nothing may be imported meanwhile."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    next_free = os.open("/", os.O_RDONLY)
    os.close(next_free)  # the lowest that is free; the limit is on numbers, not on how many are open
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_free + spare, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
