"""Foreign gzips with something behind their end."""

from __future__ import annotations

import gzip

import pytest

from restore_core.archive.frames import plain_stream
from restore_core.errors import BadArchive
from restore_core.targets.base import LOCAL, ArchiveRef

REF = ArchiveRef(target=LOCAL, path="/x.gz")


@pytest.mark.parametrize("junk", [b"j", b"junk\n", b"\x1fX", b"x" * 5000])
@pytest.mark.parametrize("cut", [1, 100, 1 << 20])
def test_junk_behind_the_last_member_is_not_called_truncated(junk: bytes, cut: int) -> None:
    data = gzip.compress(b"a" * 3000) + gzip.compress(b"b" * 3000) + junk
    pieces = iter([data[at : at + cut] for at in range(0, len(data), cut)])
    with pytest.raises(BadArchive, match="gzip member 3: neither another member nor zero padding"):
        list(plain_stream(pieces, REF))


def test_a_member_cut_short_still_is() -> None:
    data = gzip.compress(b"a" * 3000) + gzip.compress(b"b" * 3000)[:7]
    with pytest.raises(BadArchive, match="ends early"):
        list(plain_stream(iter([data]), REF))
