"""A child process of the daemon that is never waited for: a pidfd becomes readable when it ends, and signals go through it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Sequence
from typing import IO


def start_child(
    command: Sequence[str],
    *,
    stdin: int = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
    stderr: int | IO[bytes],
    pass_fds: Sequence[int] = (),
) -> tuple[subprocess.Popen[bytes], int]:
    """Starts a program of ours and returns it with its pidfd. Raises `OSError` (EAGAIN, ENOMEM, EMFILE).

    It gets a session of its own: ^C in the terminal of a foreground daemon is for the daemon to act on.
    """
    child = subprocess.Popen(  # noqa: S603  our own command line, no part of it from outside
        command, stdin=stdin, stdout=stdout, stderr=stderr, pass_fds=pass_fds, start_new_session=True
    )
    try:
        return child, os.pidfd_open(child.pid)  # not reaped yet, so the pid is still this child's
    except OSError:
        child.kill()
        child.wait()
        raise


def has_ended(pidfd: int) -> bool:
    """Whether the process is over."""
    return bool(select.select([pidfd], [], [], 0)[0])


def send(pidfd: int, number: signal.Signals) -> bool:
    """Sends a signal; returns False to a process that is over."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)
        return True
    return False
