"""R26: neighbours act at every step of a restore; also after it was killed there, before the next attempt.

A step is a moment before or after any call that changes or asks something. A combination is a kind of restore, a step and a
neighbour. After it nothing may be lost: what is under the disk's name is what was asked for or what the neighbour left; what it
has open is neither changed nor replaced; "done" was said of an exact disk; a disk that somebody wrote is never taken for ours;
and the next restore with overwrite = true makes the disk exact and leaves nothing beside it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import multiprocessing
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from restore_core.disk import alone
from restore_core.disk.destination import REDO_SUFFIX
from restore_core.restore.part import held_destination
from restore_core.restore.recovery import recover_to
from restore_core.restore.request import OURS, Provision
from restore_core.restore.run import restore_delta
from restore_core.targets.base import Stop
from tests.lab import BLOCK, Lab, Witness, go_on, request_for
from tests.proof.neighbours import AFTER_A_DEATH, ALL, PIECE, WITH_LOCKS, Neighbour, Site, Unmounts
from tests.proof.scoreboard import Figure, Round, Row
from tests.proof.stopped import MOVED, NEVER, End, Hung, StoppedRestore, Work, to_its_end
from tests.proof.volumes import make_ext4, mounted, program, tmpfs

BLOCKS = 12
SECOND_NAME = "second name"
"""Of a hidden disk, half changed: it was copied by links, and a person has to remove that copy."""
ENOUGH = 3
"""Combinations that go wrong, after which the rest is not tried."""
MODES: dict[str, dict[str, object]] = {
    "new": {},
    "true": {"overwrite": True},
    "ours": {"overwrite": OURS},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of restore: what lies there before, what is asked for, on which file system."""

    name: str
    before: str
    asked: str
    modes: tuple[str, ...] = ("true", "ours")
    volume: str = "ext4"


KINDS = (
    Kind(name="new", before="", asked="old", modes=("new", "true")),
    Kind(name="in place", before="old", asked="few"),
    Kind(name="in place, grows", before="old", asked="grown"),
    Kind(name="whole", before="old", asked="many"),
    Kind(name="whole, shrinks", before="old", asked="shrunk"),
    Kind(name="clone", before="old", asked="few", volume="xfs"),
)


