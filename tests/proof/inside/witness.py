"""Drives the booted machine: the probe, a real restore by the real daemon, a daemon that hangs. Writes /out/seen.json."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

UNIT, PROBE = "phd-daemon.service", "phd-probe.service"
SPOOL, OUT = Path("/etc/phd/restore"), Path("/out")
PATIENCE = 30.0


def systemctl(*arguments: str) -> str:
    ran = subprocess.run(["/bin/systemctl", *arguments], capture_output=True, text=True, check=False, timeout=60)
    return (ran.stdout + ran.stderr).strip()


def until(true: Callable[[], bool]) -> bool:
    end = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def up() -> int:
    """The main process of a daemon that serves, 0 if there is none."""
    shown = dict(line.partition("=")[::2] for line in systemctl("show", UNIT, "-p", "ActiveState", "-p", "MainPID").splitlines())
    return int(shown["MainPID"]) if shown.get("ActiveState") == "active" else 0


def restore(name: str) -> str:
    """Drop a control file; the state it ends in."""
    text = f'delta = "nas1:{sys.argv[1]}"\nrestore_to = "/vmfs/volumes/ds/{name}.img"\n'
    (SPOOL / f".{name}.new").write_text(text)
    (SPOOL / f".{name}.new").rename(SPOOL / f"{name}.job")
    ended = ("done", "failed", "rejected")
    until(lambda: any((SPOOL / f"{name}.{state}").exists() for state in ended))
    return next((state for state in ended if (SPOOL / f"{name}.{state}").exists()), "nothing")


def hang() -> dict[str, Any]:
    """Stop the daemon as a loop that hangs; what systemd makes of it."""
    before, began = up(), time.monotonic()
    os.kill(before, signal.SIGSTOP)
    again = until(lambda: up() not in (0, before))
    if not again:
        os.kill(before, signal.SIGCONT)
    return {"restarted": again, "seconds": round(time.monotonic() - began, 1), "result": systemctl("show", UNIT, "-p", "NRestarts")}


def doctor() -> Any:
    """What `phd doctor` says of this machine."""
    ran = subprocess.run(["/opt/phd/bin/phd", "doctor", "--json"], capture_output=True, text=True, check=False, timeout=60)
    return json.loads(ran.stdout) if ran.stdout.startswith("{") else {"broke": ran.stdout + ran.stderr}


def main() -> None:
    """One thing after the other; what was seen is written whatever happens."""
    seen: dict[str, Any] = {}
    try:
        seen["probe unit"] = systemctl("start", PROBE)
        seen["probe"] = json.loads((OUT / "probe").read_text() or "{}")
        seen["up"] = until(lambda: up() != 0)
        seen["first"] = restore("first")
        seen["log"] = (SPOOL / "first.log").read_text() if (SPOOL / "first.log").exists() else ""
        seen["doctor"] = doctor()
        seen["hang"] = hang()
        seen["second"] = restore("second")
        began = time.monotonic()
        systemctl("stop", UNIT)
        seen["stop"] = {"seconds": round(time.monotonic() - began, 1), "result": systemctl("show", UNIT, "-p", "Result")}
    except Exception as error:  # noqa: BLE001  whatever it was belongs into the answer
        seen["broke"] = repr(error)
    finally:
        with contextlib.suppress(OSError):
            seen["journal"] = (OUT / "daemon").read_text()[-2000:]
        (OUT / "seen.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
