"""A drill as it is kept, for tests."""

from __future__ import annotations

import datetime as dt

from phd_daemon.drill.verdict import Drill, DrillOutcome, DrillStep

NIGHT = dt.datetime(2026, 11, 29, 3, 0, tzinfo=dt.UTC)
DRILL = Drill(
    began=NIGHT,
    seconds=12.5,
    vm="CRM",
    uuid="564d",
    backup=NIGHT,
    archives=("nas1:a/b.phd",),
    boot=True,
    steps=(DrillStep(name="boot", outcome=DrillOutcome.PASSED, reason="its serial line says: crm login:", seconds=12.0),),
    accelerator="tcg",
)