class Goods:
    """The backups: one disk in several states, and the bytes of each."""

    def __init__(self, folder: Path, dice: random.Random) -> None:
        self.lab = Lab(folder)

        def data(count: int) -> bytes:
            return b"".join(dice.randbytes(PIECE) * (BLOCK // PIECE) for _ in range(count))

        old = data(4) + bytes(2 * BLOCK) + data(BLOCKS - 6)
        few = old[:BLOCK] + data(1) + bytes(BLOCK) + old[3 * BLOCK : 4 * BLOCK] + data(1) + old[5 * BLOCK :]
        self.bytes = {"": None, "old": old, "few": few, "grown": few + data(1), "shrunk": few[: -2 * BLOCK]}
        self.bytes |= {"many": data(BLOCKS), "other": data(2) + old[2 * BLOCK :]}
        self.delta = {name: self.lab.backup(disk).delta for name, disk in self.bytes.items() if disk is not None}

    def work(self, which: str, path: Path, records: Path, **asked: Any) -> Work:
        """A restore of one of them."""
        request = request_for(delta=self.delta[which], destination=path, records=records, **asked)

        def run(stop: Stop) -> Any:
            return restore_delta(request, self.lab.targets, reporter=Witness(), stop=stop, keep_part=error_waits)

        return run

    def script(self, which: str) -> Path:
        """A Delta as a file."""
        return self.lab.path(self.delta[which])


def without_leases(work: Work) -> Work:
    """A restore on a file system that has none. For a process of its own."""

    def run(stop: Stop) -> Any:
        setattr(alone, "_ask", lambda _fd: alone.Alone.UNKNOWN)  # noqa: B010  mypy forbids the plain form
        return work(stop)

    return run


def error_waits(error: BaseException) -> bool:
    """As a job: what is tried again keeps its part file."""
    return bool(getattr(error, "try_again", False))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One combination but for its step: `killed` says whether the restore dies there, and when the neighbour acts."""

    kind: Kind
    mode: str
    name: str
    provision: Provision
    neighbour: type[Neighbour]
    killed: str = ""
    leases: bool = True
    """False: as on a file server, where only the locks of QEMU show that it has a disk open."""

    def __str__(self) -> str:
        death = (f", killed {self.killed}" if self.killed else "") + ("" if self.leases else ", no leases")
        return f"{self.kind.name}/{self.mode}/{self.name}/{self.provision.value}, {self.neighbour.__name__}{death}"


@dataclass(slots=True)
class Bench:
    """Where the combinations are tried, each in a folder of its own on a file system of its own kind."""

    goods: Goods
    volumes: dict[str, Path]
    records: Path
    _count: Iterator[int] = field(default_factory=itertools.count)
    _marks: dict[tuple[Kind, str, str, Provision, bool], list[str]] = field(default_factory=dict)

    def marks(self, plan: Plan) -> list[str]:
        """The steps that such a restore has."""
        key = (plan.kind, plan.mode, plan.name, plan.provision, plan.leases)
        if key not in self._marks:
            with self.site(plan) as site:
                end = to_its_end(self.work(plan, site))
                if not end.done:
                    raise AssertionError(f"{plan}: undisturbed it ended as {end}")
                self._marks[key] = end.marks
        return self._marks[key]

    def work(self, plan: Plan, site: Site, **asked: Any) -> Work:
        """The restore of a plan; `asked` changes what is asked for."""
        fields = {"provision": plan.provision, **MODES[plan.mode], **asked}
        work = self.goods.work(plan.kind.asked, site.path, self.records, **fields)
        return work if plan.leases else without_leases(work)

    @contextlib.contextmanager
    def site(self, plan: Plan) -> Iterator[Site]:
        """The disk before the restore."""
        volume = self.volumes[plan.kind.volume]
        folder = volume / f"case{next(self._count)}"
        folder.mkdir()
        second = self.goods.work("other", folder / plan.name, self.records, overwrite=True)
        site = Site(
            folder=folder,
            name=plan.name,
            other=self.goods.bytes["other"] or b"",
            second=second,
            records=self.records,
            script=self.goods.script("other"),
        )
        bound = plan.neighbour is Unmounts
        if bound:
            real = folder.with_name(f"{folder.name}.real")
            real.mkdir()
            subprocess.run(["mount", "--bind", str(real), str(folder)], check=True)
        try:
            if plan.kind.before:
                work = self.goods.work(plan.kind.before, site.path, self.records, provision=plan.provision)
                work(go_on)
            yield site
        finally:
            if bound:
                subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)
            for path in volume.glob(f"{folder.name}*"):
                subprocess.run(["rm", "-rf", str(path)], check=True)


class Judge:
    """One combination, and what is wrong with it."""

    def __init__(self, bench: Bench, plan: Plan, site: Site, offset: int) -> None:
        self.bench, self.plan, self.site = bench, plan, site
        self.before, self.asked = bench.goods.bytes[plan.kind.before], bench.goods.bytes[plan.kind.asked]
        self.neighbour = plan.neighbour(site, offset)
        self.wrong: list[str] = []
        self.hidden = False

    def say(self, held: bool, what: str) -> None:
        """Put on record what does not hold."""
        if not held and what not in self.wrong:
            self.wrong.append(what)

    def name_of(self, disk: bytes | None) -> str:
        """A disk in words."""
        known = {"none": None, "before": self.before, "asked": self.asked, "other": self.site.other}
        known |= {"the neighbour's": self.neighbour.after, "found": self.neighbour.found}
        return next((name for name, content in known.items() if content == disk), f"something else ({len(disk or b'')} bytes)")

    def run(self, at: int) -> bool:
        """Whether the restore came to the step, and the neighbour acted."""
        child = StoppedRestore(self.bench.work(self.plan, self.site), at=at)
        reached = child.next_mark()
        if self.plan.killed == "before":
            child.kill()
        if reached:
            self.neighbour.act()
            self.hidden = self.neighbour.found is None and self.before is not None
        if self.plan.killed:
            child.kill()
            self.next_attempt()
        else:
            end = child.to_its_end(self.look)
            self.after(end, at)
        self.let_go()
        self.only_ours()
        self.at_last()
        return reached

    def look(self) -> None:
        """At any later step."""
        seen = self.site.look()
        self.say(seen in (None, self.before, self.asked, self.neighbour.after), f"{self.name_of(seen)} seen under its name")
        if not self.neighbour.changed and not self.neighbour.moves:
            self.say(not (said := self.site.half_shown()), said)

    def after(self, end: End, at: int) -> None:
        """The restore has ended; the neighbour may still be there."""
        them, now = self.neighbour, self.site.look()
        self.say(end.kind != "broke", f"it broke: {end}")
        if not them.acted:
            self.say(end.done and now == self.asked, f"nobody did anything; {end}, {self.name_of(now)}")
        elif them.moves:
            last = max(number for number, name in enumerate(end.marks) if MOVED in name) if end.done else NEVER
            self.say(not end.done or at >= last, "said done, but its folder is gone")
            self.say(now in (self.before, self.asked), f"{self.name_of(now)} in the folder")
        else:
            late = them.found == self.asked
            self.say(not end.done or now == self.asked or (late and now == them.after), f"said done of {self.name_of(now)}")
            self.kept(now, late=late)
            appeared = them.found is None and end.kind == "DestinationExists"
            appeared = appeared or "third file" in end.text
            self.say(end.done or end.try_again or appeared or self.plan.mode != "true", f"given up: {end}")

    def kept(self, now: bytes | None, *, late: bool = False) -> None:
        """Nothing of the neighbour's is lost; else the disk is exact."""
        them = self.neighbour
        work = them.changed and them.precious and them.after is not None
        keep = them.stays or (work and (late or self.plan.mode == "ours" or (self.plan.mode == "new" and them.found is None)))
        if keep:
            self.say(now == them.after, f"lost: {self.name_of(now)} instead of what the neighbour left")
        else:
            back = [self.before] if them.found == self.asked and not work else []  # the new disk was shown, and taken back
            self.say(now in (them.after, self.asked, *back), f"{self.name_of(now)} under its name")

    def next_attempt(self) -> None:
        """After the death: the neighbour is still there, or has been."""
        if self.neighbour.moves:
            return
        end = to_its_end(self.bench.work(self.plan, self.site, again=True))
        now = self.site.look()
        self.say(end.kind != "broke", f"it broke: {end}")
        if self.hidden and now is None:
            self.say(not end.done, "said done of nothing")
            return
        if not self.neighbour.acted:
            self.say(end.done and now == self.asked, f"nobody did anything; {end}, {self.name_of(now)}")
            return
        self.say(
            not end.done or now == self.asked or (self.plan.mode == "new" and now == self.neighbour.after),
            f"{end}, {self.name_of(now)}",
        )
        self.kept(now)

    def let_go(self) -> None:
        """The neighbour writes once more, and is gone."""
        them = self.neighbour
        them.leave()
        if them.acted and them.stays and not self.hidden:
            self.say(self.site.look() == them.after, f"lost at last: {self.name_of(self.site.look())}")

    def only_ours(self) -> None:
        """A replication pass comes along: what somebody wrote is not ours, all else still is."""
        before, them = self.site.look(), self.neighbour
        end = to_its_end(self.bench.work(self.plan, self.site, overwrite=OURS))
        now = self.site.look()
        foreign = them.changed and them.precious and before == them.after and before not in (self.before, self.asked, None)
        if end.done:
            self.say(not foreign, "taken for ours, though somebody wrote it")
            self.say(now == self.asked, f"done with ours: {self.name_of(now)}")
            return
        self.say(end.kind != "broke", f"it broke: {end}")
        self.say(now == before, f"refused as not ours, but now {self.name_of(now)}")
        given_up = self.before is not None and not foreign and them.harmless
        self.say(not given_up or SECOND_NAME in end.text, f"a replica was given up: {end}")

    def at_last(self) -> None:
        """A person restores over it, and nobody disturbs; then a pass finds it as its own."""
        end = to_its_end(self.bench.work(self.plan, self.site, overwrite=True))
        if not end.done and self._way_out(end):
            end = to_its_end(self.bench.work(self.plan, self.site, overwrite=True))
        self.say(end.done and self.site.look() == self.asked, f"at last: {end}, {self.name_of(self.site.look())}")
        self.say(self.site.names() == self.site.own_names(), f"left behind: {self.site.names()}")
        end = to_its_end(self.bench.work(self.plan, self.site, overwrite=OURS))
        self.say(end.done, f"not ours at last: {end}")
        said = self.neighbour.complaint()
        self.say(not said, said)

    def _way_out(self, end: End) -> bool:
        """Do what the message says; whether it said anything."""
        if SECOND_NAME in end.text:
            shutil.rmtree(self.site.folder.with_name(f"{self.site.folder.name}.yesterday"))
            return True
        if not self.neighbour.changed and not self.neighbour.stays:
            return False
        site = self.site
        if "phd recover" in end.text and site.disk.with_name(site.disk.name + REDO_SUFFIX).exists():
            with held_destination(site.path, roots=None, make_folders=False) as (destination, _hold):
                recover_to(destination, None, self.bench.records, go_on)
            return True
        named = [name for name in site.names() if name in end.text and name not in site.own_names()]
        for name in named:
            (site.here / name).unlink()
        return bool(named)


def plans(killed: tuple[str, ...]) -> list[Plan]:
    """Every combination but for the step."""
    return [
        Plan(kind=kind, mode=mode, name=name, provision=provision, neighbour=neighbour, killed=death, leases=leases)
        for kind in KINDS
        for mode in kind.modes
        for neighbour in (ALL if killed == ("",) else AFTER_A_DEATH)
        for name in ("r.img", "r.vmdk")
        for provision in Provision
        for death in killed
        for leases in ((True, False) if neighbour in WITH_LOCKS and not death else (True,))
    ]


@contextlib.contextmanager
def bench(asked: Round) -> Iterator[Bench]:
    """An ext4 and an XFS, in memory."""
    with contextlib.ExitStack() as stack:
        memory = stack.enter_context(tmpfs(asked.folder / "memory", 1 << 30))
        images = {name: memory / f"{name}.img" for name in ("ext4", "xfs")}
        make_ext4(images["ext4"], 256 << 20)
        with images["xfs"].open("wb") as file:
            file.truncate(320 << 20)
        subprocess.run([program("mkfs.xfs"), "-q", "-m", "reflink=1", str(images["xfs"])], check=True)
        volumes = {
            name: stack.enter_context(mounted(asked.folder / name, "-o", "loop", str(image))) for name, image in images.items()
        }
        records = memory / "records"
        records.mkdir()
        yield Bench(goods=Goods(memory / "goods", asked.dice()), volumes=volumes, records=records)


def tried(tables: Bench, plan: Plan, dice: random.Random, at: int | None = None) -> tuple[bool, str]:
    """Whether the step was reached, and what is wrong; empty if nothing is."""
    marks = tables.marks(plan)
    if at is None:
        at = dice.choice([dice.randrange(len(marks)), dice.randrange(decisive(marks), len(marks))])
    offset = dice.choice([0, BLOCK, 4 * BLOCK, 7 * BLOCK]) + PIECE * dice.randrange(16)
    with tables.site(plan) as site:
        judge = Judge(tables, plan, site, offset)
        try:
            reached = judge.run(at)
        except Hung as hung:
            return True, f"{plan}, step {at}: {hung}"
    return reached, f"{plan}, step {at} ({marks[at]}): {'; '.join(judge.wrong)}" if judge.wrong else ""


def decisive(marks: list[str]) -> int:
    """The first step of those that cannot be undone: half of the combinations happen after it."""
    return next(number for number, name in enumerate(marks) if name in {"before refuse_lock_files", "before lock_image"})


@dataclass(slots=True)
class Tally:
    """What came of some combinations."""

    kinds: Counter[str] = field(default_factory=Counter)
    missed: int = 0
    wrong: list[str] = field(default_factory=list)


def neighbours(asked: Round) -> Figure:
    """Two parts: the restore goes on; it is killed at that step, and the next attempt comes. Two processes share the work."""
    dice = asked.dice()
    live, dead = plans(("",)), plans(("before", "after"))
    chosen = [*spread(live, asked.times(500), dice), *spread(dead, asked.times(250), dice)]
    dice.shuffle(chosen)
    rounds = [dataclasses.replace(asked, folder=asked.folder / str(number), seed=asked.seed + number) for number in range(2)]
    with ProcessPoolExecutor(len(rounds), mp_context=multiprocessing.get_context("fork")) as pool:
        tallies = list(pool.map(some, rounds, [chosen[number :: len(rounds)] for number in range(len(rounds))]))
    kinds, wrong = sum((tally.kinds for tally in tallies), Counter[str]()), [said for tally in tallies for said in tally.wrong]
    counted = ", ".join(f"{name} {number}" for name, number in sorted(kinds.items()))
    note = "; ".join([counted, f"{sum(tally.missed for tally in tallies)} steps were not reached", *wrong[:2]])
    return Figure(held=kinds.total() - len(wrong), of=kinds.total(), note=note)


def some(asked: Round, chosen: list[Plan]) -> Tally:
    """Try these, until too many went wrong."""
    dice, tally = asked.dice(), Tally()
    asked.folder.mkdir()
    with bench(asked) as tables:
        for plan in chosen:
            reached, said = tried(tables, plan, dice)
            tally.kinds[f"{plan.kind.name}{', killed' if plan.killed else ''}"] += 1
            tally.missed += not reached
            tally.wrong += [said] if said else []
            if len(tally.wrong) == ENOUGH:
                break
    return tally


def spread(every: list[Plan], count: int, dice: random.Random) -> list[Plan]:
    """So many of them: each neighbour as often as any other, with kinds of restore as the dice fall."""
    groups: dict[tuple[type[Neighbour], bool], list[Plan]] = {}
    for plan in every:
        groups.setdefault((plan.neighbour, plan.leases), []).append(plan)
    for group in groups.values():
        dice.shuffle(group)
    rounds = itertools.chain.from_iterable(itertools.zip_longest(*groups.values()))
    chosen = list(itertools.islice((plan for plan in rounds if plan is not None), count))
    dice.shuffle(chosen)
    return chosen


ROWS = (
    Row(
        id="R26",
        what="neighbours act at any step of a restore, also of one that is killed there",
        target="all: nothing of theirs lost, no bad disk, no false done, nothing left behind",
        run=neighbours,
        mutants=(
            "neighbours:no_lease_is_asked",
            "neighbours:no_image_is_locked",
            "neighbours:times_are_not_compared",
            "neighbours:names_are_not_looked_at_again",
            "neighbours:the_folder_may_be_anywhere",
            "neighbours:a_disk_is_renamed_over",
            "neighbours:links_are_not_asked_about",
            "neighbours:another_boot_is_believed",
            "neighbours:nobody_holds_the_disk",
        ),
        mutant_share=0.5,
        short=0.04,
    ),
)
