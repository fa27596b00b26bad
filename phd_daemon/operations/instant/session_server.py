"""The server of a session: a unit of its own where systemd runs, else a process of its own. It lives longer than any command.

It holds no state, so it may be killed and started again at any time: the session's socket and its exports stay the same, and QEMU
connects to it again by itself.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path

from phd_daemon.config.model import DEFAULT_PATH, Config
from phd_daemon.host.child import start_child
from phd_daemon.host.utf8 import PYTHON
from phd_daemon.operations.installation import BOOTED, has_unit, spool_of
from phd_daemon.operations.instant.nbd_probe import probe, server_pid
from restore_core.disk.session_record import InstantSession
from restore_core.errors import PhdError, TargetUnavailable
from restore_core.naming import printable

_TEMPLATE = "phd-serve@.service"
SOCKETS = Path("/run/phd")
_PATIENCE = 60.0
"""Seconds until a server must answer: it opens the archives and proves the Full first, perhaps over a slow line."""
_PAUSE = 0.05
_END = 10.0
"""Seconds for which the end of a server is waited for; its clients are gone."""


def by_systemd(config: Config, session: InstantSession) -> bool:
    """Whether systemd runs the server: it has its unit, which reads the usual settings and may make a socket in /run/phd alone."""
    usual = config.source in (None, DEFAULT_PATH) and Path(session.socket).parent == SOCKETS
    return usual and BOOTED.is_dir() and has_unit(_TEMPLATE) and shutil.which("systemctl") is not None


def after_a_boot(config: Config, session: InstantSession) -> str:
    """Returns how the server is started after a boot, in one sentence."""
    if by_systemd(config, session):
        return f"systemd starts the server again after a boot (phd-serve@{session.id}.service)."
    return "systemd does not run this server: after a boot, give the same 'phd instant start' again before the guest is started."


def server_trouble(session: InstantSession) -> str:
    """Returns why the server does not serve every disk of the session; empty if it does."""
    try:
        for disk in session.disks:
            size = probe(Path(session.socket), disk.export)
            if size != disk.size:
                return f"the server gives out a disk of {size} bytes as {disk.export}, and not of {disk.size}"
    except PhdError as error:
        return error.message
    return ""


def start_server(config: Config, session: InstantSession) -> None:
    """Starts the server unless it answers, and waits until it does. Raises `TargetUnavailable` with what it said."""
    if not server_trouble(session):
        return
    log = spool_of(config).sessions / f"{session.id}.log"
    child = None
    if by_systemd(config, session):
        _start_unit(session)
    else:
        child = _start_process(config, session, log)
    end = time.monotonic() + _PATIENCE
    while trouble := server_trouble(session):
        ended = child.poll() if child is not None else None
        if ended is not None or time.monotonic() > end:
            raise TargetUnavailable(
                f"the server of session {session.id} does not serve: {_last_words(log) or trouble}",
                remedy="Mend that, then give the same 'phd instant start' again: it goes on where it ended.",
            )
        time.sleep(_PAUSE)
    if child is not None:
        child.returncode = 0  # it goes on without us: nobody will wait for it


def stop_server(config: Config, session: InstantSession) -> None:
    """Stops the server; harmless where there is none. The session must be over, or be about to be."""
    if by_systemd(config, session):
        unit = f"phd-serve@{session.id}.service"
        subprocess.run(["systemctl", "disable", "--quiet", "--now", unit], capture_output=True, check=False)  # noqa: S603, S607
    pid = server_pid(Path(session.socket))
    if pid is None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        pidfd = os.pidfd_open(pid)
        try:
            if _is_its_server(pid, session.id):
                signal.pidfd_send_signal(pidfd, signal.SIGTERM)
                select.select([pidfd], [], [], _END)
        finally:
            os.close(pidfd)


def _start_unit(session: InstantSession) -> None:
    unit = f"phd-serve@{session.id}.service"
    ran = subprocess.run(["systemctl", "enable", "--quiet", "--now", unit], capture_output=True, check=False)  # noqa: S603, S607
    if ran.returncode:
        said = printable(ran.stderr.decode(errors="replace").strip())
        raise TargetUnavailable(f"{unit} cannot be started: {said}", remedy=f"journalctl -u {unit} says more.")


def _start_process(config: Config, session: InstantSession, log: Path) -> subprocess.Popen[bytes]:
    log.parent.mkdir(mode=0o700, exist_ok=True)
    command = [*PYTHON, "-P", "-m", "phd_daemon.cli.main", "serve", "--session", session.id]
    command += ["--config", os.fspath(config.source)] if config.source is not None else []
    with log.open("wb") as said:
        child, pidfd = start_child(command, stdout=said, stderr=said)
    os.close(pidfd)
    return child


def _is_its_server(pid: int, session: str) -> bool:
    """Whether the process is `phd serve --session ID`: only that is ever ended."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return b"serve" in words and session.encode() in words
    return False


def _last_words(log: Path) -> str:
    with contextlib.suppress(OSError):
        lines = log.read_text(errors="replace").strip().splitlines()
        return printable(" ".join(line.strip() for line in lines[-3:]))
    return ""
