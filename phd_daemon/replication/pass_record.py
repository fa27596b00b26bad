"""The result of a pass: one line for people, and one JSON document in `state_dir/passes.jsonl`, a file of bounded size."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phd_daemon.show.output import counted
from phd_daemon.show.rules import in_words, not_seen
from restore_core import durable
from restore_core.catalog.index import Indexed
from restore_core.durable import read_plain
from restore_core.naming import printable
from restore_core.replication.ledger import BadLine
from restore_core.replication.rules import Problem
from restore_core.replication.selection import RuleDecision, Verdict

_MOST_BYTES = 4 << 20
_KEPT_BYTES = 2 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What one look at rules, targets, queue and disks found. `notes` are about the rules as a whole."""

    now: dt.datetime
    decisions: tuple[RuleDecision, ...]
    problems: tuple[Problem, ...]
    bad_lines: tuple[BadLine, ...]
    targets: tuple[Indexed, ...]
    notes: tuple[str, ...] = ()

    @property
    def silent(self) -> frozenset[str]:
        """Returns the targets that did not answer: their last listing was used."""
        return frozenset(one.target for one in self.targets if one.problem)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One pass. `jobs` are the names that were queued, `refused` the reasons why one was not, both by line of the rules."""

    findings: Findings
    seconds: float
    dry_run: bool
    jobs: Mapping[int, str]
    refused: Mapping[int, str]

    def summary(self) -> str:
        """Returns the pass as one line."""
        found = self.findings
        counts = Counter(decision.verdict for decision in found.decisions)
        new = counts.pop(Verdict.RESTORE, 0)
        held = sum(one.held for one in found.decisions)
        current = counts.pop(Verdict.CURRENT, 0)
        matched = sum(one.wanted is not None for one in found.decisions)
        did = f"{new} would be queued" if self.dry_run else f"{len(self.jobs)} queued"
        unseen = sum(one.entry is not None and not_seen(one.entry, found.silent) for one in found.decisions)
        by_listing = f" ({unseen} not seen now)" if unseen else ""
        parts = [counted(len(found.decisions), "rule"), f"{matched} matched{by_listing}", did + (f" ({held} held)" if held else "")]
        parts += [f"{current} up to date", f"{sum(counts.values()) + len(self.refused)} skipped{_by_verdict(counts)}"]
        said = (
            (sum(bool(one.problem) for one in found.targets), "silent"),
            (sum(bool(one.partial) for one in found.targets), "in part"),
        )
        troubled = ", ".join(f"{count} {word}" for count, word in said if count)
        parts.append(counted(len(found.targets), "target") + (f" ({troubled})" if troubled else ""))
        for count, where in ((len(found.problems), "rules"), (len(found.bad_lines), "ledger")):
            parts += [f"{counted(count, 'bad line')} in the {where}"] if count else []
        return f"pass: {', '.join(parts)}, {self.seconds:.1f} s"

    def document(self) -> dict[str, Any]:
        """Returns the pass as a JSON document; times are ISO 8601, lags are seconds."""
        found = self.findings
        return {
            "time": found.now.isoformat(timespec="seconds"),
            "seconds": round(self.seconds, 3),
            "dry_run": self.dry_run,
            "summary": self.summary(),
            "rules": len(found.decisions),
            "matched": sum(one.wanted is not None for one in found.decisions),
            "queued": len(self.jobs),
            "decisions": [self._decision(one) for one in found.decisions],
            "problems": [{"line": one.line, "column": one.column, "message": one.message} for one in found.problems],
            "ledger_problems": [{"line": one.number, "message": one.why} for one in found.bad_lines],
            "targets": [{"name": one.target, "archives": one.archives, "problem": one.trouble} for one in found.targets],
            "notes": list(found.notes),
        }

    def _decision(self, one: RuleDecision) -> dict[str, Any]:
        line = one.rule.line
        return {
            "line": line,
            "vm": printable(one.rule.vm),
            "vmdk": printable(one.rule.vmdk),
            "destination": printable(str(one.rule.destination)),
            "days": one.rule.days,
            "verdict": "refused" if line in self.refused else one.verdict.value,
            "reason": self.refused.get(line, one.reason),
            "archive": str(one.entry.ref) if one.entry else None,
            "job": self.jobs.get(line),
            "held": one.held,
            "wanted": one.wanted.isoformat() if one.wanted else None,
            "replica": one.replica.isoformat() if one.replica else None,
            "lag_seconds": one.lag.total_seconds() if one.lag is not None else None,
            "warnings": list(one.warnings),
        }


def record_file(state_dir: Path) -> Path:
    """Returns the path of the file that holds one JSON document a pass."""
    return state_dir / "passes.jsonl"


def last_record(state_dir: Path, summary: str) -> dict[str, Any] | None:
    """Returns the newest document, if it is that of the pass with this summary."""
    try:
        document = json.loads(read_plain(record_file(state_dir)).splitlines()[-1])
        return document if summary.endswith(document["summary"]) else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def append_pass(path: Path, done: Pass) -> None:
    """Adds the document of a pass, and removes the oldest ones when the file grows too large. Raises `OSError`."""
    durable.append_line(path, json.dumps(done.document()).encode(), mode=0o600)
    if os.stat(path).st_size > _MOST_BYTES:
        kept = read_plain(path)[-_KEPT_BYTES:]
        durable.write_whole(path, kept[kept.index(b"\n") + 1 :] if b"\n" in kept[:-1] else b"")


def _by_verdict(counts: Counter[Verdict]) -> str:
    named = ", ".join(
        f"{count} {in_words(verdict)}" for verdict, count in sorted(counts.items(), key=lambda pair: pair[0].value) if count
    )
    return f" ({named})" if named else ""
