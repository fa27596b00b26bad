"""The disk of a Delta read at random: the right bytes or an error, whatever is asked for, in whichever order."""

from __future__ import annotations

import gzip
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from restore_core.backup.adopt import adopt_full
from restore_core.backup.subject import Asked
from restore_core.errors import BadArchive, PhdError, UsageError
from restore_core.serve.disk import DiskRequest, ServedDisk, new_cache, open_served_disk
from restore_core.targets import TargetSet
from restore_core.targets.base import ArchiveRef, TargetSpec
from tests.lab import BLOCK, Lab
from tests.restore_core.serve.served_lab import Served, disk_bytes


def test_any_range_is_what_the_disk_holds(served: Served, disk: ServedDisk) -> None:
    dice = random.Random(1)
    assert disk.size == len(served.data)
    for _ in range(300):
        at, length = dice.randrange(disk.size), dice.choice((1, 512, 4096, BLOCK, 3 * BLOCK))
        assert disk.read(at, length) == served.data[at : at + length]
    assert disk.read(0, disk.size) == served.data


def test_a_read_ends_with_the_disk(served: Served, disk: ServedDisk) -> None:
    assert disk.read(disk.size - 2, 100) == served.data[-2:]
    assert disk.read(disk.size, 1) == disk.read(disk.size + BLOCK, 1) == b""


def test_many_threads_get_the_right_bytes_of_each_frame_that_is_decoded_once(served: Served) -> None:
    cache = new_cache()
    request = DiskRequest(delta=served.delta)
    dice = random.Random(2)
    places = [dice.randrange(len(served.data)) for _ in range(200)]
    with open_served_disk(request, served.lab.targets, reporter=served.lab.witness, cache=cache) as disk:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda at: disk.read(at, 5000), places))
        assert found == [served.data[at : at + 5000] for at in places]
    cache.close()
    assert cache.decoded <= 4 + 1


def test_a_cache_smaller_than_a_frame_gives_the_right_bytes(served: Served) -> None:
    cache = new_cache(1)
    with open_served_disk(DiskRequest(delta=served.delta), served.lab.targets, reporter=served.lab.witness, cache=cache) as disk:
        assert disk.read(0, disk.size) == served.data
    cache.close()


def test_extents_are_the_zero_blocks(served: Served, disk: ServedDisk) -> None:
    found = disk.extents(100, disk.size)
    assert sum(extent.length for extent in found) == disk.size - 100
    at = 100
    for extent in found:
        assert extent.zero == (served.data[at : at + extent.length].count(0) == extent.length)
        at += extent.length
    assert len(disk.extents(0, disk.size, most=2)) == 2


def test_zero_blocks_are_read_from_no_archive(served: Served) -> None:
    with served.open() as disk:
        disk.extents(0, disk.size)  # the page of the map is read
        for ref in (served.full, served.delta):
            assert ref is not None
            served.lab.path(ref).write_bytes(b"")
        assert disk.read(BLOCK, BLOCK) == disk.read(5 * BLOCK, BLOCK) == bytes(BLOCK)


def test_a_flipped_bit_in_the_full_is_an_error_for_the_blocks_of_its_frame_and_for_no_other(served: Served) -> None:
    with served.open() as disk:
        assert served.full is not None
        served.flip(served.full, served.lab.path(served.full).stat().st_size - 40)
        bad = [block for block in range(14) if not reads(disk, served.data, block)]
        assert bad == [12, 13]
        assert [note for note in served.lab.witness.notes if "cannot be served" in note]
        assert disk.damage.bad == 2
        before = len(served.lab.witness.notes)
        assert not reads(disk, served.data, 12)
        assert len(served.lab.witness.notes) == before, "each bad block is told of once"


def reads(disk: ServedDisk, data: bytes, block: int) -> bool:
    """Whether a block can be read; what can be read is right."""
    try:
        found = disk.read(block * BLOCK, BLOCK)
    except BadArchive:
        return False
    assert found == data[block * BLOCK : (block + 1) * BLOCK]
    return True


