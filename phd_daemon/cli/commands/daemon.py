"""`phd daemon`: runs the service, in the foreground for systemd, or in the background with `--detach`."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from phd_daemon.cli.options import command, config_option
from phd_daemon.host.utf8 import PYTHON
from phd_daemon.operations.installation import read_config
from phd_daemon.show import output
from restore_core.errors import ConfigurationError, ExitCode, remedy_for
from restore_core.naming import printable
from restore_core.targets.kinds import idle_options

if TYPE_CHECKING:
    from phd_daemon.config.model import Config
    from phd_daemon.daemon.service import Service
    from phd_daemon.spool.locks import PidLock

WORKER = (*PYTHON, "-P", "-m", "phd_daemon.worker.attempt")
UMASK = 0o077


@command(stays_done=True)
@click.option("--detach", is_flag=True, help="Go to the background; phd-daemon.pid and daemon.log are in state_dir.")
@click.option("--check", is_flag=True, help="Only read the settings: exit code 78 with each mistake, else 0. Starts nothing.")
@config_option
def daemon(*, detach: bool, check: bool, config: Path | None) -> int:
    """Watch the spool and run the restores that are asked for there.

    SIGHUP lets it read phd.toml again, open its log file anew, and begin a replication pass; SIGTERM stops it.
    """
    if check:
        from phd_daemon.config.edit import doubt_about_default_datastore

        settings = read_config(config)
        source = settings.source
        output.say(f"{printable(str(source))}: no mistake" if source else "no settings' file: the defaults are used")
        for spec in settings.targets:
            for words in idle_options(spec):
                output.say(f"targets.{spec.name}: {words}")
        named = "default_datastore" in settings.replication.model_fields_set
        if named and settings.replication.enabled and (doubt := doubt_about_default_datastore(settings)):
            output.complain(doubt)
        return ExitCode.DONE
    from phd_daemon.daemon import logs
    from phd_daemon.daemon.service import Service, open_spool
    from phd_daemon.daemon.systemd import Notifier

    settings = read_config(config)
    # Errors are reported here, in the foreground, with an exit code: a detached daemon could not report them.
    lock = open_spool(settings)
    service = Service(settings, lock=lock, notifier=Notifier(os.environ), command=WORKER, on_event=logs.log_event)
    if detach:
        return _detached(service, settings, lock)
    logs.log_to_stderr()
    return service.run()


def _detached(service: Service, settings: Config, spool_lock: PidLock) -> int:
    from daemon import DaemonContext

    from phd_daemon.daemon import logs
    from phd_daemon.spool.locks import PidLock

    try:
        settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        remedy = f"{remedy_for(error)} Or name another state_dir in phd.toml."
        raise ConfigurationError(f"state_dir: {printable(str(settings.state_dir))}: {error.strerror}", remedy=remedy) from error
    pid_lock = PidLock(settings.state_dir / "phd-daemon.pid", temporary=True)
    pid_lock.acquire()
    context = DaemonContext(
        detach_process=True,
        umask=UMASK,
        working_directory="/",
        # Both locks are open files that stay open in the daemon. Everything else is opened inside.
        pidfile=pid_lock,
        files_preserve=[spool_lock.fileno(), pid_lock.fileno()],
        # This replaces the whole default map. SIGTERM before the loop runs ends the process: nothing has begun.
        signal_map={
            signal.SIGTSTP: None,
            signal.SIGTTIN: None,
            signal.SIGTTOU: None,
            signal.SIGHUP: None,
            signal.SIGTERM: signal.SIG_DFL,
        },
    )
    log = settings.state_dir / "daemon.log"
    output.say(f"going to the background; its pid is in {printable(str(pid_lock.path))}, its log is {printable(str(log))}")
    with context:
        logs.log_to_file(log)
        return service.run()
