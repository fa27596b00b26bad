"""R27: listings that are cut, closed or empty, on every kind of target: nothing known vanishes, and nothing is decided on a part.

One VM with a Full and two Deltas, another VM, and a folder of version 2 lie on the target, and are indexed. Then one thing is done
to the target or to what its server says, and the commands of an installation are run: what they say and do is compared with what
truly lies there. Then it is undone, and all must be as it was.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import json
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phd_daemon.cli.main import run as command
from restore_core import mounts
from restore_core.errors import ExitCode
from restore_core.targets import local
from restore_core.targets.base import TargetSpec
from tests import servers
from tests.proof.scoreboard import Figure, NotRun, Round, Row
from tests.rights import of_no_more_than_a_user

UUID, OTHER = "564d122a-0ed7-3b92-2f46-aee9456b2074", "564d122a-0ed7-3b92-2f46-aee9456b2079"
FULLS, MIDDLE, NEWEST = (f"2026.11.2{day}-CRM.{UUID}" for day in (1, 2, 3))
MAIL = f"2026.11.21-Mail.{OTHER}"
OLD_HOST = "esx1"
FULL_OF_OLD = "00-Old.img.gz-080101-0300.phd"
KINDS = ("file", "sshd", "ssh", "vsftpd", "mlsd", "list")


@dataclass(slots=True, kw_only=True)
class Place:
    """A target of one kind: how it is reached, where it lies, the good content, and what steers its server."""

    spec: TargetSpec
    store: Path
    goods: Path
    script: Path

    def says(self, said: dict[str, Any]) -> None:
        """What the server says from now on."""
        self.script.write_text(json.dumps(said))

    def put_right(self) -> None:
        """As it was."""
        self.script.unlink(missing_ok=True)
        self.store.mkdir(exist_ok=True)
        self.store.chmod(0o755)
        for path in self.store.iterdir():
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)
                shutil.rmtree(path)
            else:
                path.unlink()
        shutil.copytree(self.goods, self.store, dirs_exist_ok=True, symlinks=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One thing that is done to a target. `hides` are the folders it hides; None: it hides nothing, and must ring no alarm."""

    name: str
    kinds: tuple[str, ...]
    done: Callable[[Place], object]
    hides: tuple[str, ...] | None
    gone: bool = False
    """What is hidden is truly gone, and the listing says so."""
    forgotten: bool = False
    """state_dir is deleted, too."""

    @property
    def rings(self) -> bool:
        """A person must hear of it."""
        return bool(self.hides) and not self.gone


def mode(folder: str, bits: int) -> Callable[[Place], object]:
    return lambda place: (place.store / folder).chmod(bits)


def linked(folder: str) -> Callable[[Place], object]:
    def done(place: Place) -> None:
        (place.store / folder).rename(place.store.parent / "moved")
        (place.store / folder).symlink_to(place.store.parent / "moved")

    return done


def linked_files(folder: str) -> Callable[[Place], object]:
    """Its files lie elsewhere, and links in their places."""

    def done(place: Place) -> None:
        for number, path in enumerate(sorted((place.store / folder).iterdir())):
            path.rename(place.store / f"kept-{number}")
            path.symlink_to(f"../kept-{number}")

    return done


def closed_all(place: Place) -> None:
    for path in place.store.iterdir():
        path.chmod(0)


def bare(place: Place) -> None:
    for path in place.store.iterdir():
        shutil.rmtree(path)


def emptied(place: Place) -> None:
    for path in place.store.iterdir():
        shutil.rmtree(path)
    (place.store / "lost+found").mkdir()


def unmounted(place: Place) -> None:
    """A line of fstab names the target's folder, and nothing is mounted there; the root disk has a folder of that name."""
    fstab = place.script.with_name("fstab")
    fstab.write_text(f"/dev/sdz1 {place.store} ext4 defaults 0 0\n")
    setattr(local, "unmounted_mount_point", functools.partial(mounts.unmounted_mount_point, fstab=fstab))  # noqa: B010  as in mutants
    emptied(place)


def said(folder: str, **what: Any) -> Callable[[Place], object]:
    return lambda place: place.says({f"/{folder}": what})


