"""R31: one flipped bit, anywhere in a Full or a Delta whose disk is served: EIO for what it spoils, and never a wrong byte."""

from __future__ import annotations

import contextlib
import random
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from restore_core.errors import BadArchive, Stopped
from restore_core.serve.disk import DiskRequest, open_served_disk
from restore_core.serve.nbd import listener
from restore_core.serve.nbd.client import Export
from restore_core.serve.nbd.listener import NbdServer
from restore_core.serve.nbd.messages import NbdError
from restore_core.serve.nbd.own_socket import own_socket
from restore_core.targets.base import ArchiveRef
from tests.lab import BLOCK, FRAME, Lab, Witness
from tests.proof.rows.bits import member_length, two_archives
from tests.proof.scoreboard import Figure, Round, Row
from tests.restore_core.serve.nbd.raw_client import RawClient

PER_FRAME = FRAME // BLOCK
BLOCKS = 10
"""Of the disk of `two_archives`; its blocks 1 and 2 are in the Delta."""
IN_DELTA = (1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a client got: the blocks that were EIO; whether all others were right; the numbers in the log, in order."""

    eio: frozenset[int]
    right: bool
    told: tuple[int, ...]


@contextlib.contextmanager
def served(lab: Lab, delta: ArchiveRef, witness: Witness) -> Iterator[Path]:
    """The disk on a socket. Raises `BadArchive` if it is refused."""
    over = threading.Event()

    def stop() -> None:
        if over.is_set():
            raise Stopped("the case is over")

    def run(server: NbdServer) -> None:
        with contextlib.suppress(Stopped):
            server.serve(stop)

    path = lab.folder / "sockets" / "s"
    with own_socket(path) as listening, open_served_disk(DiskRequest(delta=delta), lab.targets, reporter=witness) as disk:
        server = NbdServer({"": Export(disk=disk)})
        server.listen(listening)
        thread = threading.Thread(target=run, args=(server,))
        thread.start()
        try:
            yield path
        finally:
            over.set()
            thread.join()
            server.close()


def seen(path: Path, witness: Witness, data: bytes, dice: random.Random) -> Seen:
    """Reads every block, in any order, twice."""
    client = RawClient.on(path).go(structured=dice.random() < 0.5)
    eio, right = set(), True
    for block in [*dice.sample(range(BLOCKS), BLOCKS), *dice.sample(range(BLOCKS), BLOCKS)]:
        wanted = data[block * BLOCK : (block + 1) * BLOCK]
        found = client.read(block * BLOCK, len(wanted))
        if found.error == NbdError.EIO:
            eio.add(block)
        else:
            right = right and found.data == wanted and not found.error
    client.close()
    told = (re.match(r"block (\d+) ", note) for note in witness.notes)
    return Seen(eio=frozenset(eio), right=right, told=tuple(int(match[1]) for match in told if match))


def spoiled_at_most(lab: Lab, delta: ArchiveRef, full: Path, place: tuple[Path, int], data: bytes) -> frozenset[int]:
    """The blocks that a flip of a byte may spoil; `place` is the file, and the byte's number in it."""
    path, byte = place
    used = frozenset(block for block in range(BLOCKS) if data[block * BLOCK : (block + 1) * BLOCK].strip(b"\0"))
    if path == full:
        whole, at, frame = full.read_bytes(), 0, 0
        while byte >= (at := at + member_length(whole[at : at + 20])):
            frame += 1
        return used & frozenset(range(frame * PER_FRAME, (frame + 1) * PER_FRAME)) - frozenset(IN_DELTA)
    reader = lab.reader(delta)
    try:
        name = next((s.name for s in reader.header.sections if s.offset <= byte < s.offset + s.length), "head")
        if name == "frames":
            page = reader.page(0)
            first = reader.header.sections[0].offset + page.delta_lengths[0]
            return frozenset({IN_DELTA[byte >= first]})
        return {"map": frozenset(range(BLOCKS)), "full-frames": used - frozenset(IN_DELTA)}.get(name, frozenset())
    finally:
        reader.source.close()


def one_flip(lab: Lab, delta: ArchiveRef, paths: tuple[Path, Path], data: bytes, dice: random.Random, *, twin: bool) -> str:
    """What is wrong with how one flip was met; "" if nothing."""
    full, path = paths[0], paths[dice.random() < 0.5]
    whole = path.read_bytes()
    bit = dice.randrange(len(whole) * 8)
    may = spoiled_at_most(lab, delta, full, (path, bit // 8), data)
    damaged = bytearray(whole)
    damaged[bit // 8] ^= 1 << bit % 8
    copy = full.with_name("twin.gz")
    if twin:
        shutil.copy(full, copy)
    path.write_bytes(damaged)
    witness = Witness()
    where = f"bit {bit} of {path.name}{', with a twin' if twin else ''}: "
    try:
        with served(lab, delta, witness) as socket:
            found = seen(socket, witness, data, dice)
    except BadArchive:  # it is refused before the first byte: a damaged head, or the Full is not the one, as its proof found
        return where + "refused, in spite of the twin" if twin and path == full else ""
    finally:
        path.write_bytes(whole)
        copy.unlink(missing_ok=True)
    if not found.right:
        return where + "a wrong byte"
    if not found.eio <= may or (twin and path == full and found.eio):
        return where + f"EIO for {sorted(found.eio)}, where only {sorted(may)} may be"
    if len(set(found.told)) != len(found.told) or not found.eio <= set(found.told) | (may if len(may) == BLOCKS else set()):
        return where + f"EIO for {sorted(found.eio)}, told of {found.told}"
    return ""


def served_flips(asked: Round) -> Figure:
    setattr(listener, "_LOOK_EVERY", 0.02)  # noqa: B010  each case waits for it; mypy forbids the plain form
    dice = asked.dice()
    lab, delta, paths, data = two_archives(asked.folder, dice)
    wrong = [one_flip(lab, delta, paths, data, dice, twin=number % 3 == 0) for number in range(asked.times(2000))]
    failures = [one for one in wrong if one]
    return Figure(held=len(wrong) - len(failures), of=len(wrong), note=f"first: {failures[0]}" if failures else "0 wrong bytes")


ROWS = (
    Row(
        id="R31",
        what="bit flips in Full and Delta of a disk that is served over NBD, a third of them with a twin of the Full",
        target="EIO for no block but those that it spoils, each told once; 0 wrong bytes",
        run=served_flips,
        mutants=("served_bits:serves_unchecked_blocks", "served_bits:asks_no_twin", "served_bits:one_bad_block_spoils_the_disk"),
        mutant_share=0.05,
        short=0.015,
    ),
)
