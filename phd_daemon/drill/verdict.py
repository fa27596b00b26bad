"""What a drill found: its steps, each with an outcome and a reason, and the verdict on all of them. Pure.

`passed` is only said of what was seen to work. A guest that was started and said nothing is `not proven`.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

_VERSION = 1


class DrillOutcome(enum.StrEnum):
    """Of a step, and of a drill as a whole; only a step is skipped."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_PROVEN = "not proven"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillStep:
    """One thing that was tried. `reason` is a sentence for people; `seconds` is how long it took."""

    name: str
    outcome: DrillOutcome
    reason: str
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """One drill, as it is kept. `began` and `backup` (the time of the backup) are aware; `archives` are its Deltas.

    `picture` and `serial` are names of files beside the record, '' for none.
    """

    began: dt.datetime
    seconds: float
    vm: str
    uuid: str
    backup: dt.datetime
    archives: tuple[str, ...]
    boot: bool
    steps: tuple[DrillStep, ...]
    accelerator: str = ""
    picture: str = ""
    serial: str = ""

    @property
    def verdict(self) -> DrillOutcome:
        """Returns the verdict on all steps."""
        return verdict_of(self.steps, boot=self.boot)

    @property
    def reason(self) -> str:
        """Returns why the verdict is not better, or what proved it."""
        verdict = self.verdict
        decisive = [step for step in self.steps if step.outcome is verdict] or list(self.steps)
        if verdict is DrillOutcome.PASSED:
            decisive = decisive[-1:]
        return "; ".join(f"{step.name}: {step.reason}" for step in decisive) or "nothing was tried"

    def document(self) -> dict[str, Any]:
        """Returns the stable form for programs."""
        return {
            "version": _VERSION,
            "began": self.began.isoformat(timespec="seconds"),
            "seconds": round(self.seconds, 3),
            "vm": self.vm,
            "uuid": self.uuid,
            "backup": self.backup.isoformat(timespec="seconds"),
            "archives": list(self.archives),
            "verdict": self.verdict.value,
            "reason": self.reason,
            "boot": self.boot,
            "accelerator": self.accelerator,
            "picture": self.picture,
            "serial": self.serial,
            "steps": [
                {"name": step.name, "outcome": step.outcome.value, "reason": step.reason, "seconds": round(step.seconds, 3)}
                for step in self.steps
            ],
        }

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        """Returns the drill of a document. Raises `ValueError`, `LookupError` or `TypeError` for what is none."""
        if document["version"] != _VERSION:
            raise ValueError(f"version {document['version']}")
        return cls(
            began=_aware(document["began"]),
            seconds=float(document["seconds"]),
            vm=str(document["vm"]),
            uuid=str(document["uuid"]),
            backup=_aware(document["backup"]),
            archives=tuple(map(str, document["archives"])),
            boot=bool(document["boot"]),
            accelerator=str(document["accelerator"]),
            picture=_plain_name(document["picture"]),
            serial=_plain_name(document["serial"]),
            steps=tuple(
                DrillStep(
                    name=str(one["name"]),
                    outcome=DrillOutcome(one["outcome"]),
                    reason=str(one["reason"]),
                    seconds=float(one["seconds"]),
                )
                for one in document["steps"]
            ),
        )


def verdict_of(steps: Iterable[DrillStep], *, boot: bool) -> DrillOutcome:
    """Returns the verdict: failed if any step failed; passed if what was asked for was seen to work; else not proven.

    With `boot` that is the guest's own word. Without it, at least one step must have passed, and none be unproven.
    """
    steps = list(steps)
    if any(step.outcome is DrillOutcome.FAILED for step in steps):
        return DrillOutcome.FAILED
    if boot:
        booted = [step for step in steps if step.name == "boot"]
        proven = bool(booted) and all(step.outcome is DrillOutcome.PASSED for step in booted)
        return DrillOutcome.PASSED if proven else DrillOutcome.NOT_PROVEN
    checked = [step for step in steps if step.outcome is not DrillOutcome.SKIPPED and step.name != "read"]
    proven = bool(checked) and all(step.outcome is DrillOutcome.PASSED for step in checked)
    return DrillOutcome.PASSED if proven else DrillOutcome.NOT_PROVEN


def _aware(text: object) -> dt.datetime:
    found = dt.datetime.fromisoformat(str(text))
    if found.tzinfo is None:
        raise ValueError(f"a time without a zone: {text}")
    return found


def _plain_name(text: object) -> str:
    if not isinstance(text, str) or "/" in text or text.startswith("."):
        raise ValueError(f"not the name of a file: {text!r}")
    return text


def still_failed(drills: Iterable[Drill]) -> list[Drill]:
    """Returns the drill of each VM that failed, and after which it has not passed. `drills` are in their order.

    One that proved nothing does not take a failure back.
    """
    last: dict[tuple[str, str], Drill] = {}
    for one in drills:
        if one.verdict in (DrillOutcome.FAILED, DrillOutcome.PASSED):
            last[one.vm, one.uuid] = one
    return [one for one in last.values() if one.verdict is DrillOutcome.FAILED]