EVERYTHING = (FULLS, MIDDLE, NEWEST, MAIL, OLD_HOST)
REAL = ("file", "sshd", "vsftpd")
FTP = ("mlsd", "list")
STRANGE = "?????????? ? ? ? ? ? "
WAYS = (
    Way(name="newest closed", kinds=(*REAL, "ssh", *FTP), done=mode(NEWEST, 0), hides=(NEWEST,)),
    Way(name="Full closed", kinds=REAL, done=mode(FULLS, 0), hides=(FULLS,)),
    Way(name="newest not to be entered", kinds=REAL, done=mode(NEWEST, 0o400), hides=(NEWEST,)),
    Way(name="newest not to be read", kinds=(*REAL, *FTP), done=mode(NEWEST, 0o100), hides=(NEWEST,)),
    Way(name="version 2 closed", kinds=REAL, done=mode(OLD_HOST, 0), hides=(OLD_HOST,)),
    Way(name="newest is a link", kinds=REAL, done=linked(NEWEST), hides=(NEWEST,)),
    Way(name="newest file is a link", kinds=REAL, done=linked_files(NEWEST), hides=(NEWEST,)),
    Way(name="emptied", kinds=KINDS, done=emptied, hides=EVERYTHING),
    Way(name="emptied to the last name", kinds=REAL, done=bare, hides=EVERYTHING),
    Way(name="emptied, and state_dir deleted", kinds=KINDS, done=emptied, hides=EVERYTHING, forgotten=True),
    Way(name="every folder closed", kinds=REAL, done=closed_all, hides=EVERYTHING),
    Way(name="Full is behind a link", kinds=REAL, done=linked(FULLS), hides=(FULLS,)),
    Way(name="files of the Full are links", kinds=REAL, done=linked_files(FULLS), hides=(FULLS,)),
    Way(name="itself closed", kinds=("file", "sshd", "vsftpd", "mlsd"), done=lambda place: place.store.chmod(0), hides=EVERYTHING),
    Way(name="not mounted", kinds=("file",), done=unmounted, hides=EVERYTHING),
    Way(
        name="its folder gone",
        kinds=("file", "sshd"),
        done=lambda place: place.store.rename(f"{place.store}.away"),
        hides=EVERYTHING,
    ),
    Way(name="a folder removed", kinds=KINDS, done=lambda place: shutil.rmtree(place.store / MAIL), hides=(MAIL,), gone=True),
    Way(name="lost+found", kinds=(*REAL, "mlsd"), done=lambda place: (place.store / "lost+found").mkdir(mode=0), hides=None),
    Way(name="@eaDir", kinds=REAL, done=lambda place: (place.store / "@eaDir").mkdir(mode=0), hides=None),
    Way(name=".snapshot", kinds=REAL, done=lambda place: (place.store / ".snapshot").mkdir(mode=0), hides=None),
    Way(name="a link latest", kinds=REAL, done=lambda place: (place.store / "latest").symlink_to(NEWEST), hides=None),
    Way(name="newest denied", kinds=("ssh",), done=said(NEWEST, deny=3), hides=(NEWEST,)),
    Way(name="newest fails", kinds=("ssh",), done=said(NEWEST, deny=4), hides=(NEWEST,)),
    Way(name="nobody says what the newest is", kinds=("ssh",), done=said(NEWEST, blank=True), hides=(NEWEST,)),
    Way(name="nobody says what anything is", kinds=("ssh",), done=said("", blank=True), hides=EVERYTHING),
    Way(name="pure-ftpd cuts", kinds=FTP, done=said("", drop=NEWEST, reply="226 Output truncated to 4 matches"), hides=(NEWEST,)),
    Way(
        name="cut, in two lines",
        kinds=FTP,
        done=said("", drop=FULLS, reply="226-Options: -a -l\r\n226 4 matches total, truncated"),
        hides=(FULLS,),
    ),
    Way(name="incomplete", kinds=FTP, done=said("", drop=NEWEST, reply="250 Listing incomplete."), hides=(NEWEST,)),
    Way(
        name="only the first", kinds=FTP, done=said("", drop=MIDDLE, reply="226 Only the first 4 names are shown"), hides=(MIDDLE,)
    ),
    Way(name="half a line", kinds=FTP, done=said("", drop=NEWEST, extra=[NEWEST]), hides=(NEWEST,)),
    Way(name="LIST 550", kinds=FTP, done=said(NEWEST, before="550 Permission denied."), hides=(NEWEST,)),
    Way(name="LIST 553", kinds=FTP, done=said(FULLS, before="553 Not allowed."), hides=(FULLS,)),
    Way(name="cut to nothing", kinds=FTP, done=said("", keep=0, reply="226 Output truncated to 0 matches"), hides=EVERYTHING),
    Way(name="a strange line", kinds=FTP, done=said("", drop=NEWEST, extra=[STRANGE + NEWEST]), hides=(NEWEST,)),
    Way(name="no line understood", kinds=FTP, done=said("", keep=0, extra=["<html>", "<body>"]), hides=EVERYTHING),
    Way(name="CWD 550", kinds=FTP, done=said(NEWEST, cwd="550 Failed to change directory."), hides=(NEWEST,)),
    Way(name="CWD 550 for the Full", kinds=FTP, done=said(FULLS, cwd="550 Permission denied."), hides=(FULLS,)),
    Way(name="LIST 450", kinds=FTP, done=said(NEWEST, before="450 .: Permission denied"), hides=(NEWEST,)),
    Way(name="LIST 451", kinds=FTP, done=said(NEWEST, before="451 Local error in processing"), hides=(NEWEST,)),
    Way(name="newest cut", kinds=FTP, done=said(NEWEST, keep=0, reply="226 Output truncated to 0 matches"), hides=(NEWEST,)),
    Way(
        name="vsftpd could not open it",
        kinds=FTP,
        done=said(NEWEST, keep=0, reply="226 Transfer done (but failed to open directory)."),
        hides=(NEWEST,),
    ),
    Way(
        name="newest has an error for a listing",
        kinds=FTP,
        done=said(NEWEST, keep=0, extra=["ls: .: Permission denied"]),
        hides=(NEWEST,),
    ),
    Way(name="a strange line in the newest", kinds=FTP, done=said(NEWEST, drop="phd", extra=["total 4", STRANGE]), hides=(NEWEST,)),
    Way(name="lines end with LF", kinds=FTP, done=said("", end="\n"), hides=None),
    Way(
        name="a group with a space",
        kinds=("list",),
        done=said("", sub=[r"(\s+\d+ )\S+(\s+)\S+(\s+\d+ [A-Z])", r"\1Domain Users\3"]),
        hides=None,
    ),
    Way(name="the day first", kinds=("list",), done=said("", sub=[r" ([A-Z][a-z]{2}) (\d{2}) ", r" \2 \1 "]), hides=None),
    Way(
        name="ISO dates",
        kinds=("list",),
        done=said("", sub=[r" [A-Z][a-z]{2} \d{2}\s+(\d{4}|\d{2}:\d{2}) ", " 2026-11-22 03:00 "]),
        hides=None,
    ),
    Way(name="no group", kinds=("list",), done=said("", sub=[r"(\s+\d+ \S+)\s+\S+(\s+\d+ [A-Z])", r"\1\2"]), hides=None),
)


