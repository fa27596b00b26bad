"""The systemd unit: does it confine the daemon as the shipped unit does. Skipped where systemd does not run."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from phd_daemon.doctor.finding import Finding, Report
from phd_daemon.operations.installation import BOOTED, UNIT

EXPECTED: Mapping[str, str] = {
    "CapabilityBoundingSet": "",
    "AmbientCapabilities": "",
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectControlGroups": "yes",
    "ProtectClock": "yes",
    "ProtectHostname": "yes",
    "ProtectProc": "invisible",
    "LockPersonality": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "MemoryDenyWriteExecute": "yes",
    "KillMode": "process",
    "OOMPolicy": "continue",
    "LimitCORE": "0",
}
"""The settings of the shipped unit as `systemctl show` prints them."""

_ANY = ("SystemCallFilter", "RestrictNamespaces", "WatchdogUSec", "IPAddressDeny")
"""Must be set to some value: systemd prints them in another form."""
_UNSET = {"", "no", "0", "infinity"}


def show_unit() -> str:
    """Returns the settings of the installed unit. Raises `OSError`, `subprocess.SubprocessError`."""
    names = ["LoadState", *EXPECTED, *_ANY]
    command = ["systemctl", "show", UNIT, *(f"--property={name}" for name in names)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603  no part of it is from outside
    return ran.stdout


def examine(show: Callable[[], str] = show_unit, *, booted: Path | None = None) -> Report:
    """Reports how the installed unit differs from the shipped one."""
    if not (booted or BOOTED).is_dir():
        return Report(unseen=("whether the unit is hardened: this machine does not run systemd",))
    try:
        said = show()
    except (OSError, subprocess.SubprocessError) as error:
        return Report(unseen=(f"whether the unit is hardened: systemctl: {type(error).__name__}",))
    found = dict(line.partition("=")[::2] for line in said.splitlines())
    if found.get("LoadState") != "loaded":
        return Report(unseen=(f"whether the unit is hardened: {UNIT} is not installed here",))
    return Report(findings=tuple(differences(found)))


def differences(found: Mapping[str, str]) -> Iterator[Finding]:
    """Yields one finding for all settings that are looser than ours. Properties that this systemd does not know are ignored."""
    loose = [f"{key}={found[key]}, not {value or 'empty'}" for key, value in EXPECTED.items() if found.get(key, value) != value]
    loose += [f"{key} is not set" for key in _ANY if found.get(key, "?") in _UNSET]
    if loose:
        yield Finding(
            check="unit-not-hardened",
            what="; ".join(loose),
            where=UNIT,
            why="The daemon reads what servers and users write. A mistake in it could do whatever the unit allows.",
            mend="Install the shipped unit; keep changes in a drop-in (systemctl edit phd-daemon), as small as possible.",
        )
