"""A gap of a listing as the cache keeps it: what is missing, why, and since when."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from restore_core.naming import printable, unescape_name
from restore_core.targets.gaps import Gap, GapKind

_WHY = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownGap:
    """A gap, and since when it has been one; seconds since the epoch."""

    gap: Gap
    since: float


def since(gaps: Iterable[Gap], before: Iterable[KnownGap], *, began: float) -> tuple[KnownGap, ...]:
    """The gaps of a listing that began then, each with the time since when it has been one."""
    known = {one.gap.path: one.since for one in before}
    return tuple(KnownGap(gap=gap, since=known.get(gap.path, began)) for gap in gaps)


def as_data(gaps: Sequence[KnownGap], *, room: int) -> list[Mapping[str, object]]:
    """As many of them as `room` bytes of JSON hold; one always, so that a partial listing never looks complete."""
    told: list[Mapping[str, object]] = []
    for one in gaps:
        data = {"path": printable(one.gap.path), "kind": one.gap.kind.value, "why": one.gap.why[:_WHY], "since": one.since}
        room -= len(json.dumps(data))
        if room < 0 and told:
            break
        told.append(data)
    return told


def from_data(data: Iterable[Mapping[str, Any]]) -> tuple[KnownGap, ...]:
    """The same, read again. Raises `ValueError`, `KeyError` or `TypeError` for what is none."""
    return tuple(
        KnownGap(
            gap=Gap(path=unescape_name(one["path"]), kind=GapKind(one["kind"]), why=str(one["why"])), since=float(one["since"])
        )
        for one in data
    )
