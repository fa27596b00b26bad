"""Which VM a drill takes if nobody names one: by chance, weighted with the time since its last drill. Pure."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeAlias

Machine: TypeAlias = tuple[str, str]
"""Name and UUID of a VM; the UUID is '' where the backup has none."""
_AT_LEAST = dt.timedelta(hours=1)
_NEVER = dt.timedelta(days=365)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighted:
    """A VM, and how likely it is to be taken, in days."""

    machine: Machine
    days: float


def weights(machines: Collection[Machine], last: Mapping[Machine, dt.datetime], now: dt.datetime) -> list[Weighted]:
    """Returns the weight of each VM: the days since its last drill; one that had none has the most days, and a year more.

    So every VM has its turn in the end, and none is sure not to be the next. `last` and `now` are aware.
    """
    ages = {machine: max(now - last[machine], _AT_LEAST) for machine in machines if machine in last}
    never = max([*ages.values(), _AT_LEAST]) + _NEVER
    return [Weighted(machine=one, days=ages.get(one, never) / dt.timedelta(days=1)) for one in sorted(set(machines))]


def choose(weighted: list[Weighted], dice: random.Random) -> Machine:
    """Returns one of them; there is at least one."""
    return dice.choices([one.machine for one in weighted], [one.days for one in weighted])[0]