@contextlib.contextmanager
def served(kind: str, goods: Path) -> Iterator[Place]:
    """A target of one kind, in a short folder: a path in it is too long for some servers otherwise."""
    with tempfile.TemporaryDirectory(prefix="phd-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        script = folder / "script.json"
        starts: dict[str, Callable[[], AbstractContextManager[servers.Served]]] = {
            "sshd": lambda: servers.sshd(folder),
            "ssh": lambda: servers.ssh_password(folder, script=script),
            "vsftpd": lambda: servers.vsftpd(folder),
            "mlsd": lambda: servers.pyftpd(folder, script=script),
            "list": lambda: servers.pyftpd(folder, script=script, mlsd=False),
        }
        if kind in starts:
            there = stack.enter_context(starts[kind]())
            spec, store = there.spec, there.store
        else:
            store = folder / "store"
            store.mkdir()
            spec = TargetSpec(name="file", url=f"file://{store}")
        yield Place(spec=dataclasses.replace(spec, name="nas1"), store=store, goods=goods, script=script)


class Site:
    """An installation that knows the target, and its commands."""

    def __init__(self, folder: Path, spec: TargetSpec, disk: Path) -> None:
        self.folder, self._disk = folder, disk
        (folder / "volumes" / "ds").mkdir(parents=True)
        (folder / "spool" / ".state").mkdir(parents=True)
        (folder / "spool").chmod(0o700)
        lines = [f'{key} = "{value}"' for key in ("key_file", "password_file", "known_hosts") if (value := getattr(spec, key))]
        self.settings = folder / "phd.toml"
        self.settings.write_text(
            f'state_dir = "{folder}/state"\n[queue]\nspool = "{folder}/spool"\n[datastores]\nroots = ["{folder}/volumes"]\n'
            f'[replication]\nrules = "{folder}/vmdks.auto"\nledger = "{folder}/restored.log"\n[backup]\nstaging_dir = "{folder}"\n'
            f'[targets.nas1]\nurl = "{spec.url}"\n' + "\n".join(lines) + "\n"
        )
        (folder / "vmdks.auto").write_text(f"RESTORE:CRM|*|00|CRM.img|{folder}/volumes/ds/CRM.img\n")

    def __call__(self, *arguments: str) -> tuple[int, str]:
        """Exit code and standard output."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()), of_no_more_than_a_user():
            code = command([*arguments, "--config", str(self.settings)])
        return code, out.getvalue()

    def backup(self, at: str, *, vm: str = "CRM", uuid: str = UUID) -> int:
        return self("backup", str(self._disk), "--target", "nas1", "--vm", vm, "--uuid", uuid, "--at", at)[0]

    def known(self) -> dict[str, bool]:
        """Every archive that is offered, and whether it is marked as not seen."""
        return {one["archive"].removeprefix("nas1:"): one["stale"] for one in json.loads(self("backups", "--json")[1])}

    def decision(self) -> dict[str, Any]:
        """What a pass of replication makes of the rule; it would be queued."""
        found: dict[str, Any] = json.loads(self("replicate", "--dry-run", "--json")[1])["decisions"][0]
        return found


def archives(store: Path) -> set[str]:
    return {f"{path.parent.name}/{path.name}" for path in store.glob("*/*.phd")}


def wrong(site: Site, place: Place, way: Way) -> Iterator[str]:
    """What is wrong with what an installation makes of a target to which this was done."""
    before = site.known()
    if set(before) != archives(place.goods) or any(before.values()):
        yield f"at first it knows {before}"
    way.done(place)
    if way.forgotten:
        shutil.rmtree(site.folder / "state")
        before = {}
    yield from wrongly_seen(site, way, before)
    yield from wrongly_decided(site, () if way.gone else way.hides or (), known=bool(before))
    yield from wrongly_backed_up(site, place, way)


def wrongly_seen(site: Site, way: Way, before: Collection[str]) -> Iterator[str]:
    """Commands that say otherwise of the target than it is."""
    for looks in ("index", "targets"):
        code, text = site(looks)
        if (code == ExitCode.UNAVAILABLE) is not way.rings:
            yield f"phd {looks} ends with {code}: {text}"
    hidden = {path for path in before if path.partition("/")[0] in (way.hides or ())}
    expected = {path: path in hidden for path in before if not way.gone or path not in hidden}
    if (now := site.known()) != expected:
        yield f"it knows {now}"


def wrongly_decided(site: Site, hidden: Collection[str], *, known: bool) -> Iterator[str]:
    """A rule, or a person's order for a whole VM, that takes another backup than the newest for the newest."""
    decided = site.decision()
    if (decided["archive"] or "").startswith(f"nas1:{NEWEST}/") is not known:
        yield f"a rule asks for {decided['archive']}"
    if (decided["verdict"] == "restore") is (NEWEST in hidden):
        yield f"a rule comes to {decided['verdict']}"
    code, _ = site("submit", "--vm", "CRM", "--to", str(site.folder / "volumes" / "ds"))
    if (code == 0) is bool({FULLS, MIDDLE, NEWEST} & set(hidden)):
        yield f"an order for the whole VM ends with {code}"


def wrongly_backed_up(site: Site, place: Place, way: Way) -> Iterator[str]:
    """A backup against what is not the newest Full, or another Full, or none at all where nothing was in its way."""
    code = site.backup("2026-11-24 03:00")
    new = {path for path in (archives(place.store) if place.store.exists() else ()) if path.startswith("2026.11.24")}
    in_the_way = way.rings and bool({FULLS, MIDDLE, NEWEST} & set(way.hides or ()))
    if any(".gz-" in path for path in new):
        yield "a second Full was made"
    if (code == 0) is in_the_way or bool(new) is in_the_way:
        yield f"phd backup ends with {code} and leaves {sorted(new)}"


def undone(site: Site, place: Place) -> Iterator[str]:
    """What is wrong once all is as it was."""
    if Path(f"{place.store}.away").exists():
        Path(f"{place.store}.away").rename(place.store)
    shutil.rmtree(place.store.parent / "moved", ignore_errors=True)
    setattr(local, "unmounted_mount_point", mounts.unmounted_mount_point)  # noqa: B010  as in mutants
    place.put_right()
    code, text = site("index")
    if code != 0 or site.known() != dict.fromkeys(archives(place.goods), False):
        yield f"afterwards phd index ends with {code}: {text}"


def make_goods(folder: Path) -> tuple[Path, Path]:
    """A disk, and a folder of its backups; all of them old enough to be settled."""
    disk, goods = folder / "CRM.img", folder / "goods"
    disk.write_bytes(random.Random(1).randbytes(300_000))
    goods.mkdir()
    site = Site(folder / "maker", TargetSpec(name="nas1", url=f"file://{goods}"), disk)
    codes = [site.backup(f"2026-11-2{day} 03:00") for day in (1, 2, 3)]
    codes.append(site.backup("2026-11-21 03:00", vm="Mail", uuid=OTHER))
    if any(codes):
        raise AssertionError(f"the backups of this row cannot be made: {codes}")
    (goods / OLD_HOST).mkdir()
    (goods / OLD_HOST / FULL_OF_OLD).write_bytes(b"old")
    earlier = time.time() - 3600
    for path in goods.rglob("*.phd"):
        os.utime(path, (earlier, earlier))
    return disk, goods


def listings(asked: Round) -> Figure:
    """Every way on every kind of target that it can be done to; a share of them takes them in turn from all kinds."""
    disk, goods = make_goods(asked.folder)
    cases = [(kind, way) for way in WAYS for kind in way.kinds]
    chosen = cases[:: max(1, round(len(cases) / asked.times(len(cases))))]
    faults: list[str] = []
    held = number = 0
    for kind in KINDS:
        with served_or_not(kind, goods) as place:
            for way in (way for of, way in chosen if of == kind):
                number += 1
                place.put_right()
                site = Site(asked.folder / f"site{number}", place.spec, disk)
                site("index")
                found = [*wrong(site, place, way), *undone(site, place)]
                held += not found
                faults += [f"{kind}, {way.name}: {found[0]}"] if found else []
    note = f"{len(KINDS)} kinds of target, {len(WAYS)} ways"
    return Figure(held=held, of=number, note="; ".join([note, *faults[:3]]))


@contextlib.contextmanager
def served_or_not(kind: str, goods: Path) -> Iterator[Place]:
    try:
        with served(kind, goods) as place:
            yield place
    except servers.Missing as missing:
        raise NotRun(str(missing)) from missing


ROWS = (
    Row(
        id="R27",
        what="listings in part: cut, closed, empty, not mounted, not understood; file, SFTP and FTP",
        target="nothing known vanishes without a word, no part is taken for the whole, no backup or rule decides on one",
        run=listings,
        mutants=(
            "listings:a_code_says_all",
            "listings:strange_lines_are_passed_over",
            "listings:a_server_that_says_no_has_no_such_folder",
            "listings:a_folder_that_cannot_be_read_is_empty",
            "listings:what_is_not_told_is_gone",
            "listings:what_is_not_told_was_seen",
            "listings:empty_is_empty",
            "listings:a_backup_looks_at_what_it_sees",
            "listings:every_gap_rings",
        ),
        mutant_share=0.35,
        short=0.2,
    ),
)
