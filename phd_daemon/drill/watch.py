"""Watches a guest until it shows that it is up, that it is not coming up, or until the time is over.

What proves it: the text on its serial line, or an answer of its agent. What disproves it: a panic, a firmware that finds nothing to
boot, a block that cannot be read. All else, a screen that moves included, proves nothing.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
import json
import re
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from phd_daemon.drill.qemu import RunningGuest
from phd_daemon.drill.verdict import DrillOutcome
from phd_daemon.host.qmp import QmpError
from restore_core.naming import printable
from restore_core.targets.base import Stop

LOGIN_PROMPT = rb"[\r\n](?:[!-~]{1,64} )?login: "
"""What Linux and BSD print on a serial console that waits for a user."""
_BAD_SIGNS = (
    (rb"Kernel panic - not syncing: [^\r\n]{0,120}", "its kernel panics"),
    (rb"No bootable device", "the firmware finds nothing to boot"),
    (rb"You are in emergency mode|Give root password for maintenance", "it ends in emergency mode"),
    (rb"Entering rescue mode\.\.\.|grub rescue>", "its boot loader finds no system (GRUB rescue)"),
    (rb"ALERT! {1,4}\S{1,120} does not exist", "it does not find its root file system"),
)
_WINDOW = 16 << 10
_KEPT = 256 << 10
_ROUND = 1.0
_ASK_AGENT = 3.0
_LOOK = 10.0
_AGENT_ID = 20261129
_AGENT_LINE = 1 << 20


class HowSeen(enum.StrEnum):
    """What ended the watch."""

    SERIAL = "serial"
    AGENT = "agent"
    BAD_SIGN = "bad sign"
    STOPPED = "stopped"
    TIME = "time"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenGuest:
    """What the watch saw. `serial` is the end of what the guest printed, `pictures` how many different screens there were."""

    how: HowSeen
    outcome: DrillOutcome
    reason: str
    serial: bytes
    pictures: int


@dataclass(slots=True, kw_only=True)
class _Watch:
    guest: RunningGuest
    text: re.Pattern[bytes]
    folder: Path
    written: Callable[[], str]
    """Returns why the guest may not go on, '' if it may: it has written too much."""
    serial: bytearray = field(default_factory=bytearray)
    window: bytearray = field(default_factory=bytearray)
    heard: bytearray = field(default_factory=bytearray)
    screens: set[bytes] = field(default_factory=set)
    open: set[int] = field(default_factory=set)
    asked: float = 0.0
    looked: float = 0.0

    def round(self) -> tuple[HowSeen, DrillOutcome, str] | None:
        """Looks once at everything that may have come; returns what decides."""
        guest, now = self.guest, time.monotonic()
        if now - self.asked >= _ASK_AGENT:
            self.asked = now
            self._ask_agent()
        if now - self.looked >= _LOOK:
            self.looked = now
            self.picture()
        watched = [*self.open, guest.monitor.fileno(), guest.program.pidfd]
        ready = select.select(watched, [], [], _ROUND)[0]
        if guest.serial.fileno() in ready and (found := self._read_serial()) is not None:
            return found
        if guest.agent.fileno() in ready and self._read_agent():
            return HowSeen.AGENT, DrillOutcome.PASSED, "its guest agent answers"
        if why := self.written():
            return HowSeen.STOPPED, DrillOutcome.NOT_PROVEN, why
        return self._events()

    def picture(self) -> bool:
        """Takes a picture of the screen; returns whether there is one."""
        path = self.folder / "screen.png"
        with contextlib.suppress(QmpError, OSError):
            self.guest.monitor.execute("screendump", {"filename": str(path), "format": "png"})
            self.screens.add(hashlib.blake2b(path.read_bytes()).digest())
            return True
        return False

    def _read_serial(self) -> tuple[HowSeen, DrillOutcome, str] | None:
        data = self._received(self.guest.serial)
        self.serial += data
        del self.serial[:-_KEPT]
        self.window += data
        text = bytes(self.window)
        del self.window[:-_WINDOW]
        for pattern, meaning in _BAD_SIGNS:
            if found := re.search(pattern, text):
                return HowSeen.BAD_SIGN, DrillOutcome.FAILED, f"{meaning}: {_shown(found[0])}"
        if found := self.text.search(text):
            return HowSeen.SERIAL, DrillOutcome.PASSED, f"its serial line says: {_shown(found[0])}"
        return None

    def _ask_agent(self) -> None:
        if self.guest.agent.fileno() in self.open:
            with contextlib.suppress(OSError):
                asked = {"execute": "guest-sync", "arguments": {"id": _AGENT_ID}}
                self.guest.agent.send(json.dumps(asked).encode() + b"\n", socket.MSG_DONTWAIT)

    def _read_agent(self) -> bool:
        self.heard += self._received(self.guest.agent)
        *lines, rest = bytes(self.heard).split(b"\n")
        self.heard = bytearray(rest[-_AGENT_LINE:])
        for line in lines:
            with contextlib.suppress(ValueError, RecursionError):
                found = json.loads(line.lstrip(b"\xff"))
                if isinstance(found, dict) and found.get("return") == _AGENT_ID:
                    return True
        return False

    def _received(self, one: socket.socket) -> bytes:
        data = b""
        with contextlib.suppress(OSError):
            data = one.recv(1 << 16)
        if not data:
            self.open.discard(one.fileno())
        return data

    def _events(self) -> tuple[HowSeen, DrillOutcome, str] | None:
        for event in self.guest.monitor.take_events():
            data = event.get("data") or {}
            match event["event"]:
                case "BLOCK_IO_ERROR" if data.get("operation") == "read":
                    return (
                        HowSeen.STOPPED,
                        DrillOutcome.NOT_PROVEN,
                        "it reads a block that cannot be had",
                    )
                case "BLOCK_IO_ERROR":
                    why = printable(str(data.get("reason")))
                    return HowSeen.STOPPED, DrillOutcome.NOT_PROVEN, f"what it writes can no longer be kept ({why})"
                case "GUEST_PANICKED":
                    return HowSeen.BAD_SIGN, DrillOutcome.FAILED, "it says that it panics"
                case "SHUTDOWN":
                    return HowSeen.STOPPED, DrillOutcome.NOT_PROVEN, "it switched itself off, or began anew, before it was up"
                case _:
                    pass
        return None


def watch(
    guest: RunningGuest, *, text: re.Pattern[bytes], seconds: float, folder: Path, written: Callable[[], str], stop: Stop
) -> SeenGuest:
    """Watches a guest for so many seconds at most. Leaves `screen.png` in `folder`. Raises `QmpError`, and what `stop` raises."""
    one = _Watch(guest=guest, text=text, folder=folder, written=written, looked=time.monotonic())
    one.open = {guest.serial.fileno(), guest.agent.fileno()}
    deadline, found = time.monotonic() + seconds, None
    while found is None and time.monotonic() < deadline:
        stop()
        found = one.round()
    one.picture()
    if found is None:
        moves = f"{len(one.screens)} different screens" if len(one.screens) > 1 else "a screen that did not change"
        reason = (
            f"it ran for {seconds:.0f} s, with {moves}, and neither its serial line nor a guest agent said that it is up. "
            "Give it a serial console (console=ttyS0) or qemu-guest-agent, name its text with --serial-text, or look at the picture"
        )
        found = HowSeen.TIME, DrillOutcome.NOT_PROVEN, reason
    how, outcome, reason = found
    return SeenGuest(how=how, outcome=outcome, reason=reason, serial=bytes(one.serial), pictures=len(one.screens))


def _shown(text: bytes) -> str:
    return printable(text.decode(errors="replace").strip())[:160]
