"""A real daemon in a process of its own, with the fake worker. `python daemon_process.py PHD.TOML`."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FAKE_WORKER = Path(__file__).resolve().parent / "spool" / "fake_worker.py"
sys.path.insert(0, str(ROOT))


def no_inotify(**_: object) -> None:
    raise OSError(24, "inotify instance limit reached")


def plant_fault(module: str, name: str) -> None:
    """`module:function` or `module:Class.method` raises what nobody expects, when the job it is called for is named bad."""
    owner: Any = importlib.import_module(module)
    *parents, last = name.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    real = getattr(owner, last)

    def faulty(*arguments: Any, **named: Any) -> Any:
        if "bad" in repr((arguments, named)).replace("bad_", ""):
            raise RuntimeError("planted")
        return real(*arguments, **named)

    setattr(owner, last, faulty)


def main() -> int:
    from phd_daemon.config.load import load_config
    from phd_daemon.daemon import logs, service, starts
    from phd_daemon.daemon.systemd import Notifier
    from phd_daemon.show import output
    from phd_daemon.spool import reconcile, watcher
    from restore_core.errors import PhdError

    if "TEST_NO_INOTIFY" in os.environ:
        setattr(watcher, "InotifyObserver", no_inotify)  # noqa: B010  a machine that has none left; mypy forbids the plain form
    if "TEST_NO_PAUSE" in os.environ:
        reconcile.DEATH_PAUSES = (0.0, 0.0)
    for setting in os.environ.get("TEST_SETTINGS", "").split():
        name, _, value = setting.partition("=")
        for module in (service, starts):
            if hasattr(module, name):
                setattr(module, name, float(value))
    if "TEST_FAULT" in os.environ:
        plant_fault(*os.environ["TEST_FAULT"].split(":"))
    try:
        config = load_config(Path(sys.argv[1]))
        lock = service.open_spool(config)
        logs.log_to_stderr()
        command = (sys.executable, str(FAKE_WORKER))
        notifier = Notifier(os.environ)
        daemon = service.Service(config, lock=lock, notifier=notifier, command=command, on_event=logs.log_event)
        return daemon.run()
    except PhdError as error:
        output.complain(str(error))
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