def test_a_twin_of_the_full_gives_what_is_bad_in_the_first(served: Served) -> None:
    assert served.full is not None
    first = served.lab.path(served.full)
    twin = first.with_name("a-copy-of-it.gz")
    twin.write_bytes(first.read_bytes())
    with served.open() as disk:
        served.flip(served.full, first.stat().st_size - 40)
        assert disk.read(0, disk.size) == served.data
        assert disk.damage.bad == 0
        assert disk.damage.healed == 2
        assert [note for note in served.lab.witness.notes if "is served from" in note and twin.name in note]


def test_no_other_target_is_asked_while_the_full_beside_the_delta_is_good(served: Served, tmp_path: Path) -> None:
    nobody = TargetSpec(name="nobody", url="ftp://127.0.0.1:1/", timezone="UTC")
    targets = TargetSet((served.lab.targets.specs["t"], nobody))
    request = DiskRequest(delta=served.delta, catalog=tmp_path / "catalog")
    with open_served_disk(request, targets, reporter=served.lab.witness) as disk:
        assert disk.read(0, disk.size) == served.data
        assert disk.full == served.full
    assert set(targets._open) == {"t"}
    assert not (tmp_path / "catalog").exists()


def test_a_full_that_is_deleted_while_it_is_served_can_still_be_read(served: Served) -> None:
    with served.open() as disk:
        assert served.full is not None
        served.lab.path(served.full).unlink()
        assert disk.read(0, disk.size) == served.data


def test_an_empty_delta_is_the_disk_of_its_full(served: Served) -> None:
    empty = next(path for path in served.lab.store.rglob("*delta*") if path.name != served.delta.name)
    with served.open(ArchiveRef(target="t", path=str(empty.relative_to(served.lab.store)))) as disk:
        assert disk.read(0, disk.size) != served.data
        assert disk.size == len(served.data)


def test_reads_after_the_close_are_errors(served: Served) -> None:
    disk = served.open()
    disk.close()
    disk.close()
    with pytest.raises(PhdError):
        disk.read(0, 1)


def test_a_full_without_frames_is_refused_at_once_with_what_to_do(lab: Lab, tmp_path: Path) -> None:

    path = lab.store / "x.gz"
    path.write_bytes(gzip.compress(disk_bytes(random.Random(3), 4)))
    made = adopt_full(ArchiveRef(target="t", path="x.gz"), lab.targets, Asked(vm="X"), scratch=tmp_path, tick=lambda _: None)
    with pytest.raises(UsageError, match="without frames") as refused:
        open_served_disk(DiskRequest(delta=made), lab.targets, reporter=lab.witness)
    assert "phd restore" in refused.value.remedy


def test_no_thread_is_left_when_the_disk_is_closed(served: Served) -> None:
    before = threading.active_count()
    with served.open() as disk:
        disk.read(0, disk.size)
    assert threading.active_count() == before


@pytest.mark.parametrize("size", [0, 1, 511, BLOCK, BLOCK + 1, 4 * BLOCK - 1])
def test_a_disk_of_any_size_is_served_to_its_end(lab: Lab, size: int) -> None:
    data = random.Random(size).randbytes(size)
    made = lab.backup(data)
    with open_served_disk(DiskRequest(delta=made.delta), lab.targets, reporter=lab.witness) as disk:
        assert disk.size == size
        assert disk.read(0, size + 5) == data
        assert sum(extent.length for extent in disk.extents(0, size)) == size


def test_frames_ahead_of_a_reader_that_goes_on_in_order_are_decoded_once(served: Served) -> None:
    cache = new_cache()
    with open_served_disk(DiskRequest(delta=served.delta), served.lab.targets, reporter=served.lab.witness, cache=cache) as disk:
        assert b"".join(disk.read(at, 10_000) for at in range(0, disk.size, 10_000)) == served.data
    cache.close()
    assert cache.decoded == 4 + 1
